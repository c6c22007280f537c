"""`foveate replay`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

from foveate.commands.loading import find
from foveate.commands.options import DIFFERENT, pair, tolerances
from foveate.commands.run import StopSignals, end_facts, exit_code
from foveate.errors import Fault, GraphError
from foveate.recording import McapRecorder, Recording
from foveate.replay import Replay
from foveate.run import Result
from foveate.summary import as_json, print_summary
from foveate.terminal import ProgressBar


def main(options: argparse.Namespace) -> int:
    """Run the recording's graph from its recorded sources."""
    with Recording(options.log) as log, StopSignals() as signals:
        notes = log.notes()
        for line in notes:
            print(line, file=sys.stderr)
        replay = Replay(
            log, graph=find(options.graph, options.graphs) if options.graph else None, settings=options.settings,
            swaps=dict(pair("--swap", text) for text in options.swap), nodes=_names(options.nodes),
            allowed=options.data, allow_changes=options.allow_changes, allow_gaps=options.allow_gaps,
            tolerances=tolerances(options.tolerance),
            speed=_speed(options.speed),
        )  # fmt: skip
        replay.run.stop = signals.stop
        result = _execute(replay, options)
        replay.verifier.finish(result.stopped_by == "end", log.file.closed)
        lost = log.lost()
    lines = [f"changed: {change}" for change in replay.changes] + replay.executor.reasons
    if replay.executor.skipped > len(replay.executor.reasons):
        lines.append(f"{replay.executor.skipped} steps were not repeated; these are the first")
    if options.verify:
        free = [n for n in replay.graph.nodes if n not in replay.followed and n not in replay.sources]
        lines += [
            f"{name}: its wires are not those of the recording; it ran freely and is not compared" for name in free
        ]
        lines += replay.verifier.lines()
    files = list(result.recordings)
    if options.json:
        verdict = _verdict(replay) if options.verify else None
        print(json.dumps({**as_json(result, files, lines), "verified": verdict}))
    else:
        print_summary(result, files, lines)
    code = exit_code(result)
    if code == 0 and options.verify and not replay.verifier.good:
        return DIFFERENT
    return code or (3 if lost else 0)


def _execute(replay: Replay, options: argparse.Namespace) -> Result:
    graph, run = replay.graph, replay.run
    recorder = None
    if graph.record is not None and graph.record.streams and not options.no_record:
        folder = options.output or Path("logs") / f"replay_{datetime.now():%Y%m%d-%H%M%S}"
        recorder = McapRecorder(folder / "replay.mcap", graph, replay.seal)
        if recorder.path.exists():
            raise FileExistsError(f"{recorder.path} exists already; choose another folder with --output")
        run.add_recorder(recorder)
    bar = None if options.json else ProgressBar(
        run, replay.log.time_range_ns[1], f"replaying {replay.log.path.name}", sys.stderr
    )  # fmt: skip
    if bar is not None:
        bar.start()
    try:
        result = run.execute(None)
    finally:
        if bar is not None:
            bar.finish()
    if recorder is not None:
        recorder.end(end_facts(result))
    return result


def _verdict(replay: Replay) -> dict[str, object]:
    first = replay.verifier.first
    where = None
    if first is not None:
        where = {"stream": first.stream, "number": first.number, "text": first.text, "inputs": first.inputs}
    return {"good": replay.verifier.good, "first": where}


def _speed(value: float | None) -> float:
    if value is not None and not 0 < value < float("inf"):
        raise GraphError([Fault("--speed", 1, 1, f"'{value:g}' is not a number above 0")])
    return value or 0.0


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]
