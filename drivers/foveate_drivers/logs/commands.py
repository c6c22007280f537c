"""`foveate log topics | export | import`: what other people's logs hold, and trade with their formats."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from foveate import catalog
from foveate.commands.log import LOST, tell
from foveate.errors import FoveateError
from foveate.quantity import format_duration
from foveate.recording import Recording
from foveate.summary import table
from foveate.terminal import Progress
from foveate_drivers.logs.base import Log, Topic
from foveate_drivers.logs.importing import import_log, stream_names
from foveate_drivers.logs.opening import open_log


def topics(options: argparse.Namespace) -> int:
    """`foveate log info` of a log that foveate did not record."""
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
        if log.start_ns > 0:
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


def _chosen(log: Log, wanted: str | None) -> list[Topic]:
    if wanted is None:
        return log.topics
    known = {topic.name: topic for topic in log.topics}
    for name in wanted.split(","):
        if name not in known:
            raise FoveateError(f"{log.path}: no topic '{name}'{catalog.did_you_mean(name, known)}")
    return [known[name] for name in wanted.split(",")]


def import_(arguments: list[str]) -> int:
    """Make a recording of a log; exit code 3 if a message of a decodable topic could not be read."""
    parser = argparse.ArgumentParser(
        prog="foveate log import", description="Make a recording of somebody else's log: ROS 1 and ROS 2 bags, MCAP "
        "with ROS 2, Foxglove or JSON messages, TUM RGB-D folders, folders of images, videos.",
    )  # fmt: skip
    parser.add_argument("log", type=Path, help="a file or folder")
    parser.add_argument("out", type=Path, help="the recording to write (.mcap)")
    parser.add_argument("--topics", metavar="A,B", help="only these (default: all that can be decoded)")
    options = parser.parse_args(arguments)
    with open_log(options.log) as log:
        chosen = _chosen(log, options.topics)
        count, lines = import_log(log, options.out, chosen, Progress(f"importing {log.path.name}", sys.stderr))
        for topic, stream in stream_names(chosen).items():
            print(f"  {topic} -> {stream}")
        for line in lines:
            print(line, file=sys.stderr)
        print(f"{options.out}  {count} messages")
        return LOST if log.problems else 0


def export(arguments: list[str]) -> int:
    """Write streams of a recording in another format."""
    formats = catalog.listing("log_formats")
    parser = argparse.ArgumentParser(
        prog="foveate log export", description="Write streams of a recording as a ROS 2 bag (ros2), a video, "
        "trajectories or an RGB-D folder as TUM writes them (tum), tables (csv) or images.",
    )  # fmt: skip
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("format", choices=sorted(formats))
    parser.add_argument("out", type=Path, metavar="OUT", help="a file or folder that does not exist yet")
    parser.add_argument("--streams", metavar="A,B", help="only these (default: all that the format can hold)")
    options = parser.parse_args(arguments)
    write = catalog.load("log_formats", options.format)
    with Recording(options.log) as log:
        tell(log)
        streams = options.streams.split(",") if options.streams else [stream.name for stream in log.streams()]
        progress = Progress(f"exporting {options.log.name}", sys.stderr)
        for line in write(log, [name.removeprefix("/") for name in streams], options.out, progress):
            print(line)
        return LOST if log.lost() else 0
