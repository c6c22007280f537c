"""Cuts a stream of events into slices: by time, by number, or by how much happens anywhere."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from foveate.messages import Events

By = Literal["time", "count", "adaptive"]
Columns = tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]  # t, x, y, polarity
_AREA_PX = 16  # side of the areas whose events are counted


class Cut(NamedTuple):
    """Slices that came to their end; slice i has the events bounds[i] .. bounds[i + 1] - 1 and ends at times[i + 1]."""

    skipped: int  # slices left out before these
    bounds: NDArray[np.int64]  # S + 1, from 0
    times: NDArray[np.int64]  # S + 1
    columns: Columns


class Slicer:
    """Takes packets, gives what slices have come to their end.

    `time`: every `duration_ns` on the stream's clock, silent ones too. `count`: every `count` events. `adaptive`: when
    any area of 16 x 16 pixels has had `area` events (Liu and Delbruck, BMVC 2018: area event number), at the latest
    after `duration_ns` with events in it. Cuts depend on the events alone, not on their packets; by `time` also on how
    far stamps say that the camera was watched: an event before that end goes into the slice that waits.
    """

    def __init__(self, by: By, duration_ns: int, count: int, area: int) -> None:
        self._by, self._duration_ns, self._count, self._area = by, duration_ns, count, area
        self._areas = np.zeros((0, 0), np.int32)
        self.restart()

    def restart(self) -> None:
        """Forget what waits for its slice to end."""
        self._held: list[Columns] = []
        self._held_count = 0
        self._begin_ns: int | None = None  # of the slice that waits
        self._last_ns = np.iinfo(np.int64).min
        self._areas[:] = 0

    def goes_back(self, events: Events) -> bool:
        """Whether a packet begins before what has been seen."""
        return bool(len(events.t_ns)) and int(events.t_ns[0]) < self._last_ns

    def add(self, events: Events, most: int) -> Cut | None:
        """At most `most` slices, the newest of those that this packet ends; None where it ends none."""
        new: Columns = (events.t_ns, events.x, events.y, events.polarity)
        covered_ns = events.stamp.t_ns - events.stamp.exposure_ns // 2
        if self._begin_ns is None:
            self._begin_ns = self._first_ns(events.t_ns, covered_ns)
            if self._begin_ns is None:
                return None
        if len(events.t_ns):
            self._last_ns = int(events.t_ns[-1])
        covered_ns = max(covered_ns + events.stamp.exposure_ns, self._last_ns)
        skipped, bounds, times = self._ends(events, self._begin_ns, covered_ns, most)
        if len(times) == 1:
            self._hold(new, 0)
            return None
        first, rest = int(bounds[0]), int(bounds[-1]) - self._held_count
        if first >= self._held_count:  # no copy, and nothing of what waited
            part = slice(first - self._held_count, rest)
            columns: Any = tuple(column[part] for column in new)
        else:
            done = tuple(column[:rest] for column in new)
            columns = tuple(np.concatenate([part[k] for part in [*self._held, done]]) for k in range(4))
        self._held, self._held_count, self._begin_ns = [], 0, int(times[-1])
        self._hold(new, rest)
        return Cut(skipped, bounds - first, times, columns)

    def _first_ns(self, t_ns: NDArray[np.int64], covered_ns: int) -> int | None:
        """When the first slice begins, if that is known."""
        if self._by == "time":
            first_ns = min(covered_ns, int(t_ns[0])) if len(t_ns) else covered_ns
            return first_ns // self._duration_ns * self._duration_ns
        return int(t_ns[0]) if len(t_ns) else None

    def _hold(self, columns: Columns, rest: int) -> None:
        """Keep the events from `rest` on, in memory of their own."""
        if rest < len(columns[0]):
            t, x, y, polarity = columns
            self._held.append((t[rest:].copy(), x[rest:].copy(), y[rest:].copy(), polarity[rest:].copy()))
            self._held_count += len(t) - rest

    def _ends(
        self, events: Events, begin_ns: int, covered_ns: int, most: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """(slices left out, bounds among what is held and new, times) of the newest slices, and of none the begin."""
        t, held = events.t_ns, self._held_count
        if self._by == "time":
            done = max((covered_ns - begin_ns) // self._duration_ns, 0)
            skipped = max(done - most, 0)
            times = begin_ns + self._duration_ns * np.arange(skipped, done + 1, dtype=np.int64)
            bounds = np.searchsorted(t, times) + held
            if not skipped:
                bounds[0] = 0
            return skipped, bounds, times
        if self._by == "count":
            cuts = np.arange(self._count, held + len(t) + 1, self._count, dtype=np.int64)
        else:
            areas = (-(-events.height // _AREA_PX), -(-events.width // _AREA_PX))
            if self._areas.shape != areas:
                self._areas = np.zeros(areas, np.int32)
            size = (events.height, events.width)
            cuts = held + _busy(t, events.x, events.y, size, self._areas, self._area, self._duration_ns, begin_ns)
        skipped = max(len(cuts) - most, 0)
        bounds, times = np.append(0, cuts)[skipped:], np.append(begin_ns, t[cuts - 1 - held])[skipped:]
        return skipped, bounds, times


@numba.njit(cache=True, nogil=True)
def _busy(t: Any, x: Any, y: Any, size: Any, areas: Any, most: int, duration_ns: int, begin_ns: int) -> Any:
    """Behind which events slices end; `areas` holds the counts of those that wait, and is gone on with."""
    cuts = [0]
    for i in range(len(t)):
        full = t[i] - begin_ns >= duration_ns
        if y[i] < size[0] and x[i] < size[1]:
            row, column = int(y[i]) // _AREA_PX, int(x[i]) // _AREA_PX
            areas[row, column] += 1
            full = full or areas[row, column] >= most
        if full:
            cuts.append(i + 1)
            areas[:] = 0
            begin_ns = t[i]
    return np.array(cuts[1:], np.int64)
