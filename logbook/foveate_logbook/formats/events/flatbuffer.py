"""Tables of FlatBuffers, read where they lie, every offset held against the buffer's end.

The `flatbuffers` package trusts offsets (a damaged one reads elsewhere or raises anything) and would be one more
thing to install for five small tables. Layout: https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from typing import Any


class Malformed(ValueError):
    """Bytes that are no such table."""


def number(data: bytes, form: str, place: int) -> Any:
    """A number of a `struct` form. Raises Malformed beyond the ends: `struct` counts a negative place from behind."""
    if place < 0 or place + struct.calcsize(form) > len(data):
        raise Malformed(f"an offset of {place} in {len(data)} bytes")
    return struct.unpack_from(form, data, place)[0]


class Table:
    """One table; fields by their number in the schema."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self._place = place
        self._fields = place - number(data, "<i", place)
        self._size = number(data, "<H", self._fields)

    def _at(self, field: int) -> int:
        """Where a field lies, 0 where the table has none."""
        entry = 4 + 2 * field
        offset = number(self.data, "<H", self._fields + entry) if entry + 2 <= self._size else 0
        return self._place + offset if offset else 0

    def scalar(self, field: int, form: str, default: Any = 0) -> Any:
        """A number; the default where it is left out."""
        place = self._at(field)
        return number(self.data, form, place) if place else default

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Where a vector's first item lies, and how many there are, all within the buffer."""
        place = self._at(field)
        if not place:
            return 0, 0
        begin = place + number(self.data, "<I", place)
        count = number(self.data, "<I", begin)
        if begin + 4 + count * item_bytes > len(self.data):
            raise Malformed(f"a vector of {count} items in {len(self.data)} bytes")
        return begin + 4, count

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        begin, count = self.vector(field, 4)
        places = range(begin, begin + 4 * count, 4)
        return [Table(self.data, place + number(self.data, "<I", place)) for place in places]

    def text(self, field: int) -> str:
        """A string."""
        begin, count = self.vector(field, 1)
        return self.data[begin : begin + count].decode("utf-8", "replace")


def root(data: bytes) -> tuple[str, Table]:
    """The identifier and root table of a buffer that begins with its size."""
    return data[8:12].decode("ascii", "replace"), Table(data, 4 + number(data, "<I", 4))
