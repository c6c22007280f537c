"""What the writers of other formats share: streams of a recording in order, and files that appear only when whole."""

from __future__ import annotations

import heapq
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from foveate.errors import RecordingError
from foveate.messages import Message
from foveate.recording import Recording
from foveate_logbook.kinds import message_kind

Progress = Callable[[float], None]  # 0 to 1


def kinds_of(log: Recording, streams: list[str]) -> dict[str, type[Message]]:
    """The message class of each stream. Raises RecordingError for a stream that is not there."""
    known = {stream.topic.removeprefix("/"): stream for stream in log.streams()}
    kinds = {}
    for name in streams:
        if name not in known:
            raise RecordingError(f"{log.path}: has no stream '{name}'; it has {', '.join(sorted(known)) or 'none'}")
        kind = message_kind(known[name].type)
        if kind is None:
            raise RecordingError(
                f"{log.path}: '{name}' holds {known[name].type or 'no messages of foveate'}: not known"
            )
        kinds[name] = kind
    return kinds


def place_of(kind: type[Message], places: Iterable[type[Message]]) -> type[Message] | None:
    """The class among `places` that a message class is or comes from, as PoseEstimate does from Pose; else None."""
    return next((place for place in places if issubclass(kind, place)), None)


def in_order(
    log: Recording, kinds: Mapping[str, type[Message]], progress: Progress = lambda share: None
) -> Iterator[tuple[str, int, Message]]:
    """(stream, log time since the run's start, message), oldest first."""
    total = sum(stream.messages for stream in log.streams() if stream.topic.removeprefix("/") in kinds)

    def named(name: str) -> Iterator[tuple[str, int, Message]]:
        for t_ns, message in log.messages(name, kinds[name]):
            yield name, t_ns, message

    merged = heapq.merge(*(named(name) for name in kinds), key=lambda item: item[1])
    for number, item in enumerate(merged, 1):
        yield item
        progress(min(number / max(total, 1), 1.0))


@contextmanager
def appearing(to: Path) -> Iterator[Path]:
    """A place beside `to` to write at, renamed to `to` at the end; nothing is left of what failed.

    Raises RecordingError where `to` exists, and for any failure of the disk.
    """
    if to.exists():
        raise RecordingError(f"{to}: exists already; name another place or delete it")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=".foveate-", dir=to.parent))
    except OSError as error:
        raise RecordingError(f"{to}: cannot write: {error.strerror or error}") from None
    try:
        yield room / to.name
        (room / to.name).rename(to)
    except OSError as error:
        raise RecordingError(f"{to}: cannot write: {error.strerror or error}") from None
    finally:
        shutil.rmtree(room, ignore_errors=True)


def counted(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}" + "s" * (number != 1)
