"""The simulated camera: fixed, or looking through the simulated mirrors, at the shared world."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import Disconnected, NotFound
from foveate.messages import Frame, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert, transform
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.frame_ids import GIGE_VISION_1, FrameIds
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Pixels
from foveate_drivers.world.sensor import Sensor

_SMEAR_PX = 0.25  # movement in the exposure below which one rendering is exact enough
_POLL_NS = 1_000_000  # how often a camera that waits for a trigger looks for one
_UNRELEASED_NS = 100_000_000  # a camera that no move releases for so long exposes by itself
_MOST_PARTS = 9  # renderings averaged for a frame that smears


class Cable:
    """Between the computer and a simulated camera; a test pulls it."""

    def __init__(self) -> None:
        self.plugged = True

    def unplug(self) -> None:
        """The camera is gone: reading says Disconnected, opening NotFound."""
        self.plugged = False

    def replug(self) -> None:
        """The camera is there again, and can be opened."""
        self.plugged = True


class SimCamera(Camera):
    """Free-running global shutter; frame ids wrap at 65535 to 1 as GigE Vision's do and are unwrapped."""

    def __init__(
        self,
        *,
        address: str,
        world: World,
        through: SimMirror | None = None,
        width: Annotated[int, Unit("px"), Ge(16), Le(8192)] = 256,
        height: Annotated[int, Unit("px"), Ge(16), Le(8192)] = 256,
        field: Annotated[float, Unit("rad"), Gt(0.001), Le(2.5)] = 0.0419,
        rate: Annotated[float, Unit("Hz"), Gt(0), Le(5000)] = 120.0,
        exposure: Annotated[float, Unit("s"), Gt(0), Le(1)] = 0.001,
        readout: Annotated[float, Unit("s"), Ge(0), Le(1)] = 0.004,
        encoding: Literal["Mono8", "BGR8"] = "Mono8",
        offset: Annotated[float, Unit("m")] = 0.0,
        full_well: Annotated[float, Unit("e-"), Gt(0)] = 9000.0,
        read_noise: Annotated[float, Unit("e-"), Ge(0)] = 8.0,
        vignetting: Annotated[float, Ge(0), Le(1)] = 0.25,
        first_id: Annotated[int, Ge(1), Le(65535)] = 65400,
        buffers: Annotated[int, Ge(1)] = 3,
        seed: int = 1,
    ) -> None:
        """`field`: full horizontal angle of view; `offset`: a fixed camera's place along the rig's x."""
        self._world = world
        self._mirror = through
        self._lens = self.pinhole = Pinhole.from_field(width, height, field)
        self._period_ns = self.period_ns = round(1e9 / rate)
        self._exposure_ns = self._nominal_ns = round(exposure * 1e9)
        self._readout_ns = round(readout * 1e9)
        if through is None:
            self.rig_from_camera = transform(np.eye(3), np.array([offset, 0.0, 0.0]))
        self.encoding = encoding
        self._sensor_options = (full_well, read_noise, vignetting, seed)
        self._first_id = first_id
        self._buffers = buffers
        self.cable = Cable()
        self._lost = False
        self._sensor: Sensor | None = None
        self._streaming = False
        self._trigger = "off"
        self._pending: deque[int] = deque()  # software triggers that have not been read
        self._gain_db = 0.0
        self._start_ns = self._last_begin_ns = 0
        self._index = self._count = self._received = 0  # exposures since the start, frames in all, frames read
        self._ids = FrameIds()

    def open(self, clock: Clock) -> None:
        if not self.cable.plugged:
            raise NotFound(self.uri, "open", "it is unplugged")
        full_well, read_noise, vignetting, seed = self._sensor_options
        self._sensor = Sensor(
            self._lens.width, self._lens.height, full_well_e=full_well, read_noise_e=read_noise,
            vignetting=vignetting, seed=seed,
        )  # fmt: skip
        self._clock = clock
        self._lost = self._streaming = False
        self._trigger = "mirror" if self._mirror is not None and self._mirror.sync == "trigger" else "off"
        self._count = self._received = 0
        self._ids = FrameIds()
        self._restart()
        if self._mirror is not None:
            self._mirror.exposure_end_ns = self._exposure_end_ns

    def _restart(self) -> None:
        """Begin anew, now, with an exposure."""
        self._start_ns = self._running().now_ns()
        self._index = 0
        self._pending.clear()
        self._last_begin_ns = self._start_ns - 1

    def close(self) -> None:
        self._clock = None

    def start(self) -> None:
        self._streaming = True

    def stop(self) -> None:
        if self._streaming:
            self._streaming = False
            self._restart()

    @property
    def streaming(self) -> bool:
        return self._streaming and self._clock is not None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "sim", simulated=True)

    def capabilities(self) -> Mapping[str, Capability]:
        longest_s = (self._period_ns - 1) / 1e9
        triggers = ("mirror",) if self._trigger == "mirror" else ("off", "software")
        return {
            "exposure": Capability("exposure", "s", 1e-6, longest_s, 1e-9),
            "gain": Capability("gain", "dB", 0.0, 24.0),
            "rate": Capability("rate", "Hz", 0.1, min(1e9 / self._exposure_ns, 5000.0), live=False),
            "width": Capability("width", "px", writable=False),
            "height": Capability("height", "px", writable=False),
            "encoding": Capability("encoding", choices=("Mono8", "BGR8"), writable=False),
            "trigger": Capability("trigger", choices=triggers, live=False),
        }

    def _read(self, name: str) -> Value:
        self._running(f"get {name}")
        return {
            "exposure": self._exposure_ns / 1e9, "gain": self._gain_db, "rate": 1e9 / self._period_ns,
            "width": self._lens.width, "height": self._lens.height, "encoding": self.encoding, "trigger": self._trigger,
        }[name]  # fmt: skip

    def _write(self, name: str, value: Value) -> None:
        if name == "exposure":
            self._exposure_ns = round(float(value) * 1e9)
        elif name == "gain":
            self._gain_db = float(value)
        elif name == "trigger":
            self._trigger = str(value)
            self._restart()
        else:
            self._period_ns = self.period_ns = round(1e9 / float(value))
            self._restart()

    def health(self) -> Health:
        return Health("lost" if self._lost else "ok", counters={"received": self._received})

    def trigger(self) -> None:
        if self._trigger != "software":
            super().trigger()
        self._pending.append(self._running().now_ns())

    def _begin_ns(self) -> int | None:
        """When the next exposure begins; None where nothing has released it yet."""
        if self._trigger == "off":
            return self._start_ns + self._index * self._period_ns
        if self._trigger == "software":
            return self._pending[0] if self._pending else None
        assert self._mirror is not None
        begin_ns = self._mirror.next_trigger_ns(self._last_begin_ns)
        if begin_ns is None and self._running().now_ns() >= self._last_begin_ns + _UNRELEASED_NS:
            return self._last_begin_ns + _UNRELEASED_NS  # who chooses moves by frames would wait for ever
        return begin_ns

    def _exposure_end_ns(self, after_ns: int) -> int:
        """The end of the first exposure that is not over at a moment: the falling edge of the strobe."""
        index = -(-(after_ns - self._start_ns - self._exposure_ns) // self._period_ns)
        return self._start_ns + max(index, 0) * self._period_ns + self._exposure_ns

    def _ready_ns(self, begin_ns: int) -> int:
        return begin_ns + self._exposure_ns + self._readout_ns

    def due_ns(self) -> int:
        begin_ns = self._begin_ns()
        soon_ns = self._running().now_ns() + _POLL_NS
        if begin_ns is None:
            return soon_ns
        # what a mirror will release is not settled: a move that is commanded in between changes it
        ready_ns = self._ready_ns(begin_ns)
        return min(ready_ns, soon_ns) if self._trigger == "mirror" else ready_ns

    def read(self, timeout_s: float) -> Frame:
        self.start()
        clock = self._running()
        if not self.cable.plugged:
            self._lost = True
            raise Disconnected(self.uri, "read", "it was unplugged")
        if self._trigger == "off":  # the buffers were full: these were not kept
            behind = (clock.now_ns() - self.due_ns()) // self._period_ns
            missed = max(0, int(behind) - self._buffers + 1)
            self._index += missed
            self._count += missed
        self._await(timeout_s)
        begin_ns = self._begin_ns()
        assert begin_ns is not None and self._sensor is not None
        middle_ns = begin_ns + self._exposure_ns // 2
        image = self._sensor.expose(self._light(middle_ns), self._count, *self._amplification())
        seq, lost = self._ids.unwrap((self._first_id - 1 + self._count) % GIGE_VISION_1 + 1)
        self._count += 1
        self._index += 1
        self._received += 1
        self._last_begin_ns = begin_ns
        if self._pending:
            self._pending.popleft()
        stamp = Stamp(middle_ns, self._exposure_ns, 0)
        return Frame(
            stamp, image, self.encoding, seq, lost,
            device_ns=begin_ns, received_ns=clock.now_ns(), gain_db=self._gain_db,
        )  # fmt: skip

    def _amplification(self) -> tuple[float, float]:
        """Light gathered relative to the exposure the rig names, and the gain as a factor."""
        return self._exposure_ns / self._nominal_ns, 10 ** (self._gain_db / 20)

    def _light(self, middle_ns: int) -> Pixels:
        """The image without noise: the average over the exposure where the view moved."""
        t_s = self._world.time_s(middle_ns)
        if self._mirror is None:
            assert self.rig_from_camera is not None
            return self._render(invert(self.rig_from_camera), t_s)
        middle_s, half_s = middle_ns / 1e9, self._exposure_ns / 2e9
        ends = [self._mirror.true_angle(middle_s + offset) for offset in (-half_s, 0.0, half_s)]
        smear_px = 2 * np.ptp(ends, axis=0).max() * self._lens.focal_px
        parts = int(np.clip(np.ceil(smear_px / (2 * _SMEAR_PX)), 1, _MOST_PARTS))
        if parts == 1:
            return self._render(self._view(ends[1]), t_s)
        total: NDArray[np.float32] | None = None
        for offset in np.linspace(-half_s, half_s, parts):
            image = self._render(self._view(self._mirror.true_angle(middle_s + float(offset))), t_s)
            if total is None:
                total = np.zeros(image.shape, np.float32)
            cv2.accumulate(image, total)
        assert total is not None
        return cv2.convertScaleAbs(total, alpha=1.0 / parts)  # type: ignore[return-value]

    def _view(self, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self._mirror is not None and self._mirror.geometry is not None
        return self._mirror.geometry.camera_from_rig(angle_rad)

    def _render(self, camera_from_rig: NDArray[np.float64], t_s: float) -> Pixels:
        image_from_plane = self._lens.image_from_plane(camera_from_rig, self._world.range_m)
        return self._world.scene.render(
            image_from_plane, self._lens.width, self._lens.height, self.encoding == "BGR8", t_s
        )
