"""`foveate run`: the run itself, its comparisons, its report, its summary."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from types import FrameType
from typing import Any

from foveate import catalog
from foveate.clock import LiveClock
from foveate.commands.loading import graph_from
from foveate.commands.options import DIFFERENT
from foveate.errors import Fault, FoveateError, GraphError
from foveate.graph import Graph
from foveate.health import StatusFile
from foveate.quantity import parse_duration_ns
from foveate.recording import McapRecorder
from foveate.recording.black_box import BlackBox
from foveate.recording.seal import provenance
from foveate.run import ExecutorName, Result, Run
from foveate.summary import as_json, print_summary
from foveate.terminal import LiveView, ProgressBar


def main(options: argparse.Namespace) -> int:
    """Run a graph; the exit code says how it went."""
    duration_ns = None
    if options.duration is not None:
        try:
            duration_ns = parse_duration_ns(options.duration)
        except ValueError as error:
            raise GraphError([Fault("--duration", 1, 1, str(error))]) from None
    graph = graph_from(options)
    if options.no_record:
        graph = replace(graph, record=None, report=None)
    folder = options.output or _folder(graph)
    if graph.record is not None:
        folder.mkdir(parents=True, exist_ok=True)
    show = None if options.json or options.quiet else sys.stderr
    with StopSignals() as signals:
        result = execute(graph, options.executor, duration_ns, folder / "run.mcap", signals.stop, show is not None)
        files = list(result.recordings)
        lines: list[str] = []
        unreported = 0
        if graph.report is not None and options.no_compare:
            graph = replace(graph, report=replace(graph.report, variants=()))
        if graph.report is None or options.no_report or result.failure is not None:
            pass
        elif signals.stop.is_set():
            way = f"foveate report {graph.report.use} {folder / 'run.mcap'}"
            lines = [f"no report after a signal; write it with: {way}"]
        else:
            try:
                lines, report = _report(graph, result, folder, signals.stop, show is not None)
                files += [report] if report else []
            except FoveateError as error:
                lines, unreported = [f"no report: {error}"], 1
    if options.json:
        print(json.dumps(as_json(result, files, lines)))
    else:
        print_summary(result, files, lines)
    missed = options.assert_budgets and any(b.missed for b in result.budgets)
    return exit_code(result) or unreported or (DIFFERENT if missed else 0)


def exit_code(result: Result) -> int:
    """See `foveate run --help`."""
    if result.failure is not None or result.close_failures:
        return 1
    return 0 if result.balanced and not result.unrecorded else 3


def execute(
    graph: Graph, executor: ExecutorName, duration_ns: int | None, log: Path, stop: threading.Event, view: bool
) -> Result:
    """One run with its recording at `log`."""
    run = Run(graph, executor)
    recorder = _recorder(graph, executor, log)
    if recorder is not None:
        run.add_recorder(recorder)
    run.stop = stop
    live = LiveView(run, graph.name, duration_ns, sys.stderr) if view and isinstance(run.clock, LiveClock) else None
    bar = ProgressBar(run, duration_ns, graph.name, sys.stderr) if view and live is None else None
    for shown in (live, bar):
        if shown is not None:
            shown.start()
    status: AbstractContextManager[object] = nullcontext()
    if isinstance(run.clock, LiveClock):
        status = StatusFile(run.stations, run.clock.now_ns, graph.name)
    try:
        with status:
            result = run.execute(duration_ns)
    finally:
        for shown in (live, bar):
            if shown is not None:
                shown.finish()
    if recorder is not None:
        recorder.end(end_facts(result))
    return result


def _recorder(graph: Graph, executor: str, log: Path) -> McapRecorder | BlackBox | None:
    """What the graph's `record` block asks for; for a ring SIGUSR1 asks for a dump."""
    if graph.record is None:
        return None
    facts = provenance(graph, executor)
    if graph.record.ring is None:
        _make_way(log)
        return McapRecorder(log, graph, facts)
    box = BlackBox(log.parent, graph, graph.record.ring, facts)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, lambda number, frame: box.ask("asked for by SIGUSR1"))
    return box


def end_facts(result: Result) -> dict[str, Any]:
    """What a recording says of the run once it is over: statistics of the nodes, the ledger, the ending."""
    nodes = {}
    for name, station in result.stations.items():
        s = station.stats
        nodes[name] = {
            "steps": s.steps, "rate_hz": s.rate_hz,
            "latency_p50_ns": s.latency.quantile_ns(0.5), "latency_p99_ns": s.latency.quantile_ns(0.99),
            "step_p50_ns": s.step.quantile_ns(0.5), "step_p99_ns": s.step.quantile_ns(0.99),
            "late_p99_ns": s.lateness.quantile_ns(0.99),
        }  # fmt: skip
    ledger = [
        {"wire": w.wire, "policy": w.policy, "produced": w.produced, "delivered": w.delivered,
         "dropped": dict(w.dropped), "in_flight": w.in_flight} for w in result.wires
    ]  # fmt: skip
    return {
        "nodes": nodes, "ledger": ledger, "stopped_by": result.stopped_by,
        "failure": str(result.failure or ""), "notes": result.notes,
        "budgets": [budget.as_json() for budget in result.budgets], "duration_ns": result.duration_ns,
    }  # fmt: skip


def _report(
    graph: Graph, result: Result, folder: Path, stop: threading.Event, view: bool
) -> tuple[list[str], Path | None]:
    """Run the comparisons in simulated time for as long as the run itself took, then write the report."""
    assert graph.report is not None
    logs = {"run": folder / "run.mcap"}
    for variant in graph.report.variants:
        other = replace(graph.variant(variant), name=f"comparing with {variant.name}")
        log = folder / f"{variant.name}.mcap"
        compared = execute(other, "virtual", result.duration_ns, log, stop, view)
        if compared.failure is not None:
            return [f"comparison '{variant.name}' failed: {compared.failure}"], None
        if compared.stopped_by == "signal":
            return ["stopped before the report; write it with: foveate report"], None
        logs[variant.name] = log
    write = catalog.load("reports", graph.report.use)
    lines = write(logs, folder / "report.html")
    return lines, folder / "report.html"


def _folder(graph: Graph) -> Path:
    to = graph.record.to if graph.record is not None else Path("logs")
    base = to / f"{graph.name}_{datetime.now():%Y%m%d-%H%M%S}"
    others = (base.with_name(f"{base.name}-{number}") for number in count(2))
    return next(folder for folder in chain([base], others) if not folder.exists())


def _make_way(log: Path) -> None:
    if log.exists():
        raise FileExistsError(f"{log} exists already; choose another folder with --output")


class StopSignals:
    """Ctrl-C and SIGTERM set `stop`; a second one ends the process at once."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._before: Mapping[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._caught) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt
        self.stop.set()
