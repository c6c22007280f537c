"""`foveate replay`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

from foveate.commands.loading import find
from foveate.commands.run import StopSignals, end_facts, exit_code
from foveate.recording import McapRecorder, Recording
from foveate.recording.seal import provenance
from foveate.replay import prepare
from foveate.run import Run
from foveate.summary import as_json, print_summary
from foveate.terminal import ProgressBar


def main(options: argparse.Namespace) -> int:
    """Run the recording's graph from its recorded sources."""
    with Recording(options.log) as log, StopSignals() as signals:
        path = find(options.graph, options.graphs) if options.graph else None
        graph, sources = prepare(log, path, options.settings, options.data)
        folder = options.output or Path("logs") / f"replay_{datetime.now():%Y%m%d-%H%M%S}"
        run = Run(graph, "virtual", replace=sources, open_devices=False)
        run.stop = signals.stop
        recorder = None
        if graph.record is not None and graph.record.streams:
            recorder = McapRecorder(folder / "replay.mcap", graph, provenance(graph, "replay"))
            run.add_recorder(recorder)
        bar = (
            None
            if options.json
            else ProgressBar(run, log.time_range_ns[1], f"replaying {options.log.name}", sys.stderr)
        )
        if bar is not None:
            bar.start()
        try:
            result = run.execute(None)
        finally:
            if bar is not None:
                bar.finish()
        if recorder is not None:
            recorder.end(end_facts(result))
            result.recording = recorder.path
        before = {s.topic.lstrip("/"): s.messages for s in log.streams()}
    lines = [_compared(name, before, count) for name, count in _counts(result.recording).items()]
    files = [result.recording] if result.recording else []
    if options.json:
        print(json.dumps(as_json(result, files, lines)))
    else:
        print_summary(result, files, lines)
    return exit_code(result)


def _counts(path: Path | None) -> dict[str, int]:
    if path is None:
        return {}
    with Recording(path) as log:
        return {s.topic.lstrip("/"): s.messages for s in log.streams()}


def _compared(name: str, before: dict[str, int], count: int) -> str:
    return f"{name}: {count} messages replayed, {before.get(name, 0)} in the recording"
