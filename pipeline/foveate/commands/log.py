"""`foveate log`."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from foveate.quantity import format_duration
from foveate.recording import Recording


def main(options: argparse.Namespace) -> int:
    """Print what a recording holds."""
    with Recording(options.log) as log:
        begin_ns, end_ns = log.time_range_ns
        run = {k: str(log.seal.get(k, "")) for k in ("graph", "executor")}
        streams = [
            {"topic": s.topic, "schema": s.schema, "messages": s.messages,
             "rate_hz": round(s.messages * 1e9 / max(end_ns - begin_ns, 1), 2)} for s in log.streams()
        ]  # fmt: skip
        size = options.log.stat().st_size
        if options.json:
            print(json.dumps({"file": str(options.log), "bytes": size, "run": run, "end": log.end,
                              "duration_s": (end_ns - begin_ns) / 1e9, "streams": streams}))  # fmt: skip
            return 0
        print(f"{options.log}  {size / 1e6:.1f} MB, {format_duration(end_ns - begin_ns)}")
        if log.wall_start_ns:
            print(f"  recorded   {datetime.fromtimestamp(log.wall_start_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC")
        for key in sorted(run):
            if key != "wall_start_ns":
                print(f"  {key:<10} {run[key]}")
        if not log.is_foveate:
            print("  carries no graph: not recorded by foveate")
        print(f"  {'stream':<28} {'schema':<28} {'messages':>9} {'rate':>9}")
        for s in streams:
            print(f"  {s['topic']:<28} {s['schema']:<28} {s['messages']:>9} {s['rate_hz']:>7.1f} Hz")
    return 0
