"""Events as AEDAT 4, for files and for the network: heads and packets of FlatBuffers, written field by field."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from foveate_logbook.formats.events.aedat4_format import COMPRESSIONS, EVENT, MAGIC, PACKET_HEAD
from foveate_logbook.formats.events.base import Block

_STREAM = 0
_NONE = "NONE"


def head(width: int, height: int, source: str, compression: str = _NONE, table_at: int = -1) -> bytes:
    """What a connection begins with, and a file after its first line: one stream of events, number 0."""
    text = _described(width, height, source, compression).encode()
    # offsets from behind the size: root's place, name, table of fields at 14, root at 24, text at 48
    body = struct.pack("<I4s6x", 24, b"IOHE") + struct.pack("<5H", 10, 24, 4, 12, 8)
    body += struct.pack("<iiIq4x", 10, COMPRESSIONS.index(compression), 16, table_at)
    body += struct.pack("<I", len(text)) + text + b"\0" * (4 - len(text) % 4)
    return struct.pack("<I", len(body)) + body


def _described(width: int, height: int, source: str, compression: str) -> str:
    def attribute(key: str, kind: str, value: object) -> str:
        return f"<attr key={quoteattr(key)} type={quoteattr(kind)}>{escape(str(value))}</attr>"

    about = attribute("compression", "string", compression) + attribute("originalModuleName", "string", "foveate")
    about += attribute("originalOutputName", "string", "events") + attribute("typeIdentifier", "string", "EVTS")
    info = attribute("sizeX", "int", width) + attribute("sizeY", "int", height) + attribute("source", "string", source)
    return (
        f'<dv version="2.0"><node name="outInfo" path="/outInfo/"><node name="{_STREAM}" path="/outInfo/{_STREAM}/">'
        f'{about}<node name="info" path="/outInfo/{_STREAM}/info/">{info}</node></node></node></dv>\n'
    )


def packet(block: Block, compression: str = _NONE) -> bytes:
    """One packet with its head; what is below a microsecond is cut off."""
    rows = np.zeros(block.t_ns.size, EVENT)
    rows["t"], rows["x"], rows["y"], rows["on"] = block.t_ns // 1000, block.x, block.y, block.polarity
    # from behind the size: root's place, name, table of fields at 10, root at 16, vector at 24
    body = struct.pack("<I4s2x", 16, b"EVTS") + struct.pack("<3H", 6, 8, 4)
    body += struct.pack("<iII", 6, 4, rows.size) + rows.tobytes()
    data = struct.pack("<I", len(body)) + body
    if compression.startswith("LZ4"):
        import lz4.frame

        data = lz4.frame.compress(data)
    elif compression.startswith("ZSTD"):
        import zstandard

        data = zstandard.ZstdCompressor().compress(data)
    return PACKET_HEAD.pack(_STREAM, len(data)) + data


def file(blocks: Iterable[Block], width: int, height: int, compression: str = _NONE) -> bytes:
    """A whole file without an index, as a recorder leaves it that was killed."""
    begin = MAGIC + head(width, height, "foveate", compression)
    return begin + b"".join(packet(block, compression) for block in blocks)
