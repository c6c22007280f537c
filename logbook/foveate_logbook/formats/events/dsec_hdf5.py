"""Events in HDF5 as the DSEC dataset lays them out: events/x, /y, /t and /p, a column each; ms_to_idx and t_offset.

Layout: Gehrig et al. 2021, https://dsec.ifi.uzh.ch/data-format: t is in microseconds, t_offset is to be added to it;
ms_to_idx[i] is the number of the first event at i milliseconds (without the offset) or later.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate_logbook.formats.events.base import MOST_NS, Block, EventReader, block_of

MAGIC = b"\x89HDF\r\n\x1a\n"
EXTRA = "hdf5"
_CHUNK = 1 << 17  # events read at once: 1.7 MB
_LEAST = 1 << 12  # events around damage are given up together
_CACHE_BYTES = 8 << 20  # of unpacked chunks a column: HDF5's own 1 MB is less than one of some files
_MOST_US = MOST_NS // 2000
_COLUMNS = ("x", "y", "t", "p")
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)  # what h5py makes of damaged files


def opened(path: Path) -> Any:
    """An HDF5 file, open to read. Raises RecordingError, BackendMissing."""
    h5py = optional("h5py", str(path), EXTRA)
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)  # locks fail on some shared disks
    except FileNotFoundError:
        raise RecordingError(f"{path}: there is no such file") from None
    except _DAMAGE as error:
        raise RecordingError(f"{path}: HDF5 that cannot be opened ({line_of(error)}): copy it again") from None


def array_in(file: Any, path: Path, name: str) -> Any:
    """An array of an open file, None where there is none of that name; its filters are there to unpack it.

    Raises RecordingError, BackendMissing.
    """
    h5py = optional("h5py", str(path), EXTRA)
    try:
        if name not in file:
            return None
        found = file[name]
        if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "buif":
            raise RecordingError(f"{path}: HDF5 whose {name} is no array of numbers: write it anew")
        made = found.id.get_create_plist()
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    except _DAMAGE as error:
        raise RecordingError(f"{path}: HDF5 whose {name} cannot be read ({line_of(error)}): copy it again") from None
    if not all(h5py.h5z.filter_avail(number) for number in filters):
        optional("hdf5plugin", str(path), EXTRA)
        for number in filters:
            if not h5py.h5z.filter_avail(number):
                raise RecordingError(f"{path}: HDF5 packed by filter {number}, which hdf5plugin does not have: write "
                                     f"it anew with Blosc or gzip")  # fmt: skip
    return found


def values_of(array: Any, path: Path, part: slice | EllipsisType) -> NDArray[Any]:
    """Some of an array's values, or all. Raises RecordingError."""
    try:
        return np.asarray(array[part])
    except _DAMAGE as error:
        place = f" at {part.start} to {part.stop}" if isinstance(part, slice) else ""
        raise RecordingError(f"{path}: HDF5 whose {array.name} is damaged{place} ({line_of(error)}): copy it "
                             f"again") from None  # fmt: skip


def line_of(error: BaseException) -> str:
    """What an error says, in one line that is not long."""
    return " ".join(str(error).split())[:160]


class EventTable:
    """The events of one file, read by number; times are in microseconds, with `offset_us` still to be added."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError, BackendMissing."""
        self.path = path
        self._file = opened(path)
        try:
            self._columns = self._found()
            lengths = [column.shape[0] for column in self._columns.values()]
            self.count, self.longest = min(lengths), max(lengths)
            self.offset_us = self._offset()
            self.ms_to_idx = self._starts()  # M, or None where the file has none
        except BaseException:
            self.close()
            raise

    def _found(self) -> dict[str, Any]:
        columns = {name: array_in(self._file, self.path, f"events/{name}") for name in _COLUMNS}
        for name, column in columns.items():
            if column is None:
                held = ", ".join(sorted(self._file))[:80] or "nothing"
                raise RecordingError(f"{self.path}: HDF5 without events/{name}: DSEC's layout is read, and this file "
                                     f"has {held}; write text, 't x y p' a line (of Prophesee's files "
                                     f"metavision_file_to_csv makes it)")  # fmt: skip
            if column.ndim != 1 or column.dtype.kind not in ("bui" if name == "p" else "ui"):
                raise RecordingError(f"{self.path}: HDF5 whose events/{name} is {column.dtype} in {column.shape}: a "
                                     f"row of whole numbers is read; write it anew")  # fmt: skip
            if not self._is_held(column):
                raise RecordingError(f"{self.path}: HDF5 whose events/{name} claims {column.shape[0]} values and holds "
                                     f"fewer: copy it again")  # fmt: skip
        return columns

    def _is_held(self, column: Any) -> bool:
        """Whether the file has room for what a column claims to hold: else a few bytes could be read for hours."""
        try:
            if column.chunks is not None:
                return bool(column.id.get_num_chunks() * column.chunks[0] >= column.shape[0])
            stored = column.id.get_storage_size()
        except _DAMAGE:
            return False
        return column.shape[0] * column.dtype.itemsize <= stored <= self.path.stat().st_size

    def _offset(self) -> int:
        array = array_in(self._file, self.path, "t_offset")
        if array is None:
            return 0
        whole = array.size == 1 and array.dtype.kind in "iu"
        value = int(values_of(array, self.path, ...).reshape(-1)[0]) if whole else _MOST_US + 1
        if abs(value) > _MOST_US:
            raise RecordingError(f"{self.path}: HDF5 whose t_offset is no number of microseconds: copy it again")
        return value

    def _starts(self) -> NDArray[np.int64] | None:
        array = array_in(self._file, self.path, "ms_to_idx")
        if array is None:
            return None
        if array.ndim != 1 or array.dtype.kind not in "iu" or not self._is_held(array):
            raise RecordingError(f"{self.path}: HDF5 whose ms_to_idx is {array.dtype} in {array.shape}: a row of whole "
                                 f"numbers is read; write it anew")  # fmt: skip
        return values_of(array, self.path, ...).astype(np.int64)

    def times_us(self, first: int, last: int) -> NDArray[np.int64]:
        """Times of the events first .. last - 1. Raises RecordingError."""
        raw = values_of(self._columns["t"], self.path, slice(first, last))
        return np.clip(raw.astype(np.int64), -_MOST_US, _MOST_US)

    def part(self, first: int, last: int) -> Block:
        """The events first .. last - 1, `offset_us` added; a place beyond 16 bits is the highest there is.

        Raises RecordingError.
        """
        t_ns = (self.times_us(first, last) + self.offset_us) * 1000
        x, y, p = (values_of(self._columns[name], self.path, slice(first, last)) for name in "xyp")
        return block_of(t_ns, _place(x), _place(y), p > 0)

    def close(self) -> None:
        """Closing twice does nothing."""
        self._file.close()

    def __enter__(self) -> EventTable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _place(values: NDArray[Any]) -> NDArray[np.uint16]:
    if values.dtype == np.uint16:
        return values
    return np.where((values < 0) | (values > 0xFFFF), 0xFFFF, values).astype(np.uint16)


class DsecFile(EventReader):
    """An events.h5; the events are as the sensor gave them, not rectified."""

    name = "DSEC HDF5"

    def __init__(self, path: Path) -> None:
        """Raises RecordingError, BackendMissing."""
        super().__init__(path)
        with EventTable(path) as table:
            self._size = path.stat().st_size
            if table.offset_us:
                self.about = {"t_offset": f"{table.offset_us} us"}

    def blocks(self) -> Iterator[Block]:
        self._begin()
        with EventTable(self.path) as table:
            for first in range(0, table.count, _CHUNK):
                last = min(first + _CHUNK, table.count)
                self.consumed = self._size * last // table.count
                yield from self._sound(table, first, last)
            self._lose("events that are not in every column", table.longest - table.count, events=True)

    def _sound(self, table: EventTable, first: int, last: int) -> Iterator[Block]:
        """What can be read of some events: around damage ever smaller parts are tried."""
        try:
            block = table.part(first, last)
        except RecordingError:
            if last - first <= _LEAST:
                self._lose("events in damaged parts", last - first, events=True)
                return
            middle = (first + last) // 2
            yield from self._sound(table, first, middle)
            yield from self._sound(table, middle, last)
        else:
            yield block

    def tail(self) -> Block | None:
        with EventTable(self.path) as table:
            try:
                return table.part(max(table.count - 1000, 0), table.count)
            except RecordingError:
                return None
