"""Cuts a stream of events into slices: by time, by number, or by how much happens anywhere."""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from foveate.messages import Events

By = Literal["time", "count", "adaptive"]
_AREA_PX = 16  # side of the areas whose events are counted


class Slicer:
    """Takes packets, gives what slices have come to their end.

    `time`: every `duration_ns` on the stream's clock, silent ones too. `count`: every `count` events. `adaptive`: when
    any area of 16 x 16 pixels has had `area` events (Liu and Delbruck, BMVC 2018: area event number), at the latest
    after `duration_ns` with events in it. Cuts depend on the events alone, not on their packets.
    """

    def __init__(self, by: By, duration_ns: int, count: int, area: int) -> None:
        self._by, self._duration_ns, self._count, self._area = by, duration_ns, count, area
        self._areas = np.zeros((0, 0), np.int32)
        self.restart()

    def restart(self) -> None:
        """Forget what waits for its slice to end."""
        self._held: list[tuple[NDArray[Any], ...]] = []
        self._held_count = 0
        self._begin_ns: int | None = None  # of the slice that waits
        self._last_ns = np.iinfo(np.int64).min
        self._areas[:] = 0

    def goes_back(self, events: Events) -> bool:
        """Whether a packet begins before what has been seen."""
        return bool(len(events.t_ns)) and int(events.t_ns[0]) < self._last_ns

    def add(self, events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[NDArray[Any], ...]]:
        """(bounds S + 1, times S + 1, what was held and is new: t, x, y, polarity); slice i ends at times[i + 1] and
        has the events from bounds[i] to bounds[i + 1]. What comes after the last bound waits."""
        new = (events.t_ns, events.x, events.y, events.polarity)
        t, x, y, polarity = self._joined(new)
        seen_ns = events.stamp.t_ns + events.stamp.exposure_ns // 2
        if len(events.t_ns):
            self._last_ns = int(events.t_ns[-1])
            seen_ns = max(seen_ns, self._last_ns)
        if self._begin_ns is None:
            first_ns = int(t[0]) if len(t) else events.stamp.t_ns - events.stamp.exposure_ns // 2
            self._begin_ns = first_ns // self._duration_ns * self._duration_ns if self._by == "time" else first_ns
        bounds, times = self._cuts(t, x, y, seen_ns, events)
        self._begin_ns = int(times[-1])
        rest = int(bounds[-1])
        self._held = (
            [(t[rest:].copy(), x[rest:].copy(), y[rest:].copy(), polarity[rest:].copy())] if rest < len(t) else []
        )
        self._held_count = len(t) - rest
        return bounds, times, (t, x, y, polarity)

    def _joined(self, new: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        if not self._held:
            return new
        return tuple(np.concatenate([part[k] for part in [*self._held, new]]) for k in range(4))

    def _cuts(self, t: NDArray, x: NDArray, y: NDArray, seen_ns: int, events: Events) -> tuple[NDArray, NDArray]:
        assert self._begin_ns is not None
        if self._by == "time":
            done = max((seen_ns - self._begin_ns) // self._duration_ns, 0)
            times = self._begin_ns + self._duration_ns * np.arange(done + 1, dtype=np.int64)
            bounds = np.searchsorted(t, times)
            bounds[0] = 0
            return bounds, times
        if self._by == "count":
            bounds = np.arange(0, len(t) + 1, self._count, dtype=np.int64)
            return bounds, np.concatenate([[self._begin_ns], t[bounds[1:] - 1]]).astype(np.int64)
        areas = (-(-events.height // _AREA_PX), -(-events.width // _AREA_PX))
        if self._areas.shape != areas:
            self._areas = np.zeros(areas, np.int32)
        cuts = _busy(t, x, y, self._areas, self._held_count, self._area, self._duration_ns, self._begin_ns)
        bounds = np.concatenate([[0], cuts]).astype(np.int64)
        return bounds, np.concatenate([[self._begin_ns], t[cuts - 1] if len(cuts) else []]).astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _busy(t: Any, x: Any, y: Any, areas: Any, counted: int, most: int, duration_ns: int, begin_ns: int) -> Any:
    """Behind which events slices end; `areas` holds the counts of the first `counted` events, and is gone on with."""
    cuts = [0]
    for i in range(counted, len(t)):
        row, column = int(y[i]) // _AREA_PX, int(x[i]) // _AREA_PX
        full = t[i] - begin_ns >= duration_ns
        if row < areas.shape[0] and column < areas.shape[1]:
            areas[row, column] += 1
            full = full or areas[row, column] >= most
        if full:
            cuts.append(i + 1)
            areas[:] = 0
            begin_ns = t[i]
    return np.array(cuts[1:], np.int64)
