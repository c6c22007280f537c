"""MCAP files of anybody: ROS 1 and 2, Foxglove in protobuf or JSON, foveate's own; whole, split, or cut off."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foveate.errors import RecordingError
from foveate_logbook.formats.channels import Channel, ChannelLog, Decoder
from foveate_logbook.formats.foxglove_messages import json_decoder, protobuf_decoder
from foveate_logbook.formats.mcap_index import Block, Index, messages_of, read_index
from foveate_logbook.formats.ros_types import ros_decoder

_MOST_METADATA = 200  # characters of one value


class McapLog(ChannelLog):
    """One or several MCAP files read as one log."""

    def __init__(self, path: Path, parts: list[Path] | None = None) -> None:
        """`parts`: the files of a split recording, `path` then its folder. Raises RecordingError, BackendMissing."""
        super().__init__(path)
        self._streams: list[BinaryIO] = []
        self._blocks: list[tuple[int, Block]] = []  # number of the file, where in it
        self._decoders: dict[tuple[str, str, str, bytes], Decoder] = {}
        indexes = []
        try:
            for part in parts or [path]:
                index = self._open(part, "" if parts is None else f"{part.name}: ")
                if index is not None:
                    indexes.append(index)
            if not indexes:
                raise RecordingError(f"{path}: {self.problems['']}")
            begun = [index.start_ns for index in indexes if index.counts]
            self.start_ns, self.end_ns = min(begun, default=0), max((i.end_ns for i in indexes), default=0)
            self._blocks.sort(key=lambda item: (item[1].start_ns, item[0], item[1].offset))
            self._describe()
        except BaseException:
            self.close()
            raise

    def _open(self, part: Path, prefix: str) -> Index | None:
        try:
            stream = part.open("rb")
        except OSError as error:
            raise RecordingError(f"{part}: cannot read: {error.strerror}") from None
        self._streams.append(stream)
        try:
            index = read_index(stream, part)
        except RecordingError as error:
            if not prefix:
                raise
            self._trouble(str(error))  # the other parts of a split recording can be read
            self._streams.pop().close()
            return None
        for problem in index.problems:
            self._trouble(prefix + problem)
        number = len(self._streams) - 1
        self._blocks.extend((number, block) for block in index.blocks)
        for key, item in index.channels.items():
            schema = index.schemas.get(item.schema_id)
            decoder = self._decoder(item, schema)
            name = schema.name if schema is not None else ""
            self._channels[number, key] = Channel(item.topic, name, index.counts.get(key, 0), decoder)
        for key in index.counts.keys() - index.channels.keys():
            self._trouble(f"{prefix}{index.counts[key]} messages of channel {key}, which the file does not describe")
        header = index.header
        self.metadata.setdefault("format", "mcap")
        if header is not None:
            self.metadata.update({"profile": header.profile, "library": header.library})
        for name, values in index.metadata.items():
            short = {f"{name}.{key}": value for key, value in values.items() if len(value) <= _MOST_METADATA}
            self.metadata.update(short)  # rosbag2 repeats its whole metadata.yaml there
        return index

    def _decoder(self, channel: Any, schema: Any) -> Decoder:
        """How to read a channel; one for all channels of the same schema."""
        name = schema.name if schema is not None else ""
        form, data = (schema.encoding, schema.data) if schema is not None else ("", b"")
        key = (channel.message_encoding, name, form, data)
        if key not in self._decoders:
            self._decoders[key] = self._new_decoder(*key)
        return self._decoders[key]

    def _new_decoder(self, encoding: str, name: str, form: str, data: bytes) -> Decoder:
        if not name:
            return Decoder(None, f"its messages ('{encoding}') have no schema")
        if encoding in ("cdr", "ros1"):
            return ros_decoder(str(self.path), encoding, name, form, data.decode("utf-8", "replace"))
        if encoding == "protobuf":
            return protobuf_decoder(name, data)
        if encoding == "json":
            return json_decoder(name)
        return Decoder(None, f"messages encoded as '{encoding}' are not read; cdr, ros1, protobuf and json are")

    def _raw(self, keys: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """Blocks are read when their time has come: as many are held at once as overlap."""
        wanted: dict[int, set[int]] = {}
        for number, channel in keys:
            wanted.setdefault(number, set()).add(channel)
        queue: list[tuple[int, int, int, int, bytes]] = []  # time, order, file, channel, content
        count = 0
        for number, block in self._blocks:
            chosen = wanted.get(number, set())
            if not chosen or (block.channels is not None and not chosen & block.channels):
                continue
            while queue and queue[0][0] < block.start_ns:
                yield self._popped(queue)
            if self._streams and not self._streams[number].closed:
                found, problem = messages_of(self._streams[number], block, chosen)
            else:
                raise RecordingError(f"{self.path}: cannot read: it is closed")
            if problem:
                self._trouble(problem)
            for time, channel, data in found:
                count += 1
                heapq.heappush(queue, (time, count, number, channel, data))
        while queue:
            yield self._popped(queue)

    @staticmethod
    def _popped(queue: list[tuple[int, int, int, int, bytes]]) -> tuple[Any, int, bytes]:
        time, _, number, channel, data = heapq.heappop(queue)
        return (number, channel), time, data

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
