"""A recorded file as an event camera (`evt:recording.raw`): EVT2, EVT3, DAT, AEDAT4, Event Stream,
DSEC's HDF5, text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import EndOfStream, NotFound, ProtocolError, RecordingError
from foveate.messages import Events, Stamp
from foveate.node import Unit
from foveate_drivers.adjustable import Health
from foveate_drivers.events.base import EventCamera
from foveate_logbook.formats.events.base import EventReader
from foveate_logbook.formats.events.event_log import survey
from foveate_logbook.formats.events.recognise import KINDS, reader_of
from foveate_logbook.formats.events.sequence import MOVED, Sequence, packets


class EventFile(EventCamera):
    """Gives a file's events at the pace they were recorded, counted from the first; a slow reader loses none.

    A packet is due when its interval is over. Events outside the sensor and what cannot be decoded is left out and
    counted: in `lost_before`, where the number of events is known, and in `health`.
    """

    def __init__(
        self,
        *,
        address: Path,
        packet: Annotated[float, Unit("s"), Ge(1e-5), Le(10)] = 0.01,
        rate: Annotated[float, Gt(0), Le(1000)] = 1.0,
        loop: bool = False,
        width: Annotated[int, Unit("px"), Ge(1), Le(4096)] | None = None,
        height: Annotated[int, Unit("px"), Ge(1), Le(4096)] | None = None,
        unit: Literal["s", "ms", "us", "ns"] | None = None,
    ) -> None:
        """`rate`: times as fast as it was recorded; `width`, `height`: where the file does not say or is wrong;
        `unit`: of a text's times, where it is not to be found out."""
        self._path = address
        self._packet_ns = round(packet * 1e9)
        self._file_packet_ns = max(round(packet * rate * 1e9), 1)  # on the file's clock
        self._loop = loop
        self._wanted_size = (width, height)
        self._unit = unit
        self._reader: EventReader | None = None
        self._sequence = Sequence(0, 0)
        self._packets: Iterator[Events] = iter(())
        self._next: Events | None = None
        self._due_ns = 0
        self._epoch = 0  # at the begin of this turn of the loop
        self._received = 0
        self._stopped = False
        self._lost: Counter[str] = Counter()  # of the turns before
        self._start_ns = 0  # when the first event of this turn of the loop is due

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """None: files are named, not found."""
        return []

    def open(self, clock: Clock) -> None:
        try:
            if not self._path.is_file():
                raise NotFound(self.uri, "open", f"there is no file {self._path}")
            reader = reader_of(self._path, self._unit)
            if reader is None:
                raise ProtocolError(self.uri, "open", f"{self._path.name} is not a file of events; read are {KINDS}")
            known = (reader.width, reader.height) if reader.width else None
            width, height = self._wanted_size
            if known is None and (width is None or height is None):
                found = survey(reader)
                known = (found.width, found.height)
            self.width, self.height = width or (known or (0, 0))[0], height or (known or (0, 0))[1]
            self._reader, self._clock = reader, clock
            self._epoch = self._received = 0
            self._lost.clear()
            self._stopped = False
            self._begin(clock.now_ns())
            if self._next is None:
                raise ProtocolError(self.uri, "open", f"{self._path.name} has no event that can be decoded")
        except RecordingError as error:
            self.close()
            raise ProtocolError(self.uri, "open", str(error).removeprefix(f"{self._path}: ")) from None
        except OSError as error:
            self.close()
            raise ProtocolError(self.uri, "open", f"{self._path}: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise

    def _begin(self, now_ns: int) -> None:
        """From the file's begin, whose first event is due at `now_ns`."""
        assert self._reader is not None
        self._sequence = Sequence(self.width, self.height)
        self._packets = packets(self._reader, self._sequence, self._file_packet_ns, empty=True)
        self._start_ns = self._due_ns = now_ns
        self._fetch()

    def _fetch(self) -> None:
        """The next packet, on the pipeline's clock."""
        try:
            made = next(self._packets, None)
        except OSError as error:
            raise ProtocolError(self.uri, "read", f"{self._path}: {error.strerror or error}") from None
        self._next = None
        if made is None:
            return
        begin_ns = self._start_ns + made.stamp.t_ns // self._file_packet_ns * self._packet_ns
        times = made.t_ns
        if self._file_packet_ns != self._packet_ns:
            times = (times * (self._packet_ns / self._file_packet_ns)).astype(times.dtype)
        self._due_ns = begin_ns + self._packet_ns
        stamp = Stamp(begin_ns + self._packet_ns // 2, self._packet_ns)
        self._next = replace(made, stamp=stamp, t_ns=times + self._start_ns, epoch=self._epoch + made.epoch)

    def due_ns(self) -> int:
        return self._due_ns

    def info(self) -> DeviceInfo:
        about = {} if self._reader is None else self._reader.about
        vendor = about.get("integrator_name", "")
        return DeviceInfo(self.uri, vendor, self._path.name, about.get("serial_number", ""))

    def health(self) -> Health:
        """Degraded where the file holds what could not be decoded."""
        lost = self._lost + ((self._sequence.counts + self._reader.lost) if self._reader is not None else Counter())
        detail = "; ".join(f"{count} {reason}" for reason, count in sorted(lost.items()))
        missing = sum(count for reason, count in lost.items() if reason not in MOVED)
        return Health("degraded" if missing else "ok", detail, {"received": self._received, "lost": missing})

    def start(self) -> None:
        clock = self._running("start")
        if self._stopped:  # the file waited: what comes next is due from now on
            shift_ns = max(clock.now_ns() + self._packet_ns - self._due_ns, 0)
            self._start_ns += shift_ns
            self._due_ns += shift_ns
            if self._next is not None:
                stamp = replace(self._next.stamp, t_ns=self._next.stamp.t_ns + shift_ns)
                self._next = replace(self._next, stamp=stamp, t_ns=self._next.t_ns + shift_ns)
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def read(self, timeout_s: float) -> Events:
        self._running()
        if self._stopped:
            self.start()
        if self._next is None:
            raise EndOfStream
        self._await(timeout_s, "packet")
        events, due_ns = self._next, self._due_ns
        self._received += events.t_ns.size
        self._fetch()
        if self._next is None and self._loop and self._reader is not None:
            self._lost += self._sequence.counts + self._reader.lost
            self._epoch = events.epoch + 1  # the clock begins anew
            self._begin(due_ns)
        return events

    def close(self) -> None:
        self._clock = None
        self._next, self._packets = None, iter(())
