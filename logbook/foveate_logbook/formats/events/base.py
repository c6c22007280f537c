"""What the readers of event files share: blocks of decoded events, and an account of what could not be decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 18  # read at once: an EVT3 chunk of vectors becomes at most 1.6 million events, 20 MB
MOST_NS = 1 << 61  # times of files are kept within this: 73 years, and sums of two stay within 64 bits


class Block(NamedTuple):
    """Events as they stand in a file: neither their order nor their place on the sensor is checked yet."""

    t_ns: NDArray[np.int64]  # N, on the sensor's clock
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    polarity: NDArray[np.uint8]  # 1 = brighter

    def part(self, chosen: slice | NDArray[np.bool_]) -> Block:
        """Some of the events: views for a slice, copies for a mask."""
        return Block(self.t_ns[chosen], self.x[chosen], self.y[chosen], self.polarity[chosen])


class EventReader:
    """One event file. Making it reads the head; `blocks` decodes the rest anew at each call, a chunk at a time."""

    name: ClassVar[str] = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.width = 0  # px; 0 where the file does not say
        self.height = 0
        self.about: dict[str, str] = {}  # what the file says of itself
        self.lost: Counter[str] = Counter()  # events, words or bytes not decoded in the last pass, by reason
        self.lost_events = 0  # those of them that are known to be events
        self.consumed = 0  # bytes read in the last pass

    def blocks(self) -> Iterator[Block]:
        """The file's events in its own order. Damage ends up in `lost`, never in an exception."""
        raise NotImplementedError

    def tail(self) -> Block | None:
        """The last events of a large file, on the clock of the first, where the format allows to look there."""
        return None

    def _begin(self) -> None:
        self.lost.clear()
        self.lost_events = self.consumed = 0

    def _chunks(self, stream: BinaryIO, unit: int, what: str) -> Iterator[bytes]:
        """The rest of a stream in pieces of whole units; what is left of one at the end is lost."""
        left = b""
        while data := stream.read(CHUNK_BYTES):
            self.consumed += len(data)
            data = left + data if left else data
            whole = len(data) - len(data) % unit
            left = data[whole:]
            if whole:
                yield data[:whole]
        self._lose(f"bytes at the end that make no whole {what}", len(left))

    def _lose(self, reason: str, count: int, *, events: bool = False) -> None:
        if count > 0:
            self.lost[reason] += count
            self.lost_events += count if events else 0


def block_of(t_ns: NDArray[np.int64], x: object, y: object, polarity: object) -> Block:
    """A block with the types a block has."""
    return Block(t_ns, np.asarray(x, np.uint16), np.asarray(y, np.uint16), np.asarray(polarity, np.uint8))


def joined(blocks: list[Block]) -> Block:
    """Blocks in a row as one."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(
        np.concatenate([block.t_ns for block in blocks]), np.concatenate([block.x for block in blocks]),
        np.concatenate([block.y for block in blocks]), np.concatenate([block.polarity for block in blocks]),
    )  # fmt: skip


EMPTY = block_of(np.zeros(0, np.int64), [], [], [])


def unwrapped(values: NDArray[np.int64], before: int, span: int) -> NDArray[np.int64]:
    """A counter that wraps after `span` values, continued from `before`: it wraps where it falls by half of them."""
    series = np.concatenate([[before % span], values])
    turns = np.cumsum(np.diff(series) < -(span // 2))
    return np.asarray(values + (before // span + turns) * span, np.int64)


def held(values: NDArray[np.int64], at: NDArray[np.int64], before: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """At each of the `places` the value set last, at one of `at`; `before` where there was none. Both ascend."""
    return spread(values, np.searchsorted(places, at), before, places.size)


def spread(values: NDArray[np.int64], counts: NDArray[Any], before: int, size: int) -> NDArray[np.int64]:
    """`size` values: the first `counts[0]` are `before`, those up to `counts[1]` the first of `values`, and so on."""
    steps = np.diff(counts, prepend=0, append=size)
    return np.repeat(np.concatenate([[before], values]), steps)
