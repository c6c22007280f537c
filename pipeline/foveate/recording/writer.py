"""Writes an MCAP file in batches, each acknowledged by the return of its one write.

A batch is a chunk without compression, so that whatever a killed process had written is whole and covered by
a checksum. The pixels of a frame go from the array to the kernel without a copy in between.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from foveate.errors import FoveateError
from foveate.recording import mcap_format as mcap
from foveate.recording.checksum import crc32

_LARGE = 16 * 1024  # from here on a piece is written from where it lies; below, copying it is cheaper
_MAX_PIECES = 512  # of one writev; Linux takes 1024
_SPOOL_BYTES = 1024 * 1024  # of the index before it goes to a temporary file: memory does not grow with the recording
Buffer = bytes | bytearray | memoryview


class Unwritten(FoveateError):
    """A batch that could not be written: the disk is full or gone. What was written before is whole."""

    def __init__(self, lost: Mapping[int, int], error: OSError) -> None:
        self.lost = lost  # messages by channel
        self.error = error
        super().__init__(f"{sum(lost.values())} messages were not written: {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A stream to be written."""

    topic: str
    encoding: str
    metadata: Mapping[str, str]
    schema_name: str
    schema_encoding: str
    schema_data: bytes


class McapWriter:
    """One file. Not safe for threads: whoever shares it holds a lock."""

    def __init__(
        self, path: Path, channels: Sequence[ChannelSpec], attachments: Mapping[str, tuple[str, bytes]],
        metadata: Mapping[str, Mapping[str, str]],
    ) -> None:  # fmt: skip
        """Creates the file, which must not exist. Channel numbers count from 1. Raises OSError."""
        described = b"".join(
            mcap.schema(i, c.schema_name, c.schema_encoding, c.schema_data)
            + mcap.channel(i, i, c.topic, c.encoding, dict(c.metadata))
            for i, c in enumerate(channels, 1)
        )
        self.path = path
        self._channels = list(channels)
        self._attachments: list[tuple[int, int, int, str, str]] = []  # offset, length, size of data, name, type
        self._metadata: list[tuple[int, int, str]] = []  # offset, length, name
        self._file = crc32(b"".join(data for _, data in attachments.values()), crc32(described))
        self._at = 0  # end of the last whole record
        self._batches = 0
        self.counts = dict.fromkeys(range(1, len(channels) + 1), 0)  # acknowledged messages by channel
        self._start_ns, self._end_ns = 0, 0
        self._new_batch()
        self._described = described  # once more in the first chunk, under its checksum
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        self._index: Any = SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - lives as long as the file
        try:
            self._begin(attachments, metadata)
        except OSError:
            os.close(self._fd)
            self._index.close()
            path.unlink(missing_ok=True)
            raise

    def _begin(self, attachments: Mapping[str, tuple[str, bytes]], metadata: Mapping[str, Mapping[str, str]]) -> None:
        head = mcap.MAGIC + mcap.record(mcap.HEADER, mcap.text("") + mcap.text("foveate"))
        counters_at = len(head) + mcap.TALLY_COUNTERS_AT
        parts = [head, mcap.tally(self._file, len(self._channels)), self._described]
        at = sum(map(len, parts))
        for name, values in metadata.items():
            parts.append(mcap.metadata(name, dict(values)))
            self._metadata.append((at, len(parts[-1]), name))
            at += len(parts[-1])
        for name, (kind, data) in attachments.items():
            parts.append(mcap.attachment(name, kind, data))
            self._attachments.append((at, len(parts[-1]), len(data), name, kind))
            at += len(parts[-1])
        self._write([b"".join(parts)])
        size = mcap.TALLY_COUNTERS * 8 * len(self._channels)
        self._map = mmap.mmap(self._fd, counters_at + size)
        self.tally = memoryview(self._map)[counters_at : counters_at + size].cast("Q")

    def _new_batch(self) -> None:
        self.pending = 0  # messages not acknowledged
        self.pending_bytes = 0
        self._pieces: list[Buffer] = []
        self._small = bytearray()
        self._indexes: dict[int, list[int]] = {}
        self._first_ns, self._last_ns = 2**63, 0

    @property
    def acknowledged(self) -> int:
        """Messages in the file, each under a checksum."""
        return sum(self.counts.values())

    def add(self, channel: int, sequence: int, log_ns: int, publish_ns: int, pieces: Sequence[Buffer]) -> None:
        """Append a message to the batch. Large pieces are not copied and must not change before `flush`."""
        if not self._batches and not self.pending:
            self._extend(self._described)
        size = sum(map(len, pieces))
        self._indexes.setdefault(channel, []).extend((log_ns, self.pending_bytes))
        self._extend(
            mcap.MESSAGE_HEAD.pack(
                mcap.MESSAGE, mcap.MESSAGE_FIXED + size, channel, sequence & 0xFFFFFFFF, log_ns, publish_ns
            )
        )
        for piece in pieces:
            self._extend(piece)
        self.pending += 1
        self._first_ns = min(self._first_ns, log_ns)
        self._last_ns = max(self._last_ns, log_ns)

    def _extend(self, piece: Buffer) -> None:
        if len(piece) < _LARGE:
            self._small += piece
        else:
            self._pieces += (self._small, piece)
            self._small = bytearray()
        self.pending_bytes += len(piece)

    def flush(self) -> None:
        """Write the batch: when this returns its messages are acknowledged. Raises Unwritten; the file stays whole."""
        if not self.pending:
            return
        self._pieces.append(self._small)
        crc, size = 0, self.pending_bytes
        for piece in self._pieces:
            crc = crc32(piece, crc)
        chunk_bytes = mcap.CHUNK_HEAD.size + size
        head = mcap.CHUNK_HEAD.pack(
            mcap.CHUNK, mcap.CHUNK_FIXED + size, self._first_ns, self._last_ns, size, crc, 0, size
        )
        chunk_at = self._at + mcap.BATCH_BYTES
        index, offsets = self._message_index(chunk_at + chunk_bytes)
        streams = 0
        for channel in self._indexes:
            streams |= mcap.bit(channel)
        batch = mcap.Batch(
            self._file, self._batches, self.acknowledged, self.pending, chunk_bytes, len(index), streams,
            self._first_ns, self._last_ns,
        ).to_bytes()  # fmt: skip
        lost = {channel: len(entries) // 2 for channel, entries in self._indexes.items()}
        try:
            self._write([batch, head, *self._pieces, index])
        except OSError as error:
            self._new_batch()
            raise Unwritten(lost, error) from error
        self._note(chunk_at, chunk_bytes, offsets, len(index), size)
        for channel, count in lost.items():
            self.counts[channel] += count
            self.tally[mcap.TALLY_COUNTERS * (channel - 1) + 2] += count
        self._new_batch()

    def _message_index(self, at: int) -> tuple[bytes, bytes]:
        """The records behind a chunk that say where its messages are, and where those records are."""
        records, offsets = bytearray(), bytearray()
        for channel, entries in self._indexes.items():
            offsets += struct.pack("<HQ", channel, at + len(records))
            body = struct.pack(f"<HI{len(entries)}Q", channel, 8 * len(entries), *entries)
            records += mcap.record(mcap.MESSAGE_INDEX, body)
        return bytes(records), bytes(offsets)

    def _note(self, chunk_at: int, chunk_bytes: int, offsets: bytes, index_bytes: int, size: int) -> None:
        body = struct.pack("<QQQQI", self._first_ns, self._last_ns, chunk_at, chunk_bytes, len(offsets)) + offsets
        body += struct.pack("<QIQQ", index_bytes, 0, size, size)
        self._index.write(mcap.record(mcap.CHUNK_INDEX, body))
        self._start_ns = self._first_ns if not self._batches else min(self._start_ns, self._first_ns)
        self._end_ns = max(self._end_ns, self._last_ns)
        self._batches += 1

    def _write(self, pieces: Sequence[Buffer]) -> None:
        """All pieces at the end of the file, or none of them. Raises OSError."""
        views = [memoryview(piece) for piece in pieces if len(piece)]
        total = sum(map(len, views))
        try:
            while views:
                done = os.writev(self._fd, views[:_MAX_PIECES])
                while views and done >= len(views[0]):
                    done -= len(views.pop(0))
                if done:
                    views[0] = views[0][done:]
        except OSError:
            try:  # a torn record must not stay
                os.ftruncate(self._fd, self._at)
                os.lseek(self._fd, self._at, os.SEEK_SET)
            except OSError:  # it does: what comes next stands behind it, where a reader finds it by its marker
                with suppress(OSError):
                    self._at = os.lseek(self._fd, 0, os.SEEK_END)
            raise
        self._at += total

    def sync(self) -> None:
        """Ask the disk to keep what was written. Raises OSError."""
        os.fdatasync(self._fd)

    def finish(self, attachments: Mapping[str, tuple[str, bytes]]) -> None:
        """Write what is pending, what is only known at the end, and the index. Raises Unwritten, OSError."""
        self.flush()
        for name, (kind, data) in attachments.items():
            item = mcap.attachment(name, kind, data)
            self._attachments.append((self._at, len(item), len(data), name, kind))
            self._write([item])
        whole = self._at
        try:
            self._write_summary()
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, whole)
            raise

    def _write_summary(self) -> None:
        self._write([mcap.record(mcap.DATA_END, struct.pack("<I", 0))])
        start, crc, offsets = self._at, 0, bytearray()
        for opcode, pieces in self._summary():
            group_at = self._at
            for piece in pieces:
                self._write([piece])
                crc = crc32(piece, crc)
            if self._at > group_at:
                offsets += mcap.record(mcap.SUMMARY_OFFSET, struct.pack("<BQQ", opcode, group_at, self._at - group_at))
        foot = mcap.RECORD_HEAD.pack(mcap.FOOTER, 20) + struct.pack("<QQ", start, self._at)
        crc = crc32(foot, crc32(offsets, crc))
        self._write([offsets, foot, struct.pack("<I", crc), mcap.MAGIC])

    def _summary(self) -> Iterator[tuple[int, Iterable[Buffer]]]:
        """The groups of records behind the data."""
        described = list(enumerate(self._channels, 1))
        yield mcap.SCHEMA, [mcap.schema(i, c.schema_name, c.schema_encoding, c.schema_data) for i, c in described]
        yield mcap.CHANNEL, [mcap.channel(i, i, c.topic, c.encoding, dict(c.metadata)) for i, c in described]
        counts = b"".join(struct.pack("<HQ", channel, count) for channel, count in self.counts.items())
        statistics = struct.pack(
            "<QHIIIIQQI", self.acknowledged, len(described), len(described), len(self._attachments),
            len(self._metadata), self._batches, self._start_ns, self._end_ns, len(counts),
        )  # fmt: skip
        yield mcap.STATISTICS, [mcap.record(mcap.STATISTICS, statistics + counts)]
        self._index.seek(0)
        yield mcap.CHUNK_INDEX, iter(lambda: self._index.read(_SPOOL_BYTES), b"")
        yield (
            mcap.ATTACHMENT_INDEX,
            [
                mcap.record(
                    mcap.ATTACHMENT_INDEX, struct.pack("<QQQQQ", at, n, 0, 0, size) + mcap.text(name) + mcap.text(kind)
                )
                for at, n, size, name, kind in self._attachments
            ],
        )
        yield (
            mcap.METADATA_INDEX,
            [
                mcap.record(mcap.METADATA_INDEX, struct.pack("<QQ", at, n) + mcap.text(name))
                for at, n, name in self._metadata
            ],
        )

    def close(self) -> None:
        """Let go of the file; without `finish` before, it is as a killed process leaves it."""
        if self._fd < 0:
            return
        self.tally.release()
        self._map.close()
        os.close(self._fd)
        self._index.close()
        self._fd = -1
