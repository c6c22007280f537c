"""Pixels as logs name them to those of Frame and DepthFrame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.messages import DepthFrame, Frame, Message, Stamp
from foveate_logbook.formats.channels import Arrival, Undecodable

MILLIMETRE = 0.001
# name: bytes a pixel, code of cv2.cvtColor (none: as it is). ROS and Foxglove use the same names.
_PLAIN = {"mono8": 1, "8uc1": 1, "bgr8": 3, "8uc3": 3}
_COLOR = {
    "rgb8": (3, "COLOR_RGB2BGR"), "rgba8": (4, "COLOR_RGBA2BGR"), "bgra8": (4, "COLOR_BGRA2BGR"),
    "8uc4": (4, "COLOR_BGRA2BGR"),
    "yuv422": (2, "COLOR_YUV2BGR_UYVY"), "uyvy": (2, "COLOR_YUV2BGR_UYVY"),
    "yuv422_yuy2": (2, "COLOR_YUV2BGR_YUY2"), "yuyv": (2, "COLOR_YUV2BGR_YUY2"),
}  # fmt: skip
# the same first two pixels of the second row: OpenCV names a Bayer pattern by its second row and column
_BAYER = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}
_WIDE = {"mono16": "u2", "16uc1": "u2", "32fc1": "f4"}
KNOWN = (*_PLAIN, *_COLOR, *(f"bayer_{name}{bits}" for name in _BAYER for bits in (8, 16)), *_WIDE)


def raw_image(
    data: Any, width: int, height: int, step: int, encoding: str, big_endian: bool, at: Arrival, stamp: Stamp
) -> Message:
    """A Frame or a DepthFrame of rows of `step` bytes. Raises Undecodable.

    Depth is 16UC1 in millimetres, 32FC1 in metres (to millimetres; what is no number or beyond 65.535 m becomes 0),
    and mono16 on a topic with "depth" in its name. Other 16-bit pixels become 8 bits: the upper ones.
    """
    name = encoding.lower()
    flat = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.view(np.uint8)
    if name in _PLAIN:
        image = _rows(flat, width, height, step, _PLAIN[name])
        return _frame(image[..., 0] if _PLAIN[name] == 1 else image, at, stamp)
    if name in _COLOR:
        size, code = _COLOR[name]
        cv2 = optional("cv2", at.topic, "vision")
        rows = np.ascontiguousarray(_rows(flat, width, height, step, size))
        return _frame(cv2.cvtColor(rows, getattr(cv2, code)), at, stamp)
    if name.startswith("bayer_") and name[6:10] in _BAYER and name[10:] in ("8", "16"):
        cv2 = optional("cv2", at.topic, "vision")
        size = int(name[10:]) // 8
        mosaic = _rows(flat, width, height, step, size)[..., 0 if size == 1 or big_endian else 1]
        code = getattr(cv2, f"COLOR_Bayer{_BAYER[name[6:10]]}2BGR")
        return _frame(cv2.cvtColor(np.ascontiguousarray(mosaic), code), at, stamp)
    if name in _WIDE:
        dtype = np.dtype((">" if big_endian else "<") + _WIDE[name])
        rows = np.ascontiguousarray(_rows(flat, width, height, step, dtype.itemsize))
        return wide_image(rows.view(dtype)[..., 0], name, at, stamp)
    raise Undecodable(f"pixels '{encoding}' are not read; those that are: {', '.join(KNOWN)}")


def wide_image(values: NDArray[Any], encoding: str, at: Arrival, stamp: Stamp) -> Message:
    """Depth, or greys of more than 8 bits."""
    if encoding == "mono16" and "depth" not in at.topic.lower():
        return _frame((values >> 8).astype(np.uint8), at, stamp)
    return DepthFrame(stamp, millimetres(values), MILLIMETRE, at.seq, at.lost_before)


def millimetres(values: NDArray[Any]) -> NDArray[np.uint16]:
    """16-bit millimetres as they are; metres rounded to millimetres, 0 where there is no such distance."""
    if values.dtype.kind == "u":
        return values.astype(np.uint16, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values.astype(np.float32) * np.float32(1000))
        scaled[~((scaled > 0) & (scaled <= 65535))] = 0
    return scaled.astype(np.uint16)


def packed_image(data: Any, at: Arrival, stamp: Stamp, *, encoding: str = "", swapped: bool = False) -> Message:
    """A Frame (or a DepthFrame of 16-bit pixels) of a JPEG, PNG, ... file. Raises Undecodable.

    `swapped`: its colours were packed as if red were blue.
    """
    cv2 = optional("cv2", at.topic, "vision")
    image = _decoded(cv2, data)
    if image.dtype == np.uint16 and image.ndim == 2:
        return wide_image(image, encoding or "16uc1", at, stamp)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    if swapped and image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] != 3):
        raise Undecodable(f"a packed image of {image.dtype} and shape {image.shape}")
    return _frame(image, at, stamp)


def packed_depth(data: Any, encoding: str, at: Arrival, stamp: Stamp) -> DepthFrame:
    """A DepthFrame of image_transport's compressedDepth: 12 bytes of header, then a PNG. Raises Undecodable.

    Metres are packed as inverse depth: z = a / (q - b) with a and b in the header
    (compressed_depth_image_transport, codec.cpp).
    """
    content = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.view(np.uint8)
    if content[:4].tobytes() == b"\x89PNG":
        a = b = 0.0
    else:
        a, b = (float(value) for value in content[4:12].view("<f4"))
        content = content[12:]
    packed = _decoded(optional("cv2", at.topic, "vision"), content)
    if packed.dtype != np.uint16 or packed.ndim != 2:
        raise Undecodable(f"compressed depth of {packed.dtype} and shape {packed.shape}, not 16 bits")
    if encoding.upper().startswith("32FC1"):
        with np.errstate(divide="ignore", invalid="ignore"):
            metres = np.float32(a) / (packed.astype(np.float32) - np.float32(b))
        metres[packed == 0] = 0
        packed = millimetres(metres)
    return DepthFrame(stamp, packed, MILLIMETRE, at.seq, at.lost_before)


def _decoded(cv2: Any, data: Any) -> NDArray[Any]:
    content = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.view(np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None:
        head = content[:4].tobytes().hex(" ")
        raise Undecodable(f"{content.size} bytes that are no image OpenCV can decode (they begin with {head})")
    return image


def _rows(flat: NDArray[np.uint8], width: int, height: int, step: int, size: int) -> NDArray[np.uint8]:
    """The pixels as height x width x size bytes, without what fills the rows."""
    step = step or width * size
    if width <= 0 or height <= 0 or step < width * size or flat.size < (height - 1) * step + width * size:
        raise Undecodable(f"{width}x{height} pixels of {size} bytes in rows of {step} do not fit {flat.size} bytes")
    if flat.size < height * step:  # the last row without its filling
        flat = np.concatenate([flat, np.zeros(height * step - flat.size, np.uint8)])
    return flat[: height * step].reshape(height, step)[:, : width * size].reshape(height, width, size)


def _frame(image: NDArray[np.uint8], at: Arrival, stamp: Stamp) -> Frame:
    image = np.ascontiguousarray(image)
    return Frame(stamp, image, "Mono8" if image.ndim == 2 else "BGR8", at.seq, at.lost_before)
