"""An event file as a log of one topic, and what is known of it before it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from foveate.errors import RecordingError
from foveate.messages import Events, Message
from foveate_logbook.formats.base import Log, Topic
from foveate_logbook.formats.events.base import EventReader
from foveate_logbook.formats.events.sequence import MOVED, Sequence, packets

TOPIC = "/events"
PACKET_NS = 10_000_000
_LOOK_BYTES = 64 << 20  # of a file are read to say what is in it: a second's work
_MOST_SIZE = 4096  # px, of a sensor whose size is taken from its events


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in an event file: of all of it, or of its first 64 MB and its end."""

    width: int
    height: int
    first_ns: int  # on the sensor's clock
    last_ns: int
    events: int
    packets: int  # of 10 ms, those without events left out
    whole: bool
    counts: Counter[str]  # what was lost or mended


def survey(reader: EventReader) -> Survey:
    """Read enough of a file to say what is in it. Raises RecordingError where it has no event."""
    size = reader.path.stat().st_size
    known = reader.width > 0
    sequence = Sequence(reader.width, reader.height) if known else Sequence(_MOST_SIZE, _MOST_SIZE)
    first, last, events, count, width, height, place = 0, 0, 0, 0, 0, 0, -1
    done = True
    for raw in reader.blocks():
        block = sequence.put(raw)
        if block.t_ns.size == 0:
            continue
        first = first if events else int(block.t_ns[0])
        last = int(block.t_ns[-1])
        events += block.t_ns.size
        width, height = max(width, int(block.x.max()) + 1), max(height, int(block.y.max()) + 1)
        intervals = (block.t_ns - first) // PACKET_NS
        count += 1 + int((intervals[1:] != intervals[:-1]).sum()) - int(intervals[0] == place)
        place = int(intervals[-1])
        if reader.consumed >= _LOOK_BYTES:
            done = reader.consumed >= size
            break
    if not events:
        raise RecordingError(f"{reader.path}: a file of {reader.name} without an event that can be decoded")
    counts = sequence.counts + reader.lost
    if not done:
        share = reader.consumed / size
        tail = reader.tail()
        span = last - first
        if tail is not None and tail.t_ns.size and int(tail.t_ns[-1]) >= last:
            last = int(tail.t_ns[-1])
        else:
            last = first + round(span / share)
        events, count = round(events / share), round(count * (last - first) / max(span, 1))
    if known:
        width, height = reader.width, reader.height
    return Survey(width, height, first, last, events, count, done, counts)


class EventLog(Log):
    """The events of a file in packets of 10 ms; its time begins with the first event."""

    def __init__(self, reader: EventReader) -> None:
        """Raises RecordingError."""
        super().__init__(reader.path)
        self._reader = reader
        found = survey(reader)
        self._size = (found.width, found.height)
        self.start_ns, self.end_ns = found.first_ns, found.last_ns
        self.topics = [Topic(TOPIC, reader.name, found.packets, Events)]
        self.metadata = about(reader, found)
        self._note(found.counts, "" if found.whole else " in the first 64 MB")

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        unknown = sorted(set(topics or ()) - {TOPIC})
        if unknown:
            raise RecordingError(f"{self.path}: has no topic '{unknown[0]}'; it has {TOPIC}")
        if topics is not None and TOPIC not in topics:
            return
        sequence = Sequence(*self._size)
        for message in packets(self._reader, sequence, PACKET_NS):
            yield TOPIC, message.stamp.t_ns + PACKET_NS // 2, message
        self._note(sequence.counts + self._reader.lost)

    def _note(self, counts: Counter[str], where: str = "") -> None:
        lost = "; ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if reason not in MOVED)
        if lost:
            self.problems[TOPIC] = lost + where


def about(reader: EventReader, found: Survey) -> dict[str, str]:
    """What `foveate log info` says of an event file besides its topics."""
    span_s = max(found.last_ns - found.first_ns, 1) / 1e9
    known = reader.width > 0
    lines = {
        "format": reader.name,
        "sensor": f"{found.width} x {found.height} px" + ("" if known else " (by its events: the file does not say)"),
        "events": _numbers(found.events, found.events / span_s, found.whole),
    }
    mended = "; ".join(f"{found.counts[reason]} {reason}" for reason in MOVED if found.counts[reason])
    if mended:
        lines["mended"] = mended
    return lines | {key[:30]: value[:120] for key, value in reader.about.items() if key.lower() not in lines and value}


def _numbers(events: int, rate: float, whole: bool) -> str:
    """All digits of what was counted, three of what was estimated."""
    if whole:
        return f"{events:,}, {rate:,.0f} a second"
    count, rate = (round(value, 3 - len(str(int(value)))) for value in (events, rate))
    return f"about {count:,.0f}, {rate:,.0f} a second"


def log_of(reader: EventReader) -> Log:
    """The log of an event file; one that holds more than events makes its own."""
    make = getattr(reader, "log", None)
    return EventLog(reader) if make is None else make()
