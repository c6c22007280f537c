"""`foveate evaluate trajectory`: estimates against the truth as a table, a page and JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from foveate.errors import FoveateError
from foveate.summary import table
from foveate_calibration.poses import Poses
from foveate_nodes.odometry import trajectory_report as report
from foveate_nodes.odometry.trajectory_error import Evaluation, How, evaluated
from foveate_nodes.odometry.trajectory_files import read_trajectory, same_recording

_ARRAYS = ("time_s", "error_m", "aligned_m", "step_m", "pieces")  # of an evaluation: for pictures
_EXAMPLES = """examples:
  foveate evaluate trajectory run.mcap:odometry.pose groundtruth.txt
  foveate evaluate trajectory a.txt b.txt c.txt fr1_desk/ --report compared.html --json compared.json
  foveate evaluate trajectory mono.txt fr1_desk/groundtruth.txt --align sim3
  foveate evaluate trajectory run.mcap:odometry.pose run.mcap:truth.pose --delta 1 --unit m
"""


def main(arguments: list[str]) -> int:
    """Evaluate, print the table, write what was asked for; nothing is written where an estimate cannot be compared."""
    options = _parser().parse_args(arguments)
    how = How(options.align, options.tolerance, options.offset, options.delta, options.unit,
              options.pairs == "consecutive", options.backward)  # fmt: skip
    of_run = all(same_recording(text, options.truth) for text in options.estimate)
    truth = read_trajectory(options.truth, of_run=of_run)
    estimates = [read_trajectory(text, of_run=of_run) for text in options.estimate]
    if len({estimate.name for estimate in estimates}) < len(estimates):  # of one name in several folders
        estimates = [replace(each, name=text) for each, text in zip(estimates, options.estimate, strict=True)]
    found = [evaluated(estimate, truth, how) for estimate in estimates]
    written = _written(options, truth, found, how)
    for line in table([report.heads(how.align), *(report.row(each, how.align) for each in found)]):
        print(line)
    for line in (report.words(how), *report.notes(truth, found), *map(str, written)):
        print(line)
    return 0


def _written(options: argparse.Namespace, truth: Poses, found: list[Evaluation], how: How) -> list[Path]:
    """Write all files that were asked for, or none. Raises FoveateError."""
    made: dict[Path, str] = {}
    if options.report is not None:
        made[options.report] = report.page(truth, found, how)
    if options.json is not None:
        plain = [{key: value for key, value in asdict(each).items() if key not in _ARRAYS} for each in found]
        told = {"how": asdict(how), "truth": options.truth, "estimates": plain}
        made[options.json] = json.dumps(told, indent=1, allow_nan=False)
    for path in made:
        if path.is_dir() or not path.parent.is_dir():
            why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
            raise FoveateError(f"{path}: cannot write: {why}")
    try:
        for path, content in made.items():
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise FoveateError(f"{path}: cannot write: {error.strerror}") from None
    return list(made)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foveate evaluate trajectory", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EXAMPLES,
        description="Absolute and relative errors of trajectories (ATE, RPE) as the TUM RGB-D benchmark counts them.",
    )  # fmt: skip
    parser.add_argument("estimate", nargs="+", metavar="ESTIMATE", help="TUM text, .csv, .json, FILE.mcap:node.output")
    parser.add_argument("truth", metavar="TRUTH", help="the same, or the folder of a dataset with poses in it")
    parser.add_argument("--align", choices=["se3", "sim3", "first", "none"], default="se3",
                        help="how an estimate is laid on the truth (default se3: turn and shift)")  # fmt: skip
    parser.add_argument("--tolerance", type=_above_zero, default=0.02, metavar="S", help="most between poses (0.02 s)")
    parser.add_argument("--offset", type=float, default=0.0, metavar="S", help="added to the estimates' times")
    parser.add_argument("--delta", type=_above_zero, default=1.0, metavar="N", help="step of the RPE (default 1)")
    parser.add_argument("--unit", choices=["frames", "s", "m", "rad"], default="s", help="of --delta (default s)")
    parser.add_argument("--pairs", choices=["all", "consecutive"], default="all",
                        help="steps from every pose (default), or one after the other")  # fmt: skip
    parser.add_argument("--backward", action="store_true",
                        help="steps seen from their end, as the benchmark's evaluate_rpe.py has them")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="a page with pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the numbers")
    return parser


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
