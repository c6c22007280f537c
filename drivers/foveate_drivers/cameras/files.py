"""Recorded pictures as cameras: a video file (`file:clip.mp4`) or a folder of images (`images:folder`)."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt

from foveate.catalog import optional
from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import EndOfStream, NotFound, ProtocolError
from foveate.messages import Frame, Stamp
from foveate.node import Folder, Unit
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.cameras.base import Camera

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class _Pictures(Camera):
    """Gives pictures at a steady rate on the pipeline's clock, once or in a loop."""

    def __init__(self, path: Path, rate: float | None, loop: bool, field: float | None) -> None:
        self._path = path
        self._rate = rate
        self._loop = loop
        self._field = field
        self._start_ns = 0
        self._index = 0
        self._ended = False

    def _start(self, clock: Clock, rate: float, width: int, height: int) -> None:
        self.period_ns = round(1e9 / rate)
        if self._field is not None:
            self.pinhole = Pinhole.from_field(width, height, self._field)
        self._clock, self._start_ns, self._index, self._ended = clock, clock.now_ns(), 0, False

    def due_ns(self) -> int:
        assert self.period_ns is not None
        return self._start_ns + self._index * self.period_ns

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, model=self._path.name)

    def _picture(self, index: int) -> Any:
        """Picture `index` as an array, or None after the last."""
        raise NotImplementedError

    def read(self, timeout_s: float) -> Frame:
        clock = self._running()
        self._await(timeout_s)
        image = None if self._ended else self._picture(self._index)
        if image is None:
            self._ended = True
            raise EndOfStream
        if self.pinhole is not None and image.shape[:2] != (self.pinhole.height, self.pinhole.width):
            size = f"{image.shape[1]} x {image.shape[0]}"
            wanted = f"{self.pinhole.width} x {self.pinhole.height} as the first; leave out 'field' to allow any size"
            raise ProtocolError(self.uri, "read", f"picture {self._index} has {size} pixels, not {wanted}")
        stamp = Stamp(self.due_ns(), 0, 0)
        self._index += 1
        encoding = "Mono8" if image.ndim == 2 else "BGR8"
        return Frame(stamp, image, encoding, self._index, received_ns=clock.now_ns())


class VideoFile(_Pictures):
    """A video file, at its own rate unless another is given."""

    def __init__(
        self, *, address: Path, rate: Annotated[float, Unit("Hz"), Gt(0)] | None = None, loop: bool = False,
        field: Annotated[float, Unit("rad"), Gt(0.001)] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(address, rate, loop, field)
        self._capture: Any = None

    def open(self, clock: Clock) -> None:
        cv2 = optional("cv2", self.uri, "vision")
        self._capture = cv2.VideoCapture(str(self._path))
        if not self._capture.isOpened():
            raise ProtocolError(self.uri, "open", "not a video that OpenCV can decode")
        rate = self._rate or float(self._capture.get(cv2.CAP_PROP_FPS)) or 25.0
        size = [int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        self._start(clock, rate, *size)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        self._clock = None

    def _picture(self, index: int) -> Any:
        ok, image = self._capture.read()
        if not ok and self._loop and index > 0:
            self._capture.set(optional("cv2", self.uri, "vision").CAP_PROP_POS_FRAMES, 0)
            ok, image = self._capture.read()
        return image if ok else None


class ImageFolder(_Pictures):
    """The images of a folder in the order of their names; numbers in names count as numbers: 2 comes before 10."""

    def __init__(
        self, *, address: Annotated[Path, Folder()], rate: Annotated[float, Unit("Hz"), Gt(0)] = 30.0,
        loop: bool = False, field: Annotated[float, Unit("rad"), Gt(0.001)] | None = None, gray: bool = False,
        pattern: str = "*",
    ) -> None:  # fmt: skip
        """`pattern`: which names, as in a shell; of several (`empty*,scan*`) those of the first come first."""
        super().__init__(address, rate, loop, field)
        self._gray = gray
        self._patterns = [part.strip() for part in pattern.split(",")]
        self._files: list[Path] = []

    def open(self, clock: Clock) -> None:
        if not self._path.is_dir():
            raise NotFound(self.uri, "open", f"there is no folder {self._path}")
        images = sorted((p for p in self._path.iterdir() if p.suffix.lower() in _SUFFIXES), key=_natural)
        chosen = [p for pattern in self._patterns for p in images if fnmatchcase(p.name, pattern)]
        self._files = list(dict.fromkeys(chosen))
        if not self._files:
            raise NotFound(self.uri, "open", f"no images{self._named()} in {self._path}")
        first = self._load(self._files[0])
        self._start(clock, self._rate or 30.0, first.shape[1], first.shape[0])

    def close(self) -> None:
        self._clock = None

    def _load(self, path: Path) -> Any:
        cv2 = optional("cv2", self.uri, "vision")
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if self._gray else cv2.IMREAD_COLOR)
        if image is None:
            raise ProtocolError(self.uri, "read", f"{path.name} is not a readable image")
        return image

    def _picture(self, index: int) -> Any:
        if index >= len(self._files) and not self._loop:
            return None
        return self._load(self._files[index % len(self._files)])

    def _named(self) -> str:
        return "" if self._patterns == ["*"] else f" named {','.join(self._patterns)}"


def _natural(path: Path) -> list[tuple[int, str]]:
    """Text and numbers of a name in turn; equal numbers (2, 02) keep the order of their texts."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), part) if k % 2 else (0, part) for k, part in enumerate(parts)]
