"""Pixel formats of cameras (PFNC names) to the encodings that foveate's nodes take: Mono8 and BGR8; Mono16 on demand.

EMVA: Pixel Format Naming Convention (PFNC) 2.4; codes are those of PFNC and of GigE Vision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.errors import NotSupported

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Format:
    """How a pixel format lies in memory."""

    code: int  # PFNC; bits 16 to 23 are the bits a pixel takes
    depth: int = 8  # significant bits of a sample
    packing: str = ""  # "" = bytes | "16" = two bytes, little-endian | "Packed" (GigE Vision 1) | "p" (lsb first)
    conversion: str = ""  # OpenCV's, after the samples have 8 bits
    channels: int = 1

    @property
    def bits(self) -> int:
        return (self.code >> 16) & 0xFF


def _bayer() -> dict[str, Format]:
    found = {}
    for i, order in enumerate(("GR", "RG", "GB", "BG")):
        other = {"GR": "BG", "RG": "GB", "GB": "RG", "BG": "GR"}[order]  # the second row of the mosaic
        conversion = f"COLOR_Bayer{order}{other}2BGR"
        late = {"BG": 0, "GB": 2, "GR": 4, "RG": 6}[order]
        found[f"Bayer{order}8"] = Format(0x01080008 + i, 8, "", conversion)
        found[f"Bayer{order}10"] = Format(0x0110000C + i, 10, "16", conversion)
        found[f"Bayer{order}12"] = Format(0x01100010 + i, 12, "16", conversion)
        found[f"Bayer{order}16"] = Format(0x0110002E + i, 16, "16", conversion)
        found[f"Bayer{order}10p"] = Format(0x010A0052 + late, 10, "p", conversion)
        found[f"Bayer{order}12p"] = Format(0x010C0053 + late, 12, "p", conversion)
    return found


FORMATS: dict[str, Format] = {
    "Mono8": Format(0x01080001),
    "Mono10": Format(0x01100003, 10, "16"),
    "Mono12": Format(0x01100005, 12, "16"),
    "Mono14": Format(0x01100025, 14, "16"),
    "Mono16": Format(0x01100007, 16, "16"),
    "Mono10Packed": Format(0x010C0004, 10, "Packed"),
    "Mono12Packed": Format(0x010C0006, 12, "Packed"),
    "Mono10p": Format(0x010A0046, 10, "p"),
    "Mono12p": Format(0x010C0047, 12, "p"),
    "Mono14p": Format(0x010E0104, 14, "p"),
    "BGR8": Format(0x02180015, channels=3),
    "RGB8": Format(0x02180014, conversion="COLOR_RGB2BGR", channels=3),
    "RGBa8": Format(0x02200016, conversion="COLOR_RGBA2BGR", channels=4),
    "BGRa8": Format(0x02200017, conversion="COLOR_BGRA2BGR", channels=4),
    "YUV422_8": Format(0x02100032, conversion="COLOR_YUV2BGR_YUYV", channels=2),
    "YUV422_8_UYVY": Format(0x0210001F, conversion="COLOR_YUV2BGR_UYVY", channels=2),
    "YCbCr422_8": Format(0x0210003B, conversion="COLOR_YUV2BGR_YUYV", channels=2),
    "YCbCr422_8_CbYCrY": Format(0x02100043, conversion="COLOR_YUV2BGR_UYVY", channels=2),
    **_bayer(),
}  # fmt: skip

# names that cameras of GigE Vision 1 give to the same codes
_OLD_NAMES = {
    "RGB8Packed": "RGB8", "BGR8Packed": "BGR8", "RGBA8Packed": "RGBa8", "BGRA8Packed": "BGRa8",
    "YUV422Packed": "YUV422_8_UYVY", "YUV422_YUYV_Packed": "YUV422_8",
}  # fmt: skip


def name_of(code: int) -> str:
    """The PFNC name of a code, or the code itself in hexadecimal."""
    return next((name for name, item in FORMATS.items() if item.code == code), f"0x{code:08X}")


class Decoder:
    """Makes images of one camera's blocks of bytes. Mono8 and BGR8 are views of the block, all else is new memory."""

    def __init__(self, uri: str, name: str, keep_bits: bool) -> None:
        """`keep_bits`: grey of more than 8 bits stays Mono16, as the camera counts: a 12-bit one from 0 to 4095.

        Without it the upper 8 bits are kept. Raises NotSupported, BackendMissing.
        """
        name = _OLD_NAMES.get(name, name)
        if name not in FORMATS:
            can = "Mono8, Mono10 to Mono16 (also packed), RGB8, BGR8, RGBa8, BGRa8, Bayer of 8 to 16 bits, YUV422_8"
            raise NotSupported(uri, f"decode pixel format {name}", f"set 'encoding' to one of: {can}")
        self.format = FORMATS[name]
        self._deep = keep_bits and self.format.depth > 8 and not self.format.conversion
        self._convert: Callable[[Bytes], Bytes] | None = None
        if self.format.conversion:
            cv2: Any = optional("cv2", uri, "vision")
            code = getattr(cv2, self.format.conversion)
            self._convert = lambda image: cv2.cvtColor(image, code)
        color = self.format.channels == 3 or bool(self.format.conversion)
        self.is_view = self.format.depth == 8 and not self.format.conversion  # of the block, no new memory
        self.encoding = "Mono16" if self._deep else "BGR8" if color else "Mono8"

    def size(self, width: int, height: int) -> int:
        """Bytes of an image of that size as the camera sends it."""
        return -(-width * height * self.format.bits // 8)

    def __call__(self, data: Bytes, width: int, height: int) -> NDArray[Any]:
        """The image in `data` (n bytes, at least `size`): H x W or H x W x 3, uint8, or H x W, uint16."""
        data = data[: self.size(width, height)]
        if self._deep:
            return self._samples(data, width * height).reshape(height, width)
        if self.format.depth > 8:
            data = self._upper(data, width * height)
        channels = self.format.channels
        image = data.reshape((height, width, channels) if channels > 1 else (height, width))
        return image if self._convert is None else self._convert(image)

    def _upper(self, data: Bytes, count: int) -> Bytes:
        """The upper 8 bits of every sample."""
        if self.format.packing == "Packed":  # the second of three bytes holds what is below them
            pairs = data[: len(data) // 3 * 3].reshape(-1, 3)[:, ::2].ravel()
            return pairs[:count] if len(pairs) >= count else np.append(pairs, data[len(data) // 3 * 3])
        if self.format.packing == "16" and self.format.depth == 16:
            return data[1::2].copy()
        return (self._samples(data, count) >> (self.format.depth - 8)).astype(np.uint8)

    def _samples(self, data: Bytes, count: int) -> NDArray[np.uint16]:
        """Every sample with all its bits."""
        depth, packing = self.format.depth, self.format.packing
        if packing == "16":
            return data.view("<u2").astype(np.uint16)
        if packing == "Packed":
            padded = _padded(data, 3).astype(np.uint16).reshape(-1, 3)
            low, mask = depth - 8, (1 << (depth - 8)) - 1
            middle = padded[:, 1]
            both = [padded[:, 0] << low | middle & mask, padded[:, 2] << low | middle >> 4 & mask]
            return np.stack(both, axis=1).ravel()[:count]
        group = {10: 5, 12: 3, 14: 7}[depth]  # bytes that hold a whole number of samples
        octets = _padded(data, group).astype(np.uint64).reshape(-1, group)
        word = sum((octets[:, i] << np.uint64(8 * i) for i in range(1, group)), octets[:, 0])
        parts = [word >> np.uint64(depth * i) & np.uint64((1 << depth) - 1) for i in range(8 * group // depth)]
        return np.stack(parts, axis=1).ravel()[:count].astype(np.uint16)


def _padded(data: Bytes, group: int) -> Bytes:
    return data if len(data) % group == 0 else np.append(data, np.zeros(-len(data) % group, np.uint8))
