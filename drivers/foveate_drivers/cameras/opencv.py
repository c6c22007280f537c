"""Cameras that OpenCV opens (`opencv:0`, `opencv:/dev/video2`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import Disconnected, NotFound, NotSupported, StateError
from foveate.messages import Frame, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.cameras.base import Camera


class OpenCVCamera(Camera):
    """OpenCV tells neither exposure times nor frame ids: the stamp is the arrival, its sigma one period."""

    def __init__(
        self,
        *,
        address: str,
        width: Annotated[int, Unit("px"), Ge(16)] | None = None,
        height: Annotated[int, Unit("px"), Ge(16)] | None = None,
        rate: Annotated[float, Unit("Hz"), Gt(0)] | None = None,
        exposure: Annotated[float, Unit("s"), Gt(0), Le(1)] | None = None,
        field: Annotated[float, Unit("rad"), Gt(0.001), Le(2.5)] | None = None,
    ) -> None:
        """What is given is set and read back; a camera that does not take it is refused."""
        self._address = address
        self._wanted = {"width": width, "height": height, "rate": rate, "exposure": exposure}
        self._field = field
        self._capture: Any = None
        self._clock: Clock | None = None
        self._seq = 0

    def open(self, clock: Clock) -> None:
        cv2 = optional("cv2", self.uri, "vision")
        index: int | str = int(self._address) if self._address.isdigit() else self._address
        if isinstance(index, str) and not index.startswith("/dev/"):
            raise NotFound(self.uri, "open", "give a number or a path under /dev; a video file is 'file:PATH'")
        place = Path(f"/dev/video{index}") if isinstance(index, int) else Path(index)
        if not place.exists():
            raise NotFound(self.uri, "open", f"there is no {place}")
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise NotFound(self.uri, "open", "OpenCV finds no camera there")
        self._configure(cv2)
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 30.0
        self.period_ns = round(1e9 / rate)
        if self._field is not None:
            self.pinhole = Pinhole.from_field(width, height, self._field)
        self._clock = clock

    def _configure(self, cv2: Any) -> None:
        keys = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT,
                "rate": cv2.CAP_PROP_FPS, "exposure": cv2.CAP_PROP_EXPOSURE}  # fmt: skip
        for name, value in self._wanted.items():
            if value is None:
                continue
            done = self._capture.set(keys[name], float(value))
            got = self._capture.get(keys[name])
            if not done or abs(got - value) > 0.02 * value:
                raise NotSupported(self.uri, f"set {name} to {value:g}", f"the camera gives {got:g}")

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, model="OpenCV VideoCapture")

    def read(self, timeout_s: float) -> Frame:
        """OpenCV blocks as long as it likes: `timeout_s` is not kept by every back end."""
        if self._capture is None or self._clock is None:
            raise StateError(self.uri, "read", "it is not open")
        ok, image = self._capture.read()
        if not ok:
            raise Disconnected(self.uri, "read", "the camera gives no more frames")
        self._seq += 1
        stamp = Stamp(self._clock.now_ns(), 0, self.period_ns or 0)
        return Frame(stamp, image, "Mono8" if image.ndim == 2 else "BGR8", self._seq)
