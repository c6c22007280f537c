"""EVT 2.0, Prophesee's events of 32 bits: type in the upper four, then the time's lower six, column and row.

Layout: Prophesee's documentation, "EVT 2.0 format".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate_logbook.formats.events.base import EMPTY, Block, EventReader, block_of, held, unwrapped
from foveate_logbook.formats.events.prophesee import head_of, size_of_sensor

_OFF, _ON, _TIME_HIGH, _TRIGGER, _OTHERS, _CONTINUED = 0x0, 0x1, 0x8, 0xA, 0xE, 0xF
_HIGH_SPAN = 1 << 28  # TIME_HIGH counts 64 us and wraps after 4.8 hours
_LOW_BITS = 6
_TAIL_BYTES = 1 << 20


class Evt2Words:
    """The decoder's state: the time's high part holds until the next, over the ends of chunks too."""

    def __init__(self) -> None:
        self._high = -1  # 64 us since the sensor's start, wraps unfolded; -1: not known yet
        self.early = 0  # events before the first time: not told
        self.strange = 0  # words of no known type

    def decode(self, words: NDArray[np.uint32]) -> Block:
        """The events of some words; times in ns of the sensor's clock."""
        kind = (words >> 28).astype(np.uint8)
        at_high = np.flatnonzero(kind == _TIME_HIGH)
        places = np.flatnonzero(kind <= _ON)
        known = places.size + at_high.size
        if known < words.size:
            strange = int(np.isin(kind, (_TRIGGER, _OTHERS, _CONTINUED), invert=True).sum()) - known
            self.strange += strange
        high = unwrapped((words[at_high] & (_HIGH_SPAN - 1)).astype(np.int64), max(self._high, 0), _HIGH_SPAN)
        if self._high < 0:
            first = int(at_high[0]) if at_high.size else words.size
            early = int(np.searchsorted(places, first))
            self.early += early
            places = places[early:]
        t = held(high << _LOW_BITS, at_high, max(self._high, 0) << _LOW_BITS, places)
        if at_high.size:
            self._high = int(high[-1])
        if places.size == 0:
            return EMPTY
        chosen = words[places]
        t += (chosen >> 22) & 0x3F
        t *= 1000
        return block_of(t, (chosen >> 11) & 0x7FF, chosen & 0x7FF, kind[places])


class Evt2File(EventReader):
    """A .raw file of EVT 2.0 words."""

    name = "EVT2"

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.about, self._begins = head_of(path)
        self.width, self.height = size_of_sensor(self.about)

    def blocks(self) -> Iterator[Block]:
        self._begin()
        words = Evt2Words()
        with self.path.open("rb") as stream:
            stream.seek(self._begins)
            for data in self._chunks(stream, 4, "word"):
                words.early = words.strange = 0
                block = words.decode(np.frombuffer(data, "<u4"))
                self._lose("events before the first time", words.early, events=True)
                self._lose("words of no known type", words.strange)
                yield block

    def tail(self) -> Block | None:
        size = self.path.stat().st_size - self._begins
        with self.path.open("rb") as stream:
            stream.seek(self._begins + max((size - _TAIL_BYTES) // 4 * 4, 0))
            data = stream.read(_TAIL_BYTES)
        return Evt2Words().decode(np.frombuffer(data, "<u4", len(data) // 4))


def encode(block: Block) -> bytes:
    """The words of events in the order of time; what is below a microsecond is cut off."""
    t_us = block.t_ns // 1000
    high = t_us >> _LOW_BITS
    new = np.flatnonzero(np.diff(high, prepend=-1))
    words = (
        (block.polarity.astype(np.uint32) << 28) | ((t_us & 0x3F).astype(np.uint32) << 22)
        | (block.x.astype(np.uint32) << 11) | block.y
    )  # fmt: skip
    times = (np.uint32(_TIME_HIGH << 28) | (high[new] % _HIGH_SPAN).astype(np.uint32)).astype(np.uint32)
    return bytes(np.insert(words, new, times).astype("<u4").tobytes())


def head(width: int, height: int) -> bytes:
    """The head of a file."""
    return f"% evt 2.0\n% format EVT2;height={height};width={width}\n% geometry {width}x{height}\n% end\n".encode()
