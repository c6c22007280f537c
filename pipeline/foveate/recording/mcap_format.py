"""The bytes of an MCAP file: building its records, parsing them, and foveate's own two.

MCAP gives opcodes from 0x80 on to applications; readers skip them. foveate writes two:

TALLY (0x80), once: for every stream three counters as little-endian uint64: messages accepted, dropped and
acknowledged. They are written through shared memory as messages come, so they outlive a killed process and
tell how many messages it took into the grave.

BATCH (0x81), before every chunk: a marker to find the next whole chunk after damage, what the chunk holds, and
what was written before, to count what damage took. Source: https://mcap.dev/spec (MCAP version 0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from foveate.recording.checksum import crc32

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)
TALLY, BATCH = 0x80, 0x81

RECORD_HEAD = struct.Struct("<BQ")  # opcode, length of what follows
MESSAGE_HEAD = struct.Struct("<BQHIQQ")  # with the record's head: channel, sequence, log time, publish time
CHUNK_HEAD = struct.Struct("<BQQQQIIQ")  # with the record's head: start, end, size, crc, no compression, size
FOOTER_BYTES = RECORD_HEAD.size + 20 + len(MAGIC)
MESSAGE_FIXED = MESSAGE_HEAD.size - RECORD_HEAD.size
CHUNK_FIXED = CHUNK_HEAD.size - RECORD_HEAD.size

MARKER = bytes.fromhex("f0e07a7e8d1c4b52a65d3e9b0c7f1184")
_BATCH = struct.Struct("<16sIQQIQIQQQ")  # marker, then the fields of Batch
BATCH_BYTES = RECORD_HEAD.size + _BATCH.size + 4
_TALLY_FIXED = struct.Struct("<II")  # file, number of streams


@dataclass(frozen=True, slots=True)
class Batch:
    """The record before a chunk."""

    file: int  # the same in all batches of a file
    number: int  # from 0
    before: int  # messages in all earlier batches
    messages: int
    chunk_bytes: int  # the chunk record behind this one
    index_bytes: int  # the message indexes behind that
    streams: int  # bit n - 1: channel n has messages in it; the last bit stands for all from 64 on
    first_ns: int  # smallest log time
    last_ns: int  # largest

    def to_bytes(self) -> bytes:
        body = _BATCH.pack(
            MARKER, self.file, self.number, self.before, self.messages, self.chunk_bytes, self.index_bytes,
            self.streams, self.first_ns, self.last_ns,
        )  # fmt: skip
        return RECORD_HEAD.pack(BATCH, len(body) + 4) + body + struct.pack("<I", crc32(body))

    @classmethod
    def parse(cls, data: bytes) -> Batch | None:
        """The batch in `data` (a whole record), or None if it is damaged or something else."""
        if len(data) < BATCH_BYTES or data[0] != BATCH:
            return None
        body = data[RECORD_HEAD.size : BATCH_BYTES - 4]
        if crc32(body) != struct.unpack_from("<I", data, BATCH_BYTES - 4)[0]:
            return None
        marker, *values = _BATCH.unpack(body)
        return cls(*values) if marker == MARKER else None


def text(value: str) -> bytes:
    """A string as MCAP writes it."""
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def pairs(values: dict[str, str]) -> bytes:
    """A map of strings."""
    body = b"".join(text(key) + text(value) for key, value in values.items())
    return struct.pack("<I", len(body)) + body


def record(opcode: int, body: bytes) -> bytes:
    return RECORD_HEAD.pack(opcode, len(body)) + body


def schema(number: int, name: str, encoding: str, data: bytes) -> bytes:
    return record(SCHEMA, struct.pack("<H", number) + text(name) + text(encoding) + struct.pack("<I", len(data)) + data)


def channel(number: int, schema_number: int, topic: str, encoding: str, metadata: dict[str, str]) -> bytes:
    return record(CHANNEL, struct.pack("<HH", number, schema_number) + text(topic) + text(encoding) + pairs(metadata))


def attachment(name: str, media_type: str, data: bytes) -> bytes:
    body = struct.pack("<QQ", 0, 0) + text(name) + text(media_type) + struct.pack("<Q", len(data)) + data
    return record(ATTACHMENT, body + struct.pack("<I", crc32(body)))


def metadata(name: str, values: dict[str, str]) -> bytes:
    return record(METADATA, text(name) + pairs(values))


def tally(file: int, streams: int) -> bytes:
    """The record of counters, all zero."""
    return record(TALLY, _TALLY_FIXED.pack(file, streams) + bytes(TALLY_COUNTERS * 8 * streams))


TALLY_COUNTERS = 3  # of a stream: accepted, dropped, acknowledged
TALLY_COUNTERS_AT = RECORD_HEAD.size + _TALLY_FIXED.size  # offset of the first counter in the record


def bit(channel_number: int) -> int:
    """The bit of a channel in `Batch.streams`."""
    return 1 << min(max(channel_number - 1, 0), 63)


class Cursor:
    """Reads fields of one record. Raises ValueError where it is too short or holds no text."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self.at = 0

    def __len__(self) -> int:
        return len(self._data)

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self.at:
            raise ValueError(f"a record ends {size - len(self._data) + self.at} bytes early")
        self.at += size
        return self._data[self.at - size : self.at]

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def text(self) -> str:
        return bytes(self.take(self.numbers("I")[0])).decode()

    def pairs(self) -> dict[str, str]:
        inner = Cursor(self.take(self.numbers("I")[0]))
        found = {}
        while inner.at < len(inner):
            key = inner.text()
            found[key] = inner.text()
        return found


@dataclass(frozen=True, slots=True)
class Channel:
    """A stream as the file describes it."""

    number: int
    topic: str
    encoding: str
    metadata: dict[str, str]
    schema_name: str = ""
    schema_encoding: str = ""
    schema_data: bytes = b""


def library(body: memoryview) -> str:
    """What the header says wrote the file."""
    cursor = Cursor(body)
    cursor.text()
    return cursor.text()


class Description:
    """The streams of a file, collected from its schema and channel records."""

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}
        self._schemas: dict[int, tuple[str, str, bytes]] = {}

    def add(self, opcode: int, body: memoryview) -> None:
        """Take a record; others than the two are passed over. Raises ValueError, struct.error."""
        cursor = Cursor(body)
        if opcode == SCHEMA:
            (number,) = cursor.numbers("H")
            name, encoding = cursor.text(), cursor.text()
            self._schemas[number] = (name, encoding, bytes(cursor.take(cursor.numbers("I")[0])))
        elif opcode == CHANNEL:
            number, schema_number = cursor.numbers("HH")
            topic, encoding, found = cursor.text(), cursor.text(), cursor.pairs()
            kind = self._schemas.get(schema_number, ("", "", b""))
            self.channels[number] = Channel(number, topic, encoding, found, *kind)


def parse_attachment(body: memoryview) -> tuple[str, bytes]:
    """Name and data. Raises ValueError where its checksum does not fit."""
    cursor = Cursor(body)
    cursor.numbers("QQ")
    name, _ = cursor.text(), cursor.text()
    data = bytes(cursor.take(cursor.numbers("Q")[0]))
    if crc32(body[: cursor.at]) != cursor.numbers("I")[0]:
        raise ValueError(f"the attachment '{name}' is damaged")
    return name, data


def tally_counters(body: memoryview) -> list[int]:
    """All counters of a tally record. Raises ValueError where there are fewer than it says."""
    cursor = Cursor(body)
    _, streams = cursor.numbers("II")
    return list(cursor.numbers(f"{TALLY_COUNTERS * streams}Q"))


def channel_counts(body: memoryview) -> dict[int, int]:
    """Messages by channel of a statistics record."""
    cursor = Cursor(body)
    cursor.numbers("QHIIIIQQ")
    inner = Cursor(cursor.take(cursor.numbers("I")[0]))
    return dict(inner.numbers("HQ") for _ in range(len(inner) // 10))  # type: ignore[misc]


def parse_chunk_index(body: memoryview) -> tuple[int, int, int, int, int]:
    """Offset and length of a chunk, its streams as bits, first and last log time."""
    cursor = Cursor(body)
    first, last, at, length = cursor.numbers("QQQQ")
    inner = Cursor(cursor.take(cursor.numbers("I")[0]))
    streams = 0
    for _ in range(len(inner) // 10):
        streams |= bit(inner.numbers("HQ")[0])
    return at, length, streams, first, last


def split(records: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Opcode and content of the records in a chunk."""
    at = 0
    while at < len(records):
        opcode, length = RECORD_HEAD.unpack_from(records, at)
        at += RECORD_HEAD.size + length
        if at > len(records):
            raise ValueError("a record is longer than its chunk")
        yield opcode, records[at - length : at]


def messages(records: memoryview) -> Iterator[tuple[int, int, int, int, memoryview]]:
    """Channel, sequence, log time, publish time and data of the messages in a chunk."""
    at, end = 0, len(records)
    while at < end:
        opcode, length = RECORD_HEAD.unpack_from(records, at)
        if at + RECORD_HEAD.size + length > end or (opcode == MESSAGE and length < MESSAGE_FIXED):
            raise ValueError("a message is longer than its chunk, or too short")
        if opcode == MESSAGE:
            _, _, number, sequence, log_ns, publish_ns = MESSAGE_HEAD.unpack_from(records, at)
            yield number, sequence, log_ns, publish_ns, records[at + MESSAGE_HEAD.size : at + RECORD_HEAD.size + length]
        at += RECORD_HEAD.size + length
