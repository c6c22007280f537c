"""Recordings made of recordings: a part cut out, or what is left of a damaged one, in a clean indexed file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveate import decisions
from foveate.decisions import Step
from foveate.errors import RecordingError
from foveate.queues import Drop
from foveate.recording import mcap_format as mcap
from foveate.recording.recorder import DECISIONS, END_NAME, HEALTH
from foveate.recording.recording import Recording
from foveate.recording.seal import GRAPH_NAME, SEAL_NAME
from foveate.recording.writer import ChannelSpec, McapWriter, Unwritten

_BATCH_BYTES = 1 << 20
_LATE_NS = 60_000_000_000  # a step is noted when it has ended, perhaps long after it began
_TYPES = {GRAPH_NAME: "application/yaml"}


class Rewriter:
    """Writes messages to a new recording; the file appears under its name only when it is whole."""

    def __init__(self, to: Path, channels: list[ChannelSpec], attachments: Mapping[str, bytes]) -> None:
        """Raises RecordingError where `to` exists or cannot be written."""
        if to.exists():
            raise RecordingError(f"{to}: exists already; choose another name")
        self._to = to
        self._part = to.with_name(f".{to.name}.part")
        self._part.unlink(missing_ok=True)
        kept = {name: (_TYPES.get(name, "application/json"), data) for name, data in attachments.items()}
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            self._writer = McapWriter(self._part, channels, kept, {})
        except OSError as error:
            raise RecordingError(f"{to}: cannot write: {error.strerror}") from None

    def add(self, channel: int, sequence: int, log_ns: int, publish_ns: int, data: Any) -> None:
        """Raises RecordingError when the disk is full."""
        writer = self._writer
        writer.add(channel, sequence, log_ns, publish_ns, data if isinstance(data, list) else [data])
        writer.tally[mcap.TALLY_COUNTERS * (channel - 1)] += 1
        if writer.pending_bytes >= _BATCH_BYTES:
            self._guard(writer.flush)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (Unwritten, OSError) as error:
            self._writer.close()
            self._part.unlink(missing_ok=True)
            raise RecordingError(f"{self._to}: cannot write: {error}") from None

    def finish(self, end: Mapping[str, Any]) -> int:
        """Close the file in order and give it its name; the number of messages in it."""
        ending = {END_NAME: ("application/json", json.dumps(end).encode())}
        self._guard(lambda: self._writer.finish(ending))
        count = self._writer.acknowledged
        self._writer.close()
        self._part.rename(self._to)
        return count

    def give_up(self) -> None:
        """Leave nothing behind."""
        self._writer.close()
        self._part.unlink(missing_ok=True)


def channels_of(log: Recording) -> dict[int, ChannelSpec]:
    """The channels of a recording, as a writer takes them, by number."""
    return {
        number: ChannelSpec(c.topic, c.encoding, c.metadata, c.schema_name, c.schema_encoding, c.schema_data)
        for number, c in sorted(log.file.channels.items())
    }


def rewrite(
    log: Recording, to: Path, *, streams: set[str] | None = None, begin_ns: int = 0, end_ns: int = 2**63,
    note: Mapping[str, Any], progress: Callable[[float], None],
) -> int:  # fmt: skip
    """Copy what can be read of `log` with log times in [begin, end) to a clean file; the number of messages.

    The seal goes with it; `note` says in `end.json` what was done. Decisions are those of steps within the time.
    """
    specs = channels_of(log)
    wanted = [
        n for n, c in specs.items() if streams is None or c.topic in (DECISIONS, HEALTH) or c.topic[1:] in streams
    ]
    numbers = {old: new for new, old in enumerate(wanted, 1)}
    kept = {name: data for name, data in log.file.attachments.items() if name in (GRAPH_NAME, SEAL_NAME)}
    out = Rewriter(to, [specs[n] for n in wanted], kept)
    try:
        rows = max(len(log.file), 1)
        late_ns = min(end_ns + _LATE_NS, 2**63)
        for row in range(len(log.file)):
            for raw in log.file.messages(set(wanted), begin_ns, late_ns, range(row, row + 1)):
                data: Any = raw.data
                if specs[raw.channel].topic == DECISIONS and (begin_ns, end_ns) != (0, 2**63):
                    data = _decisions_within(log, raw.data, begin_ns, end_ns)
                    if not data:
                        continue
                elif raw.log_ns >= end_ns:
                    continue
                out.add(numbers[raw.channel], raw.sequence, raw.log_ns, raw.publish_ns, data)
            progress((row + 1) / rows)
        return out.finish({**log.end, **note})
    except BaseException:
        out.give_up()
        raise


def _decisions_within(log: Recording, data: memoryview, begin_ns: int, end_ns: int) -> bytes:
    start_ns = log.wall_start_ns
    steps: list[Step] = []
    drops: list[Drop] = []
    for item in decisions.decode(data):
        t_ns = start_ns + (item.begun_ns if isinstance(item, Step) else item.t_ns)
        if not begin_ns <= t_ns < end_ns:
            continue
        if isinstance(item, Step):
            steps.append(item)
        else:
            drops.append(item)
    return decisions.encode(steps, drops)
