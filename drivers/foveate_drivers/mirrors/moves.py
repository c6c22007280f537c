"""Where a mirror was: its commanded moves through the model of its dynamics, corrected by what was read back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

from foveate.messages import MirrorState, Stamp
from foveate_drivers.mirrors.base import Angles
from foveate_drivers.mirrors.dynamics import Axis, AxisLimits

_NEAR_NS = 500_000  # two readbacks no further apart than twice this bracket a moment
_KEPT = 256


class Moves:
    """The history of one mirror; commands and questions may come from different threads."""

    def __init__(self, dynamics: Sequence[AxisLimits], tolerance_rad: float) -> None:
        self._axes = [Axis(limits) for limits in dynamics]
        self._tolerance_rad = tolerance_rad
        self._target = np.zeros(len(dynamics))
        self._last_start_ns = 0
        self._measured: deque[tuple[int, Angles]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    @property
    def target_rad(self) -> Angles:
        """Where it was last sent."""
        with self._lock:
            return self._target.copy()

    def command(self, angle_rad: Angles, start_ns: int) -> None:
        """A move that begins at `start_ns`, or where the one before began if that is later."""
        with self._lock:
            self._last_start_ns = max(start_ns, self._last_start_ns)
            self._target = np.array(angle_rad, np.float64)
            for axis, target in zip(self._axes, self._target, strict=True):
                axis.command(float(target), self._last_start_ns / 1e9)

    def measured(self, t_ns: int, angle_rad: Angles) -> None:
        """The mirror's own reading at `t_ns`."""
        with self._lock:
            self._measured.append((t_ns, np.array(angle_rad, np.float64)))

    def at(self, t_ns: int, exposure_ns: int = 0) -> MirrorState:
        """Where it was at `t_ns`; by readbacks on both sides of it where there are, else by the model."""
        half_s = exposure_ns / 2e9
        with self._lock:
            offsets = (-half_s, -half_s / 2, 0.0, half_s / 2, half_s)
            places = np.array([[axis.state(t_ns / 1e9 + offset)[0] for axis in self._axes] for offset in offsets])
            between = self._between(t_ns)
        moved = bool(np.ptp(places, axis=0).max() > self._tolerance_rad)
        stamp = Stamp(t_ns, exposure_ns)
        if between is not None and not moved:
            return MirrorState(stamp, between, moved, "readback")
        return MirrorState(stamp, places[2], moved, "model")

    def settled(self, t_ns: int) -> bool:
        """Whether the model has come to rest at its target, within the tolerance."""
        with self._lock:
            states = [axis.state(t_ns / 1e9) for axis in self._axes]
            off = max(abs(state[0] - target) for state, target in zip(states, self._target, strict=True))
            return bool(t_ns >= self._last_start_ns and off <= self._tolerance_rad)

    def _between(self, t_ns: int) -> Angles | None:
        """The angle between the two readbacks around a moment, where both are near."""
        after: tuple[int, Angles] | None = None
        for item in reversed(self._measured):
            if item[0] > t_ns:
                after = item
                continue
            if item[0] == t_ns:
                return item[1].copy()
            if after is None or after[0] - item[0] > 2 * _NEAR_NS:
                return None
            share = (t_ns - item[0]) / (after[0] - item[0])
            return item[1] + share * (after[1] - item[1])
        return None
