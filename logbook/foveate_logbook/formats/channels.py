"""What readers of encoded logs share: channels of bytes, decoded in the order of time and accounted for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.errors import DeviceError, RecordingError
from foveate.messages import Message, Stamp
from foveate_logbook.formats.base import Log, Topic

DAY_NS = 86_400_000_000_000
_LONG = 400  # characters of what is wrong with a file
_REASONS = 3  # of one topic that are kept
_LOOKS = 5  # messages looked at for what a topic holds, where its schema does not say


class Undecodable(Exception):
    """A message that has no form here; its text says why in one line."""


class Timeline:
    """Header stamps to the log's own clock, anew for every pass over a log."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.shift_ns = 0

    def t_ns(self, header_ns: int, log_ns: int) -> int:
        """Nanoseconds since the log's start; without a header (0) when the message was received.

        Headers more than a day away from their receipt tell another clock (time since boot, of a simulation, of the
        first recording): all are shifted by what brings the first of them to its receipt.
        """
        if header_ns <= 0:
            return log_ns - self.start_ns
        if abs(header_ns - log_ns) > DAY_NS:
            self.shift_ns = self.shift_ns or log_ns - header_ns
            header_ns += self.shift_ns
            if abs(header_ns - log_ns) > DAY_NS:
                header_ns = log_ns
        return header_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a message besides its bytes."""

    topic: str
    log_ns: int  # Unix time of its receipt
    seq: int  # counts the topic's messages from 1
    lost_before: int  # messages before this one that could not be decoded
    timeline: Timeline
    memory: dict[str, Any]  # of the topic, for this pass: what a decoder keeps between messages

    def stamp(self, header_ns: int = 0) -> Stamp:
        return Stamp(self.timeline.t_ns(header_ns, self.log_ns))


@dataclass(frozen=True, slots=True)
class Decoder:
    """Makes messages of one channel's bytes."""

    kind: type[Message] | None  # None: it cannot
    reason: str = ""
    decode: Callable[[bytes, Arrival], Iterable[Message]] = lambda data, at: ()
    look: bool = False  # only the messages say what kind they are


@dataclass(slots=True)
class Channel:
    """A topic of one part of a log."""

    topic: str
    schema: str
    messages: int
    decoder: Decoder


@dataclass(slots=True)
class _Account:
    """What became of one topic's messages in one pass."""

    seen: int = 0
    last_good: int = 0
    bad: int = 0
    first_error: str = ""
    memory: dict[str, Any] = field(default_factory=dict)


def one_line(error: BaseException) -> str:
    """An error of somebody else's library as one short line."""
    text = " ".join(str(error).split())
    if type(error) not in (Undecodable, ValueError) or not text:
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= 160 else text[:157] + "..."


class ChannelLog(Log):
    """A log whose reader gives bytes by channel; a subclass fills `_channels`, the times, and calls `_describe`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._channels: dict[Any, Channel] = {}

    def _raw(self, keys: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """(channel's key, Unix time of receipt, bytes) of the channels `keys`, oldest first."""
        raise NotImplementedError

    def _trouble(self, text: str) -> None:
        """Add to what is wrong with the file."""
        known = self.problems.get("", "")
        if len(known) > _LONG:
            text = "and more of the kind"
        if text not in known.split("; "):
            self.problems[""] = f"{known}; {text}" if known else text

    def _describe(self) -> None:
        """Make the list of topics; looks at messages only where the schema leaves the kind open."""
        by_topic: dict[str, list[Channel]] = {}
        for channel in self._channels.values():
            by_topic.setdefault(channel.topic, []).append(channel)
        for name, channels in sorted(by_topic.items()):
            # where a topic carries several schemas, the one that can be decoded and has the most messages
            counts: dict[str, int] = {}
            for channel in channels:
                counts[channel.schema] = counts.get(channel.schema, 0) + channel.messages
            best = max(channels, key=lambda c: (c.decoder.kind is not None, counts[c.schema]))
            for schema, count in counts.items():
                if schema != best.schema:
                    self.problems[name] = f"{count} messages of {schema} left out: the topic also has {best.schema}"
            self._channels = {k: c for k, c in self._channels.items() if c.topic != name or c.schema == best.schema}
            kind, reason = best.decoder.kind, best.decoder.reason
            if kind is not None and best.decoder.look and counts[best.schema] > 0:
                kind, reason = self._look(name, kind)
            self.topics.append(Topic(name, best.schema, counts[best.schema], kind, reason))

    def _look(self, name: str, kind: type[Message]) -> tuple[type[Message] | None, str]:
        """The kind of the topic's first message that can be decoded, or None and why not."""
        reason = "no message of it could be read"
        keys = [key for key, channel in self._channels.items() if channel.topic == name]
        for number, (key, log_ns, data) in enumerate(self._raw(keys)):
            at = Arrival(name, log_ns, 1, 0, Timeline(self.start_ns), {})
            try:
                for message in self._channels[key].decoder.decode(data, at):
                    return type(message), ""
            except DeviceError as error:
                return kind, str(error)  # a package is missing: messages() says so too
            except Exception as error:  # bytes of others: their libraries raise anything
                reason = one_line(error)
            if number + 1 == _LOOKS:
                break
        return None, reason

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        kinds = {topic.name: topic.kind for topic in self.topics}
        for name in topics or ():
            if name not in kinds:
                raise RecordingError(f"{self.path}: has no topic '{name}'; it has {', '.join(kinds) or 'none'}")
        wanted = {name for name in (kinds if topics is None else topics) if kinds[name] is not None}
        keys = [key for key, channel in self._channels.items() if channel.topic in wanted]
        accounts = {name: _Account() for name in wanted}
        timeline = Timeline(self.start_ns)
        for key, log_ns, data in self._raw(keys) if keys else ():
            channel = self._channels[key]
            kind = kinds[channel.topic]
            account = accounts[channel.topic]
            account.seen += 1
            lost = account.seen - account.last_good - 1
            at = Arrival(channel.topic, log_ns, account.seen, lost, timeline, account.memory)
            try:
                made = list(channel.decoder.decode(data, at))
                if kind is None or any(type(message) is not kind for message in made):
                    raise Undecodable("it is not of the kind of the topic's first message")
            except DeviceError:
                raise
            except Exception as error:  # bytes of others: their libraries raise anything
                self._count(channel.topic, account, error)
                continue
            account.last_good = account.seen
            for message in made:
                yield channel.topic, log_ns - self.start_ns, message
        for topic in self.topics:
            seen = accounts[topic.name].seen if topic.name in accounts else topic.messages
            if seen != topic.messages and topic.name not in self.problems:
                self.problems[topic.name] = f"{seen} of the {topic.messages} messages that the index tells were found"
        if timeline.shift_ns:
            self._trouble(f"headers tell another clock: shifted by {timeline.shift_ns / 1e9:.3f} s to the log's")

    def _count(self, topic: str, account: _Account, error: Exception) -> None:
        account.bad += 1
        account.first_error = account.first_error or one_line(error)
        if account.bad <= _REASONS:
            self.reasons[topic] = [*self.reasons.get(topic, ())[: account.bad - 1], one_line(error)]
        of = sum(item.messages for item in self.topics if item.name == topic)
        self.problems[topic] = f"{account.bad} of {of} messages could not be decoded: {account.first_error}"
