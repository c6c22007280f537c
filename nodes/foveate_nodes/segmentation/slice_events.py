"""The node that cuts packets of events into slices."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from foveate.messages import Events, Stamp
from foveate.node import Node, Unit
from foveate_nodes.segmentation.messages import EventSlices
from foveate_nodes.segmentation.slicing import By, Slicer


class SliceEvents(Node):
    """Slices of equal time, of equal number, or that end when enough has happened anywhere.

    Nothing is lost but what is said: of more than `most` slices that end at once the newest are kept. When the camera's
    time begins anew, what waited for its slice's end is dropped, and the next slices are `fresh`.
    """

    cost_ns = 300_000

    class Outputs:
        slices: EventSlices

    def __init__(
        self,
        *,
        by: By = "time",
        duration: Annotated[float, Unit("s"), Ge(1e-4), Le(60)] = 0.05,
        count: Annotated[int, Ge(1), Le(100_000_000)] = 32_000,
        area: Annotated[int, Ge(1), Le(1_000_000)] = 500,
        most: Annotated[int, Gt(0), Le(1000)] = 8,
    ) -> None:
        """`duration`: of a slice in time, or the longest one of `adaptive`; `count`: its events; `area`: events of 16 x
        16 pixels that end an adaptive one."""
        self._slicer = Slicer(by, round(duration * 1e9), count, area)
        self._most = most
        self._epoch = 0
        self._size = (0, 0)
        self._fresh = True

    def step(self, events: Events) -> EventSlices | None:
        if events.epoch != self._epoch or self._slicer.goes_back(events) or (events.width, events.height) != self._size:
            self._slicer.restart()
            self._epoch, self._size, self._fresh = events.epoch, (events.width, events.height), True
        cut = self._slicer.add(events, self._most)
        if cut is None:
            return None
        times, fresh, self._fresh = cut.times, self._fresh, False
        return EventSlices(
            Stamp(int(times[-1]), int(times[-1] - times[-2])), *cut.columns, cut.bounds, times[:-1].copy(),
            times[1:].copy(), events.width, events.height, cut.skipped, fresh,
        )  # fmt: skip
