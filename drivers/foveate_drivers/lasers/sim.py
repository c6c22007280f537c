"""The simulated line laser: the rules of the interface in closed form on the clock; a light of the shared world."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from numbers import Real
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import Interlock, NotSupported, OutOfRange, StateError
from foveate.messages import LaserState, Stamp
from foveate.node import Unit
from foveate_calibration.steered_laser import SteeredLaser
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.beam import Beam

_MADE = np.array([2e-3, 2e-3, 0.5e-3])  # with misalignment 1: the sheet's tilts (rad) and its distance (m)
_BEFORE_M = 0.1  # from the lens that makes the fan to the mirror
_WAVELENGTH_M = 660e-9
_SAME_RAD = 1e-4  # by how much the mirror turns until the speckle is another: half a grain's width at 2 m
_KEPT = 256


class SimLaser(LineLaser):
    """Emits from a command until the deadline after it; needs no step of time."""

    def __init__(
        self,
        *,
        address: str = "laser",
        deadline: Annotated[float, Unit("s"), Gt(0), Le(60)] = 0.1,
        world: World | None = None,
        through: SimMirror | None = None,
        thickness: Annotated[float, Unit("m"), Gt(0), Le(0.05)] = 0.95e-3,
        waist: Annotated[float, Unit("m"), Gt(0), Le(100)] = 2.0,
        fan: Annotated[float, Unit("rad"), Gt(0), Le(3)] = 0.9,
        level: Annotated[float, Gt(0), Le(1e5)] = 300.0,
        misalignment: Annotated[float, Ge(0), Le(10)] = 0.0,
        seed: int = 1,
    ) -> None:
        """`deadline`: silence after which it is off. With a `world`, `through` is its mirror of one axis; the sheet is
        thinnest at the distance `waist`, `thickness` to where its light is 1 / e^2; `fan`: its full angle; `level`:
        grey levels on white that faces it there, at full power in a camera's nominal exposure; `misalignment`: of the
        true sheet from the drawing, 1 = as mounted."""
        self.deadline_s = deadline
        self._world, self._mirror = world, through
        self._sheet_form = (thickness, waist, fan / 2, level)
        self._history: deque[tuple[int, float, int]] = deque(maxlen=_KEPT)  # since when, power, until when
        if (world is None) != (through is None) or (through is not None and through.axes != 1):
            raise NotSupported(
                f"sim:{address}", "shine", "options world and through go together, with a mirror of one axis"
            )
        if world is not None:
            self.sheet = np.array([0.0, 0.0, 1.0, 0.0])
            self._step = misalignment * np.random.default_rng((seed, 71)).normal(0, _MADE)
            world.lights.append(self)
        self._lock = threading.Lock()
        self._clock: Clock | None = None
        self._interlock = ""
        self._stopped = False
        self._power = 0.0
        self._until_ns = 0

    @property
    def interlock(self) -> str:
        """Why it may not emit, "" = nothing: a door that whoever plays the room opens and closes."""
        return self._interlock

    @interlock.setter
    def interlock(self, why: str) -> None:
        with self._lock:
            self._interlock = why
            if why:
                self._power = 0.0  # and it stays off when the door closes

    def open(self, clock: Clock) -> None:
        if self._clock is not None:
            raise StateError(self.uri, "open", "it is open already")
        self._clock = clock
        self._power, self._stopped = 0.0, False

    def close(self) -> None:
        self.off()
        self._clock = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "line laser", simulated=True)

    def capabilities(self) -> Mapping[str, Capability]:
        return {"deadline": Capability("deadline", "s", 0.001, 60.0)}

    def _read(self, name: str) -> Value:
        self._now_ns("get deadline")
        return self.deadline_s

    def _write(self, name: str, value: Value) -> None:
        self.deadline_s = float(value)

    def health(self) -> Health:
        why = "emergency stop" if self._stopped else self._interlock
        return Health("degraded" if why else "ok", why)

    def _now_ns(self, operation: str) -> int:
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        return self._clock.now_ns()

    def emit(self, power: float) -> LaserState:
        now_ns = self._now_ns("emit")
        with self._lock:
            self._power = 0.0  # until everything has been found good
            if not isinstance(power, Real) or not math.isfinite(power) or not 0 <= power <= 1:
                raise OutOfRange(self.uri, "power", " ".join(repr(power).split())[:40], 0, 1)
            if self._stopped:
                raise Interlock(self.uri, "emit", "it was stopped by emergency stop; clear it first")
            if self._interlock and power > 0:
                raise Interlock(self.uri, "emit", f"{self._interlock}; close it, then ask again")
            self._power, self._until_ns = float(power), now_ns + round(self.deadline_s * 1e9)
            self._history.append((now_ns, self._power, self._until_ns))
        return self.state()

    def state(self) -> LaserState:
        now_ns = self._now_ns("read")
        with self._lock:
            power = self._power if now_ns < self._until_ns else 0.0
            why = "emergency stop" if self._stopped else self._interlock
            return LaserState(Stamp(now_ns), power, power > 0, why)

    def power_at(self, t_ns: int) -> float:
        """What it emits at a moment, 0 to 1: as it was, and from now on if no further command comes."""
        with self._lock:
            if self._history and t_ns < self._history[-1][0]:
                before = [entry for entry in self._history if entry[0] <= t_ns]
                return before[-1][1] if before and t_ns < before[-1][2] else 0.0
            return self._power if t_ns < self._until_ns else 0.0

    def off(self) -> None:
        with self._lock:
            if self._power and self._clock is not None:
                self._history.append((self._clock.now_ns(), 0.0, self._until_ns))
            self._power = 0.0

    @property
    def true_laser(self) -> SteeredLaser:
        """How it really shines: what a calibration is to find, and must never be given."""
        if self._mirror is None or self.sheet is None:
            raise NotSupported(self.uri, "say how it shines", "it needs the options world and through")
        drawn = SteeredLaser(self.sheet, self._mirror.true_mirrors[0])
        return drawn.stepped(np.concatenate([self._step, np.zeros(9)]))

    def beam(self, angle_rad: NDArray[np.float64], power: float = 1.0) -> Beam:
        """Its light at `power` with the mirror at an angle (1,), commanded."""
        laser = self.true_laser
        thickness, waist, half_fan, level = self._sheet_form
        normal, before_m = laser.sheet[:3], laser.mirror.point_m - [_BEFORE_M, 0.0, 0.0]
        ahead = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
        ahead /= np.linalg.norm(ahead)
        source = before_m + (laser.sheet[3] - normal @ before_m) * normal
        seen = laser.mirror.reflection(float(np.ravel(angle_rad)[0]))
        along = np.cross(normal, ahead)
        return Beam(
            laser.plane(angle_rad), seen[:3, :3] @ source + seen[:3, 3], seen[:3, :3] @ along, seen[:3, :3] @ ahead,
            half_fan, thickness, waist + _BEFORE_M, np.pi * thickness**2 / _WAVELENGTH_M, level * power,
            round(float(np.ravel(angle_rad)[0]) / _SAME_RAD),
        )  # fmt: skip

    def smear_rad(self, begin_s: float, end_s: float) -> float:
        assert self._mirror is not None
        return float(np.ptp([self._mirror.true_angle(t) for t in (begin_s, (begin_s + end_s) / 2, end_s)]))

    def beams(self, times_s: list[float], middle_ns: int) -> list[Beam]:
        assert self._mirror is not None
        power = self.power_at(middle_ns)
        if power <= 0:
            return []
        return [self.beam(angle, power) for angle in self._mirror.light_angles(times_s, middle_ns)]

    def estop(self) -> None:
        self._now_ns("stop")
        self.off()
        self._stopped = True

    def clear(self) -> None:
        self._now_ns("clear")
        self.off()
        self._stopped = False
