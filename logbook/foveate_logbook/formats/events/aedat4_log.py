"""An AEDAT 4 file as a log: a topic for each of its streams."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np

from foveate.errors import DeviceError, RecordingError
from foveate.messages import Events, Frame, Imu, Message, Stamp
from foveate_logbook.formats import pixels
from foveate_logbook.formats.base import Log, Topic
from foveate_logbook.formats.channels import Arrival, Timeline, Undecodable
from foveate_logbook.formats.events import aedat4_format as form
from foveate_logbook.formats.events.aedat4 import Aedat4File
from foveate_logbook.formats.events.flatbuffer import Malformed, Table
from foveate_logbook.formats.events.sequence import JUMPS, OUTSIDE, Sequence

_KINDS: dict[str, type[Message]] = {"EVTS": Events, "FRME": Frame, "IMUS": Imu}
_NO_FORM = {"TRIG": "triggers have no counterpart in foveate"}
_PIXELS = {0: "mono8", 2: "mono16", 16: "bgr8", 24: "bgra8"}  # OpenCV's numbers of types
_STANDARD_GRAVITY = 9.80665
_MOST_US = 1 << 51
_LOOK_BYTES = 64 << 20


class _Pass:
    """What one pass over the file keeps of a stream."""

    def __init__(self, stream: form.Stream) -> None:
        self.sequence = Sequence(stream.width or (1 << 15), stream.height or (1 << 15))
        self.told = 0
        self.messages = 0
        self.lost = 0  # packets since the last that could be decoded
        self.reasons: dict[str, int] = {}


class Aedat4Log(Log):
    """Events in the packets of the file, frames, inertial samples; its clock is the file's, Unix time in most."""

    def __init__(self, reader: Aedat4File) -> None:
        """Raises RecordingError."""
        super().__init__(reader.path)
        self._reader = reader
        names = [stream.name or stream.kind.lower() for stream in reader.head.streams]
        self._topics = {
            stream.id: f"/{name}" if names.count(name) == 1 else f"/{name}_{stream.id}"
            for stream, name in zip(reader.head.streams, names, strict=True)
        }
        self.metadata = {"format": "AEDAT4", **{key: value for key, value in reader.about.items() if value}}
        counts, ends = self._look()
        if not ends:
            raise RecordingError(f"{self.path}: an AEDAT4 file without a packet that can be decoded")
        self.start_ns, self.end_ns = min(ends), max(ends)
        self.topics = [
            Topic(self._topics[s.id], s.kind, counts.get(s.id, 0), _KINDS.get(s.kind),
                  "" if s.kind in _KINDS else _NO_FORM.get(s.kind, f"packets of {s.kind} are not read"))
            for s in reader.head.streams
        ]  # fmt: skip

    def _look(self) -> tuple[dict[int, int], list[int]]:
        """Messages by stream and the times of the file, from all of it or its first 64 MB."""
        counts: dict[int, int] = {}
        ends: list[int] = []
        number = 0
        for stream, _, message in self._decoded({s.id for s in self._reader.head.streams}, 0):
            counts[stream.id] = counts.get(stream.id, 0) + 1
            first, last = _span(message)
            ends = [min([first, *ends]), max([last, *ends])]
            number += message.t_ns.size if isinstance(message, Events) else 0
            if self._reader.consumed > _LOOK_BYTES:
                share = self._reader.consumed / self.path.stat().st_size
                ends[1] = ends[0] + round((ends[1] - ends[0]) / share)
                self.metadata["counts"] = "about, from the first 64 MB"
                return {key: round(count / share) for key, count in counts.items()}, ends
        if number:
            self.metadata["events"] = f"{number:,}, {number / max(ends[1] - ends[0], 1) * 1e9:,.0f} a second"
        return counts, ends

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        known = {name: number for number, name in self._topics.items()}
        for name in topics or ():
            if name not in known:
                raise RecordingError(f"{self.path}: has no topic '{name}'; it has {', '.join(known) or 'none'}")
        wanted = {known[name] for name in (known if topics is None else topics)}
        received = 0
        for stream, _, message in self._decoded(wanted, self.start_ns):
            received = max(received, _span(message)[1])  # a packet is written once its last sample is there
            yield self._topics[stream.id], received, message

    def _decoded(self, ids: Collection[int], start_ns: int) -> Iterator[tuple[form.Stream, int, Message]]:
        """(stream, number of the packet, message), times since `start_ns`; what is damaged is told in `problems`."""
        passes = {s.id: _Pass(s) for s in self._reader.head.streams if s.id in ids and s.kind in _KINDS}
        for number, (stream, data) in enumerate(self._reader.packets(passes)):
            state = passes[stream.id]
            try:
                made = self._made(stream, state, data, start_ns)
            except (Malformed, Undecodable) as error:
                state.reasons[str(error)] = state.reasons.get(str(error), 0) + 1
                state.lost += 1
                continue
            state.lost = 0
            state.messages += len(made)
            for message in made:
                yield stream, number, message
        self._note(passes)

    def _made(self, stream: form.Stream, state: _Pass, data: bytes, start_ns: int) -> list[Message]:
        if stream.kind == "EVTS":
            return _events(state, data, start_ns)
        table = form.table_of(data, stream.kind)
        if stream.kind == "FRME":
            at = Arrival(self._topics[stream.id], 0, state.messages + 1, state.lost, Timeline(0), {})
            try:
                return [_frame(table, at, start_ns)]
            except DeviceError:
                raise
            except (ValueError, IndexError, TypeError) as error:
                raise Malformed(f"a frame whose pixels do not fit: {error}") from None
        return [_sample(item, start_ns) for item in table.tables(0)]

    def _note(self, passes: dict[int, _Pass]) -> None:
        for number, state in passes.items():
            texts = [f"{count} packets not decoded: {text}" for text, count in state.reasons.items()]
            counts = state.sequence.counts
            texts += [f"{counts[reason]} {reason}" for reason in (OUTSIDE,) if counts[reason]]
            if texts:
                self.problems[self._topics[number]] = "; ".join(texts)[:400]
            if counts[JUMPS]:
                self.metadata["mended"] = f"{counts[JUMPS]} {JUMPS}"
        if self._reader.lost:
            lost = (f"{count} {reason}" for reason, count in sorted(self._reader.lost.items()))
            self.problems[""] = "; ".join(lost)[:400]


def _events(state: _Pass, data: bytes, start_ns: int) -> list[Message]:
    block = state.sequence.put(form.events_of(data))
    if block.t_ns.size == 0:
        return []
    lost = state.sequence.counts[OUTSIDE]
    before, state.told = lost - state.told, lost
    times = block.t_ns - start_ns
    first, last = int(times[0]), int(times[-1])
    sequence = state.sequence
    stamp = Stamp((first + last) // 2, last - first)
    return [Events(stamp, times, *block[1:], sequence.width, sequence.height, before, sequence.epoch)]


def _frame(table: Table, at: Arrival, start_ns: int) -> Message:
    """Fields by the schema frame.fbs of dv-processing: the time is that of mid-exposure."""
    t_ns = _nanoseconds(table.scalar(0, "<q"))
    begin, end, exposure = table.scalar(3, "<q"), table.scalar(4, "<q"), table.scalar(11, "<q")
    exposure_ns = max(exposure if exposure > 0 else end - begin, 0) * 1000
    kind = table.scalar(5, "<b")
    if kind not in _PIXELS:
        raise Undecodable(f"pixels of OpenCV's type {kind} are not read; {', '.join(_PIXELS.values())} are")
    width, height = table.scalar(6, "<h"), table.scalar(7, "<h")
    place, count = table.vector(10, 1)
    if width <= 0 or height <= 0 or not count:
        raise Undecodable(f"a frame of {width} x {height} pixels in {count} bytes")
    if count % height:
        raise Malformed(f"{count} bytes for {height} rows")
    stamp = Stamp(t_ns - start_ns, min(exposure_ns, 1 << 60))
    pixel_bytes = table.data[place : place + count]
    return pixels.raw_image(pixel_bytes, width, height, count // height, _PIXELS[kind], False, at, stamp)


def _sample(table: Table, start_ns: int) -> Imu:
    """Fields by the schema imu.fbs: acceleration in g, turn rates in degrees a second."""
    values = np.array([table.scalar(field, "<f", 0.0) for field in range(2, 8)], np.float64)
    push, turn = values[:3] * _STANDARD_GRAVITY, values[3:] * (math.pi / 180)
    return Imu(Stamp(_nanoseconds(table.scalar(0, "<q")) - start_ns), turn, push)


def _nanoseconds(t_us: int) -> int:
    return min(max(t_us, -_MOST_US), _MOST_US) * 1000


def _span(message: Message) -> tuple[int, int]:
    if isinstance(message, Events):
        return int(message.t_ns[0]), int(message.t_ns[-1])
    return message.stamp.t_ns, message.stamp.t_ns
