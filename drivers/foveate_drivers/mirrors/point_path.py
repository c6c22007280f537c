"""A path as a point streamer plays it: a place for every moment, of moves and waveforms that replace each other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.clock import process_ns
from foveate.messages import MirrorState
from foveate_drivers.mirrors.base import Angles
from foveate_drivers.mirrors.dynamics import AxisLimits, profile
from foveate_drivers.mirrors.moves import Moves

Times = NDArray[np.int64]
_SMOOTHING = 0.05  # of the play clock: an answer tells it to a point and the time of the way
_JUMP_NS = 3_000_000  # the play clock is set, not smoothed, beyond this
_TOLD = 4
_LAST_NS = 2_000_000  # after a waveform its last point is told again


class _Move:
    """From a place and a speed to rest at a target: by the fastest way within the limits, or at once."""

    def __init__(
        self, begin_ns: int, place: Angles, speed: Angles, target: Angles, dynamics: Sequence[AxisLimits] | None
    ) -> None:
        self._begin_ns = begin_ns
        self._axes = []
        for axis, goal in enumerate(target):
            rows, s, r, v = [], 0.0, float(place[axis]), float(speed[axis])
            for duration, a in profile(float(goal) - r, v, dynamics[axis]) if dynamics is not None else ():
                rows.append((s, r, v, a))
                r, v, s = r + v * duration + a / 2 * duration**2, v + a * duration, s + duration
            rows.append((s, float(goal), 0.0, 0.0))
            self._axes.append(np.array(rows).T)

    def at(self, times_ns: Times) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(places, speeds), each N x axes."""
        s = np.maximum(times_ns - self._begin_ns, 0) / 1e9
        places, speeds = [], []
        for begin, r, v, a in self._axes:
            i = np.searchsorted(begin, s, side="right") - 1
            d = s - begin[i]
            places.append(r[i] + v[i] * d + a[i] / 2 * d * d)
            speeds.append(v[i] + a[i] * d)
        return np.column_stack(places), np.column_stack(speeds)


class _Waveform:
    """Straight from knot to knot, then rest at the last."""

    def __init__(self, times_ns: Times, places: NDArray[np.float64]) -> None:
        self._times_ns, self._places = times_ns, places

    def at(self, times_ns: Times) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        places = [np.interp(times_ns, self._times_ns, column) for column in self._places.T]
        i = np.clip(np.searchsorted(self._times_ns, times_ns, side="right"), 1, len(self._times_ns) - 1)
        span_s = np.diff(self._times_ns)[i - 1] / 1e9
        inside = (times_ns >= self._times_ns[0]) & (times_ns < self._times_ns[-1])
        speeds = np.diff(self._places, axis=0)[i - 1] / span_s[:, None] * inside[:, None]
        return np.column_stack(places), speeds


class PointPath:
    """Starts at rest at zero. Times never run back by more than what has not been played."""

    def __init__(self, dynamics: Sequence[AxisLimits], *, in_steps: bool) -> None:
        """`in_steps`: a move is a step; else the fastest profile within `dynamics`."""
        self._dynamics = None if in_steps else dynamics
        self._rest = np.zeros(len(dynamics))
        self._now: _Move | _Waveform
        self._ahead: list[tuple[int, str, Angles | tuple[Times, NDArray[np.float64]]]] = []
        self._until_ns = 0  # the end of a waveform that plays
        # since somebody looked: why, when, where to; of a waveform one point in four, as mirrors follow no faster
        self.begun: list[tuple[str, int, Angles]] = []
        self.reset(0)

    def reset(self, t_ns: int) -> None:
        """At rest at zero, and nothing to come."""
        self._now = _Move(t_ns, self._rest, self._rest, self._rest, None)
        self._ahead, self._until_ns = [], 0

    def goto(self, target: Angles, start_ns: int, park_ns: int | None) -> None:
        """Replaces what has not begun. From `park_ns` on go to rest, unless something else comes before."""
        self._ahead = [(start_ns, "move", target)]
        self._park(park_ns)

    def follow(self, times_ns: Times, places: NDArray[np.float64], start_ns: int, park_ns: int | None) -> None:
        """Pass through `places` (N x axes) at `times_ns`, on a straight way to the first from where it is then."""
        self._ahead = [(start_ns, "waveform", (times_ns, places))]
        self._park(park_ns)

    def _park(self, park_ns: int | None) -> None:
        if park_ns is not None:
            self._ahead.append((park_ns, "park", self._rest))

    def waiting(self, t_ns: int) -> bool:
        """Whether a command has not begun, or a waveform does not end before `t_ns`."""
        return self._until_ns > t_ns or any(what != "park" for _, what, _ in self._ahead)

    def at(self, times_ns: Times) -> NDArray[np.float64]:
        """Places (N x axes) at growing times."""
        parts = []
        first = 0
        while first < len(times_ns):
            while self._ahead and self._ahead[0][0] <= times_ns[first]:
                self._begin(*self._ahead.pop(0))
            end = len(times_ns)
            if self._ahead:
                end = max(int(np.searchsorted(times_ns, self._ahead[0][0])), first + 1)
            places = self._now.at(times_ns[first:end])[0]
            if isinstance(self._now, _Waveform) and times_ns[first] <= self._until_ns + _LAST_NS:
                told = zip(times_ns[first:end:_TOLD].tolist(), places[::_TOLD], strict=True)
                self.begun += [("waveform", t_ns, place) for t_ns, place in told]
            parts.append(places)
            first = end
        return np.concatenate(parts)

    def _begin(self, start_ns: int, what: str, goal: Angles | tuple[Times, NDArray[np.float64]]) -> None:
        place, speed = (rows[0] for rows in self._now.at(np.array([start_ns])))
        self._until_ns = 0
        if isinstance(goal, tuple):
            times_ns, places = goal
            if times_ns[0] > start_ns:
                times_ns = np.concatenate([[start_ns], times_ns])
                places = np.vstack([place, places])
            self._now = _Waveform(times_ns, places)
            self._until_ns = int(times_ns[-1])
        else:
            self._now = _Move(start_ns, place, speed, goal, self._dynamics)
            self.begun.append((what, start_ns, goal))


class PlayedMoves:
    """Where the mirror is by the points that have been played: those on their way may still be thrown away."""

    def __init__(self, dynamics: Sequence[AxisLimits], tolerance_rad: float) -> None:
        self._moves = Moves(dynamics, tolerance_rad)
        self._coming: deque[tuple[int, Angles]] = deque()
        self._lock = threading.Lock()

    def plan(self, target_rad: Angles, t_ns: int) -> None:
        """A move that is played from `t_ns` on."""
        # without the lock: who asks where the mirror is without a pause would starve the feeder of it
        self._coming.append((t_ns, target_rad))

    def stop(self, t_ns: int) -> None:
        """At `t_ns` the mirror was let go to rest."""
        self._tell(t_ns)
        with self._lock:
            self._coming.clear()
            self._moves.command(self._moves.target_rad * 0, t_ns)

    def at(self, t_ns: int, exposure_ns: int) -> MirrorState:
        self._tell(t_ns + exposure_ns // 2)
        return self._moves.at(t_ns, exposure_ns)

    def settled(self, t_ns: int) -> bool:
        """Whether it is at rest and nothing is on its way."""
        self._tell(t_ns)
        return not self._coming and self._moves.settled(t_ns)

    @property
    def away(self) -> bool:
        """Whether it is, or is about to be, elsewhere than at rest at zero."""
        return bool(self._coming) or bool(self._moves.target_rad.any())

    def _tell(self, t_ns: int) -> None:
        with self._lock:
            while self._coming and self._coming[0][0] <= t_ns:
                begin_ns, target = self._coming.popleft()
                self._moves.command(target, begin_ns)


class PlayClock:
    """When each point of a stream is played, by the streamer's answers: how many it has played, how many wait."""

    def __init__(self, rate: int) -> None:
        """Playing begins now, at `rate` points/s."""
        self._step_ns = 1e9 / rate
        self._begin_ns = process_ns()
        self._sent = 0

    def waiting(self) -> int:
        """Points that have been sent and not played, by now."""
        return self._sent - int((process_ns() - self._begin_ns) / self._step_ns)

    def times_of_next(self, count: int) -> Times:
        """When points that are sent now are played."""
        return self._begin_ns + np.rint((self._sent + 1 + np.arange(count)) * self._step_ns).astype(np.int64)

    def follow(self, played: int, waiting: int) -> int:
        """Take note of an answer that came just now (`played` modulo 2^32); how many points it took more."""
        before = self._sent
        most = before + (1 << 31)
        played += (most - played) >> 32 << 32
        self._sent = played + waiting
        off_ns = process_ns() - round(played * self._step_ns) - self._begin_ns
        self._begin_ns += off_ns if abs(off_ns) > _JUMP_NS else round(_SMOOTHING * off_ns)
        return max(self._sent - before, 0)
