"""A recording as its readers see it: streams of typed messages, decisions, and what made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate import codec, decisions
from foveate.errors import NotOurs, RecordingError
from foveate.messages import Message
from foveate.queues import Drop
from foveate.recording import mcap_format as mcap
from foveate.recording.mcap_file import McapFile, RawMessage
from foveate.recording.recorder import DECISIONS, END_NAME, HEALTH
from foveate.recording.seal import FORMAT, GRAPH_NAME, SEAL_NAME


@dataclass(frozen=True, slots=True)
class Stream:
    """One channel of a recording."""

    topic: str
    schema: str
    messages: int
    type: str

    @property
    def name(self) -> str:
        """`node.output`."""
        return self.topic.removeprefix("/")


class Recording:
    """An MCAP file written by foveate, whole or not: what can be read is read, what is lost is named."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError when it cannot be read, NotOurs for an MCAP that foveate did not record."""
        self.path = path
        self.file = McapFile(path)
        if not self.file.is_ours:
            self.file.close()
            raise NotOurs(f"{path}: was not recorded by foveate; 'foveate log import' makes a recording of it")
        try:
            self.seal: dict[str, Any] = self._json(SEAL_NAME)
            self.end: dict[str, Any] = self._json(END_NAME)  # what the run wrote when it ended; empty if it did not
        except RecordingError:
            self.file.close()
            raise
        if int(self.seal.get("format", FORMAT)) > FORMAT:
            self.file.close()
            raise RecordingError(f"{path}: recorded in format {self.seal['format']}; this foveate reads up to {FORMAT}")
        self._read_through = False
        self._counts: dict[int, int] | None = dict(self.file.counts) if self.file.closed else None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.file.attachments.get(name, b"{}"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RecordingError(f"{self.path}: its {name} is not JSON")
        return found

    @property
    def is_foveate(self) -> bool:
        """Whether it carries a graph."""
        return GRAPH_NAME in self.file.attachments

    @property
    def graph_text(self) -> str:
        """The expanded graph. Raises RecordingError where there is none."""
        if not self.is_foveate:
            raise RecordingError(f"{self.path}: carries no graph; it was not recorded by foveate, or is damaged there")
        return self.file.attachments[GRAPH_NAME].decode("utf-8", "replace")

    @property
    def wall_start_ns(self) -> int:
        """Unix time of the run's start; 0 for a simulated run."""
        return int(self.seal.get("clocks", {}).get("pipeline", {}).get("wall_start_ns", 0))

    @property
    def time_range_ns(self) -> tuple[int, int]:
        """First and last log time, nanoseconds since the run's start."""
        first, last = self.file.span_ns()
        return (first - self.wall_start_ns, last - self.wall_start_ns) if len(self.file) else (0, 0)

    @property
    def counts(self) -> dict[int, int]:
        """Messages by channel; of a file without an index, or a damaged one, by reading it once."""
        if self._counts is None or (self.file.damages and not self._read_through):
            self._read_through = True
            self._counts = dict.fromkeys(self.file.channels, 0)
            for message in self.file.messages():
                self._counts[message.channel] = self._counts.get(message.channel, 0) + 1
        return self._counts

    def streams(self) -> list[Stream]:
        """All recorded outputs with their message counts, by name."""
        return [
            Stream(c.topic, c.schema_name, self.counts.get(number, 0), c.metadata.get("type", ""))
            for number, c in sorted(self.file.channels.items(), key=lambda item: item[1].topic)
            if c.topic not in (DECISIONS, HEALTH)
        ]

    def channel(self, topic: str) -> mcap.Channel | None:
        """The channel of a topic, if there is one."""
        return next((c for c in self.file.channels.values() if c.topic == topic), None)

    def raw(self, topic: str, begin_ns: int = 0, end_ns: int = 2**63) -> Iterator[RawMessage]:
        """The messages of one topic as bytes, log times in [begin, end) Unix."""
        found = self.channel(topic)
        if found is not None:
            yield from self.file.messages({found.number}, begin_ns, end_ns)

    def messages(self, stream: str, kind: type[Message]) -> Iterator[tuple[int, Message]]:
        """(run time when it was put on its wire, message) of `stream` (`node.output`), in order.

        Raises RecordingError for content that is no `kind`.
        """
        for _, t_ns, message in self.numbered(stream, kind):
            yield t_ns, message

    def numbered(self, stream: str, kind: type[Message]) -> Iterator[tuple[int, int, Message]]:
        """(number among the output's messages, run time, message) of a stream, in order. Raises RecordingError."""
        coder = codec.codec_of(kind)  # type: ignore[arg-type]
        channel = self.channel(f"/{stream}")
        if channel is not None and channel.schema_name != coder.schema_name:
            raise RecordingError(f"{self.path}: {stream} holds {channel.schema_name}, not {coder.schema_name}")
        start_ns = self.wall_start_ns
        for raw in self.raw(f"/{stream}"):
            try:
                message = coder.decode(raw.data)
            except Exception as error:
                raise RecordingError(f"{self.path}: {stream}: {type(error).__name__}: {error}") from None
            yield raw.sequence, raw.log_ns - start_ns, message

    def last(self, stream: str, kind: type[Message]) -> Message | None:
        """The last message of a stream, without reading the others; None where there is none."""
        found = self.channel(f"/{stream}")
        if found is None:
            return None
        for row in range(len(self.file) - 1, -1, -1):
            raw = list(self.file.messages({found.number}, rows=range(row, row + 1)))
            if raw:
                return codec.codec_of(kind).decode(raw[-1].data)  # type: ignore[arg-type]
        return None

    def decisions(self) -> Iterator[decisions.Step | Drop]:
        """What the scheduler decided, in the order it was written. Raises RecordingError."""
        for raw in self.raw(DECISIONS):
            try:
                yield from decisions.decode(raw.data)
            except Exception as error:
                raise RecordingError(f"{self.path}: decisions: {type(error).__name__}: {error}") from None

    def health(self) -> Iterator[dict[str, Any]]:
        """The run's state twice a second."""
        for raw in self.raw(HEALTH):
            yield json.loads(bytes(raw.data))

    def lost(self) -> dict[str, int]:
        """Messages that were accepted for recording and are not in the file, by stream.

        "?" counts those of which nobody knows the stream: the file was neither closed, nor is its tally there.
        Reads a file that is damaged or was not closed in order once from end to end.
        """
        if self.file.closed and not self.file.damages:
            return {}
        present = self.counts
        names = {number: c.topic.removeprefix("/") for number, c in sorted(self.file.channels.items())}
        if self.file.closed:
            expected = dict(self.file.counts)
        elif self.file.tally:
            expected = {n: accepted - dropped for n, (accepted, dropped, _) in enumerate(self.file.tally, 1)}
        else:
            damaged = sum(d.messages or 0 for d in self.file.damages)
            unknown = any(d.messages is None for d in self.file.damages)
            return {"?": damaged} if damaged or unknown else {}
        missing = {names.get(n, f"channel {n}"): count - present.get(n, 0) for n, count in expected.items()}
        return {name: count for name, count in missing.items() if count > 0}

    def notes(self) -> list[str]:
        """What is unusual about the file, a line each; empty for one that was closed in order and is undamaged."""
        lines = []
        if not self.file.closed:
            what = f"{self.path}: was not closed in order: recovered {sum(self.counts.values())} messages"
            torn = f"; {self.file.torn_bytes} bytes of a torn batch discarded" if self.file.torn_bytes else ""
            lines.append(what + torn)
        for damage in self.file.damages:
            count = "an unknown number of" if damage.messages is None else damage.messages
            lines.append(f"{self.path}: {damage.what} at byte {damage.at}: {count} messages lost")
        lost = self.lost()
        if lost:
            parts = ", ".join(f"{name} {count}" for name, count in sorted(lost.items()))
            lines.append(f"{self.path}: accepted for recording and not in the file: {parts}")
        return lines

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
