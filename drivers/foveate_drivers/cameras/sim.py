"""The simulated camera: fixed, or looking through the simulated mirrors, at the shared world."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import Disconnected, NotFound, NotSupported, OutOfRange
from foveate.messages import Frame, Stamp
from foveate.node import Unit
from foveate_calibration.lens import Lens
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert, transform
from foveate_calibration.steered_camera import SteeredCamera
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.frame_ids import GIGE_VISION_1, FrameIds
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.beam import Beam
from foveate_drivers.world.scene import Pixels
from foveate_drivers.world.sensor import Sensor

if TYPE_CHECKING:
    from foveate_drivers.world.eye import Eye

_POLL_NS = 1_000_000  # how often a camera that waits for a trigger looks for one
_UNRELEASED_NS = 100_000_000  # a camera that no move releases for so long exposes by itself
# standard deviations of what a lens of misalignment 1 has against its drawing: focal length by itself, principal point
# (px), k1
_MADE_FOCAL, _MADE_CENTER_PX, _MADE_K1 = 3e-3, 6.0, 0.1


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

    pinhole: Pinhole
    _eye: Eye | None

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
        distortion: tuple[float, ...] = (),
        tilt: tuple[float, ...] = (),
        misalignment: Annotated[float, Ge(0), Le(10)] = 0.0,
        blur: Annotated[float, Unit("px"), Ge(0), Le(5)] = 0.8,
        seed: int = 1,
    ) -> None:
        """`field`: full horizontal angle of view; `offset`: a fixed camera's place along the rig's x. Before a bench:
        `distortion`: up to five numbers k1 k2 p1 p2 k3; `tilt`: of the sensor about x and y (rad); `misalignment`: how
        far its lens is from this drawing, 1 = as lenses are; `blur`: standard deviation of its point spread."""
        self._world, self._mirror = world, through
        self._lens = self.pinhole = Pinhole.from_field(width, height, field)
        self._period_ns = self.period_ns = round(1e9 / rate)
        self._exposure_ns, self._readout_ns = (round(seconds * 1e9) for seconds in (exposure, readout))
        self._nominal_ns = self._exposure_ns
        if through is None:
            self.rig_from_camera = transform(np.eye(3), np.array([offset, 0.0, 0.0]))
        elif through.geometry is None:
            raise NotSupported(f"sim:{address}", "look through a mirror of one axis", "it needs a mirror of two axes")
        self._true_lens = _made(f"sim:{address}", self.pinhole, distortion, tilt, misalignment, seed)
        self._blur_px, self._eye = blur, None
        self.encoding: str = encoding
        self._sensor_options = (full_well, read_noise, vignetting, seed)
        self._first_id, self._buffers = first_id, buffers
        self.cable = Cable()
        self._sensor: Sensor | None = None
        self._lost = self._streaming = False
        self._trigger, self._gain_db = "off", 0.0
        self._pending: deque[int] = deque()  # software triggers that have not been read
        self._start_ns = self._last_begin_ns = 0
        self._index = self._count = self._received = 0  # exposures since the start, frames in all, frames read
        self._ids = FrameIds()

    def open(self, clock: Clock) -> None:
        if not self.cable.plugged:
            raise NotFound(self.uri, "open", "it is unplugged")
        if self._world.bench is not None:
            _ = self.eye
        elif self._true_lens.distortion.any():
            raise NotSupported(
                self.uri, "distort a plane", "options distortion, tilt and misalignment need scene: bench"
            )
        self._new_sensor()
        self._clock = clock
        self._lost = self._streaming = False
        self._trigger = "mirror" if self._mirror is not None and self._mirror.sync == "trigger" else "off"
        self._count = self._received = 0
        self._ids = FrameIds()
        self._restart()
        if self._mirror is not None:
            self._mirror.exposure_end_ns = self._exposure_end_ns

    def _new_sensor(self) -> Sensor:
        full_well, read_noise, vignetting, seed = self._sensor_options
        self._sensor = Sensor(
            self._lens.width, self._lens.height, full_well_e=full_well, read_noise_e=read_noise,
            vignetting=vignetting, seed=seed,
        )  # fmt: skip
        return self._sensor

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
        found: dict[str, Value] = {
            "exposure": self._exposure_ns / 1e9, "gain": self._gain_db, "rate": 1e9 / self._period_ns,
            "width": self._lens.width, "height": self._lens.height, "encoding": self.encoding, "trigger": self._trigger,
        }  # fmt: skip
        return found[name]

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
        image = self._sensor.expose(
            self._world.picture(self, middle_ns, self._exposure_ns), self._count, *self._amplification()
        )
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

    def angles(self, times_s: Sequence[float], middle_ns: int) -> list[NDArray[np.float64]]:
        """Where the mirrors in its path truly stand; for the simulated light path only."""
        if self._mirror is None:
            return [np.zeros(0) for _ in times_s]
        return self._mirror.light_angles(times_s, middle_ns)

    def camera_from_rig(self, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """4 x 4, of the true (virtual) camera."""
        if self._mirror is None:
            assert self.rig_from_camera is not None
            return invert(self.rig_from_camera)
        if self._mirror.true_mirrors == self._mirror.galvanometers:
            assert self._mirror.geometry is not None
            return self._mirror.geometry.camera_from_rig(angle_rad)
        return self.true_camera.virtual_from_rig(angle_rad)

    @property
    def true_camera(self) -> SteeredCamera:
        """How it really sees: what a calibration is to find, and must never be given."""
        if self._mirror is None:
            assert self.rig_from_camera is not None
            return SteeredCamera(self._true_lens, self.rig_from_camera, ())
        assert self._mirror.geometry is not None
        return SteeredCamera(self._true_lens, self._mirror.geometry.rig_from_bare_camera, self._mirror.true_mirrors)

    @property
    def eye(self) -> Eye:
        if self._eye is None:
            optional("numba", self.uri, "scan")
            if self.encoding != "Mono8":
                raise NotSupported(self.uri, "see a bench in colour", "it is drawn in grey: encoding: Mono8")
            from foveate_drivers.world.eye import Eye

            self._eye = Eye(self.true_camera, self._blur_px)
        return self._eye

    def shot(
        self, angle_rad: NDArray[np.float64], beams: Sequence[Beam] = (), placement: int | None = None, index: int = 0
    ) -> Pixels:
        """One frame of a bench without a run: mirrors at `angle_rad`, each beam at rest, noise number `index`.

        `placement`: which of the boards is up; None = the solids. Raises NotSupported where the world has no bench.
        """
        bench = self._world.bench
        if bench is None:
            raise NotSupported(self.uri, "take a shot", "the world needs scene: bench")
        sensor = self._sensor or self._new_sensor()
        light = bench.picture(self.eye, np.atleast_2d(angle_rad), [[beam] for beam in beams], placement)
        return sensor.expose(light, index, *self._amplification())


def _made(
    uri: str, drawn: Pinhole, distortion: tuple[float, ...], tilt: tuple[float, ...], misalignment: float, seed: int
) -> Lens:
    """The lens as it came out of the workshop."""
    if len(distortion) > 5:
        raise OutOfRange(uri, "distortion", f"a list of {len(distortion)}", 0, 5, "numbers")
    if len(tilt) not in (0, 2):
        raise OutOfRange(uri, "tilt", f"a list of {len(tilt)}", 2, 2, "angles")
    lens = Lens.from_matrix(drawn.matrix, np.array(distortion), drawn.width, drawn.height)
    step = np.zeros(18)
    if misalignment:
        rng = np.random.default_rng((seed, 53))
        step[:2] = misalignment * rng.normal(0, _MADE_FOCAL) * drawn.focal_px
        step[2:4] = misalignment * rng.normal(0, _MADE_CENTER_PX, 2)
        step[4] = misalignment * rng.normal(0, _MADE_K1)
    if tilt:
        step[16:] = tilt
    return lens.stepped(step)
