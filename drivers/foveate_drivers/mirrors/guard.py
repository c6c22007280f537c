"""What no command may pass: limits, finite numbers, a rate, a duty, an emergency stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

from foveate.errors import Interlock, OutOfRange
from foveate_drivers.mirrors.base import Angles
from foveate_drivers.mirrors.dynamics import AxisLimits, profile

_DUTY_WINDOW_S = 1.0


class Guard:
    """Refuses what would harm a mirror, before anything reaches the wire.

    `duty`: the share of time, over the last second, that an axis may spend accelerating: the current, and with
    it the heat in the coil, flows then. `rate_hz`: commands that the wire and the controller can take.
    """

    def __init__(
        self, uri: str, limit_rad: Angles, dynamics: Sequence[AxisLimits], *, rate_hz: float, duty: float
    ) -> None:
        self.uri = uri
        self.limit_rad = limit_rad
        self.rate_hz = rate_hz
        self.duty = duty
        self._dynamics = dynamics
        self._lock = threading.Lock()
        self._at = np.zeros(len(limit_rad))
        self._moves: deque[tuple[int, Angles]] = deque()  # (when, seconds each axis accelerates)
        self._times: deque[int] = deque()
        self.stopped = False
        self.refused = 0

    def admit(self, angle_rad: Angles, now_ns: int) -> Angles:
        """The command as (axes,) float64 if it may be carried out now.

        Raises OutOfRange (shape, NaN, limits, rate), Interlock (emergency stop, duty).
        """
        with self._lock:
            try:
                return self._admit(angle_rad, now_ns)
            except (OutOfRange, Interlock):
                self.refused += 1
                raise

    def _admit(self, angle_rad: Angles, now_ns: int) -> Angles:
        if self.stopped:
            raise Interlock(self.uri, "move", "it was stopped by emergency stop; clear it first")
        angle = self.checked(angle_rad)
        while self._times and now_ns - self._times[0] >= 100_000_000:
            self._times.popleft()
        most = max(1.0, self.rate_hz / 10)
        if len(self._times) >= most:
            raise OutOfRange(self.uri, "the command rate", f"more than {self.rate_hz:g}", 0, self.rate_hz, "Hz")
        if self.duty < 1:
            self._warm(angle, now_ns)
        self._times.append(now_ns)
        self._at = angle
        return angle

    def _warm(self, angle: Angles, now_ns: int) -> None:
        """Add a move's heat, or raise Interlock where it would be too much."""
        busy_s = np.array([self._accelerating_s(axis, float(angle[axis])) for axis in range(len(angle))])
        while self._moves and now_ns - self._moves[0][0] >= _DUTY_WINDOW_S * 1e9:
            self._moves.popleft()
        if self._moves:  # the move before ends where this one begins
            begun_ns, before_s = self._moves[-1]
            self._moves[-1] = begun_ns, np.minimum(before_s, (now_ns - begun_ns) / 1e9)
        load = (sum((seconds for _, seconds in self._moves), np.zeros(len(angle))) + busy_s) / _DUTY_WINDOW_S
        if load.max() > self.duty:
            text = (
                f"axis {int(load.argmax())} would accelerate {load.max():.0%} of the time, {self.duty:.0%} are allowed"
            )
            raise Interlock(self.uri, "move", f"{text}; make fewer or smaller moves, or raise option 'duty'")
        self._moves.append((now_ns, busy_s))

    def checked(self, angle_rad: Angles) -> Angles:
        """The angles as (axes,) finite numbers within the limits. Raises OutOfRange."""
        try:
            angle = np.asarray(angle_rad, np.float64)
        except (TypeError, ValueError):
            raise OutOfRange(self.uri, "angles", " ".join(repr(angle_rad).split())[:60], -1, 1, "rad") from None
        axes = len(self.limit_rad)
        if angle.shape != (axes,):
            raise OutOfRange(self.uri, "angles", f"an array of shape {angle.shape}", axes, axes, "axes")
        for axis in range(axes):
            limit = float(self.limit_rad[axis])
            if not abs(float(angle[axis])) <= limit:  # also catches NaN
                raise OutOfRange(self.uri, f"axis {axis}", float(angle[axis]), -limit, limit, "rad")
        return angle.copy()

    def parked(self) -> None:
        """The mirror went to rest without a command: the next move starts there."""
        with self._lock:
            self._at = np.zeros(len(self.limit_rad))

    def _accelerating_s(self, axis: int, target: float) -> float:
        steps = profile(target - float(self._at[axis]), 0.0, self._dynamics[axis])
        return sum(duration for duration, acceleration in steps if acceleration)
