"""Events of a recording that somebody else made as an event camera (`log:drive.bag`): ROS bags, MCAP, event files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import EndOfStream, ProtocolError
from foveate.messages import Events, Message
from foveate.node import Folder
from foveate_drivers import log_topic
from foveate_drivers.adjustable import Health
from foveate_drivers.events.base import EventCamera
from foveate_logbook.formats.base import Log


class LogEventCamera(EventCamera):
    """Gives a log's packets at the pace they were recorded, each when its last event is over."""

    def __init__(
        self, *, address: Annotated[Path, Folder(or_file=True)], topic: str | None = None, loop: bool = False
    ) -> None:
        """`topic`: may be left out where the log has one topic of events."""
        self._path = address
        self._topic = topic
        self._loop = loop
        self._log: Log | None = None
        self._packets: Iterator[tuple[str, int, Message]] = iter(())
        self._next: Events | None = None
        self._shift_ns = 0  # the log's clock to the pipeline's, in this turn of the loop
        self._due_ns = 0
        self._last_ns: int | None = None  # of the last event given
        self._epoch = 0
        self._counts = {"received": 0, "packets": 0, "lost": 0}

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """None: recordings are named, not found."""
        return []

    def open(self, clock: Clock) -> None:
        self._log = log_topic.opened(self.uri, self._path)
        try:
            self._topic = log_topic.chosen(self.uri, self._log, Events, "events", self._topic)
            self._last_ns, self._epoch = None, 0
            self._counts = dict.fromkeys(self._counts, 0)
            self._begin(clock.now_ns())
            if self._next is None:
                raise ProtocolError(self.uri, "open", f"no packet of topic '{self._topic}' can be decoded")
            self.width, self.height = self._next.width, self._next.height
            self._clock = clock
        except BaseException:
            self.close()
            raise

    def _begin(self, now_ns: int) -> None:
        """From the first packet, whose first event was at `now_ns`."""
        assert self._log is not None and self._topic is not None
        self._packets = self._log.messages([self._topic])
        self._fetch(now_ns)

    def _fetch(self, begin_ns: int | None = None) -> None:
        """The next packet on the pipeline's clock; `begin_ns`: when the first of a turn began."""
        self._next = None
        for _, _, message in self._packets:
            if isinstance(message, Events) and message.t_ns.size:
                if begin_ns is not None:
                    self._shift_ns = begin_ns - int(message.t_ns[0])
                self._next = self._moved(message)
                self._due_ns = int(self._next.t_ns[-1])
                return

    def _moved(self, events: Events) -> Events:
        """On the pipeline's clock, and not before what was given: stamps of a log may go back, events do not."""
        times = events.t_ns + self._shift_ns
        if self._last_ns is not None and times[0] < self._last_ns:
            times = np.maximum(times, self._last_ns)
        stamp = replace(events.stamp, t_ns=int(times[0] + times[-1]) // 2, exposure_ns=int(times[-1] - times[0]))
        return replace(events, stamp=stamp, t_ns=times, epoch=self._epoch + events.epoch)

    def due_ns(self) -> int:
        return self._due_ns

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, model=f"{self._path.name} {self._topic or ''}".rstrip())

    def health(self) -> Health:
        """Degraded where messages of the topic could not be decoded."""
        log = self._log
        detail = "" if log is None or self._topic is None else log.problems.get(self._topic, "")
        return Health("degraded" if detail else "ok", detail, dict(self._counts))

    def read(self, timeout_s: float) -> Events:
        self._running()
        if self._next is None:
            raise EndOfStream
        self._await(timeout_s, "packet")
        events, due_ns = self._next, self._due_ns
        self._last_ns = int(events.t_ns[-1])
        self._counts["packets"] += 1
        self._counts["received"] += events.t_ns.size
        self._counts["lost"] += events.lost_before
        self._fetch()
        if self._next is None and self._loop:
            self._epoch = events.epoch + 1  # the clock begins anew
            self._begin(due_ns)
        return events

    def close(self) -> None:
        self._clock = None
        self._next, self._packets = None, iter(())
        if self._log is not None:
            self._log.close()
            self._log = None
