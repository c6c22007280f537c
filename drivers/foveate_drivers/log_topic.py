"""The topic of somebody's log that plays a device: opened and chosen the same way by every family's `log:` driver."""

from __future__ import annotations

from pathlib import Path

from foveate.errors import NotFound, ProtocolError, RecordingError
from foveate.messages import Message
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.opening import open_log


def opened(uri: str, path: Path) -> Log:
    """The log. Raises ProtocolError saying what it is instead."""
    try:
        return open_log(path)
    except RecordingError as error:
        raise ProtocolError(uri, "open", str(error).removeprefix(f"{path}: ")) from None


def chosen(uri: str, log: Log, kind: type[Message], what: str, topic: str | None, option: str = "topic") -> str:
    """The topic that was named, or the only one that becomes `kind`. Raises NotFound listing what there is."""
    fitting = sorted(item.name for item in log.topics if item.kind is kind)
    listed = ", ".join(fitting) or "none"
    if topic is not None and topic not in fitting:
        other = next((item for item in log.topics if item.name == topic), None)
        why = "is not in the log" if other is None else f"has no {what} ({other.reason or other.schema})"
        raise NotFound(uri, "open", f"topic '{topic}' {why}; topics with {what}: {listed}")
    if topic is None and len(fitting) != 1:
        raise NotFound(uri, "open", f"option '{option}' must name one of its topics with {what}: {listed}")
    return topic or fitting[0]
