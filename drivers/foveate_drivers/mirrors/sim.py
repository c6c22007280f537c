"""The simulated mirror: a two-axis galvanometer with limits, lag, repeatability and readback noise."""

from __future__ import annotations

import threading
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import StateError
from foveate.messages import MirrorState, Stamp
from foveate.node import Unit
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.mirrors.base import Angles, Mirror
from foveate_drivers.mirrors.dynamics import CLASSES, Axis, SettleTable


class SimMirror(Mirror):
    """Two axes of one scanner class. Where it really is and what it reports differ by its noise."""

    def __init__(
        self,
        *,
        address: str = "galvo",
        scanner: Literal["galvo5", "galvo10", "saccade30", "voicecoil15"] = "saccade30",
        limit: Annotated[float, Unit("rad"), Gt(0), Le(0.5)] = 0.24,
        tolerance: Annotated[float, Unit("rad"), Gt(0)] = 25e-6,
        repeatability: Annotated[float, Unit("rad"), Ge(0)] = 10e-6,
        readback_noise: Annotated[float, Unit("rad"), Ge(0)] = 5e-6,
        delay: Annotated[float, Unit("s"), Ge(0), Le(0.1)] = 100e-6,
        spacing: Annotated[float, Unit("m"), Gt(0)] = 0.045,
        camera_distance: Annotated[float, Unit("m"), Gt(0)] = 0.08,
        seed: int = 1,
    ) -> None:
        """`delay`: from a command to the start of the move; `tolerance`: what counts as at rest."""
        self.limit_rad = np.array([limit, limit])
        self.geometry = TwoMirror(spacing, camera_distance)
        self.tolerance_rad = tolerance
        self._repeatability = repeatability
        self._readback_noise = readback_noise
        self._delay_s = delay
        self._seed = seed
        self._scanner = scanner
        self._settle = SettleTable(CLASSES[scanner], tolerance, 2 * limit)
        self._lock = threading.Lock()
        self._clock: Clock | None = None
        self._axes = [Axis(CLASSES[scanner]) for _ in range(2)]
        self._rng = np.random.default_rng(seed)
        self.parked = True

    def open(self, clock: Clock) -> None:
        self._clock = clock
        self._axes = [Axis(CLASSES[self._scanner]) for _ in range(2)]
        self._rng = np.random.default_rng(self._seed)

    def close(self) -> None:
        """Park, if it was open."""
        if self._clock is not None:
            self.park()
            self.parked = True
            self._clock = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", self._scanner, simulated=True)

    def goto(self, angle_rad: Angles, not_before_ns: int = 0) -> MirrorState:
        angle = self.checked(angle_rad)
        if self._clock is None:
            raise StateError(self.uri, "move", "it is not open")
        now_ns = self._clock.now_ns()
        start_s = max(now_ns, not_before_ns) / 1e9 + self._delay_s
        with self._lock:
            self.parked = False
            landed = np.clip(angle + self._rng.normal(0, self._repeatability, 2), -self.limit_rad, self.limit_rad)
            for axis, target in zip(self._axes, landed, strict=True):
                axis.command(float(target), start_s)
        return MirrorState(Stamp(now_ns), angle.copy(), True, "command")

    def true_angle(self, t_s: float) -> Angles:
        """Where the mirror really is: for the simulated light path only."""
        with self._lock:
            return np.array([axis.state(t_s)[0] for axis in self._axes])

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        t_s, half_s = t_ns / 1e9, exposure_ns / 2e9
        with self._lock:
            places = np.array(
                [[axis.state(t_s + offset)[0] for axis in self._axes] for offset in (-half_s, 0.0, half_s)]
            )
            noise = np.random.default_rng((self._seed, t_ns)).normal(0, self._readback_noise, 2)
        moved = bool(np.ptp(places, axis=0).max() > self.tolerance_rad)
        return MirrorState(Stamp(t_ns, exposure_ns), places[1] + noise, moved, "readback")

    def settle_s(self, step_rad: Angles) -> Angles:
        return self._settle(step_rad) + self._delay_s
