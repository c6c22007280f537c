"""Intel RealSense depth cameras through pyrealsense2 (`realsense:SERIAL`, or `realsense:` for the only one).

Tested on librealsense's own software device, which gives the vendor's frames without a camera; not on a camera.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.clock import Clock, process_ns
from foveate.device import DeviceInfo
from foveate.errors import BackendMissing, Busy, Disconnected, NotFound, NotSupported, StateError, Timeout
from foveate.messages import CameraInfo, DepthFrame, Frame, Stamp
from foveate.node import Unit
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.depth.base import DepthCamera
from foveate_drivers.depth.realsense_stream import Arrival, RealSenseStream

_SLICE_S = 0.05  # after which a wait looks whether the camera was closed
_SILENT_NS = 400_000_000  # without a frame for this long the camera is looked for
_SETTINGS = {  # ours: (librealsense's option, unit, its units in ours)
    "exposure": ("exposure", "s", 1e-6),
    "gain": ("gain", "", 1.0),  # steps of the sensor, not dB
    "laser_power": ("laser_power", "W", 1e-3),
}
_ENCODINGS = {"BGR8": ("color", "bgr8"), "Mono8": ("infrared", "y8")}


def _attached(rs: Any) -> list[Any]:
    return list(rs.context().query_devices())


class RealSense(DepthCamera):
    """Depth, and the colour or left infrared image nearest to it in time; a frame's data are copied out of the
    library's pool when it is read."""

    def __init__(
        self,
        *,
        address: str = "",
        width: Annotated[int, Unit("px"), Ge(16), Le(4096)] = 640,
        height: Annotated[int, Unit("px"), Ge(16), Le(4096)] = 480,
        rate: Annotated[int, Unit("Hz"), Ge(1), Le(300)] = 30,
        image: Literal["none", "BGR8", "Mono8"] = "none",
        exposure: Annotated[float, Unit("s"), Gt(0), Le(1)] | None = None,
        gain: Annotated[float, Ge(0)] | None = None,
        laser_power: Annotated[float, Unit("W"), Ge(0), Le(1)] | None = None,
        buffers: Annotated[int, Ge(1), Le(12)] = 4,
    ) -> None:
        """`address`: a serial number; `image`: BGR8 of the colour sensor, Mono8 of the left infrared one;
        what is given of the settings is set and read back; `buffers`: unread frames kept, of the library's 16."""
        self._serial = address
        self._size = (width, height, rate)
        self.period_ns = round(1e9 / rate)
        self._encoding = image
        self._wanted = {"exposure": exposure, "gain": gain, "laser_power": laser_power}
        self._buffers = buffers
        self.attached: Callable[[Any], list[Any]] = _attached  # the devices that can be opened; a test gives its own
        self._rs: Any = None
        self._clock: Clock | None = None
        self._sensors: list[Any] = []  # sensors that stream
        self._arrived = threading.Condition()
        self._lost = False
        self._reset()

    def _reset(self) -> None:
        self._last_depth_seq = self._last_image_seq = -1
        self._streams: dict[str, RealSenseStream] = {}
        self._heard_ns = process_ns()

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """Cameras that the library sees; none where it is not installed."""
        try:
            rs = optional("pyrealsense2", "realsense", "realsense")
        except BackendMissing:
            return []
        return [_identity(rs, device, "") for device in _attached(rs)]

    def info(self) -> DeviceInfo:
        if self._clock is None:
            return DeviceInfo(self.uri, "Intel", "RealSense", self._serial)
        return _identity(self._rs, self._device, self.uri)

    def open(self, clock: Clock) -> None:
        if self._clock is not None:
            raise StateError(self.uri, "open", "it is open already")
        self._rs = rs = optional("pyrealsense2", self.uri, "realsense")
        self._device = self._chosen()
        self._reset()
        self._lost = False
        sensors = list(self._device.query_sensors())
        self._profiles = [self._profile(sensors, rs.stream.depth, rs.format.z16)]
        if self._encoding != "none":
            stream, encoding = _ENCODINGS[self._encoding]
            self._profiles.append(self._profile(sensors, getattr(rs.stream, stream), getattr(rs.format, encoding)))
        self._sensor = self._profiles[0][0]
        self._scale_m = float(self._sensor.get_option(rs.option.depth_units))
        self._clock = clock
        try:
            if self._wanted["exposure"] is not None and self._sensor.supports(rs.option.enable_auto_exposure):
                self._sensor.set_option(rs.option.enable_auto_exposure, 0.0)
            self.configure(self._wanted)
        except BaseException:
            self._clock = None
            raise

    def _chosen(self) -> Any:
        devices = {device.get_info(self._rs.camera_info.serial_number): device for device in self.attached(self._rs)}
        listed = ", ".join(sorted(devices)) or "none"
        if self._serial and self._serial not in devices:
            raise NotFound(self.uri, "open", f"no camera with serial {self._serial}; connected: {listed}")
        if not self._serial and len(devices) != 1:
            raise NotFound(self.uri, "open", f"name one by its serial; connected: {listed}")
        return devices[self._serial or next(iter(devices))]

    def _profile(self, sensors: list[Any], stream: Any, encoding: Any) -> tuple[Any, Any]:
        """(sensor, profile) of the wanted size and rate."""
        width, height, rate = self._size
        offered = []
        for sensor in sensors:
            for profile in sensor.get_stream_profiles():
                if profile.stream_type() != stream or profile.format() != encoding:
                    continue
                video = profile.as_video_stream_profile()
                if (video.width(), video.height(), profile.fps()) == self._size:
                    return sensor, profile
                offered.append(f"{video.width()}x{video.height()} at {profile.fps()} Hz")
        listed = ", ".join(sorted(set(offered))) or "none"
        raise NotSupported(self.uri, f"stream {stream.name} {width}x{height} at {rate} Hz", f"it offers {listed}")

    def close(self) -> None:
        self.stop()
        with self._arrived:
            self._clock = None
            self._arrived.notify_all()

    def start(self) -> None:
        clock = self._opened("start")
        if self._sensors:
            return
        with self._arrived:
            self._reset()
            self._streams = {name: RealSenseStream(self._rs, self._buffers) for name in ("depth", "image")}
        wanted: dict[int, tuple[Any, list[Any]]] = {}
        for sensor, profile in self._profiles:  # streams of one sensor are opened together
            key = next((k for k, (known, _) in wanted.items() if known is sensor), len(wanted))
            wanted.setdefault(key, (sensor, []))[1].append(profile)
        try:
            for sensor, profiles in wanted.values():
                sensor.open(profiles)
                self._sensors.append(sensor)
                sensor.start(lambda frame: self._take_in(frame, clock))
        except RuntimeError as error:
            self.stop()
            raise Busy(self.uri, "start", " ".join(str(error).split())) from None

    def stop(self) -> None:
        for sensor in self._sensors:
            for act in (sensor.stop, sensor.close):
                try:
                    act()
                except RuntimeError:  # it was unplugged
                    pass
        self._sensors = []
        with self._arrived:
            for stream in self._streams.values():
                stream.unread.clear()

    def _take_in(self, frame: Any, clock: Clock) -> None:
        """Called by the library's thread."""
        frame.keep()
        is_depth = frame.get_profile().stream_type() == self._rs.stream.depth
        with self._arrived:
            self._heard_ns = process_ns()
            if self._streams:
                self._streams["depth" if is_depth else "image"].add(frame, clock)
            self._arrived.notify_all()

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        self._opened("read")
        if self._lost:
            raise Disconnected(self.uri, "read", "it was unplugged; close and open it")
        self.start()
        end_ns = process_ns() + round(max(timeout_s, 0.0) * 1e9)
        with self._arrived:
            while not self._complete():
                self._opened("read")
                left_s = (end_ns - process_ns()) / 1e9
                if left_s <= 0:
                    raise Timeout(self.uri, "read", f"no frame within {timeout_s:g} s")
                self._arrived.wait(min(left_s, _SLICE_S))
                self._look_for_it()
            depth = self._streams["depth"].unread.popleft()
            image = self._image_for(depth)
        return self._depth_frame(depth), None if image is None else self._image_frame(image)

    def _look_for_it(self) -> None:
        """Raises Disconnected where it has been silent and is not among the connected devices."""
        if process_ns() - self._heard_ns < _SILENT_NS:
            return
        self._heard_ns = process_ns()
        key = self._rs.camera_info.serial_number
        serial = self._device.get_info(key)
        if serial not in [device.get_info(key) for device in self.attached(self._rs)]:
            self._lost = True
            raise Disconnected(self.uri, "read", "it was unplugged")

    def _complete(self) -> bool:
        """Whether there is a depth frame, and its image if that still may come."""
        depth = self._streams["depth"].unread if self._streams else ()
        if not depth or self._encoding == "none":
            return bool(depth)
        images = self._streams["image"].unread
        waited_ns = self._opened("read").now_ns() - depth[0].received_ns
        return bool(images and images[-1].t_ns >= depth[0].t_ns - self._half_ns) or waited_ns > 2 * self._half_ns

    @property
    def _half_ns(self) -> int:
        return round(5e8 / self._size[2])

    def _image_for(self, depth: Arrival) -> Arrival | None:
        """The image within half a period of a depth frame; older ones are dropped."""
        images: deque[Arrival] = self._streams["image"].unread
        while images and images[0].t_ns < depth.t_ns - self._half_ns:
            images.popleft()
        return images.popleft() if images and images[0].t_ns <= depth.t_ns + self._half_ns else None

    def _depth_frame(self, item: Arrival) -> DepthFrame:
        data: NDArray[np.uint16] = np.array(item.frame.get_data(), np.uint16)
        lost = item.seq - self._last_depth_seq - 1 if self._last_depth_seq >= 0 else 0
        self._last_depth_seq = item.seq
        stamp = Stamp(item.t_ns, item.exposure_ns, item.sigma_ns)
        return DepthFrame(stamp, data, self._scale_m, item.seq, lost, item.device_ns, item.epoch, item.received_ns)

    def _image_frame(self, item: Arrival) -> Frame:
        data: NDArray[np.uint8] = np.array(item.frame.get_data(), np.uint8)
        lost = item.seq - self._last_image_seq - 1 if self._last_image_seq >= 0 else 0
        self._last_image_seq = item.seq
        stamp = Stamp(item.t_ns, item.exposure_ns, item.sigma_ns)
        return Frame(
            stamp, data, self._encoding, item.seq, lost,
            device_ns=item.device_ns, epoch=item.epoch, received_ns=item.received_ns,
        )  # fmt: skip

    def intrinsics(self) -> CameraInfo:
        """Model names are ROS's; a zero distortion of any kind is plumb_bob with zeros."""
        clock = self._opened("read intrinsics")
        k = self._profiles[0][1].as_video_stream_profile().get_intrinsics()
        matrix = np.array([[k.fx, 0.0, k.ppx], [0.0, k.fy, k.ppy], [0.0, 0.0, 1.0]])
        kinds = self._rs.distortion
        model, distortion = {
            kinds.brown_conrady: ("plumb_bob", np.array(k.coeffs)),
            kinds.kannala_brandt4: ("equidistant", np.array(k.coeffs[:4])),
        }.get(k.model, (k.model.name, np.array(k.coeffs)))
        if not np.any(k.coeffs):
            model, distortion = "plumb_bob", np.zeros(5)
        return CameraInfo(Stamp(clock.now_ns()), k.width, k.height, model, matrix, distortion)

    @property
    def streaming(self) -> bool:
        return bool(self._sensors)

    def capabilities(self) -> Mapping[str, Capability]:
        """With the bounds and steps that the camera gives. Raises StateError where it is not open."""
        self._opened("read settings")
        known = {name: Capability(name, unit, writable=False) for name, unit in
                 (("width", "px"), ("height", "px"), ("rate", "Hz"))}  # fmt: skip
        for name, (option, unit, factor) in _SETTINGS.items():
            key = getattr(self._rs.option, option)
            if self._sensor.supports(key):
                r = self._sensor.get_option_range(key)
                fixed = self._sensor.is_option_read_only(key)
                known[name] = Capability(
                    name, unit, r.min * factor, r.max * factor, r.step * factor or None, writable=not fixed
                )
        return known

    def _read(self, name: str) -> Value:
        if name in _SETTINGS:
            option, _, factor = _SETTINGS[name]
            return float(self._sensor.get_option(getattr(self._rs.option, option))) * factor
        return dict(zip(("width", "height", "rate"), self._size, strict=True))[name]

    def _write(self, name: str, value: Value) -> None:
        option, _, factor = _SETTINGS[name]
        key = getattr(self._rs.option, option)
        r = self._sensor.get_option_range(key)
        steps = round((float(value) / factor - r.min) / r.step) if r.step else 0  # it takes nothing between two steps
        try:
            self._sensor.set_option(key, min(r.min + steps * r.step, r.max) if r.step else float(value) / factor)
        except RuntimeError as error:
            raise NotSupported(self.uri, f"set {name} to {value}", " ".join(str(error).split())) from None

    def health(self) -> Health:
        counters = {}
        for name, stream in self._streams.items():
            prefix = "" if name == "depth" else "image "
            for kind in ("received", "repeated", "dropped", "missing"):
                counters[f"{prefix}{kind}"] = getattr(stream, kind)
        return Health("lost" if self._lost else "ok", "it was unplugged" if self._lost else "", counters)

    def _opened(self, operation: str) -> Clock:
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        return self._clock


def _identity(rs: Any, device: Any, uri: str) -> DeviceInfo:
    def told(key: Any) -> str:
        return str(device.get_info(key)) if device.supports(key) else ""

    serial = told(rs.camera_info.serial_number)
    return DeviceInfo(uri or f"realsense:{serial}", "Intel", told(rs.camera_info.name) or "RealSense", serial)
