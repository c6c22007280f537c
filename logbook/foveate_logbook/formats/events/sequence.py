"""Events as files give them, made a sequence: in the order of time, within the sensor, cut into intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from foveate.messages import Events, Stamp
from foveate_logbook.formats.events.base import EMPTY, MOST_NS, Block, EventReader, joined

_BACK_NS = 500_000_000  # a step back of more is a clock that was set; less is disorder in the readout
_AHEAD_NS = 3_600_000_000_000  # a step ahead of more is one too: nothing watches an hour in which nothing changes
MOST_EVENTS = 1 << 20  # of one packet: 13 MB
OUTSIDE = "events outside the sensor"
DISORDER = "events out of order, given the time of the one before"
JUMPS = "jumps of the sensor's clock, taken out"
MOVED = (DISORDER, JUMPS)  # what is mended: nothing is lost


class Sequence:
    """Puts blocks in order; remembers the last time, so that blocks follow each other."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.counts: Counter[str] = Counter()
        self.epoch = 0
        self._shift_ns = 0  # what jumps of the clock have added up to
        self._raw_ns: int | None = None  # of the last event, as the file has it
        self._last_ns = 0  # of the last event, as it was given out

    def put(self, block: Block) -> Block:
        """The block's events within the sensor; times never decrease, over blocks too."""
        if block.t_ns.size == 0:
            return block
        if int(block.x.max()) >= self.width or int(block.y.max()) >= self.height:
            inside = (block.x < self.width) & (block.y < self.height)
            self.counts[OUTSIDE] += int(inside.size - inside.sum())
            block = block.part(inside)
            if block.t_ns.size == 0:
                return block
        t = np.clip(block.t_ns, -MOST_NS, MOST_NS)
        step = np.diff(t, prepend=t[0] if self._raw_ns is None else self._raw_ns)
        lowest, highest = int(step.min()), int(step.max())
        self._last_ns = int(t[0]) if self._raw_ns is None else self._last_ns
        self._raw_ns = int(t[-1])
        if lowest < -_BACK_NS or highest > _AHEAD_NS:
            jumps = (step < -_BACK_NS) | (step > _AHEAD_NS)
            number = int(jumps.sum())
            self.counts[JUMPS] += number
            self.epoch += number
            # the sum of steps without those of the clock; it may wrap in between and is right at the end
            shift = self._shift_ns - np.cumsum(np.where(jumps, step, 0))
            self._shift_ns = int(shift[-1])
            t = t + shift
        elif self._shift_ns:
            t = t + self._shift_ns
        if lowest < 0 or int(t[0]) < self._last_ns:
            ordered = np.maximum.accumulate(np.maximum(t, self._last_ns))
            if late := int((ordered != t).sum()):
                self.counts[DISORDER] += late
            t = ordered
        self._last_ns = int(t[-1])
        return Block(t, block.x, block.y, block.polarity)


def packets(reader: EventReader, sequence: Sequence, packet_ns: int, empty: bool = False) -> Iterator[Events]:
    """Events in intervals of `packet_ns` from the first event on, whose time becomes 0; the stamp is the interval's.

    An interval with more than a million events gives several packets, each with its part of the interval. One without
    gives an empty packet where `empty`.
    Events that reader and sequence count as lost since the packet before are told in `lost_before`.
    """
    kept: list[Block] = []
    index, origin, told, begin_ns = 0, None, 0, 0

    def made(end_ns: int) -> Events:
        nonlocal told, begin_ns
        part = joined(kept)
        kept.clear()
        total = sequence.counts[OUTSIDE] + reader.lost_events
        before, told = total - told, total
        first_ns, begin_ns = max(begin_ns, index * packet_ns), end_ns
        stamp = Stamp((first_ns + end_ns) // 2, end_ns - first_ns)
        return Events(stamp, *part, sequence.width, sequence.height, before, sequence.epoch)

    for raw in reader.blocks():
        block = sequence.put(raw)
        if block.t_ns.size == 0:
            continue
        origin = int(block.t_ns[0]) if origin is None else origin
        block = block._replace(t_ns=block.t_ns - origin)
        last = int(block.t_ns[-1]) // packet_ns
        begin = 0
        while index < last:
            end = int(np.searchsorted(block.t_ns, (index + 1) * packet_ns))
            if end > begin:
                kept.append(_own(block, begin, end))
            if kept or empty:
                kept = kept or [EMPTY]
                yield made((index + 1) * packet_ns)
            begin = end
            index = index + 1 if empty else max(index + 1, int(block.t_ns[begin]) // packet_ns)
        kept.append(_own(block, begin, block.t_ns.size))
        if sum(part.t_ns.size for part in kept) >= MOST_EVENTS:
            yield made(int(kept[-1].t_ns[-1]))
    if kept:
        yield made((index + 1) * packet_ns)


def _own(block: Block, begin: int, end: int) -> Block:
    """A part; a small one as a copy, for who holds a view holds all of the block: up to 20 MB for a few events."""
    part = block.part(slice(begin, end))
    if 4 * (end - begin) >= block.t_ns.size:
        return part
    return Block(part.t_ns.copy(), part.x.copy(), part.y.copy(), part.polarity.copy())
