"""EVT 3.0, Prophesee's packed events: 16-bit words that change a state of row, column and time.

Word types and fields: Prophesee's documentation "EVT 3.0 format". The upper four bits are the type. One decoder in
numpy, and the same compiled (`evt3_compiled`) where numba is installed: 2 to 7 times faster, and 0.7 s to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate_logbook.formats.events.base import EMPTY, Block, EventReader, block_of, spread, unwrapped
from foveate_logbook.formats.events.prophesee import head_of, size_of_sensor

_ADDR_Y, _ADDR_X, _VECT_BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_KNOWN = (*(_ADDR_Y, _ADDR_X, _VECT_BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH), 0x7, 0xA, 0xE, 0xF)
_IS_EVENT = np.isin(np.arange(16), (_ADDR_X, _VECT_12, _VECT_8))
_IS_STRANGE = np.isin(np.arange(16), _KNOWN, invert=True)
_WIDTH = np.zeros(16, np.int64)  # columns that an event word passes over
_WIDTH[_VECT_12], _WIDTH[_VECT_8] = 12, 8
_HIGH_SPAN = 1 << 12  # TIME_HIGH counts 4096 us and wraps every 16.8 s
_LOW_BITS = 12
_COMPILED_FROM = 16 << 20  # bytes of a file from which on the import of numba pays


@cache
def compiled() -> Any:
    """The compiled decoder, None where numba is not installed."""
    try:
        from foveate_logbook.formats.events import evt3_compiled
    except ImportError:
        return None
    return evt3_compiled.decode


class Evt3Words:
    """The decoder's state: what one word sets holds until another sets it, over the ends of chunks too."""

    def __init__(self, fast: bool = False) -> None:
        """`fast`: compiled, where that is possible."""
        self.state = np.array([0, 0, -1, 0], np.int64)
        # row; next vector's column with its polarity in bit 11; time's high part with wraps, -1: unknown; low part
        self.early = 0  # events before the first time: not told
        self.strange = 0  # words of no known type
        self._fast = compiled() if fast else None
        self._room: tuple[NDArray[Any], ...] = ()  # where the compiled decoder writes: kept, for fresh memory is slow

    def decode(self, words: NDArray[np.uint16]) -> Block:
        """The events of some words; times in ns of the sensor's clock."""
        if self._fast is None:
            return self._vectorised(words)
        room = 12 * words.size  # for the largest possible vectors
        if not self._room or self._room[0].size < room:
            self._room = tuple(np.empty(room, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8))
        count, early, strange = self._fast(words, self.state, *self._room)
        self.early += early
        self.strange += strange
        return Block(*(column[:count].copy() for column in self._room))

    def _vectorised(self, words: NDArray[np.uint16]) -> Block:
        if words.size == 0:
            return EMPTY
        kind, value = (words >> 12).astype(np.uint8), words & 0x0FFF
        is_event = _IS_EVENT[kind]
        passed = np.cumsum(is_event, dtype=np.int32)  # words of events up to each word
        places = np.flatnonzero(is_event)
        self.strange += int(_IS_STRANGE[kind].sum())
        at_row = np.flatnonzero(kind == _ADDR_Y)
        rows = (value[at_row] & 0x7FF).astype(np.int64)
        row = spread(rows, passed[at_row], int(self.state[0]), places.size)
        begin = self._starts(kind, value, places, passed)
        t = self._times(kind, value, passed, places.size)
        if rows.size:
            self.state[0] = rows[-1]
        kinds, bits = kind[places], value[places]
        if (kinds == _ADDR_X).all():
            x = begin & 0x7FF
        else:
            bits[kinds == _ADDR_X] = 1  # a single event is a vector of one bit
            bits[kinds == _VECT_8] &= 0xFF
            which = np.flatnonzero(np.unpackbits(bits.astype("<u2").view(np.uint8), bitorder="little").view(bool))
            chosen = which >> 4
            begin, t, row = begin[chosen], t[chosen], row[chosen]
            x = (begin & 0x7FF) + (which & 15)
        first = int(np.searchsorted(t, 0)) if t.size and t[0] < 0 else 0
        self.early += first
        return block_of(t[first:] * 1000, x[first:], row[first:], ((begin >> 11) & 1)[first:])

    def _times(self, kind: NDArray[Any], value: NDArray[Any], passed: NDArray[Any], size: int) -> NDArray[np.int64]:
        """Microseconds of the sensor at event words, -1 before the first; a new high part sets the low one to 0."""
        at = np.flatnonzero((kind == _TIME_HIGH) | (kind == _TIME_LOW))
        if at.size == 0:
            before = -1 if self.state[2] < 0 else int(self.state[2]) << _LOW_BITS | int(self.state[3])
            return np.full(size, before, np.int64)
        is_high, number, stated = kind[at] == _TIME_HIGH, np.arange(at.size), value[at].astype(np.int64)
        known = int(self.state[2]) >= 0
        new = stated[is_high]
        old = int(self.state[2]) if known else int(new[0]) if new.size else 0
        high = np.concatenate([[old], unwrapped(new, old, _HIGH_SPAN)])[np.cumsum(is_high)]
        reset = np.maximum.accumulate(np.where(np.diff(high, prepend=old) != 0, number, -1))
        set_at = np.maximum.accumulate(np.where(is_high, -1, number))
        low = np.where(set_at >= 0, stated[set_at], int(self.state[3]))
        low[set_at < reset] = 0
        t = high << _LOW_BITS | low
        if not known:
            t[: np.flatnonzero(is_high)[0] if new.size else None] = -1
        before = -1 if not known else int(self.state[2]) << _LOW_BITS | int(self.state[3])
        self.state[2] = high[-1] if known or new.size else -1
        self.state[3] = low[-1]
        return spread(t, passed[at], before, size)

    def _starts(
        self, kind: NDArray[Any], value: NDArray[Any], places: NDArray[Any], words: NDArray[Any]
    ) -> NDArray[np.int64]:
        """Column, with polarity in bit 11, at which each event word begins: vectors follow each other."""
        kinds = kind[places]
        width = _WIDTH[kinds]
        passed = np.cumsum(width)
        at = np.flatnonzero(kind == _VECT_BASE_X)
        base = value[at].astype(np.int64)
        base -= np.concatenate([[0], passed])[words[at]]
        begin = spread(base, words[at], int(self.state[1]), places.size) + passed - width
        last = int(base[-1]) if at.size else int(self.state[1])
        self.state[1] = last + (int(passed[-1]) if passed.size else 0)
        single = kinds == _ADDR_X
        return np.where(single, value[places], begin)


class Evt3File(EventReader):
    """A .raw file of EVT 3.0 words."""

    name = "EVT3"

    def __init__(self, path: Path, fast: bool | None = None) -> None:
        """`fast`: compiled; by the size of the file where it is not said. Raises RecordingError."""
        super().__init__(path)
        self.about, self._begins = head_of(path)
        self.width, self.height = size_of_sensor(self.about)
        self._fast = path.stat().st_size >= _COMPILED_FROM if fast is None else fast

    def blocks(self) -> Iterator[Block]:
        self._begin()
        words = Evt3Words(self._fast)
        with self.path.open("rb") as stream:
            stream.seek(self._begins)
            for data in self._chunks(stream, 2, "word"):
                words.early = words.strange = 0
                block = words.decode(np.frombuffer(data, "<u2"))
                self._lose("events before the first time", words.early, events=True)
                self._lose("words of no known type", words.strange)
                yield block


def encode(block: Block) -> bytes:
    """The words of events in the order of time, each with its row and column: no vectors."""
    t_us = block.t_ns // 1000
    high, low = t_us >> _LOW_BITS, t_us & 0xFFF
    columns = np.empty((t_us.size, 4), np.int64)
    columns[:, 0] = _TIME_HIGH << 12 | high % _HIGH_SPAN
    columns[:, 1] = _TIME_LOW << 12 | low
    columns[:, 2] = block.y  # _ADDR_Y is 0
    columns[:, 3] = _ADDR_X << 12 | block.polarity.astype(np.int64) << 11 | block.x
    wanted = np.ones(columns.shape, bool)
    wanted[1:, 0] = np.diff(high) != 0
    wanted[1:, 1] = np.diff(t_us) != 0
    wanted[1:, 2] = np.diff(block.y.astype(np.int64)) != 0
    return bytes(columns[wanted].astype("<u2").tobytes())


def head(width: int, height: int) -> bytes:
    """The head of a file."""
    return f"% evt 3.0\n% format EVT3;height={height};width={width}\n% geometry {width}x{height}\n% end\n".encode()
