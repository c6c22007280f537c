"""Where an MCAP file keeps its messages: from its own index, or from a pass over the file where that is missing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, DataEnd, Footer, Header, Message, Metadata, Schema
from mcap.stream_reader import StreamReader

from foveate.errors import RecordingError
from foveate_logbook.formats.channels import one_line

MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")  # type, length
_CHUNK = struct.Struct("<QQQII")  # first time, last time, size unpacked, checksum, length of the compression's name
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_TAIL = 8 + 4 + 8 + 8 + 9  # end magic, and the footer before it
_RUN_BYTES = 1 << 20
MAX_CHUNK_BYTES = 1 << 31
# what the package raises on bytes that are no MCAP
_BROKEN = (McapError, struct.error, ValueError, KeyError, EOFError, RuntimeError, MemoryError, OverflowError)

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Block:
    """A chunk, or a run of messages outside chunks."""

    start_ns: int
    offset: int  # of its first record
    length: int
    is_chunk: bool
    channels: frozenset[int] | None  # None: not known


@dataclass(slots=True)
class Index:
    """What a file holds."""

    header: Header | None = None
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)  # messages by channel
    blocks: list[Block] = field(default_factory=list)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    start_ns: int = 0
    end_ns: int = 0
    problems: list[str] = field(default_factory=list)


def read_index(stream: BinaryIO, path: Path) -> Index:
    """The file's index. Raises RecordingError where there is nothing to read at all."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(len(MAGIC))
    if head != MAGIC:
        raise RecordingError(f"{path}: no MCAP file: it begins with {head.hex(' ') or 'nothing'}")
    try:
        index = _from_summary(stream, size)
        problem = ""
    except _BROKEN as error:
        index, problem = None, f"its index cannot be read ({one_line(error)})"
    if index is None:
        index = _from_scan(stream, size)
        if problem:
            index.problems.insert(0, problem if index.problems else f"{problem}; all messages were found without it")
    if index.header is None and not index.channels:
        raise RecordingError(f"{path}: an MCAP file that ends before its first message ({size} bytes): copy it again")
    return index


def _from_summary(stream: BinaryIO, size: int) -> Index | None:
    """The index at the file's end; None where it has none that is complete."""
    if size < 2 * len(MAGIC) + _TAIL:
        return None
    stream.seek(size - 8 - 4 - 8 - 8)
    start, _, crc = struct.unpack("<QQI", stream.read(20))
    if start == 0 or start >= size:
        return None
    stream.seek(start)
    if crc and zlib.crc32(stream.read(size - start - 12)) != crc:
        raise ValueError("its checksum is wrong")
    stream.seek(0)
    reader = make_reader(stream)
    summary = reader.get_summary()
    statistics = summary.statistics if summary is not None else None
    if summary is None or statistics is None:
        return None
    if statistics.message_count and (not summary.chunk_indexes or not summary.channels):
        return None  # messages outside chunks, or an index without the channels: only a pass finds them
    index = Index(reader.get_header(), summary.schemas, summary.channels, statistics.channel_message_counts)
    for item in summary.chunk_indexes:
        if item.chunk_start_offset + item.chunk_length > size:
            raise ValueError("it names a chunk beyond the file's end")
        channels = frozenset(item.message_index_offsets) or None
        index.blocks.append(Block(item.message_start_time, item.chunk_start_offset, item.chunk_length, True, channels))
    index.metadata = {item.name: dict(item.metadata) for item in reader.iter_metadata()}
    index.start_ns, index.end_ns = statistics.message_start_time, statistics.message_end_time
    return index


def _from_scan(stream: BinaryIO, size: int) -> Index:
    """What is whole in a file, found by reading it from its beginning."""
    index = Index()
    stream.seek(0)
    times: list[int] = []
    run: list[tuple[int, int, int, int]] = []  # offset, end, time, channel of messages outside chunks
    ended = whole = False
    end = len(MAGIC)
    try:
        for record in StreamReader(stream, emit_chunks=True, record_size_limit=size).records:
            offset, end = end, stream.tell()
            if isinstance(record, Message):
                index.counts[record.channel_id] = index.counts.get(record.channel_id, 0) + 1
                times.append(record.log_time)
                run.append((offset, end, record.log_time, record.channel_id))
                if end - run[0][0] < _RUN_BYTES:
                    continue
            _flush(index, run)
            if isinstance(record, Chunk):
                _scan_chunk(index, record, offset, end - offset, times)
            elif isinstance(record, DataEnd | Footer):
                ended = True
                whole = isinstance(record, Footer)
            else:
                _note(index, record)
    except _BROKEN as error:
        if not ended:
            _flush(index, run)
            head = _head_at(stream, end)
            is_cut = head is None or end + _RECORD.size + head[1] > size
            what = "is cut off" if is_cut else f"is damaged ({one_line(error)})"
            told = f"the file {what} after {end} of {size} bytes; what stands before was read"
            if head is not None and is_cut and head[0] == Opcode.CHUNK:
                _scan_cut_chunk(index, stream, end, size, times)
                told = "the file is cut off in a chunk; what stands before was read"
            index.problems.append(told)
    if ended and not whole:
        found = "" if index.problems else "; all messages were found without it"
        index.problems.append(f"its index is cut off{found}")
    _flush(index, run)
    if times:
        index.start_ns, index.end_ns = min(times), max(times)
    return index


def _head_at(stream: BinaryIO, offset: int) -> tuple[int, int] | None:
    """Type and length of the record at `offset`; None where the file ends before both are told."""
    stream.seek(offset)
    head = stream.read(_RECORD.size)
    return _RECORD.unpack(head) if len(head) == _RECORD.size else None


def _scan_cut_chunk(index: Index, stream: BinaryIO, offset: int, size: int, times: list[int]) -> None:
    """The last chunk of a file that was cut off inside it."""
    stream.seek(offset + _RECORD.size)
    try:
        chunk = _chunk_of(memoryview(stream.read()))
    except _BROKEN:
        return
    _scan_chunk(index, chunk, offset, size - offset, times)


def _note(index: Index, record: Any) -> None:
    if isinstance(record, Schema):
        index.schemas[record.id] = record
    elif isinstance(record, Channel):
        index.channels[record.id] = record
    elif isinstance(record, Metadata):
        index.metadata[record.name] = dict(record.metadata)
    elif isinstance(record, Header):
        index.header = record


def _flush(index: Index, run: list[tuple[int, int, int, int]]) -> None:
    if run:
        first, last = run[0][0], run[-1][1]
        channels = frozenset(item[3] for item in run)
        index.blocks.append(Block(min(item[2] for item in run), first, last - first, False, channels))
        run.clear()


def _scan_chunk(index: Index, chunk: Chunk, offset: int, length: int, times: list[int]) -> None:
    """Note what a chunk holds; of one that is cut off and not packed, what is whole."""
    seen: dict[int, int] = {}
    starts = []
    try:
        content = _whole_or_cut(chunk)
        for opcode, place, size in records(content):
            if opcode == Opcode.MESSAGE:
                channel, _, time, _ = _MESSAGE.unpack_from(content, place)
                seen[channel] = seen.get(channel, 0) + 1
                starts.append(time)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                part = ReadDataStream(io.BytesIO(content[place : place + size]))
                _note(index, Schema.read(part) if opcode == Opcode.SCHEMA else Channel.read(part))
    except _BROKEN as error:
        index.problems.append(f"a chunk at byte {offset} is damaged ({one_line(error)})")
    for key, count in seen.items():
        index.counts[key] = index.counts.get(key, 0) + count
    if starts:
        index.blocks.append(Block(min(starts), offset, length, True, frozenset(seen)))
        times.extend((min(starts), max(starts)))


def _whole_or_cut(chunk: Chunk) -> Buffer:
    """A chunk's records; of one that the file's end cuts off, those before. Raises like `content_of`."""
    if not chunk.compression and len(chunk.data) < chunk.uncompressed_size <= MAX_CHUNK_BYTES:
        end = 0
        try:
            for _, place, size in records(chunk.data):
                end = place + size
        except ValueError:
            pass
        return chunk.data[:end]
    return content_of(chunk)


def content_of(chunk: Chunk) -> Buffer:
    """A chunk's records. Raises ValueError for one that is damaged."""
    if chunk.uncompressed_size > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk of {chunk.uncompressed_size} bytes")
    content = chunk.data
    if chunk.compression:
        content = _unpacked(chunk)
    if len(content) != chunk.uncompressed_size:
        raise ValueError(f"a chunk of {chunk.uncompressed_size} bytes has {len(content)}")
    if chunk.uncompressed_crc and zlib.crc32(content) != chunk.uncompressed_crc:
        raise ValueError("its checksum is wrong")
    return content


def _unpacked(chunk: Chunk) -> bytes:
    try:
        if chunk.compression == "zstd":
            import zstandard

            return zstandard.decompress(chunk.data, max_output_size=chunk.uncompressed_size)
        if chunk.compression == "lz4":
            import lz4.frame

            content: bytes = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, chunk.uncompressed_size)
            return content
    except Exception as error:  # both packages have errors of their own
        raise ValueError(one_line(error)) from None
    raise ValueError(f"compression '{chunk.compression}' is not known")


def _chunk_of(raw: memoryview) -> Chunk:
    """The chunk in a record's content, its data not copied; short where the file ends in it."""
    start_ns, end_ns, size, crc, name = _CHUNK.unpack_from(raw)
    at = _CHUNK.size + name
    compression = bytes(raw[_CHUNK.size : at]).decode()
    (length,) = struct.unpack_from("<Q", raw, at)
    data = raw[at + 8 : at + 8 + length]
    return Chunk(compression, data, end_ns, start_ns, crc, size)  # type: ignore[arg-type]


def records(content: Buffer) -> Iterator[tuple[int, int, int]]:
    """(type, place of the content, its length) of the records in `content`. Raises ValueError at one not whole."""
    place, end = 0, len(content)
    while place + _RECORD.size <= end:
        opcode, size = _RECORD.unpack_from(content, place)
        place += _RECORD.size
        if place + size > end:
            raise ValueError("a record that is longer than its chunk")
        yield opcode, place, size
        place += size
    if place < end:
        raise ValueError("half a record")


def messages_of(stream: BinaryIO, block: Block, wanted: set[int]) -> tuple[list[tuple[int, int, bytes]], str]:
    """(log time, channel, bytes) of a block's messages in the order of the file, and what is wrong with it."""
    found: list[tuple[int, int, bytes]] = []
    try:
        stream.seek(block.offset)
        raw: Buffer = memoryview(stream.read(block.length))
        if len(raw) < block.length:
            raise ValueError("the file has become shorter")
        if block.is_chunk:
            raw = _whole_or_cut(_chunk_of(memoryview(raw)[_RECORD.size :]))
        for opcode, place, size in records(raw):
            if opcode == Opcode.MESSAGE and size >= _MESSAGE.size:
                channel, _, time, _ = _MESSAGE.unpack_from(raw, place)
                if channel in wanted:
                    found.append((time, channel, bytes(raw[place + _MESSAGE.size : place + size])))
    except _BROKEN as error:
        return (
            found,
            f"a chunk at byte {block.offset} is damaged ({one_line(error)}): {len(found)} of its messages read",
        )
    return found, ""
