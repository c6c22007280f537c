"""Other people's recordings behind one interface: topics of messages, in the order of time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from foveate.messages import Message


@dataclass(frozen=True, slots=True)
class Topic:
    """One named stream of a log, and what it becomes here."""

    name: str
    schema: str  # as the log names it: "sensor_msgs/msg/Image", "foxglove.RawImage", ...
    messages: int
    kind: type[Message] | None  # None: it cannot be decoded
    reason: str = ""  # why not, in one line


class Log:
    """A recording that somebody else made. Opening it reads its index, never all of it.

    A message's stamp is on the log's own clock: nanoseconds since `start_ns`, taken from the message's header
    where it has one, else from when the log received it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start_ns = 0  # Unix time of the log's first message, 0 where it has none
        self.end_ns = 0  # of its last
        self.topics: list[Topic] = []
        self.problems: dict[str, str] = {}  # by topic, "" = the file: what was not decoded
        self.reasons: dict[str, list[str]] = {}  # by topic: why the first few messages that were not could not be
        self.metadata: dict[str, str] = {}  # what the log says of itself: format, storage, ...

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        """(topic, when the log received it in nanoseconds since `start_ns`, message), oldest first.

        A message that cannot be decoded is left out and counted in `problems`; the others go on.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file; any number of times."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
