"""The black box: the last seconds stay in memory, and go to a file when something goes wrong or somebody asks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from foveate.decisions import Step
from foveate.graph import Graph, Ring
from foveate.messages import Message, size_of
from foveate.queues import Drop
from foveate.recording.recorder import McapRecorder
from foveate.station import Recorder

if TYPE_CHECKING:
    from foveate.run import Run

_LOG = logging.getLogger("foveate")
_MOST_FILES = 20  # of one run: what fails again and again must not fill the disk


class _Kept(NamedTuple):
    stream: str
    message: Message
    now_ns: int
    sequence: int
    size: int


class BlackBox(Recorder):
    """Keeps messages and decisions of the last `ring.keep_ns`; a dump holds them and as much of what follows."""

    def __init__(self, folder: Path, graph: Graph, ring: Ring, facts: Mapping[str, Any]) -> None:
        """Dumps are `folder/blackbox_001.mcap` and so on; `facts` as for McapRecorder."""
        self._files: list[Path] = []
        self._folder = folder
        self._graph = graph
        self._ring = ring
        self._facts = facts
        self._run: Run | None = None
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._steps: deque[Step] = deque()
        self._drops: deque[Drop] = deque()
        self._asked: deque[str] = deque()  # why; any thread adds
        self._dump: McapRecorder | None = None
        self._until_ns = 0
        self.lost_own = 0  # as of McapRecorder
        self._why: list[str] = []

    def connect(self, run: Run) -> None:
        self._run = run
        run.trouble = self.trouble

    @property
    def files(self) -> list[Path]:
        return list(self._files)

    def trouble(self, why: str) -> None:
        """Something went wrong. Any thread may call this."""
        if self._ring.dump_on_fault:
            self.ask(why)

    def ask(self, why: str) -> None:
        """Write a dump at the next message. Any thread, and a signal's handler, may call this."""
        self._asked.append(why)

    def record(self, stream: str, message: Message, now_ns: int, sequence: int) -> None:
        if self._asked:
            self._begin(now_ns)
        if self._dump is not None:
            if now_ns < self._until_ns:
                self._dump.record(stream, message, now_ns, sequence)
                return
            self._finish({})
        self._keep(_Kept(stream, message, now_ns, sequence, size_of(message)))

    def _keep(self, item: _Kept) -> None:
        assert self._run is not None
        self._kept.append(item)
        self._bytes += item.size
        oldest_ns = item.now_ns - self._ring.keep_ns
        while self._kept[0].now_ns < oldest_ns or (self._bytes > self._ring.most_bytes and len(self._kept) > 1):
            self._bytes -= self._kept.popleft().size
        steps, drops = self._run.log.drain()
        self._steps.extend(steps)
        self._drops.extend(drops)
        while self._steps and self._steps[0].done_ns < self._kept[0].now_ns:
            self._steps.popleft()
        while self._drops and self._drops[0].t_ns < self._kept[0].now_ns:
            self._drops.popleft()

    def _begin(self, now_ns: int) -> None:
        """Write what is kept; a dump that is being written goes on for longer instead."""
        assert self._run is not None
        while self._asked:
            self._why.append(self._asked.popleft())
        self._until_ns = now_ns + self._ring.keep_ns
        if self._dump is not None or len(self._files) >= _MOST_FILES:
            return
        path = self._folder / f"blackbox_{len(self._files) + 1:03d}.mcap"
        dump = McapRecorder(path, self._graph, {**self._facts, "ring_ns": self._ring.keep_ns}, owns_ledgers=False)
        try:
            dump.connect(self._run)
            dump.open()
        except OSError as error:
            _LOG.error("%s: cannot write the black box: %s", path, error.strerror)
            return
        self._files.append(path)
        _LOG.error("%s: writing the last %g s: %s", path, self._ring.keep_ns / 1e9, self._why[-1])
        dump.decide(list(self._steps), list(self._drops))
        for item in self._kept:
            dump.record(item.stream, item.message, item.now_ns, item.sequence)
        self._kept.clear()
        self._steps.clear()
        self._drops.clear()
        self._bytes = 0
        self._dump = dump

    def _finish(self, facts: Mapping[str, Any]) -> None:
        assert self._dump is not None
        self._dump.end({**facts, "why": self._why})
        self.lost_own += self._dump.lost_own
        self._dump = None
        self._why = []

    def end(self, facts: Mapping[str, Any]) -> None:
        """The run is over: write what was asked for and not yet written."""
        if self._asked and self._run is not None:
            self._begin(self._run.clock.now_ns())
        if self._dump is not None:
            self._finish(facts)
