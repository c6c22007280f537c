"""The simulated depth camera: a stereo pair that measures the shared world's plane, or the room it moves through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import Disconnected, NotFound
from foveate.messages import CameraInfo, DepthFrame, Frame, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert, rotation, transform
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.depth.base import DepthCamera
from foveate_drivers.depth.frame_numbers import FrameNumbers
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Pixels

if TYPE_CHECKING:
    from foveate_drivers.world.room_sensor import RgbdSensor


class SimDepthCamera(DepthCamera):
    """Free-running; the disparity f b / z has normal noise, so that depth has sigma_z = z^2 sigma_d / (f b).

    Pixels are 0 where the plane is nearer than `nearest` or farther than `farthest` or what 16 bits hold, where it is
    seen at a grazing angle, or not at all. A room makes more holes: in the shadow of what is near, at edges, on dark
    glass, in blotches where the sequence says so; and there images have noise. Frame numbers wrap at 2^32 as a
    device's do, and are unwrapped.
    """

    def __init__(
        self,
        *,
        address: str,
        world: World,
        width: Annotated[int, Unit("px"), Ge(16), Le(4096)] = 320,
        height: Annotated[int, Unit("px"), Ge(16), Le(4096)] = 240,
        field: Annotated[float, Unit("rad"), Gt(0.01), Le(2.5)] = 1.2,
        rate: Annotated[float, Unit("Hz"), Gt(0), Le(1000)] = 30.0,
        exposure: Annotated[float, Unit("s"), Gt(0), Le(1)] = 0.008,
        readout: Annotated[float, Unit("s"), Ge(0), Le(1)] = 0.01,
        baseline: Annotated[float, Unit("m"), Gt(0), Le(10)] = 0.05,
        disparity_noise: Annotated[float, Unit("px"), Ge(0), Le(10)] = 0.08,
        scale: Annotated[float, Unit("m"), Gt(0), Le(1)] = 0.001,
        nearest: Annotated[float, Unit("m"), Ge(0)] = 0.2,
        farthest: Annotated[float, Unit("m"), Gt(0)] = 65.0,
        grazing: Annotated[float, Unit("rad"), Gt(0), Le(1.5708)] = 1.4,
        offset: Annotated[float, Unit("m")] = 0.0,
        yaw: Annotated[float, Unit("rad"), Ge(-1.5), Le(1.5)] = 0.0,
        pitch: Annotated[float, Unit("rad"), Ge(-1.5), Le(1.5)] = 0.0,
        image: Literal["none", "Mono8", "BGR8"] = "none",
        first_id: Annotated[int, Ge(0), Le((1 << 32) - 1)] = (1 << 32) - 5,
        buffers: Annotated[int, Ge(1)] = 3,
        seed: int = 1,
    ) -> None:
        """`scale`: metres a unit of depth; `grazing`: most angle between a ray and the plane's normal;
        `offset`, `yaw`, `pitch`: its place along the rig's x, turned right about y and up about x."""
        self._world = world
        self._lens = self.pinhole = Pinhole.from_field(width, height, field)
        self.period_ns: int | None = round(1e9 / rate)
        self._times_ns = (round(exposure * 1e9), round(readout * 1e9))
        self._noise = (baseline, disparity_noise, seed)
        self._scale_m = scale
        self._bounds = (nearest, farthest, grazing)
        turn = rotation(np.array([0.0, 1.0, 0.0]), yaw) @ rotation(np.array([1.0, 0.0, 0.0]), pitch)
        self.rig_from_camera = transform(turn, np.array([offset, 0.0, 0.0]))
        self._image = image
        self._first_id = first_id
        self._buffers = buffers
        self.plugged = True  # a test pulls the cable
        self._streaming = False
        self._begin()

    def _begin(self) -> None:
        self._start_ns = 0 if self._clock is None else self._clock.now_ns()
        self._index = 0  # exposures since the start

    def open(self, clock: Clock) -> None:
        if not self.plugged:
            raise NotFound(self.uri, "open", "it is unplugged")
        self._clock = clock
        self._streaming = False
        self._count = self._received = self._missed = 0
        self._numbers = FrameNumbers()
        self._room = None if self._world.stage is None else self._sensor()
        if self._room is None:
            self._depth_m = self._true_depth()
        self._begin()

    def close(self) -> None:
        self._clock = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "sim", simulated=True)

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """A simulated camera is where a rig says it is: nothing to be found."""
        return []

    def start(self) -> None:
        self._streaming = True

    def stop(self) -> None:
        if self._streaming:
            self._streaming = False
            self._begin()

    @property
    def streaming(self) -> bool:
        return self._streaming and self._clock is not None

    def capabilities(self) -> Mapping[str, Capability]:
        longest_s = (self._period - 1) / 1e9
        return {
            "exposure": Capability("exposure", "s", 1e-6, longest_s, 1e-9),
            "rate": Capability("rate", "Hz", 0.1, min(1e9 / self._times_ns[0], 1000.0), live=False),
            "width": Capability("width", "px", writable=False),
            "height": Capability("height", "px", writable=False),
        }

    def _read(self, name: str) -> Value:
        self._running(f"get {name}")
        return {
            "exposure": self._times_ns[0] / 1e9, "rate": 1e9 / self._period,
            "width": self._lens.width, "height": self._lens.height,
        }[name]  # fmt: skip

    def _write(self, name: str, value: Value) -> None:
        self._running(f"set {name}")
        if name == "exposure":
            self._times_ns = (round(float(value) * 1e9), self._times_ns[1])
        else:
            self.period_ns = round(1e9 / float(value))
            self._begin()

    def health(self) -> Health:
        counters = {"received": self._received, "lost": self._missed} if self._clock is not None else {}
        return Health("ok" if self.plugged else "lost", counters=counters)

    @property
    def _period(self) -> int:
        assert self.period_ns is not None
        return self.period_ns

    def intrinsics(self) -> CameraInfo:
        clock = self._running("read intrinsics")
        lens = self._lens
        return CameraInfo(Stamp(clock.now_ns()), lens.width, lens.height, "plumb_bob", lens.matrix, np.zeros(5))

    def due_ns(self) -> int:
        return self._start_ns + self._index * self._period + sum(self._times_ns)

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        clock = self._running("read")
        self.start()
        if not self.plugged:
            raise Disconnected(self.uri, "read", "it was unplugged")
        behind = (clock.now_ns() - self.due_ns()) // self._period
        passed = max(0, int(behind) - self._buffers + 1)  # the buffers were full: these were not kept
        self._index += passed
        self._count += passed
        self._missed += passed
        self._await(timeout_s)
        middle_ns = self._start_ns + self._index * self._period + self._times_ns[0] // 2
        stamp = Stamp(middle_ns, self._times_ns[0])
        before = self._numbers.seq
        seq = self._numbers.unwrap(self._first_id + self._count)
        assert seq is not None
        lost = seq - before - 1 if before >= 0 else 0
        units, image = self._seen(stamp) if self._room is not None else (self._measured(), self._picture(stamp))
        depth = DepthFrame(stamp, units, self._scale_m, seq, lost, received_ns=self.due_ns())
        frame = None if image is None else Frame(stamp, image, self._image, seq, lost, received_ns=self.due_ns())
        self._index += 1
        self._count += 1
        self._received += 1
        return depth, frame

    def _true_depth(self) -> NDArray[np.float64]:
        """Metres along the optical axis to the plane, height x width; infinite where it is not to be measured."""
        width, height = self._lens.width, self._lens.height
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        rays = self._lens.rays(np.column_stack([columns.ravel(), rows.ravel()]))
        cosine = (rays @ self.rig_from_camera[:3, :3].T)[:, 2]
        ahead_m = self._world.range_m - self.rig_from_camera[2, 3]
        with np.errstate(divide="ignore"):
            depth = ahead_m / cosine * rays[:, 2]
        depth[cosine < np.cos(self._bounds[2])] = np.inf
        return depth.reshape(height, width)

    def _measured(self) -> NDArray[np.uint16]:
        baseline, sigma_px, seed = self._noise
        nearest, farthest, _ = self._bounds
        noise = np.random.default_rng((seed, self._count)).normal(0.0, sigma_px, self._depth_m.shape)
        product = self._lens.focal_px * baseline
        disparity = product / self._depth_m + noise
        with np.errstate(divide="ignore"):
            depth = np.where(disparity > 0, product / disparity, np.inf)
        good = np.isfinite(self._depth_m) & (depth >= nearest) & (depth <= min(farthest, 65535 * self._scale_m))
        return np.where(good, np.rint(np.where(good, depth, 0.0) / self._scale_m), 0.0).astype(np.uint16)

    def _picture(self, stamp: Stamp) -> Pixels | None:
        if self._image == "none":
            return None
        lens = self._lens
        from_plane = lens.image_from_plane(invert(self.rig_from_camera), self._world.range_m)
        color, t_s = self._image == "BGR8", self._world.time_s(stamp.t_ns)
        return self._world.scene.render(from_plane, lens.width, lens.height, color, t_s)

    def _sensor(self) -> RgbdSensor:
        """What measures a room, with this camera's law of noise and the sequence's blotches."""
        from foveate_drivers.world.room_sensor import DepthModel, RgbdSensor

        stage = self._world.stage
        assert stage is not None
        baseline, sigma_px, seed = self._noise
        nearest, farthest, grazing = self._bounds
        law = (0.0, sigma_px / (self._lens.focal_px * baseline), 0.0)
        farthest = min(farthest, 65535 * self._scale_m)
        depth = DepthModel(law, nearest, farthest, grazing, baseline, 0.0, stage.sequence.depth.dropout)
        return RgbdSensor(self._lens, seed, stage.sequence.color, depth)

    def _seen(self, stamp: Stamp) -> tuple[NDArray[np.uint16], Pixels | None]:
        """Depth and image of a room at a moment."""
        stage, sensor = self._world.stage, self._room
        assert stage is not None and sensor is not None
        t_s = self._world.time_s(stamp.t_ns)
        exposure_s = stamp.exposure_ns / 1e9 if self._image != "none" else 0.0
        sight = stage.sight(self._lens, t_s, exposure_s, self.rig_from_camera)
        pose = stage.world_from_rig(t_s) @ self.rig_from_camera
        depth = np.rint(sensor.measured(sight, pose, stage.room.returns, self._count) / self._scale_m)
        if self._image == "none":
            return depth.astype(np.uint16), None
        image = sensor.image(sight.light, self._count)
        gray = image if self._image == "BGR8" else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        return depth.astype(np.uint16), gray
