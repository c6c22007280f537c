"""Packets of events as logs of ROS carry them (`event_camera_msgs/EventPacket`), by their encoding.

Encodings: https://github.com/ros-event-camera/event_camera_msgs, and libcaer's polarity events for the last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foveate.messages import Events, Stamp
from foveate_logbook.formats.events.base import MOST_NS, Block, block_of, unwrapped
from foveate_logbook.formats.events.evt2 import Evt2Words
from foveate_logbook.formats.events.evt3 import Evt3Words
from foveate_logbook.formats.events.sequence import OUTSIDE, Sequence

_LIBCAER_SPAN_US = 1 << 31


class PacketDecoder:
    """Decodes the packets of one sensor in their order; what a packet sets may hold in the next."""

    def __init__(self, width: int, height: int) -> None:
        self._sequence = Sequence(width, height)
        self._offset_ns: int | None = None  # sensor time 0 on the log's clock, from the first packet
        self._told = 0  # lost events so far

    def events(self, data: Any, t_ns: int, base_ns: int = 0) -> list[Events]:
        """The packet's events; empty if it has none. `t_ns`: of its first event on the log's clock.

        Only the first packet's `t_ns` counts: from there on the sensor's own clock does. `base_ns`: the packet's
        `time_base`, to which encodings without a clock of their own add.
        """
        sequence = self._sequence
        block = sequence.put(self._block(bytes(data), min(base_ns, MOST_NS)))
        if block.t_ns.size == 0:
            return []
        if self._offset_ns is None:
            self._offset_ns = t_ns - int(block.t_ns[0])
        times = block.t_ns + self._offset_ns
        first, last = int(times[0]), int(times[-1])
        lost = sequence.counts[OUTSIDE] + self._early()
        before, self._told = lost - self._told, lost
        stamp = Stamp((first + last) // 2, last - first)
        return [Events(stamp, times, *block[1:], sequence.width, sequence.height, before, sequence.epoch)]

    def _block(self, data: bytes, base_ns: int) -> Block:
        raise NotImplementedError

    def _early(self) -> int:
        """Events that could not be told, for the time was not known yet."""
        return 0


class Evt3Decoder(PacketDecoder):
    """EVT 3.0."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._words = Evt3Words()

    def _block(self, data: bytes, base_ns: int) -> Block:
        return self._words.decode(np.frombuffer(data, "<u2", len(data) // 2))

    def _early(self) -> int:
        return self._words.early


class Evt2Decoder(PacketDecoder):
    """EVT 2.0."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._words = Evt2Words()

    def _block(self, data: bytes, base_ns: int) -> Block:
        return self._words.decode(np.frombuffer(data, "<u4", len(data) // 4))

    def _early(self) -> int:
        return self._words.early


class MonoDecoder(PacketDecoder):
    """64 bits an event: polarity in the highest, 15 of row, 16 of column, 32 of nanoseconds since `time_base`."""

    def _block(self, data: bytes, base_ns: int) -> Block:
        words = np.frombuffer(data, "<u8", len(data) // 8)
        t = (words & 0xFFFFFFFF).astype(np.int64) + base_ns
        return block_of(t, (words >> 32) & 0xFFFF, (words >> 48) & 0x7FFF, words >> 63)


class LibcaerDecoder(PacketDecoder):
    """64 bits an event: a word of column (17-31), row (2-16) and polarity (1), then microseconds since `time_base`."""

    def _block(self, data: bytes, base_ns: int) -> Block:
        words = np.frombuffer(data, "<u4", len(data) // 8 * 2).reshape(-1, 2)
        place = words[:, 0]
        t = unwrapped((words[:, 1] & 0x7FFFFFFF).astype(np.int64), 0, _LIBCAER_SPAN_US)
        return block_of(t * 1000 + base_ns, place >> 17, (place >> 2) & 0x7FFF, (place >> 1) & 1)


DECODERS: dict[str, type[PacketDecoder]] = {
    "evt3": Evt3Decoder, "evt2": Evt2Decoder, "mono": MonoDecoder, "libcaer": LibcaerDecoder,
}  # fmt: skip
