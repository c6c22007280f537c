"""AEDAT 4 as it lies in files and on the network: a head that names streams, then packets of FlatBuffers.

Layout: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from foveate_logbook.formats.events.base import EMPTY, MOST_NS, Block, block_of
from foveate_logbook.formats.events.flatbuffer import Malformed, Table, root

MAGIC = b"#!AER-DAT4.0\r\n"
PACKET_HEAD = struct.Struct("<ii")  # stream, bytes
MOST_PACKET = 1 << 28  # bytes, packed or not
MOST_HEAD = 1 << 22
COMPRESSIONS = ("NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")
PACKAGES = {"LZ4": "lz4.frame", "LZ4_HIGH": "lz4.frame", "ZSTD": "zstandard", "ZSTD_HIGH": "zstandard"}
_LZ4_MOST = 256  # bytes that a packed one can become
LZ4_MAGIC, ZSTD_MAGIC = b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"
_MOST_US = MOST_NS // 1000
EVENT = np.dtype({"names": ["t", "x", "y", "on"], "formats": ["<i8", "<i2", "<i2", "u1"],
                   "offsets": [0, 8, 10, 12], "itemsize": 16})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream, as the head tells it."""

    id: int
    kind: str  # identifier of its packets: "EVTS" | "FRME" | "IMUS" | "TRIG" | ...
    name: str
    width: int
    height: int
    source: str


@dataclass(frozen=True, slots=True)
class Head:
    """What a file or connection begins with."""

    compression: str
    table_at: int  # where in the file the index begins, negative where there is none
    streams: tuple[Stream, ...]


def head_of(data: bytes) -> Head:
    """The head, from its size on. Raises Malformed."""
    kind, table = root(data)
    if kind != "IOHE":
        raise Malformed(f"a head called {kind!r}, not 'IOHE'")
    number = table.scalar(0, "<i")
    if not 0 <= number < len(COMPRESSIONS):
        raise Malformed(f"a compression of number {number}")
    return Head(COMPRESSIONS[number], table.scalar(1, "<q", -1), streams_of(table.text(2)))


def streams_of(text: str) -> tuple[Stream, ...]:
    """The streams of the head's XML. Raises Malformed."""
    if "<!" in text:
        raise Malformed("declarations in its XML")
    try:
        tree = ElementTree.fromstring(text.rstrip("\0 \n"))
    except ElementTree.ParseError as error:
        raise Malformed(f"its XML: {error}") from None
    found = []
    for node in tree.findall("./node[@name='outInfo']/node"):
        info = next((child for child in node.findall("node") if child.get("name") == "info"), None)
        about = _attributes(node) | ({} if info is None else _attributes(info))
        number = _small(node.get("name") or "")
        if number is None:
            continue
        width, height = (_small(about.get(key, "")) or 0 for key in ("sizeX", "sizeY"))
        found.append(Stream(number, about.get("typeIdentifier", "").strip(),
                            about.get("originalOutputName", ""), width, height, about.get("source", "")))  # fmt: skip
    return tuple(found)


def _small(text: str) -> int | None:
    """A whole number of up to five digits: of a stream, or of pixels."""
    return int(text) if re.fullmatch("[0-9]{1,5}", text) else None


def _attributes(node: Any) -> dict[str, str]:
    return {child.get("key", ""): child.text or "" for child in node.findall("attr")}


def unpacked(data: bytes, compression: str) -> bytes:
    """A packet's bytes without compression. Raises Malformed, ImportError where the package is not installed."""
    if compression == "NONE":
        return data
    try:
        if compression.startswith("LZ4"):
            import lz4.frame

            if len(data) * _LZ4_MOST <= MOST_PACKET:  # twice as fast as with a limit
                return bytes(lz4.frame.decompress(data))
            whole = lz4.frame.LZ4FrameDecompressor()
            result = bytes(whole.decompress(data, MOST_PACKET))
            if not whole.eof:
                raise Malformed("a packet that is cut short or unpacks to more than 256 MB")
            return result
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            result = reader.read(MOST_PACKET)
            if reader.read(1):
                raise Malformed("a packet that unpacks to more than 256 MB")
            return result
    except (RuntimeError, OSError, MemoryError) as error:  # what lz4 raises
        raise Malformed(f"a packet that cannot be unpacked: {error}") from None
    except Exception as error:
        if type(error).__module__.startswith("zstandard") or type(error).__name__ == "ZstdError":
            raise Malformed(f"a packet that cannot be unpacked: {error}") from None
        raise


def table_of(data: bytes, kind: str) -> Table:
    """The root table of an unpacked packet. Raises Malformed where it is of another kind."""
    found, table = root(data)
    if found != kind:
        raise Malformed(f"a packet of {found!r} in a stream of {kind!r}")
    return table


def events_of(data: bytes) -> Block:
    """The events of an unpacked packet, on the clock of the file (Unix time in most). Raises Malformed."""
    begin, count = table_of(data, "EVTS").vector(0, EVENT.itemsize)
    if not count:
        return EMPTY
    rows = np.frombuffer(data, EVENT, count, begin)
    t = rows["t"].copy()
    if int(t.min()) < -_MOST_US or int(t.max()) > _MOST_US:
        t = np.clip(t, -_MOST_US, _MOST_US)
    t *= 1000
    return block_of(t, rows["x"].view("<u2"), rows["y"].view("<u2"), rows["on"] != 0)
