"""`foveate log info` of a log that foveate did not record: its topics, and what they become here."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from foveate.quantity import format_duration
from foveate.summary import table
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.opening import open_log

_UNIX_FROM_NS = 10**17  # 1973: what is less is a clock that counts from a sensor's or a simulation's start


def main(options: argparse.Namespace) -> int:
    """Print the topics."""
    with open_log(options.log) as log:
        if options.json:
            listed = [
                {"topic": t.name, "schema": t.schema, "messages": t.messages, "reason": t.reason,
                 "becomes": t.kind.__name__ if t.kind else None} for t in log.topics
            ]  # fmt: skip
            print(json.dumps({"file": str(log.path), "duration_s": (log.end_ns - log.start_ns) / 1e9,
                              "start_ns": log.start_ns, "about": log.metadata, "topics": listed,
                              "problems": log.problems}))  # fmt: skip
            return 0
        print(f"{log.path}  not recorded by foveate; {format_duration(log.end_ns - log.start_ns)}")
        if log.start_ns > _UNIX_FROM_NS:
            print(f"  recorded    {datetime.fromtimestamp(log.start_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC")
        for name, text in log.metadata.items():
            print(f"  {name:<11} {text}")
        rows = [["topic", "schema", "becomes", "messages"]]
        rows += [
            [t.name, t.schema, t.kind.__name__ if t.kind else f"- ({t.reason})", str(t.messages)] for t in log.topics
        ]
        for line in table(rows, 3):
            print("  " + line)
        _say(log)
    return 0


def _say(log: Log) -> None:
    for name, text in log.problems.items():
        print(f"{name or log.path}: {text}", file=sys.stderr)
