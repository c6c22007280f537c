"""Images of classes as data sets keep them: PNGs whose numbers are classes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate_nodes.segmentation.labelled import UNLABELLED

_PNG = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3  # PNG's type of colour
_AGAIN = "copy it again"


def class_image(path: Path, classes: tuple[str, ...], sizes: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
    """H x W: the class of each pixel, or UNLABELLED, of a PNG of one of the `sizes` (width, height).

    Its numbers are classes, be they levels of grey or entries of a palette. Raises RecordingError, BackendMissing.
    """
    cv2 = optional("cv2", str(path), "vision")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None
    parts = list(_chunks(content))
    if not parts or parts[0][0] != b"IHDR" or len(parts[0][1]) != 13 or parts[-1][0] != b"IEND":
        raise RecordingError(f"{path}: no PNG, or one that is damaged or cut off: {_AGAIN}")
    head = parts[0][1]
    width, height, depth, colour = int.from_bytes(head[:4]), int.from_bytes(head[4:8]), head[8], head[9]
    if (width, height) not in sizes:
        read = ", ".join(f"{w} x {h}" for w, h in sizes)
        raise RecordingError(f"{path}: an image of {width} x {height} pixels: {read} are read; scale it to the nearest "
                             f"pixel")  # fmt: skip
    if colour == _PALETTE:  # as levels of grey: colours are for people, numbers are the classes
        kept = [(b"IHDR", head[:9] + b"\0" + head[10:]), *(part for part in parts if part[0] in (b"IDAT", b"IEND"))]
        content = _PNG + b"".join(_chunk(*part) for part in kept)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8:
        raise RecordingError(f"{path}: cannot be decoded as an image of 8 bits: save it as a PNG of grey levels")
    if image.ndim == 3:
        if (image[..., :3] != image[..., :1]).any():
            raise RecordingError(f"{path}: an image of colours: save the numbers of classes, as a PNG of grey levels")
        image = image[..., 0]
    elif depth < 8:
        image = image // (255 // ((1 << depth) - 1))  # the decoder spreads levels over 0 to 255
    wrong = image[(image >= len(classes)) & (image != UNLABELLED)]
    if wrong.size:
        raise RecordingError(f"{path}: {wrong.size} pixels with values such as {wrong[0]}: classes are 0 to "
                             f"{len(classes) - 1}, {UNLABELLED} is none; change its numbers to them")  # fmt: skip
    return np.asarray(image, np.uint8)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of a PNG's parts, up to the first that is damaged."""
    place = len(_PNG) if content.startswith(_PNG) else len(content)
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        if int.from_bytes(content[end : end + 4]) != zlib.crc32(content[place + 4 : end]) or end + 4 > len(content):
            return
        yield content[place + 4 : place + 8], content[place + 8 : end]
        place = end + 4


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
