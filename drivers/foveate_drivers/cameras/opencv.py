"""Cameras that OpenCV opens (`opencv:0`, `opencv:/dev/video2`); on Linux their controls are V4L2's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.clock import Clock, process_ns
from foveate.device import DeviceInfo
from foveate.errors import Busy, Disconnected, NotFound, NotSupported, StateError, Timeout
from foveate.messages import Frame, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.cameras import v4l2
from foveate_drivers.cameras.base import Camera

_OLDEST_NS = 5_000_000_000  # a time of V4L2 further back is of another clock
_MOST_STALE = 64  # frames that may wait in a driver
_PROPERTIES = {"width": "CAP_PROP_FRAME_WIDTH", "height": "CAP_PROP_FRAME_HEIGHT", "rate": "CAP_PROP_FPS"}


class OpenCVCamera(Camera):
    """A camera with neither frame ids nor, but for V4L2, times: what is lost on the way is not known.

    The stamp is V4L2's time of the frame where there is one, else its arrival; sigma is one period, for nobody tells
    whether that time is of the exposure's start or its end. Exposure is offered only where V4L2 tells its bounds
    and reads it back: OpenCV's own property has other units with every back end, and fails silently.
    """

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
        if rate is not None:
            self.period_ns = round(1e9 / rate)
        if field is not None and width is not None and height is not None:
            self.pinhole = Pinhole.from_field(width, height, field)
        self._capture: Any = None
        self._controls: v4l2.Controls | None = None
        self._clock: Clock | None = None
        self._waits = False  # whether OpenCV can be asked if a frame is there
        self._streaming = False
        self._seq = 0
        self._exposure_ns = 0
        self._last_t_ns = -1
        self._gone = False

    def open(self, clock: Clock) -> None:
        self._cv2 = optional("cv2", self.uri, "vision")
        index: int | str = int(self._address) if self._address.isdigit() else self._address
        if isinstance(index, str) and not index.startswith("/dev/"):
            raise NotFound(self.uri, "open", "give a number or a path under /dev; a video file is 'file:PATH'")
        self._place = Path(f"/dev/video{index}") if isinstance(index, int) else Path(index)
        if not self._place.exists():
            raise NotFound(self.uri, "open", f"there is no {self._place}")
        self._capture = self._cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise Busy(self.uri, "open", "OpenCV cannot open it: it is no camera, or another program holds it")
        self._gone, self._streaming, self._seq, self._last_t_ns = False, False, 0, -1
        self._waits = self._capture.getBackendName() == "V4L2"
        self._clock = clock
        try:
            self._controls = v4l2.Controls(self._place) if self._waits else None
            self.configure(self._wanted)
            self._note()
        except OSError as error:
            self.close()
            raise NotFound(self.uri, "open", f"{self._place}: {error.strerror}") from None
        except BaseException:
            self.close()
            raise
        if self._field is not None:
            self.pinhole = Pinhole.from_field(int(self._read("width")), int(self._read("height")), self._field)

    def _note(self) -> None:
        rate = float(self._read("rate"))
        self.period_ns = round(1e9 / (rate if rate > 0 else 30.0))
        if self._range("exposure") is not None:
            self._exposure_ns = round(float(self._read("exposure")) * 1e9)

    def close(self) -> None:
        self._clock = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        if self._controls is not None:
            self._controls.close()
            self._controls = None

    def info(self) -> DeviceInfo:
        name = next((name for place, name in v4l2.devices() if str(place) == str(getattr(self, "_place", ""))), "")
        return DeviceInfo(self.uri, model=name or "OpenCV VideoCapture")

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """The video devices of this computer that frames can be captured from; none is started."""
        found = []
        for place, name in v4l2.devices():
            try:
                controls = v4l2.Controls(place)
            except OSError:
                continue
            if controls.is_camera():
                found.append(DeviceInfo(f"opencv:{place}", model=name))
            controls.close()
        return found

    # settings

    def _range(self, name: str) -> tuple[int, v4l2.Range] | None:
        """(control, what it takes) behind a setting; None where there is none."""
        if self._controls is None:
            return None
        for control in {"exposure": (v4l2.EXPOSURE_ABSOLUTE,), "gain_raw": (v4l2.GAIN, v4l2.ANALOGUE_GAIN)}[name]:
            told = self._controls.range(control)
            if told is not None:
                return control, told
        return None

    def capabilities(self) -> Mapping[str, Capability]:
        self._running("tell settings")
        known = {
            "width": Capability("width", "px", live=False),
            "height": Capability("height", "px", live=False),
            "rate": Capability("rate", "Hz", live=False),
        }
        for name, unit, factor in (("exposure", "s", v4l2.EXPOSURE_UNIT_S), ("gain_raw", "", 1.0)):
            found = self._range(name)
            if found is not None:
                told = found[1]
                known[name] = Capability(
                    name, unit, told.lo * factor, told.hi * factor, told.step * factor, writable=told.writable
                )
        return known

    def _read(self, name: str) -> Value:
        if self._capture is None:
            raise StateError(self.uri, f"get {name}", "it is not open")
        if name in _PROPERTIES:
            value = float(self._capture.get(getattr(self._cv2, _PROPERTIES[name])))
            return value if name == "rate" else int(value)
        found = self._range(name)
        if found is None or self._controls is None:
            raise NotSupported(self.uri, f"get {name}", "its driver no longer has it")
        value = self._controls.get(found[0])
        return value * v4l2.EXPOSURE_UNIT_S if name == "exposure" else value

    def _write(self, name: str, value: Value) -> None:
        if name in _PROPERTIES:
            if not self._capture.set(getattr(self._cv2, _PROPERTIES[name]), float(value)):
                raise NotSupported(self.uri, f"set {name} to {value}", f"the camera stays at {self._read(name)}")
            return
        found = self._range(name)
        assert found is not None and self._controls is not None
        control, told = found
        raw = float(value) / v4l2.EXPOSURE_UNIT_S if name == "exposure" else float(value)
        raw = told.lo + round((raw - told.lo) / told.step) * told.step
        by_itself = (v4l2.EXPOSURE_AUTO, v4l2.MANUAL) if name == "exposure" else (v4l2.AUTOGAIN, 0)
        try:
            if self._controls.range(by_itself[0]) is not None and self._controls.get(by_itself[0]) != by_itself[1]:
                self._controls.set(*by_itself)  # else the camera goes on by itself, and no set lasts
            self._controls.set(control, round(min(max(raw, told.lo), told.hi)))
        except OSError as error:
            raise NotSupported(self.uri, f"set {name} to {value}", f"the driver says: {error.strerror}") from None
        self._note()

    def health(self) -> Health:
        return Health("lost" if self._gone else "ok", "", {"received": self._seq})

    # streaming

    @property
    def streaming(self) -> bool:
        return self._streaming

    def start(self) -> None:
        self._running("start")
        self._streaming = True

    def stop(self) -> None:
        """OpenCV goes on taking frames; those that wait are dropped."""
        if self._streaming and self._waits:
            for _ in range(_MOST_STALE):
                if not self._ready(0) or not self._capture.grab():
                    break
        self._streaming = False

    def _ready(self, timeout_ns: int) -> bool:
        """Whether a frame is there, within the timeout; OpenCV takes 0 for for ever."""
        ready, _ = self._cv2.VideoCapture.waitAny([self._capture], max(timeout_ns, 1))
        return bool(ready)

    def read(self, timeout_s: float) -> Frame:
        """With back ends other than V4L2 OpenCV blocks as long as it likes: `timeout_s` is not kept."""
        clock = self._running()
        self.start()
        if self._waits and not self._ready(round(timeout_s * 1e9)):
            if self._place.exists():
                raise Timeout(self.uri, "read", f"no frame within {timeout_s:g} s")
            self._gone = True
            raise Disconnected(self.uri, "read", f"{self._place} is gone")
        ok, image = self._capture.read()
        if not ok:
            self._gone = True
            raise Disconnected(self.uri, "read", "the camera gives no more frames")
        self._seq += 1
        now_ns = clock.now_ns()
        t_ns = max(now_ns - self._age_ns(), self._last_t_ns + 1)
        self._last_t_ns = t_ns
        stamp = Stamp(t_ns, self._exposure_ns, self.period_ns or 0)
        encoding = "Mono8" if image.ndim == 2 else "BGR8"
        return Frame(stamp, image, encoding, self._seq, received_ns=max(now_ns, t_ns))

    def _age_ns(self) -> int:
        """How long ago the frame was taken by V4L2's time, which is the computer's monotone one; else 0."""
        if not self._waits:
            return 0
        age_ns = process_ns() - round(self._capture.get(self._cv2.CAP_PROP_POS_MSEC) * 1e6)
        return age_ns if 0 <= age_ns < _OLDEST_NS else 0

    def latest(self, max_age_s: float) -> Frame:
        """As every camera's. Where OpenCV cannot say what waits, a frame that had to be waited for is the newest."""
        if self._waits:
            return super().latest(max_age_s)
        for _ in range(_MOST_STALE):
            begun_ns = process_ns()
            frame = self.read(max_age_s)
            if process_ns() - begun_ns > (self.period_ns or 0) // 2:
                break
        return frame
