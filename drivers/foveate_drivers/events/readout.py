"""The readout of an event camera: an arbiter that gives one event at a time, with a queue that can overflow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_drivers.events.pixel_model import Fired


class Readout:
    """Clocked: in each slot of 1 / `rate` one event leaves, stamped with the end of its slot.

    Up to `capacity` events wait; those that find the queue full are lost and counted.
    made = given + lost + waiting holds at any moment.
    """

    def __init__(self, rate: float, capacity: int) -> None:
        """`rate`: events/s."""
        self.rate = rate
        self.capacity = capacity
        self.made = self.given = self.lost = 0
        self._wait = Fired(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
        self._free_ns = 0.0  # when the queue will be empty

    @property
    def waiting(self) -> int:
        return len(self._wait.t_ns)

    def set_rate(self, rate: float) -> None:
        """Change the rate, events/s; what already waits leaves at the new one too."""
        if rate != self.rate and self.waiting:
            leaves = self._wait.t_ns[0] + np.arange(self.waiting) * 1e9 / rate
            self._wait = Fired(np.ceil(leaves).astype(np.int64), self._wait.pixel, self._wait.polarity)
            self._free_ns = float(leaves[-1])
        self.rate = rate

    def add(self, fired: Fired) -> None:
        """Take in events no earlier than all before."""
        count = len(fired.t_ns)
        self.made += count
        if count == 0:
            return
        slot_ns = 1e9 / self.rate
        slot = np.floor((fired.t_ns - 1) / slot_ns).astype(np.int64)
        still = int(np.ceil(self._free_ns / slot_ns - 1e-6)) - int(slot[0])
        length = self._lengths(slot, min(max(still, 0), self.capacity))
        kept = length < self.capacity
        leaves = np.maximum(np.ceil((slot[kept] + length[kept] + 1) * slot_ns), np.ceil(self._free_ns))
        self.lost += count - int(kept.sum())
        if len(leaves):
            self._free_ns = float(leaves[-1])
        new = Fired(leaves.astype(np.int64), fired.pixel[kept], fired.polarity[kept])
        self._wait = joined([self._wait, new])

    def _lengths(self, slot: NDArray[np.int64], at_start: int) -> NDArray[np.int64]:
        """How many events each one finds in the queue (`capacity` where it is full), its slot being given.

        Over one slot with n arrivals, and g slots to the next arrivals, the queue goes from q to
        max(min(q + n, capacity) - g, 0): a sum held between two bounds. Such steps compose to steps of the same kind,
        so all prefixes follow in log2(N) passes instead of a loop over events.
        """
        fresh = np.flatnonzero(np.diff(slot, prepend=slot[0] - 1))
        arrivals = np.diff(np.append(fresh, len(slot)))
        gap = np.diff(np.append(slot[fresh], slot[-1] + 1))
        add, low, high = arrivals - gap, np.zeros(len(gap), np.int64), np.maximum(self.capacity - gap, 0)
        reach = 1
        while reach < len(add):
            earlier = (add[:-reach], low[:-reach], high[:-reach])
            later = (add[reach:], low[reach:], high[reach:])
            merged = (
                earlier[0] + later[0],
                np.clip(earlier[1] + later[0], later[1], later[2]),
                np.clip(earlier[2] + later[0], later[1], later[2]),
            )
            add, low, high = (np.concatenate([a[:reach], b]) for a, b in zip((add, low, high), merged, strict=True))
            reach *= 2
        queue = np.concatenate([[at_start], np.clip(at_start + add, low, high)[:-1]])
        nth = np.arange(len(slot)) - np.repeat(fresh, arrivals)
        return np.minimum(np.repeat(queue, arrivals) + nth, self.capacity)

    def lose(self, count: int) -> None:
        """Events that were made while nobody took any."""
        self.made += count
        self.lost += count

    def drop(self) -> int:
        """Forget what waits; it is lost. How many were lost in all."""
        self.lost += self.waiting
        self._wait = Fired(self._wait.t_ns[:0], self._wait.pixel[:0], self._wait.polarity[:0])
        return self.lost

    def take(self, until_ns: int) -> Fired:
        """The events that left before `until_ns`."""
        count = int(np.searchsorted(self._wait.t_ns, until_ns, side="left"))
        wait = self._wait
        self._wait = Fired(wait.t_ns[count:], wait.pixel[count:], wait.polarity[count:])
        self.given += count
        return Fired(wait.t_ns[:count], wait.pixel[:count], wait.polarity[:count])


def joined(parts: list[Fired]) -> Fired:
    """Several runs of events as one."""
    if len(parts) == 1:
        return parts[0]
    return Fired(
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate([part.pixel for part in parts]),
        np.concatenate([part.polarity for part in parts]),
    )
