"""ROS 1 bags whose index is missing or wrong: read from the beginning as far as they are whole.

The format: http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from foveate_logbook.formats.channels import one_line

MAGIC = b"#ROSBAG V2.0\n"
_LENGTH = struct.Struct("<I")
_MESSAGE, _CHUNK, _CONNECTION = 2, 5, 7
_MAX_CHUNK_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class Connection:
    """One publisher of one topic."""

    topic: str
    type: str
    definition: str


@dataclass(slots=True)
class BagScan:
    """What a pass over a bag found."""

    connections: dict[int, Connection] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    chunks: list[tuple[int, int, int]] = field(default_factory=list)  # first time, place, end in the file
    start_ns: int = 0
    end_ns: int = 0
    problem: str = ""


def scan(stream: BinaryIO) -> BagScan:
    """Every whole chunk of a bag."""
    found = BagScan()
    stream.seek(len(MAGIC))
    content = stream.seek(0, 2)
    place = stream.seek(len(MAGIC))
    times: list[int] = []
    while place < content:
        try:
            record = _read(stream)
            if record is None:
                found.problem = f"the file is cut off after {place} of {content} bytes; what stands before was read"
                break
            header, data = record
            if header.get(b"op") == bytes([_CHUNK]):
                messages = list(_messages(_unpacked(header, data), found.connections))
                for connection, time, _ in messages:
                    found.counts[connection] = found.counts.get(connection, 0) + 1
                    times.append(time)
                if messages:
                    found.chunks.append((min(item[1] for item in messages), place, stream.tell()))
                    times = [min(times), max(times)]
        except Exception as error:  # bytes of others: lz4 and bz2 raise what they like
            found.problem = f"the file is damaged at byte {place} ({one_line(error)}); what stands before was read"
            break
        place = stream.tell()
    if times:
        found.start_ns, found.end_ns = min(times), max(times)
    found.chunks.sort()
    return found


def chunk_messages(stream: BinaryIO, place: int) -> list[tuple[int, int, bytes]]:
    """(time, connection, bytes) of a chunk that `scan` found."""
    stream.seek(place)
    record = _read(stream)
    if record is None:
        raise ValueError("the file has become shorter")
    return [(time, key, data) for key, time, data in _messages(_unpacked(*record), {})]


def _read(stream: BinaryIO) -> tuple[dict[bytes, bytes], bytes] | None:
    """The next record's header fields and data; None where the file ends inside it."""
    parts = []
    for _ in range(2):
        head = stream.read(4)
        size = _LENGTH.unpack(head)[0] if len(head) == 4 else 0
        data = stream.read(size)
        if len(head) < 4 or len(data) < size:
            return None
        parts.append(data)
    return _fields(parts[0]), parts[1]


def _fields(header: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    place = 0
    while place < len(header):
        (size,) = _LENGTH.unpack_from(header, place)
        name, sign, value = header[place + 4 : place + 4 + size].partition(b"=")
        if not sign:
            raise ValueError("a header field without '='")
        fields[name] = value
        place += 4 + size
    return fields


def _unpacked(header: dict[bytes, bytes], data: bytes) -> bytes:
    how = header[b"compression"]
    size = _LENGTH.unpack(header[b"size"])[0]
    if size > _MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk of {size} bytes")
    if how == b"none":
        return data
    if how == b"bz2":
        return bz2.BZ2Decompressor().decompress(data, size)
    if how == b"lz4":
        import lz4.frame

        content: bytes = lz4.frame.LZ4FrameDecompressor().decompress(data, size)
        return content
    raise ValueError(f"compression '{how.decode('utf-8', 'replace')}' is not known")


def _messages(content: bytes, connections: dict[int, Connection]) -> Iterator[tuple[int, int, bytes]]:
    """(connection, time, bytes) of a chunk's messages; adds its connections."""
    place = 0
    while place < len(content):
        (size,) = _LENGTH.unpack_from(content, place)
        fields = _fields(content[place + 4 : place + 4 + size])
        place += 4 + size
        (size,) = _LENGTH.unpack_from(content, place)
        data = content[place + 4 : place + 4 + size]
        if len(data) < size:
            raise ValueError("a record that is longer than its chunk")
        place += 4 + size
        kind = fields[b"op"][0]
        if kind == _CONNECTION:
            inner = _fields(data)
            text = [part.decode("utf-8", "replace") for part in (fields[b"topic"], inner[b"type"])]
            definition = inner.get(b"message_definition", b"").decode("utf-8", "replace")
            connections[_LENGTH.unpack(fields[b"conn"])[0]] = Connection(text[0], text[1], definition)
        elif kind == _MESSAGE:
            seconds, nanoseconds = struct.unpack("<II", fields[b"time"])
            yield _LENGTH.unpack(fields[b"conn"])[0], seconds * 1_000_000_000 + nanoseconds, data
