"""Packets of EVT 3.0 as logs of ROS carry them: the words are decoded by `events.evt3`."""

from __future__ import annotations

from typing import Any

import numpy as np

from foveate.messages import Events, Stamp
from foveate_logbook.formats.events.evt3 import Evt3Words
from foveate_logbook.formats.events.sequence import OUTSIDE, Sequence


class Evt3Decoder:
    """Decodes the packets of one sensor in their order; what a packet sets holds in the next."""

    def __init__(self, width: int, height: int) -> None:
        self._words = Evt3Words()
        self._sequence = Sequence(width, height)
        self._offset_ns: int | None = None  # sensor time 0 on the log's clock, from the first packet
        self._told = 0  # lost events so far

    def events(self, data: Any, t_ns: int) -> list[Events]:
        """The packet's events; empty if it has none. `t_ns`: of its first event on the log's clock.

        Only the first packet's `t_ns` counts: from there on the sensor's own microseconds do.
        """
        sequence = self._sequence
        block = sequence.put(self._words.decode(np.frombuffer(data, "<u2", len(data) // 2)))
        if block.t_ns.size == 0:
            return []
        if self._offset_ns is None:
            self._offset_ns = t_ns - int(block.t_ns[0])
        times = block.t_ns + self._offset_ns
        first, last = int(times[0]), int(times[-1])
        lost = sequence.counts[OUTSIDE] + self._words.early
        before, self._told = lost - self._told, lost
        stamp = Stamp((first + last) // 2, last - first)
        return [Events(stamp, times, *block[1:], sequence.width, sequence.height, before, sequence.epoch)]
