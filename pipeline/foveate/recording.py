"""Recordings: chosen streams of a run in MCAP, with the expanded graph inside; read back by type."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from foveate import codec
from foveate.clock import Clock
from foveate.errors import RecordingError
from foveate.graph import Graph
from foveate.messages import Message
from foveate.station import Recorder

_CHUNK_BYTES = 1024 * 1024
GRAPH_NAME = "graph.yaml"
RUN_NAME = "foveate.run"
END_NAME = "foveate.end"


class McapRecorder(Recorder):
    """Writes every message it is given to one MCAP file: a channel a stream, named `/node.output`."""

    def __init__(self, path: Path, graph: Graph, clock: Clock, facts: Mapping[str, str]) -> None:
        """`facts`: what else to say about the run (executor, versions)."""
        self.path = path
        self._graph = graph
        self._clock = clock
        self._facts = facts
        self._stream: BinaryIO | None = None
        self._writer: Any = None
        self._channels: dict[str, tuple[int, codec.Codec]] = {}
        self._sequence: dict[str, int] = {}

    def open(self) -> None:
        from mcap.writer import CompressionType, Writer

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("xb")
        # noise does not compress: lz4 took 8 % off these frames and cost a third of the rate
        self._writer = Writer(self._stream, chunk_size=_CHUNK_BYTES, compression=CompressionType.NONE)
        self._writer.start(profile="", library="foveate")
        self._writer.add_attachment(0, 0, GRAPH_NAME, "application/yaml", self._graph.text.encode())
        assert self._graph.record is not None
        for node, output, _ in self._graph.record.streams:
            kind = self._graph.nodes[node].schema.outputs[output].type
            coder = codec.codec_of(kind)  # type: ignore[arg-type]
            schema = self._writer.register_schema(coder.schema_name, coder.encoding, coder.schema_data)
            name = f"{node}.{output}"
            channel = self._writer.register_channel(f"/{name}", coder.encoding, schema, {"type": kind.__name__})
            self._channels[name] = (channel, coder)

    def record(self, stream: str, message: Message, now_ns: int) -> None:
        channel, coder = self._channels[stream]
        start_ns = self._clock.wall_start_ns
        self._sequence[stream] = self._sequence.get(stream, 0) + 1
        self._writer.add_message(
            channel, start_ns + now_ns, coder.encode(message, start_ns), start_ns + message.stamp.t_ns,
            self._sequence[stream],
        )  # fmt: skip

    def end(self, facts: Mapping[str, Any]) -> None:
        """What is only known when the run is over: costs of steps, the ledger."""
        if self._writer is not None:
            run = {"graph": self._graph.name, "wall_start_ns": str(self._clock.wall_start_ns), **self._facts}
            self._writer.add_metadata(RUN_NAME, run)
            self._writer.add_metadata(END_NAME, {key: json.dumps(value) for key, value in facts.items()})
            self._writer.finish()
            self._writer = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """The file stays open for `end`, which the run's owner calls when the ledger is known."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One channel of a recording."""

    topic: str
    schema: str
    messages: int
    type: str


class Recording:
    """An MCAP file written by foveate."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError when it cannot be read, or is not a recording of foveate."""
        from mcap.exceptions import McapError
        from mcap.reader import make_reader

        self.path = path
        try:
            self._stream = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path}: cannot read: {error.strerror}") from None
        try:
            self._reader = make_reader(self._stream)
            summary = self._reader.get_summary()
        except (McapError, struct.error, ValueError, EOFError) as error:
            self._stream.close()
            raise RecordingError(f"{path}: not a complete MCAP file: {type(error).__name__} {error}".rstrip()) from None
        if summary is None:
            self._stream.close()
            raise RecordingError(f"{path}: has no index; the run that wrote it did not end in order")
        self._summary: Any = summary
        self.metadata = {item.name: dict(item.metadata) for item in self._reader.iter_metadata()}
        self.attachments = {item.name: item.data for item in self._reader.iter_attachments()}

    @property
    def is_foveate(self) -> bool:
        """Whether it carries a graph."""
        return GRAPH_NAME in self.attachments and RUN_NAME in self.metadata

    @property
    def graph_text(self) -> str:
        """The expanded graph. Raises RecordingError where there is none."""
        if not self.is_foveate:
            raise RecordingError(f"{self.path}: carries no graph; it was not recorded by foveate")
        return self.attachments[GRAPH_NAME].decode("utf-8", "replace")

    @property
    def wall_start_ns(self) -> int:
        """Unix time of the run's start."""
        return int(self.metadata.get(RUN_NAME, {}).get("wall_start_ns", "0"))

    @property
    def end(self) -> dict[str, Any]:
        """What the run wrote when it ended; empty if it did not."""
        return {key: json.loads(value) for key, value in self.metadata.get(END_NAME, {}).items()}

    @property
    def time_range_ns(self) -> tuple[int, int]:
        """First and last log time, nanoseconds since the run's start."""
        statistics = self._summary.statistics
        if statistics is None or statistics.message_count == 0:
            return 0, 0
        return statistics.message_start_time - self.wall_start_ns, statistics.message_end_time - self.wall_start_ns

    def streams(self) -> list[Stream]:
        """All channels with their message counts."""
        statistics = self._summary.statistics
        counts = statistics.channel_message_counts if statistics else {}
        found = []
        for number, channel in sorted(self._summary.channels.items(), key=lambda item: item[1].topic):
            schema = self._summary.schemas.get(channel.schema_id)
            name = schema.name if schema is not None else ""
            found.append(Stream(channel.topic, name, counts.get(number, 0), channel.metadata.get("type", "")))
        return found

    def messages(self, stream: str, kind: type[Message]) -> Iterator[tuple[int, Message]]:
        """(run time when it was put on its wire, message) of `stream` (`node.output`), in order.

        Raises RecordingError for content that is no `kind`.
        """
        coder = codec.codec_of(kind)  # type: ignore[arg-type]
        start_ns = self.wall_start_ns
        try:
            for schema, _, message in self._reader.iter_messages(topics=[f"/{stream}"], log_time_order=True):
                if schema is not None and schema.name != coder.schema_name:
                    raise RecordingError(f"{self.path}: {stream} holds {schema.name}, not {coder.schema_name}")
                yield message.log_time - start_ns, coder.decode(message.data)
        except RecordingError:
            raise
        except Exception as error:
            raise RecordingError(f"{self.path}: {stream}: {type(error).__name__}: {error}") from None

    def last(self, stream: str, kind: type[Message]) -> Message | None:
        """The last message of a stream, without reading the others; None where there is none."""
        coder = codec.codec_of(kind)  # type: ignore[arg-type]
        for _, _, message in self._reader.iter_messages(topics=[f"/{stream}"], log_time_order=True, reverse=True):
            return coder.decode(message.data)
        return None

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
