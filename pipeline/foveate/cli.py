"""The command `foveate`. Parsing only: each command's module is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

EXIT_CODES = """exit codes:
  0  done; for a run also when Ctrl-C, SIGTERM or --duration ended it in order
  1  a node, a device, a file or a recording failed (one line says which and why)
  2  wrong usage, or faults in the graph (one line each: file:line:col: what)
  3  messages were lost: unaccounted for, not written, or damaged in a recording
  4  recordings differ (replay --verify, log diff), or a latency budget was missed (--assert-budgets)
"""
_EXAMPLES = """examples:
  foveate run wide_area                          the simulated search, live, with a report
  foveate run wide_area --duration 5s --executor virtual --set seed=7
  foveate check my_robot.yaml                    every fault, without touching hardware
  foveate graph wide_area --svg graph.svg        draw it
  foveate list nodes                             ports, parameters, units
  foveate replay logs/*/run.mcap                 feed a recording back into its graph
  foveate replay logs/*/run.mcap --verify        prove that it gives the same bytes
  foveate devices test gige:127.0.0.1            does the camera keep a camera's promises?
  foveate why aim                                what a node of a live run waits for
"""
_EXTENSIONS = {  # what comes with foveate, but not from this package; an entry point carries no help
    "calibrate": "cameras, mirrors, lasers and whole rigs, from images or recordings of a board, with a report",
    "devices": "what is connected or emulated, its settings and a test grab; conformance of your own device",
    "emulate": "devices on real wires with no hardware: mirrors, cameras, lasers, event streams, a whole rig",
    "evaluate": "trajectories against the truth: absolute and relative errors, by TUM's conventions, with plots",
    "log": "look inside recordings, compare, cut, mend and trade them",
    "model": "what a network is made of: parameters and multiply-adds by layer, blocks that never fire",
    "train": "train the networks: detector and regions of the wide-area search, edges of odometry",
    "turntable": "the geometry of a turntable scan, from pictures of its markers and of the stripe",
}


def _graph_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("graph", help="a graph file, or the name of one in launch/graphs")
    parser.add_argument("--rig", metavar="RIG", help="another rig: a file, or the name of one in launch/rigs")
    _setting_arguments(parser)


def _setting_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="a parameter: node.param=value, param=value (of the graph's params), rig.device.option=value",
    )  # fmt: skip
    parser.add_argument(
        "--data", action="append", default=[], type=Path, metavar="FOLDER",
        help="a folder that paths written in the YAML may point into",
    )  # fmt: skip
    parser.add_argument(
        "--graphs", action="append", default=[], type=Path, metavar="FOLDER", help="look for graphs here too"
    )


def _run(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "run", help="run a graph", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXIT_CODES,
        description="Run a graph: record it, show it live, account for every message, write its report.",
    )  # fmt: skip
    _graph_arguments(parser)
    parser.add_argument("--duration", metavar="TIME", help="stop after this long, such as 20s or 500ms")
    parser.add_argument("--executor", choices=["live", "virtual"], default="live",
                        help="live: real time, a thread a node (default); virtual: deterministic")  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where recording and report go (default: logs/GRAPH_TIME)"
    )
    parser.add_argument("--no-record", action="store_true", help="write no recording and no report")
    parser.add_argument("--no-report", action="store_true", help="write no report and run no comparison")
    parser.add_argument("--no-compare", action="store_true", help="write the report without running its comparisons")
    parser.add_argument("--assert-budgets", action="store_true", help="exit with 4 if a latency budget was missed")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no live view")


def _others(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = sub.add_parser("check", help="hold a graph against the code, without touching hardware")
    _graph_arguments(check)
    check.add_argument("--json", action="store_true", help="print the faults as JSON")
    draw = sub.add_parser("graph", help="draw a graph as text or SVG, or print it expanded")
    _graph_arguments(draw)
    draw.add_argument("--svg", type=Path, metavar="FILE", help="write an SVG picture")
    draw.add_argument("--expanded", action="store_true", help="print the flat YAML with every parameter")
    listing = sub.add_parser("list", help="what is installed: nodes, drivers, graphs, reports")
    listing.add_argument("what", nargs="?", choices=["nodes", "drivers", "graphs", "reports"], help="only these")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument("--graphs", action="append", default=[], type=Path, metavar="FOLDER",
                         help="list graphs here too")  # fmt: skip
    replay = sub.add_parser("replay", help="feed a recording back into its graph, in simulated time")
    replay.add_argument("log", type=Path, help="an MCAP file that foveate recorded")
    _setting_arguments(replay)
    replay.add_argument("--graph", help="another graph to feed it into (default: the one in the recording)")
    replay.add_argument("--verify", action="store_true", help="compare every output with the recording")
    replay.add_argument("--tolerance", action="append", default=[], metavar="STREAM=X",
                        help="let numbers of node.output differ by X (default: equal byte for byte)")  # fmt: skip
    replay.add_argument("--nodes", metavar="A,B", help="run only these nodes; the others give what they gave")
    replay.add_argument("--swap", action="append", default=[], metavar="NODE=TYPE", help="another type for a node")
    replay.add_argument("--speed", type=float, metavar="X", help="1 = as fast as it was (default: as fast as it goes)")
    replay.add_argument("--allow-changes", action="store_true",
                        help="replay although a model, parameter or wire is not as recorded")  # fmt: skip
    replay.add_argument("--allow-gaps", action="store_true", help="replay although needed messages are missing")
    replay.add_argument("--no-record", action="store_true", help="write no new recording")
    replay.add_argument("--output", type=Path, metavar="FOLDER", help="where the new recording goes (default: logs/)")
    replay.add_argument("--json", action="store_true", help="print the result as one JSON object")
    why = sub.add_parser("why", help="what a node of a live run waits for, and who keeps it waiting")
    why.add_argument("node", nargs="?", help="the node (default: all)")
    why.add_argument("--pid", type=int, help="of the run, where several are live")
    why.add_argument("--log", type=Path, metavar="FILE", help="the last state in a recording instead")
    why.add_argument("--json", action="store_true", help="print JSON")
    report = sub.add_parser("report", help="write a report from recordings")
    report.add_argument("kind", help="the report: see 'foveate list reports'")
    report.add_argument("logs", type=Path, nargs="+", help="the run, then the runs to compare it with")
    report.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = argparse.ArgumentParser(
        prog="foveate", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Edge and robotics vision as a YAML graph of typed nodes.", epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
    )  # fmt: skip
    top.add_argument("--version", action="store_true", help="print the version")
    sub = top.add_subparsers(dest="command", metavar="COMMAND")
    _run(sub)
    _others(sub)
    for point in sorted(entry_points(group="foveate.commands")):
        about = _EXTENSIONS.get(point.name, f"({point.dist.name if point.dist else 'extension'})")
        sub.add_parser(point.name, help=about, add_help=False)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    extension = entry_points(group="foveate.commands", name=given[0]) if given else ()
    try:
        if extension:
            return int(next(iter(extension)).load()(given[1:]))
        options = parser().parse_args(given)
        if options.version:
            from importlib.metadata import version

            print(version("foveate"))
            return 0
        if options.command is None:
            parser().print_help()
            return 2
        return int(import_module(f"foveate.commands.{options.command}").main(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        return _explain(error)


def _explain(error: Exception) -> int:
    from foveate.errors import FoveateError, GraphError

    if isinstance(error, GraphError):
        print(error, file=sys.stderr)
        return 2
    if isinstance(error, FoveateError | OSError):
        print(f"foveate: {error}", file=sys.stderr)
        return 1
    raise error


if __name__ == "__main__":
    sys.exit(main())
