"""The simulated camera: fixed, or looking through the simulated mirrors, at the shared world."""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import StateError, Timeout
from foveate.messages import Frame, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert, transform
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.frame_ids import GIGE_VISION_1, FrameIds
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Pixels
from foveate_drivers.world.sensor import Sensor

_SMEAR_PX = 0.25  # movement in the exposure below which one rendering is exact enough
_MOST_PARTS = 9  # renderings averaged for a frame that smears


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
        self._exposure_ns = round(exposure * 1e9)
        self._readout_ns = round(readout * 1e9)
        if through is None:
            self.rig_from_camera = transform(np.eye(3), np.array([offset, 0.0, 0.0]))
        self.encoding = encoding
        self._sensor_options = (full_well, read_noise, vignetting, seed)
        self._first_id = first_id
        self._buffers = buffers
        self._clock: Clock | None = None
        self._sensor: Sensor | None = None
        self._start_ns = 0
        self._index = 0
        self._ids = FrameIds()

    def open(self, clock: Clock) -> None:
        full_well, read_noise, vignetting, seed = self._sensor_options
        self._sensor = Sensor(
            self._lens.width, self._lens.height, full_well_e=full_well, read_noise_e=read_noise,
            vignetting=vignetting, seed=seed,
        )  # fmt: skip
        self._clock = clock
        self._start_ns = clock.now_ns()
        self._index = 0
        self._ids = FrameIds()

    def close(self) -> None:
        self._clock = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "sim", simulated=True)

    def _middle_ns(self, index: int) -> int:
        return self._start_ns + self._exposure_ns // 2 + index * self._period_ns

    def _ready_ns(self, index: int) -> int:
        return self._middle_ns(index) + self._exposure_ns // 2 + self._readout_ns

    def due_ns(self) -> int:
        return self._ready_ns(self._index)

    def read(self, timeout_s: float) -> Frame:
        if self._clock is None or self._sensor is None:
            raise StateError(self.uri, "read", "it is not open")
        now_ns = self._clock.now_ns()
        if now_ns < self._ready_ns(self._index):
            raise Timeout(self.uri, "read", f"no frame within {timeout_s:g} s")
        behind = (now_ns - self._ready_ns(self._index)) // self._period_ns
        self._index += max(0, int(behind) - self._buffers + 1)  # the buffers were full: these were not kept
        middle_ns = self._middle_ns(self._index)
        image = self._sensor.expose(self._light(middle_ns), self._index)
        seq, lost = self._ids.unwrap((self._first_id - 1 + self._index) % GIGE_VISION_1 + 1)
        self._index += 1
        stamp = Stamp(middle_ns, self._exposure_ns, 0)
        return Frame(stamp, image, self.encoding, seq, lost)

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
