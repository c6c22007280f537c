"""ROS 1 bags, by `rosbags`; those without a good index as far as they are whole."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foveate.errors import BackendMissing, RecordingError
from foveate_logbook.formats import bag_scan
from foveate_logbook.formats.channels import Channel, ChannelLog, Decoder, one_line
from foveate_logbook.formats.ros_types import ros_decoder, type_name


class BagLog(ChannelLog):
    """A `.bag` file of ROS 1."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError, BackendMissing."""
        super().__init__(path)
        self._decoders: dict[tuple[str, str], Decoder] = {}
        self._reader: Any = None
        self._connections: dict[int, Any] = {}
        self._scan: bag_scan.BagScan | None = None
        self._stream: BinaryIO | None = None
        self.metadata = {"format": "rosbag 1"}
        try:
            try:
                self._open()
            except (BackendMissing, OSError):
                raise
            except Exception as error:  # the package asserts and unpacks its way through a damaged index
                self._reopen(one_line(error))
            self._describe()
        except OSError as error:
            raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            from rosbags.rosbag1 import Reader
        except ImportError:
            raise BackendMissing(str(self.path), "rosbags", "ros") from None
        reader = Reader(self.path)
        reader.open()
        self._reader = reader
        told = sum(sum(chunk.connection_counts.values()) for chunk in reader.chunk_infos)
        placed = sum(len(index) for index in reader.indexes.values())
        if told != placed:
            raise ValueError(f"it tells of {told} messages and of the places of {placed}")
        if reader.message_count:
            self.start_ns, self.end_ns = reader.start_time, reader.end_time - 1
        for item in reader.connections:
            self._connections[item.id] = item
            self._add(item.id, item.topic, item.msgtype, item.msgdef.data, item.msgcount)

    def _reopen(self, why: str) -> None:
        """Without the index."""
        self.close()
        self._channels.clear()
        self._stream = self.path.open("rb")
        found = self._scan = bag_scan.scan(self._stream)
        if not found.connections:
            how = found.problem or why
            raise RecordingError(f"{self.path}: a ROS 1 bag with nothing in it that can be read: {how}; copy it again")
        self._trouble(found.problem or f"its index cannot be read ({why}); all messages were found without it")
        self.start_ns, self.end_ns = found.start_ns, found.end_ns
        for key, item in found.connections.items():
            self._add(key, item.topic, item.type, item.definition, found.counts.get(key, 0))

    def _add(self, key: int, topic: str, schema: str, definition: str, count: int) -> None:
        known = (schema, definition)
        if known not in self._decoders:
            self._decoders[known] = ros_decoder(str(self.path), "ros1", schema, "ros1msg", definition)
        self._channels[key] = Channel(topic, type_name(schema), count, self._decoders[known])

    def _raw(self, keys: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        if self._reader is None and (self._stream is None or self._stream.closed):
            raise RecordingError(f"{self.path}: cannot read: it is closed")
        yield from self._indexed(set(keys)) if self._reader is not None else self._scanned(set(keys))

    def _indexed(self, keys: set[int]) -> Iterator[tuple[int, int, bytes]]:
        try:
            for connection, time_ns, data in self._reader.messages([self._connections[key] for key in keys]):
                if connection.id in keys:  # a damaged index leads to messages of others
                    yield connection.id, time_ns, data
        except RecordingError:
            raise
        except Exception as error:  # decompressors and asserts of the package
            self._trouble(f"the file is damaged ({one_line(error)}); what stands before was read")

    def _scanned(self, keys: set[int]) -> Iterator[tuple[int, int, bytes]]:
        assert self._scan is not None and self._stream is not None
        queue: list[tuple[int, int, int, bytes]] = []
        count = 0
        for begin_ns, place, _ in self._scan.chunks:
            while queue and queue[0][0] < begin_ns:
                time_ns, _, key, data = heapq.heappop(queue)
                yield key, time_ns, data
            for time_ns, key, data in bag_scan.chunk_messages(self._stream, place):
                if key in keys:
                    count += 1
                    heapq.heappush(queue, (time_ns, count, key, data))
        while queue:
            time_ns, _, key, data = heapq.heappop(queue)
            yield key, time_ns, data

    def close(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.close()
        if self._stream is not None:
            self._stream.close()
