"""One run of a graph: open everything, execute, close everything, account for every message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from foveate.budgets import Budget, BudgetMeter
from foveate.clock import Clock, LiveClock, VirtualClock
from foveate.decisions import StepLog
from foveate.device import Device
from foveate.errors import DeviceError, FoveateError, NodeFailed
from foveate.graph import Graph, order
from foveate.node import Node
from foveate.station import RECORDER, Recorder, Station, ledgers, stations
from foveate.supervision import Supervisor

ExecutorName = Literal["live", "virtual"]
_REOPEN_NS = 200_000_000  # two nodes that one device fails ask for it to be opened again a moment apart
_START_AFTER_NS = 10_000_000  # creating the recording takes 2 ms; then the first message of a source is not late


@dataclass(frozen=True, slots=True)
class WireReport:
    """The ledger of one wire at the end."""

    wire: str
    policy: str
    produced: int
    delivered: int
    dropped: Mapping[str, int]
    in_flight: int
    missing: int  # 0, or the engine has lost messages


@dataclass(slots=True)
class Result:
    """What a run did."""

    duration_ns: int
    stations: Mapping[str, Station]
    failure: FoveateError | None = None
    close_failures: list[FoveateError] = field(default_factory=list)
    stopped_by: str = "end"  # "end" | "duration" | "signal" | "failure"
    budgets: list[Budget] = field(default_factory=list)
    recorder: Recorder | None = None

    @property
    def wires(self) -> list[WireReport]:
        """The ledgers as they stand."""
        return [
            WireReport(
                str(wire), str(queue.policy), queue.ledger.produced, queue.ledger.delivered,
                dict(queue.ledger.dropped), len(queue), queue.ledger.missing(len(queue)),
            )
            for wire, queue in ledgers(self.stations)
        ]  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """Restarts and failures that were passed over, and sets that could not be matched, a line each."""
        lines = []
        for name, station in self.stations.items():
            s = station.supervisor
            if s.faults and station.stats.state != "failed":
                what = f"was restarted {s.restarts} times" if s.restarts else "went on"
                lines.append(f"{name} failed {s.faults} times and {what}; last: {s.last}")
            elif s.faults and self.failure is None:
                lines.append(f"{name} failed and was left out: {s.last}")
            lines += station.say()
        return lines

    @property
    def balanced(self) -> bool:
        """Whether produced = delivered + dropped + in flight on every wire."""
        return all(wire.missing == 0 for wire in self.wires)

    @property
    def unrecorded(self) -> int:
        """Messages that should be in the recording and are not: the disk was full or too slow."""
        record = [wire.dropped for wire in self.wires if f" -> {RECORDER}." in wire.wire]
        lost = sum(dropped.get(reason, 0) for dropped in record for reason in ("full", "unwritten"))
        return lost + (self.recorder.lost_own if self.recorder is not None else 0)

    @property
    def recordings(self) -> list[Path]:
        """What was recorded."""
        return self.recorder.files if self.recorder is not None else []


class Executor(Protocol):
    """Moves messages between stations until the sources end, the time is up, or `stop` is set."""

    def execute(self, made: Mapping[str, Station], duration_ns: int | None, stop: threading.Event) -> str:
        """Returns why it ended: "end", "duration" or "signal". Raises NodeFailed."""


class Run:
    """A graph made ready to execute once."""

    def __init__(
        self, graph: Graph, executor: ExecutorName = "live", *, replace: Mapping[str, Node] | None = None,
        open_devices: bool = True, wall_start_ns: int = 0,
    ) -> None:  # fmt: skip
        """`replace`: instances that stand in for nodes of the graph (a replay's sources, a test's fakes).

        `wall_start_ns`: Unix time at which a replayed run began.
        """
        from foveate.live import LiveExecutor
        from foveate.virtual import VirtualExecutor

        self.graph = graph
        self.stop = threading.Event()
        self.clock: Clock = LiveClock() if executor == "live" else VirtualClock(wall_start_ns)
        self._built = graph.build(replace or {})
        self.nodes, self.devices = self._built.nodes, self._built.devices
        self.log = StepLog()
        self.meter = BudgetMeter(graph, self._missed)
        if self.meter.budgets:
            self.log.listeners.append(self.meter.add)
        self.trouble: Callable[[str], None] = lambda why: None  # told of failures and missed budgets as they happen
        self._recorder: Recorder | None = None
        self._connect(None)
        self._open_devices = open_devices
        self._reopening = threading.Lock()
        self._reopened_ns: dict[str, int] = {}
        costs = {name: spec.cost_ns for name, spec in graph.nodes.items()}
        self.executor: Executor = (
            LiveExecutor(self.clock) if isinstance(self.clock, LiveClock)
            else VirtualExecutor(self.clock, costs)  # type: ignore[arg-type]
        )  # fmt: skip

    def add_recorder(self, recorder: Recorder) -> None:
        """Record what the graph's `record` block names. Call before `execute`."""
        self._recorder = recorder
        self._connect(recorder)
        self.log.keeps = True
        for station in self.stations.values():
            if station.name != RECORDER:
                station.log = self.log
            for inlet in station.inlets:
                inlet.queue.drops = self.log.drops
        recorder.connect(self)

    def _connect(self, recorder: Recorder | None) -> None:
        self.stations = stations(self.graph, self.nodes, recorder)
        for name, spec in self.graph.nodes.items():
            make = partial(self._built.make, name)
            tell = partial(self._failed, name)
            self.stations[name].supervisor = Supervisor(spec.on_fault, make, self._reopen, tell)
            if self.meter.budgets:
                self.stations[name].log = self.log

    def _missed(self, why: str) -> None:
        self.trouble(why)

    def _failed(self, node: str, what: str) -> None:
        self.trouble(f"node '{node}' failed: {what}")

    def _reopen(self, error: BaseException) -> None:
        """Close and open the device that an error came from, once for all nodes that it failed. Raises DeviceError."""
        if not isinstance(error, DeviceError) or not self._open_devices:
            return
        with self._reopening:
            now_ns = self.clock.now_ns()
            if now_ns - self._reopened_ns.get(error.uri, -_REOPEN_NS) < _REOPEN_NS:
                return
            for device in self.devices.values():
                if device.uri == error.uri:
                    device.close()
                    device.open(self.clock)
            self._reopened_ns[error.uri] = self.clock.now_ns()

    def execute(self, duration_ns: int | None = None) -> Result:
        """Run to the end. A failure of a node or device is in the result, not raised."""
        opened_devices: list[Device] = []
        opened_nodes: list[str] = []
        failure: FoveateError | None = None
        why = "failure"
        try:
            self._open(opened_devices, opened_nodes)
            why = self.executor.execute(self.stations, duration_ns, self.stop)
        except FoveateError as error:
            failure = error
        finally:
            problems = self._close(opened_nodes, opened_devices)
        self.meter.finish()
        return Result(self.clock.now_ns(), self.stations, failure, problems, why, self.meter.budgets, self._recorder)

    def _open(self, devices: list[Device], nodes: list[str]) -> None:
        for device in self.devices.values() if self._open_devices else ():
            devices.append(device)
            try:
                device.open(self.clock)
            except FoveateError:
                raise
            except Exception as error:
                raise NodeFailed(device.uri, "open", error) from error
        names = [*order(self.graph), *([RECORDER] if RECORDER in self.stations else [])]
        for name in names:
            if name == RECORDER and isinstance(self.clock, LiveClock):
                self.clock.start(_START_AFTER_NS)  # a recording says when the run began
            nodes.append(name)
            self._open_node(self.stations[name])

    def _open_node(self, station: Station) -> None:
        """Open a node; one that fails is tried again, left out or ends the run, as its policy says."""
        while True:
            try:
                station.node.open()
                return
            except Exception as error:
                verdict = station.supervisor.judge(error, self.clock.now_ns())
                if verdict.action == "stop":
                    station.stats.state = "failed"
                    raise NodeFailed(station.name, "open", error, verdict.why) from error
                if verdict.action == "ignore":
                    station.stats.state, station.stats.problem = "failed", station.supervisor.last
                    station.close_inlets()
                    for target in station.downstream("failed"):
                        target.stats.problem = f"gets nothing from {station.name}, which failed"
                    return
                if isinstance(self.clock, LiveClock):
                    self.stop.wait(verdict.delay_ns / 1e9)
                station.node = self._built.make(station.name)

    def _close(self, nodes: list[str], devices: list[Device]) -> list[FoveateError]:
        """Close in the reverse order; one that fails does not keep the others open."""
        problems: list[FoveateError] = []
        last = [name for name in nodes if name == RECORDER]
        for name in [*reversed([n for n in nodes if n != RECORDER]), *last]:
            try:
                self.stations[name].node.close()
            except Exception as error:
                if self.stations[name].supervisor.judge(error, self.clock.now_ns()).action == "stop":
                    problems.append(NodeFailed(name, "close", error))
        for device in reversed(devices):
            try:
                device.close()
            except Exception as error:
                problems.append(NodeFailed(device.uri, "close", error))
        return problems
