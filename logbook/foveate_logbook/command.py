"""The command `foveate log`. Parsing only: each action's module is imported when it runs."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

_MODULES = {"export": "exporting", "import": "importing"}  # words that a module cannot be called, or should not


def main(arguments: list[str]) -> int:
    """Do an action; returns its exit code."""
    options = parser().parse_args(arguments)
    module = _MODULES.get(options.action, options.action)
    return int(import_module(f"foveate_logbook.{module}").main(options))


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, *flags: str
) -> argparse.ArgumentParser:
    made = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    made.add_argument("log", type=Path, metavar="LOG")
    if "out" in flags:
        made.add_argument("out", type=Path, metavar="OUT", help="what to write; it must not exist yet")
    if "span" in flags:
        made.add_argument("--from", dest="begin", metavar="TIME", help="from this time of the run on, such as 2.5s")
        made.add_argument("--to", dest="end", metavar="TIME", help="before this time of the run")
    if "streams" in flags:
        made.add_argument("--streams", metavar="A,B", help="only these")
    if "json" in flags:
        made.add_argument("--json", action="store_true", help="print JSON")
    return made


def parser() -> argparse.ArgumentParser:
    """The arguments of `foveate log`."""
    top = argparse.ArgumentParser(
        prog="foveate log", description="Look inside recordings, compare, cut, mend and trade them."
    )
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    _look(actions)
    _action(actions, "cut", "a part by time or streams, as a recording of its own", "out", "span", "streams")
    _action(
        actions, "recover", "what is left of a damaged file, clean and indexed; exit code 3 if messages are lost", "out"
    )
    made = _action(actions, "export", "streams as a ROS 2 bag, a video, TUM files, tables or images",
                   "streams")  # fmt: skip
    made.add_argument("format", choices=["csv", "images", "ros2", "tum", "video"])
    made.add_argument("out", type=Path, metavar="OUT", help="a file or folder that does not exist yet")
    made = _action(
        actions, "import", "a recording of somebody else's log: ROS bags, MCAP, TUM RGB-D, images, videos", "out"
    )
    made.add_argument("--topics", metavar="A,B", help="only these (default: all that can be decoded)")
    return top


def _look(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    info = _action(
        actions, "info", "what made a recording, what is in it, what is missing; of other logs, their topics", "json"
    )
    info.add_argument("--check", action="store_true", help="read the whole file and hold it against its checksums")
    ls = _action(actions, "ls", "streams with times, sizes and gaps; with a stream, its messages", "span", "json")
    ls.add_argument("stream", nargs="?", help="node.output")
    cat = _action(actions, "cat", "the messages of a stream as JSON, a line each", "span")
    cat.add_argument("stream", help="node.output")
    cat.add_argument("--number", type=int, metavar="N", help="only message N")
    cat.add_argument("--count", type=int, metavar="N", help="stop after N messages")
    cat.add_argument("--full", action="store_true", help="large arrays whole, not by shape and range")
    trace = _action(actions, "trace", "the steps and source messages behind a message", "json")
    trace.add_argument("stream", help="node.output")
    trace.add_argument("number", nargs="?", type=int, help="which message (default: the last)")
    plot = _action(actions, "plot", "rates, latencies, drops and fields over time, as a PNG", "out")
    plot.add_argument(
        "--field", action="append", default=[], metavar="NODE.OUTPUT.FIELD",
        help="also this field, such as aim.target.angle_rad[0] or find.boxes.score (of an array: its mean and range)",
    )  # fmt: skip
    diff = _action(
        actions, "diff", "compare two recordings stream by stream; exit code 4 where they differ", "json", "streams"
    )
    diff.add_argument("other", type=Path, metavar="LOG")
    diff.add_argument("--times", action="store_true", help="also when messages were put on their wires")
    diff.add_argument("--tolerance", action="append", default=[], metavar="STREAM=X", help="as for replay")
