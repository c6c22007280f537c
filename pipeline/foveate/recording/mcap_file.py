"""Reads what `writer` wrote, whole or damaged: every message that is given out was under a checksum that fits.

With an index the file is opened by it. Without one (the writer was killed) the batches are walked from the
front; after damage the walk goes on at the next marker. Memory does not grow with the messages: an index of
one row a batch is kept, and one chunk at a time is read.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from foveate.errors import NotOurs, RecordingError
from foveate.recording import mcap_format as mcap
from foveate.recording.checksum import crc32

_BLOCK = 1 << 20
_MAX_ATTACHMENT = 16 << 20  # read whole before its checksum is known


class RawMessage(NamedTuple):
    """A message as it lies in the file."""

    channel: int
    sequence: int
    log_ns: int  # Unix time
    publish_ns: int  # Unix time
    data: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """A place that could not be read."""

    at: int  # offset in the file
    size: int
    messages: int | None  # lost with it; None: nobody knows
    what: str


class McapFile:
    """One file that foveate wrote."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError for a file that cannot be opened, NotOurs for one that is no MCAP."""
        self.path = path
        self.channels: dict[int, mcap.Channel] = {}
        self.attachments: dict[str, bytes] = {}
        self.damages: list[Damage] = []
        self.closed = False  # it was ended in order: it has an index, and that is intact
        self.library = ""  # what wrote it
        self.torn_bytes = 0  # of a batch that was being written when the writer was killed
        self.tally: list[tuple[int, int, int]] = []  # accepted, dropped, acknowledged by stream
        self.counts: dict[int, int] = {}  # messages by channel; complete only if `closed`
        self._columns = [array("Q") for _ in range(5)]  # chunk's offset, bytes, streams, first and last log time
        self._known: set[int] = set()  # offsets of damages already noted
        self._recent: deque[tuple[int, memoryview]] = deque(maxlen=4)  # streams of one file are often read side by side
        self._file_number: int | None = None
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if path.is_dir():
                raise NotOurs(f"{path}: cannot read: it is a folder, not a recording")
        except OSError as error:
            raise RecordingError(f"{path}: cannot read: {error.strerror}") from None
        try:
            self.size = os.fstat(self._fd).st_size
            self._open()
        except OSError as error:
            os.close(self._fd)
            raise RecordingError(f"{path}: cannot read: {error.strerror}") from None
        except RecordingError:
            os.close(self._fd)
            raise

    def _read(self, at: int, size: int) -> bytes:
        """`size` bytes at `at`, fewer at the end of the file."""
        if at < 0:
            return b""
        data = os.pread(self._fd, size, at)
        while len(data) < size and (more := os.pread(self._fd, size - len(data), at + len(data))):
            data += more
        return data

    def _open(self) -> None:
        head = self._read(0, len(mcap.MAGIC))
        if head != mcap.MAGIC:
            if head[:5] == mcap.MAGIC[:5] and len(head) == len(mcap.MAGIC):
                raise RecordingError(f"{self.path}: MCAP of a version that is not known here ({head[5:6]!r})")
            raise NotOurs(f"{self.path}: not an MCAP file (its first bytes are {head!r})")
        end = self._preamble(len(mcap.MAGIC))
        if not self._by_index():
            first = self._marker_after(len(mcap.MAGIC))
            if first is not None and first[0] != end:
                at = min(end, first[0])
                self._note(at, abs(first[0] - end), first[1].before, "damaged before the first whole batch")
            self._walk(end if first is None else first[0])
            self._describe_from_chunk()

    def _preamble(self, at: int) -> int:
        """What stands before the messages; returns where it ends or stops making sense."""
        description = mcap.Description()
        self.channels = description.channels
        while True:
            head = self._read(at, mcap.RECORD_HEAD.size)
            if len(head) < mcap.RECORD_HEAD.size:
                return at
            opcode, length = mcap.RECORD_HEAD.unpack(head)
            known = opcode in (mcap.HEADER, mcap.TALLY, mcap.SCHEMA, mcap.CHANNEL, mcap.METADATA, mcap.ATTACHMENT)
            if not known or length > min(self.size - at, _MAX_ATTACHMENT):
                return at
            body = memoryview(self._read(at + mcap.RECORD_HEAD.size, length))
            try:
                if opcode == mcap.HEADER:
                    self.library = mcap.library(body)
                elif opcode == mcap.TALLY:
                    self._read_tally(body)
                elif opcode == mcap.ATTACHMENT:
                    name, data = mcap.parse_attachment(body)
                    self.attachments[name] = data
                else:
                    description.add(opcode, body)
            except (ValueError, struct.error) as error:
                self._note(at, length, 0, str(error))
            at += mcap.RECORD_HEAD.size + length

    def _read_tally(self, body: memoryview) -> None:
        counters = mcap.tally_counters(body)
        step = mcap.TALLY_COUNTERS
        self.tally = [(a, d, k) for a, d, k in zip(*(counters[i::step] for i in range(step)), strict=True)]

    def _note(self, at: int, size: int, messages: int | None, what: str) -> None:
        if at not in self._known:
            self._known.add(at)
            self.damages.append(Damage(at, size, messages, what))

    def _by_index(self) -> bool:
        """Take everything from the summary, if there is one and its checksum fits."""
        foot = self._read(max(self.size - mcap.FOOTER_BYTES, 0), mcap.FOOTER_BYTES)
        if len(foot) < mcap.FOOTER_BYTES or foot[-len(mcap.MAGIC) :] != mcap.MAGIC or foot[0] != mcap.FOOTER:
            return False
        start, _, crc = struct.unpack_from("<QQI", foot, mcap.RECORD_HEAD.size)
        end = self.size - mcap.FOOTER_BYTES
        if not 0 < start <= end or self._checksum(start, end, foot) != crc:
            self._note(end, mcap.FOOTER_BYTES, 0, "the index is damaged")
            return False
        try:
            self._read_summary(start, end)
        except (ValueError, struct.error, OverflowError):  # its checksum fits, so somebody else wrote it like that
            self._columns = [array("Q") for _ in range(5)]
            return False
        self.closed = True
        return True

    def _read_summary(self, at: int, end: int) -> None:
        description = mcap.Description()
        while at < end:
            opcode, length = mcap.RECORD_HEAD.unpack(self._read(at, mcap.RECORD_HEAD.size))
            if length > end - at:
                raise ValueError("a record of the index is longer than the index")
            body = memoryview(self._read(at + mcap.RECORD_HEAD.size, length))
            if opcode == mcap.STATISTICS:
                self.counts = mcap.channel_counts(body)
            elif opcode == mcap.CHUNK_INDEX:
                row = mcap.parse_chunk_index(body)
                if row[0] + row[1] > self.size:
                    raise ValueError("a chunk lies beyond the end of the file")
                self._add_row(*row)
            elif opcode == mcap.ATTACHMENT_INDEX:
                self._indexed_attachment(body)
            else:
                description.add(opcode, body)
            at += mcap.RECORD_HEAD.size + length
        self.channels = description.channels

    def _checksum(self, start: int, end: int, foot: bytes) -> int:
        crc = 0
        for at in range(start, end, _BLOCK):
            crc = crc32(self._read(at, min(_BLOCK, end - at)), crc)
        return crc32(foot[: mcap.RECORD_HEAD.size + 16], crc)

    def _indexed_attachment(self, body: memoryview) -> None:
        at, length = mcap.Cursor(body).numbers("QQ")
        try:
            if length > _MAX_ATTACHMENT:
                raise ValueError("an attachment is too large")
            name, data = mcap.parse_attachment(memoryview(self._read(at, length))[mcap.RECORD_HEAD.size :])
            self.attachments[name] = data
        except (ValueError, struct.error) as error:
            self._note(at, length, 0, str(error))

    def _add_row(self, *row: int) -> None:
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def _walk(self, at: int) -> None:
        """Find the batches one after the other."""
        expected = 0  # messages in the batches before this one
        while at < self.size:
            head = self._read(at, mcap.BATCH_BYTES)
            if head[:1] and head[0] in (mcap.DATA_END, mcap.ATTACHMENT) and not self._marker_after(at):
                self._ending(at)
                return
            batch = mcap.Batch.parse(head)
            if batch is None or (self._file_number is not None and batch.file != self._file_number):
                found = self._marker_after(at + 1)
                lost = None if found is None else found[1].before - expected
                if found is None:
                    self._torn(at, head)
                    return
                self._note(at, found[0] - at, lost, "damaged")
                at = found[0]
                continue
            self._file_number = batch.file
            whole = mcap.BATCH_BYTES + batch.chunk_bytes
            if at + whole > self.size:
                self.torn_bytes = self.size - at
                return
            self._add_row(at + mcap.BATCH_BYTES, batch.chunk_bytes, batch.streams, batch.first_ns, batch.last_ns)
            expected = batch.before + batch.messages
            at += whole + batch.index_bytes

    def _torn(self, at: int, head: bytes) -> None:
        """The end of a file whose last batch was cut within its head, or damage that nothing whole follows."""
        start = mcap.RECORD_HEAD.pack(mcap.BATCH, mcap.BATCH_BYTES - mcap.RECORD_HEAD.size) + mcap.MARKER
        if len(head) < mcap.BATCH_BYTES and start.startswith(head[: len(start)]):
            self.torn_bytes = self.size - at
        else:
            self._note(at, self.size - at, self._missing(), "damaged to the end of the file")

    def _missing(self) -> int | None:
        """Acknowledged messages that the walk has not found, by the tally."""
        if not self.tally:
            return None
        last = len(self._columns[0]) - 1
        batch = self._batch(last) if last >= 0 else None
        found = batch.before + batch.messages if batch is not None else 0
        return max(sum(acknowledged for _, _, acknowledged in self.tally) - found, 0)

    def _ending(self, at: int) -> None:
        """Attachments written when the run ended, of a file whose index is missing or damaged."""
        while True:
            head = self._read(at, mcap.RECORD_HEAD.size)
            if len(head) < mcap.RECORD_HEAD.size or head[0] != mcap.ATTACHMENT:
                return
            length = mcap.RECORD_HEAD.unpack(head)[1]
            if length > self.size - at - mcap.RECORD_HEAD.size:
                self.torn_bytes = self.size - at
                return
            try:
                name, data = mcap.parse_attachment(memoryview(self._read(at + mcap.RECORD_HEAD.size, length)))
                self.attachments[name] = data
            except (ValueError, struct.error) as error:
                self._note(at, length, 0, str(error))
            at += mcap.RECORD_HEAD.size + length

    def _marker_after(self, at: int) -> tuple[int, mcap.Batch] | None:
        """The next whole batch record at or behind `at`, with its offset."""
        overlap = mcap.BATCH_BYTES
        while at < self.size:
            try:
                at = max(at, os.lseek(self._fd, at, os.SEEK_DATA))  # a file with holes is not read through
            except OSError:
                return None
            block = self._read(at, _BLOCK + overlap)
            found = block.find(mcap.MARKER)
            while found >= 0:
                start = found - mcap.RECORD_HEAD.size
                batch = mcap.Batch.parse(block[start : start + mcap.BATCH_BYTES]) if start >= 0 else None
                if batch is not None and self._file_number in (None, batch.file):
                    return at + start, batch
                found = block.find(mcap.MARKER, found + 1)
            at += _BLOCK
        return None

    def _describe_from_chunk(self) -> None:
        """Streams as the first chunk describes them: there, unlike before it, a checksum covers them."""
        records = self.chunk(0) if len(self) else None
        description = mcap.Description()
        try:
            for opcode, body in mcap.split(records) if records is not None else ():
                description.add(opcode, body)
        except (ValueError, struct.error):  # its checksum fits: it was written like that
            return
        self.channels = description.channels or self.channels

    def _batch(self, row: int) -> mcap.Batch | None:
        return mcap.Batch.parse(self._read(self._columns[0][row] - mcap.BATCH_BYTES, mcap.BATCH_BYTES))

    def chunk(self, row: int) -> memoryview | None:
        """The records of one chunk; None, with the damage noted, if its checksum does not fit."""
        for number, records in self._recent:
            if number == row:
                return records
        found = self._read_chunk(row)
        if found is not None:
            self._recent.append((row, found))
        return found

    def _read_chunk(self, row: int) -> memoryview | None:
        at, size = self._columns[0][row], self._columns[1][row]
        data = memoryview(self._read(at, size))
        if len(data) == size and size >= mcap.CHUNK_HEAD.size:
            opcode, length, _, _, inner, crc, compression, stored = mcap.CHUNK_HEAD.unpack_from(data)
            records = data[mcap.CHUNK_HEAD.size :]
            sizes = (length + mcap.RECORD_HEAD.size, inner + mcap.CHUNK_HEAD.size, stored)
            if (opcode, compression) == (mcap.CHUNK, 0) and sizes == (size, size, inner) and crc32(records) == crc:
                return records
        self._note(at, size, self._lost_in(row), "a chunk's checksum does not fit")
        return None

    def _lost_in(self, row: int) -> int | None:
        """How many messages a damaged chunk held."""
        batch = self._batch(row)
        if batch is not None:
            return batch.messages
        before = self._batch(row - 1) if row else None
        start = before.before + before.messages if before is not None else 0 if not row else None
        after = self._batch(row + 1) if row + 1 < len(self) else None
        end = after.before if after is not None else sum(self.counts.values()) if row + 1 == len(self) else None
        return None if start is None or end is None else max(end - start, 0)

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self._columns[0])

    @property
    def is_ours(self) -> bool:
        """Whether foveate wrote it; of others only the index can be read here."""
        return self.library == "foveate" or bool(self.tally) or (len(self) > 0 and self._batch(0) is not None)

    def span_ns(self) -> tuple[int, int]:
        """Smallest and largest log time by the index, Unix; 0, 0 without messages."""
        return (min(self._columns[3]), max(self._columns[4])) if len(self) else (0, 0)

    def messages(
        self, channels: set[int] | None = None, begin_ns: int = 0, end_ns: int = 2**63, rows: range | None = None
    ) -> Iterator[RawMessage]:
        """Messages of some channels with a log time in [begin, end), in the order they were written."""
        wanted = 0
        for number in self.channels if channels is None else channels:
            wanted |= mcap.bit(number)
        _, _, streams, first, last = self._columns
        for row in range(len(self)) if rows is None else rows:
            if not streams[row] & wanted or first[row] >= end_ns or last[row] < begin_ns:
                continue
            records = self.chunk(row)
            if records is None:
                continue
            try:
                for message in mcap.messages(records):
                    if (channels is None or message[0] in channels) and begin_ns <= message[2] < end_ns:
                        yield RawMessage(*message)
            except (ValueError, struct.error) as error:  # its checksum fits: it was written like that
                self._note(self._columns[0][row], self._columns[1][row], None, f"a chunk that makes no sense ({error})")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
