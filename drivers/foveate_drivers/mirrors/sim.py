"""The simulated mirror: galvanometers with limits, lag, noise, drift, and the errors that machining leaves."""

from __future__ import annotations

import bisect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import OutOfRange, StateError
from foveate.messages import MirrorState, Stamp
from foveate.node import Unit
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.mirrors.base import Angles, Mirror, Sync
from foveate_drivers.mirrors.dynamics import CLASSES, Axis, SettleTable
from foveate_drivers.mirrors.guard import Guard
from foveate_drivers.mirrors.imperfect import Imperfections

_HALF = math.sqrt(0.5)


class SimMirror(Mirror):
    """One or two axes of one scanner class. Where it really is and what it reports differ by its noise.

    Two axes turn a camera's view (`TwoMirror`); one turns a laser: its axis is +y through (`baseline`, 0, 0), and at
    rest its normal (-1, 0, 1) / sqrt 2 sends light that travels along +x away along +z.
    """

    def __init__(
        self,
        *,
        address: str = "galvo",
        axes: Literal[1, 2] = 2,
        scanner: Literal["galvo5", "galvo10", "saccade30", "voicecoil15"] = "saccade30",
        limit: Annotated[float, Unit("rad"), Gt(0), Le(0.5)] = 0.24,
        tolerance: Annotated[float, Unit("rad"), Gt(0)] = 25e-6,
        repeatability: Annotated[float, Unit("rad"), Ge(0)] = 10e-6,
        readback_noise: Annotated[float, Unit("rad"), Ge(0)] = 5e-6,
        delay: Annotated[float, Unit("s"), Ge(0), Le(0.1)] = 100e-6,
        spacing: Annotated[float, Unit("m"), Gt(0)] = 0.045,
        camera_distance: Annotated[float, Unit("m"), Gt(0)] = 0.08,
        sync: Sync = "predicted",
        deadline: Annotated[float, Unit("s"), Ge(0), Le(60)] = 0.09,
        rate: Annotated[float, Unit("Hz"), Gt(0)] = 10_000.0,
        duty: Annotated[float, Gt(0), Le(1)] = 1.0,
        baseline: Annotated[float, Unit("m"), Gt(0.01), Le(10)] = 0.8,
        misalignment: Annotated[float, Ge(0), Le(10)] = 0.0,
        jitter: Annotated[float, Unit("rad"), Ge(0), Le(0.01)] = 0.0,
        drift: Annotated[float, Unit("rad"), Ge(0), Le(0.01)] = 0.0,
        drift_time: Annotated[float, Unit("s"), Gt(0)] = 60.0,
        ripple: Annotated[float, Unit("rad"), Ge(0), Le(0.01)] = 0.0,
        seed: int = 1,
    ) -> None:
        """`delay`: from a command to the start of the move; `tolerance`: what counts as at rest;
        `deadline`: silence after which it parks, 0 = never; `rate`: most commands a second;
        `duty`: share of a second an axis may accelerate (heat), 1 = any; `misalignment`: of its true mirrors from the
        drawing, 1 = as machined; `jitter`: where it stands in an exposure; `drift`: at most so far the light wanders in
        some `drift_time`, unseen by the readback; `ripple`: a periodic error, unseen too; `baseline`: of one axis."""
        self.axes, self.limit_rad = axes, np.full(axes, limit)
        self._draw(spacing, camera_distance, baseline)
        self._imperfect = Imperfections(
            self.galvanometers, seed, misalignment=misalignment, jitter=jitter, drift=drift, drift_s=drift_time,
            ripple=ripple,
        )  # fmt: skip
        self.tolerance_rad, self.deadline_s = tolerance, deadline
        self.sync = sync
        self._repeatability, self._readback_noise, self._delay_s = repeatability, readback_noise, delay
        self._seed, self._scanner = seed, scanner
        self._bounds = (rate, duty)
        self._settle = SettleTable(CLASSES[scanner], tolerance, 2 * limit)
        self._lock = threading.Lock()
        self._clock: Clock | None = None
        self.exposure_end_ns: Callable[[int], int] | None = None  # after a moment: wired by the camera behind it
        self._reset()

    def _draw(self, spacing_m: float, camera_distance_m: float, baseline_m: float) -> None:
        if self.axes == 2:
            self.geometry = TwoMirror(spacing_m, camera_distance_m)
            self.galvanometers = self.geometry.galvanometers()
        else:
            normal, place = np.array([-_HALF, 0.0, _HALF]), np.array([baseline_m, 0.0, 0.0])
            self.galvanometers = (Galvanometer(np.array([0.0, 1.0, 0.0]), place, normal),)

    @property
    def true_mirrors(self) -> tuple[Galvanometer, ...]:
        """How the light really goes: for the simulated light path and tests only."""
        return self._imperfect.mirrors

    def _reset(self) -> None:
        rate, duty = self._bounds
        self._guard = Guard(self.uri, self.limit_rad, [CLASSES[self._scanner]] * self.axes, rate_hz=rate, duty=duty)
        self._axes = [Axis(CLASSES[self._scanner]) for _ in range(self.axes)]
        self._target = self._landed = np.zeros(self.axes)
        self._triggers: list[int] = []  # when the controller releases the camera, with sync "trigger"
        self._rng = np.random.default_rng(self._seed)
        self.parked = True

    def open(self, clock: Clock) -> None:
        self._reset()
        self._clock = clock
        self._triggers.append(clock.now_ns())  # the camera's first frame does not wait for a move

    def close(self) -> None:
        """Park, if it was open."""
        if self._clock is not None:
            self.park()
            self.parked = True
            self._clock = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", self._scanner, simulated=True)

    def capabilities(self) -> Mapping[str, Capability]:
        return {
            "limit": Capability("limit", "rad", writable=False),
            "deadline": Capability("deadline", "s", 0.0, 60.0),
            "scanner": Capability("scanner", choices=tuple(CLASSES), writable=False),
        }

    def _read(self, name: str) -> Value:
        self._now_ns(f"get {name}")
        return {"limit": float(self.limit_rad[0]), "deadline": self.deadline_s, "scanner": self._scanner}[name]

    def _write(self, name: str, value: Value) -> None:
        self.deadline_s = float(value)

    def health(self) -> Health:
        return Health("degraded" if self._guard.stopped else "ok", "emergency stop" if self._guard.stopped else "",
                      {"refused": self._guard.refused})  # fmt: skip

    def _now_ns(self, operation: str) -> int:
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        return self._clock.now_ns()

    def goto(self, angle_rad: Angles, not_before_ns: int = 0) -> MirrorState:
        now_ns = self._now_ns("move")
        angle = self._guard.admit(angle_rad, now_ns)
        start_ns = max(now_ns, not_before_ns)
        if self.sync == "strobe" and self.exposure_end_ns is not None:
            start_ns = self.exposure_end_ns(now_ns)
        elif self.sync == "trigger":
            start_ns = now_ns
        with self._lock:
            error = self._rng.normal(0, self._repeatability, self.axes)
            if self.parked or not np.array_equal(angle, self._target):  # told again, it stays where it has landed
                self._landed = np.clip(angle + error, -self.limit_rad, self.limit_rad)
            self.parked = False
            self._move(angle, self._landed, start_ns)
            self._plan_parking(start_ns)
        return MirrorState(Stamp(now_ns), angle, True, "command")

    def _plan_parking(self, start_ns: int) -> None:
        """After the deadline it parks; the next command undoes the plan."""
        if self.deadline_s > 0:
            self._move(
                np.zeros(self.axes), np.zeros(self.axes), start_ns + round(self.deadline_s * 1e9), keep_target=True
            )

    def _move(self, angle: Angles, landed: Angles, start_ns: int, keep_target: bool = False) -> None:
        begin_s = start_ns / 1e9 + self._delay_s
        before = [axis.state(begin_s)[0] for axis in self._axes] if self.sync == "trigger" else None
        for axis, target in zip(self._axes, landed, strict=True):
            axis.command(float(target), begin_s)
        if not keep_target:
            self._target = angle
            del self._triggers[bisect.bisect_right(self._triggers, start_ns) :]
        if before is None:
            return
        # a quarter of the tolerance: what is left of the move then does not smear the exposure
        rest_s = math.log(4) / (2 * math.pi * self._axes[0].limits.natural_hz * self._axes[0].limits.damping)
        self._triggers.append(start_ns + round((float(self.settle_s(angle - before).max()) + rest_s) * 1e9))

    def next_trigger_ns(self, after_ns: int) -> int | None:
        """With sync "trigger": the first moment after `after_ns` at which the controller releases the camera."""
        with self._lock:
            at = bisect.bisect_right(self._triggers, after_ns)
            del self._triggers[: max(at - 64, 0)]
            at = min(at, 64)
            return self._triggers[at] if at < len(self._triggers) else None

    def stream(self, times_s: Sequence[float], angle_rad: NDArray[np.float64]) -> None:
        now_ns = self._now_ns("stream a waveform")
        points = [self._guard.checked(point) for point in np.atleast_2d(angle_rad)]
        growing = all(a < b < math.inf for a, b in pairwise((-math.inf, *times_s)))  # which NaN is not
        if not points or len(points) != len(times_s) or not growing:
            raise OutOfRange(self.uri, "waveform times", len(times_s), len(points), len(points), "growing numbers")
        self._guard.admit(points[0], now_ns)
        with self._lock:
            self.parked = False
            for time_s, point in zip(times_s, points, strict=True):
                self._move(point, point, now_ns + round(time_s * 1e9))
            self._plan_parking(now_ns + round(times_s[-1] * 1e9))

    def park(self) -> None:
        now_ns = self._now_ns("park")
        with self._lock:
            self._move(np.zeros(self.axes), np.zeros(self.axes), now_ns)
        self._guard.parked()

    def estop(self) -> None:
        self._guard.stopped = True  # before: a command of another thread is not to come in between
        self.park()

    def clear(self) -> None:
        self._now_ns("clear")
        self._guard.stopped = False

    def true_angle(self, t_s: float) -> Angles:
        """Where the shafts stand, apart from jitter: what a sensor on them would see."""
        with self._lock:
            return np.array([axis.state(t_s)[0] for axis in self._axes])

    def light_angles(self, times_s: Sequence[float], middle_ns: int) -> list[Angles]:
        """Commands at which `true_mirrors` send the light as it goes at moments of the exposure around `middle_ns`."""
        jitter = self._imperfect.jitter(middle_ns)
        shafts = [(t_s, self.true_angle(t_s) + jitter) for t_s in times_s]
        return [shaft + self._imperfect.unseen(shaft, t_s) for t_s, shaft in shafts]

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        self._now_ns("read")
        t_s, half_s = t_ns / 1e9, exposure_ns / 2e9
        with self._lock:
            places = np.array(
                [[axis.state(t_s + offset)[0] for axis in self._axes] for offset in (-half_s, 0.0, half_s)]
            )
            noise = np.random.default_rng((self._seed, t_ns)).normal(0, self._readback_noise, self.axes)
            noise += self._imperfect.jitter(t_ns)
        moved = bool(np.ptp(places, axis=0).max() > self.tolerance_rad)
        return MirrorState(Stamp(t_ns, exposure_ns), places[1] + noise, moved, "readback")

    def position(self) -> MirrorState:
        return self.reading(self._now_ns("read"), 0)

    def settled(self) -> bool:
        now_s = self._now_ns("read") / 1e9
        slack = self.tolerance_rad + 5 * self._repeatability
        return bool(np.abs(self.true_angle(now_s) - self._target).max() <= slack)

    def settle_s(self, step_rad: Angles) -> Angles:
        return self._settle(step_rad) + self._delay_s
