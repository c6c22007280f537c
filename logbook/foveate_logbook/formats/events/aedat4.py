"""AEDAT 4 files: events, frames, inertial samples and triggers in packets of compressed FlatBuffers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate_logbook.formats.events import aedat4_format as form
from foveate_logbook.formats.events.base import Block, EventReader
from foveate_logbook.formats.events.flatbuffer import Malformed

_SEARCH = 1 << 20  # bytes in which the next packet is looked for at once, after damage


class Aedat4File(EventReader):
    """An .aedat4 file; its `blocks` are those of the first stream of events."""

    name = "AEDAT4"

    def __init__(self, path: Path) -> None:
        """Raises RecordingError, BackendMissing."""
        super().__init__(path)
        with path.open("rb") as stream:
            data = stream.read(len(form.MAGIC) + 4)
            size = int.from_bytes(data[len(form.MAGIC) :], "little")
            if size > form.MOST_HEAD:
                raise RecordingError(f"{path}: an AEDAT4 file whose head claims {size} bytes: it is damaged")
            head = data[len(form.MAGIC) :] + stream.read(size)
        if len(data) < len(form.MAGIC) + 4 or len(head) < size + 4:
            raise RecordingError(f"{path}: an AEDAT4 file that ends within its head: copy it again")
        try:
            self.head = form.head_of(head)
        except Malformed as error:
            raise RecordingError(f"{path}: an AEDAT4 file with a damaged head: {error}") from None
        self._begins = len(form.MAGIC) + len(head)
        self.streams = {stream.id: stream for stream in self.head.streams}
        self._events = next((stream for stream in self.head.streams if stream.kind == "EVTS"), None)
        if self._events is not None:
            self.width, self.height = self._events.width, self._events.height
        kinds = ", ".join(f"{stream.name or stream.id} ({stream.kind})" for stream in self.head.streams)
        source = next((stream.source for stream in self.head.streams if stream.source), "")
        sensor = f"{self.width} x {self.height} px" if self.width else ""
        self.about = {"sensor": sensor, "streams": kinds, "compression": self.head.compression, "source": source}
        if (package := form.PACKAGES.get(self.head.compression)) is not None:
            optional(package, str(path), "events")

    def blocks(self) -> Iterator[Block]:
        if self._events is None:
            return
        for stream, data in self.packets([self._events.id]):
            try:
                yield form.events_of(data)
            except Malformed as error:
                self._lose(f"packets of {stream.name or stream.kind}: {error}", 1)

    def packets(self, ids: Collection[int]) -> Iterator[tuple[form.Stream, bytes]]:
        """(stream, unpacked bytes) of the streams in the order of the file; damage is passed over and counted."""
        self._begin()
        size = self.path.stat().st_size
        ends = self.head.table_at if self._begins <= self.head.table_at <= size else size
        with self.path.open("rb") as file:
            place = self._begins
            while place < ends:
                file.seek(place)
                number, length = _packet_head(file.read(form.PACKET_HEAD.size))
                after = place + form.PACKET_HEAD.size + length
                if number not in self.streams or not 0 < length <= form.MOST_PACKET or after > ends:
                    found = self._next_packet(file, place + 1, ends)
                    self._lose("bytes of damaged packets", found - place)
                    place = self.consumed = found
                    continue
                place = self.consumed = after
                if number in ids:
                    try:
                        yield self.streams[number], form.unpacked(file.read(length), self.head.compression)
                    except Malformed as error:
                        text = str(error).partition(":")[0]
                        self._lose(f"packets of {self.streams[number].name or number}: {text}", 1)

    def _next_packet(self, file: BinaryIO, place: int, ends: int) -> int:
        """Where the next packet begins that looks like one: a known stream, a length that fits, a mark."""
        packed = self.head.compression != "NONE"
        mark = form.LZ4_MAGIC if self.head.compression.startswith("LZ4") else form.ZSTD_MAGIC
        while place < ends:
            file.seek(place)
            data = file.read(min(_SEARCH, ends - place))
            marks = [mark] if packed else [stream.kind.encode() for stream in self.head.streams]
            # before the mark: stream and length; without compression also the size and the root's offset
            back = form.PACKET_HEAD.size + (0 if packed else 8)
            hits = sorted(hit - back for item in marks for hit in _all(data, item) if hit >= back)
            for hit in hits:
                number, length = _packet_head(data[hit : hit + form.PACKET_HEAD.size])
                if number in self.streams and 0 < length <= ends - place - hit - form.PACKET_HEAD.size:
                    return place + hit
            place += max(len(data) - 32, 1)  # a mark may lie across
            if len(data) < _SEARCH:
                break
        return ends

    def log(self) -> Any:
        """The log of all its streams."""
        from foveate_logbook.formats.events.aedat4_log import Aedat4Log

        return Aedat4Log(self)


def _packet_head(data: bytes) -> tuple[int, int]:
    return form.PACKET_HEAD.unpack(data) if len(data) == form.PACKET_HEAD.size else (-1, 0)


def _all(data: bytes, item: bytes) -> Iterator[int]:
    place = data.find(item)
    while place >= 0:
        yield place
        place = data.find(item, place + 1)
