"""Event Stream: an event in five bytes, the time since the one before in seven bits of the first.

Layout: https://github.com/neuromorphicsystems/event_stream, version 2. Rows count from below there, from above here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.errors import RecordingError
from foveate_logbook.formats.events.base import CHUNK_BYTES, Block, EventReader, block_of

MAGIC = b"Event Stream"
_KINDS = {0: "generic events", 1: "DVS events", 2: "ATIS events", 3: "asynchronous display events", 4: "colour events"}
_HEAD = 20
_EVENT = 5
_RESET, _OVERFLOW = 0xFE, 0xFF  # first bytes that are no event: a mark to start anew, and 127 us more
_OVERFLOW_US = 127
_AHEAD = 2048  # events that are looked at together for a first byte that is none


class _Run(NamedTuple):
    """Where events without overflows between them lie, and how much the time moves on before them."""

    begin: int
    events: int
    skipped_us: int


class EsFile(EventReader):
    """An .es file of DVS events."""

    name = "Event Stream"

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        if len(head) < 16:
            raise RecordingError(f"{path}: an Event Stream that ends within its head: copy it again")
        version = ".".join(str(part) for part in head[12:15])
        if head[12] != 2:
            raise RecordingError(f"{path}: an Event Stream of version {version}: 2 is read")
        if head[15] != 1:
            kind = _KINDS.get(head[15], f"events of type {head[15]}")
            raise RecordingError(f"{path}: an Event Stream of {kind}: DVS events are read")
        if len(head) < _HEAD:
            raise RecordingError(f"{path}: an Event Stream that ends within its head: copy it again")
        self.about = {"version": version}
        self.width = int.from_bytes(head[16:18], "little")
        self.height = int.from_bytes(head[18:20], "little")
        if not self.width or not self.height:
            raise RecordingError(f"{path}: an Event Stream of a sensor of {self.width} x {self.height} pixels")

    def blocks(self) -> Iterator[Block]:
        self._begin()
        t_us, left = 0, b""
        with self.path.open("rb") as stream:
            stream.seek(_HEAD)
            while data := stream.read(CHUNK_BYTES):
                self.consumed += len(data)
                data = left + data
                runs, used, after_us = _runs(np.frombuffer(data, np.uint8))
                block, t_us = self._decoded(np.frombuffer(data, np.uint8), runs, t_us)
                t_us += after_us
                left = data[used:]
                yield block
        self._lose("bytes at the end that make no whole event", len(left))

    def _decoded(self, data: NDArray[np.uint8], runs: list[_Run], t_us: int) -> tuple[Block, int]:
        whole = [data[run.begin : run.begin + run.events * _EVENT].reshape(-1, _EVENT) for run in runs]
        rows = np.concatenate(whole) if whole else np.zeros((0, _EVENT), np.uint8)
        steps = (rows[:, 0] >> 1).astype(np.int64)
        first = 0
        for run in runs:
            if run.events:
                steps[first] += run.skipped_us
                first += run.events
        t = t_us + np.cumsum(steps)
        place = np.ascontiguousarray(rows[:, 1:]).view("<u2")
        below = self.height - 1 - place[:, 1].astype(np.int64)
        # a row beyond the sensor stays beyond it: the highest number there is
        y = np.where(below < 0, 0xFFFF, below)
        return block_of(t * 1000, place[:, 0], y, rows[:, 0] & 1), int(t[-1]) if t.size else t_us


def _runs(data: NDArray[np.uint8]) -> tuple[list[_Run], int, int]:
    """Runs of whole events, the bytes they and marks take up, and the time that passes after the last of them."""
    runs: list[_Run] = []
    place, size, skipped = 0, data.size, 0
    while place < size:
        if data[place] >= _RESET:
            ahead = data[place : place + _AHEAD]
            other = np.flatnonzero(ahead < _RESET)
            count = int(other[0]) if other.size else ahead.size
            skipped += _OVERFLOW_US * int((ahead[:count] == _OVERFLOW).sum())
            place += count
            continue
        firsts = data[place : place + _AHEAD * _EVENT : _EVENT]
        whole = min((size - place) // _EVENT, firsts.size)
        marks = np.flatnonzero(firsts[:whole] >= _RESET)
        count = int(marks[0]) if marks.size else whole
        if count == 0:
            break
        runs.append(_Run(place, count, skipped))
        place, skipped = place + count * _EVENT, 0
    return runs, place, skipped


def encode(block: Block, height: int) -> bytes:
    """The bytes of events in the order of time; what is below a microsecond is cut off."""
    t_us = block.t_ns // 1000
    steps = np.diff(t_us, prepend=0)
    overflows = steps // _OVERFLOW_US
    rows = np.empty((t_us.size, _EVENT), np.uint8)
    rows[:, 0] = (steps % _OVERFLOW_US) << 1 | block.polarity
    rows[:, 1:3] = block.x.astype("<u2").view(np.uint8).reshape(-1, 2)
    rows[:, 3:5] = (height - 1 - block.y.astype(np.int64)).astype("<u2").view(np.uint8).reshape(-1, 2)
    return b"".join(b"\xff" * int(n) + row.tobytes() for n, row in zip(overflows, rows, strict=True))


def head(width: int, height: int) -> bytes:
    """The head of a file of DVS events."""
    return MAGIC + bytes((2, 0, 0, 1)) + width.to_bytes(2, "little") + height.to_bytes(2, "little")
