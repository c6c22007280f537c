"""DAT, Prophesee's decoded events: records of 8 bytes, a time in microseconds and a word of column, row and polarity.

Layout: Prophesee's documentation, "DAT file format" (version 2); version 1, of the 304 x 240 sensors, has 9 bits of
column, 8 of row, one of polarity.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from foveate.errors import RecordingError
from foveate_logbook.formats.events.base import Block, EventReader, block_of, unwrapped
from foveate_logbook.formats.events.prophesee import head_of, size_of_sensor

_SPAN = 1 << 32  # of the time: it wraps after 71.6 minutes
_EVENTS = (0, 12)  # types "2d" and "CD"; both are records of the same form
_NAMES = {14: "external triggers"}
_RECORD = 8
_OLD_SIZE = (304, 240)


class DatFile(EventReader):
    """A .dat file of version 1 or 2."""

    name = "DAT"

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.about, self._begins = head_of(path)
        self.width, self.height = size_of_sensor(self.about)
        said = next((value for key, value in self.about.items() if key.lower() == "version"), "1")
        self._version = int(said) if said in ("1", "2") else 0
        if self._version not in (1, 2):
            raise RecordingError(f"{path}: a DAT file of version {said[:20]}: 1 and 2 are read")
        if self._version == 1 and not self.width:
            self.width, self.height = _OLD_SIZE
        with path.open("rb") as stream:
            stream.seek(self._begins)
            kind = stream.read(2)
        if len(kind) < 2:
            raise RecordingError(f"{path}: a DAT file that ends within its head: copy it again")
        self._begins += 2
        if kind[0] not in _EVENTS or kind[1] != _RECORD:
            what = _NAMES.get(kind[0], f"type {kind[0]}")
            raise RecordingError(f"{path}: a DAT file of {what} in {kind[1]} bytes: events (0 or 12) in 8 are read")

    def blocks(self) -> Iterator[Block]:
        self._begin()
        last = 0
        with self.path.open("rb") as stream:
            stream.seek(self._begins)
            for data in self._chunks(stream, _RECORD, "event"):
                block, last = self._decoded(data, last)
                yield block

    def tail(self) -> Block | None:
        count = (self.path.stat().st_size - self._begins) // _RECORD
        with self.path.open("rb") as stream:
            stream.seek(self._begins + max(count - 1000, 0) * _RECORD)
            return self._decoded(stream.read(min(count, 1000) * _RECORD), 0)[0]

    def _decoded(self, data: bytes, last_us: int) -> tuple[Block, int]:
        words = np.frombuffer(data, "<u4").reshape(-1, 2)
        t = unwrapped(words[:, 0].astype(np.int64), last_us, _SPAN)
        place = words[:, 1]
        if self._version == 2:
            block = block_of(t * 1000, place & 0x3FFF, (place >> 14) & 0x3FFF, (place >> 28) & 1)
        else:
            block = block_of(t * 1000, place & 0x1FF, (place >> 9) & 0xFF, (place >> 17) & 1)
        return block, int(t[-1]) if t.size else last_us


def encode(block: Block, version: int = 2) -> bytes:
    """The records of events; what is below a microsecond is cut off."""
    words = np.empty((block.t_ns.size, 2), "<u4")
    words[:, 0] = (block.t_ns // 1000) % _SPAN
    row, sign = (14, 28) if version == 2 else (9, 17)
    words[:, 1] = block.x | block.y.astype(np.uint32) << row | block.polarity.astype(np.uint32) << sign
    return words.tobytes()


def head(width: int, height: int, version: int = 2) -> bytes:
    """The head of a file of CD events."""
    text = f"% Data file containing CD events\n% Version {version}\n% Width {width}\n% Height {height}\n"
    return text.encode() + bytes((12, _RECORD))
