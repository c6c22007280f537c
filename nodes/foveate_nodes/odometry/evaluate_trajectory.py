"""`foveate evaluate trajectory`: estimates against the truth as a table, a page and JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from math import isfinite
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
    """Evaluate, print the table, write what was asked for. Returns 1 where an estimate cannot be compared.

    Of several estimates such a one has a row with the reason; where none is left there are no files.
    """
    options = _parser().parse_args(arguments)
    how = How(options.align, options.tolerance, options.offset, options.delta, options.unit,
              options.pairs == "consecutive", options.backward)  # fmt: skip
    of_run = all(same_recording(text, options.truth) for text in options.estimate)
    truth = read_trajectory(options.truth, of_run=of_run)
    found, failed = _evaluated(options.estimate, truth, of_run, how)
    written = _written(options, truth, found, failed, how)
    heads = report.heads(how.align)
    none = ["-"] * (len(heads) - 1)
    lines = table([heads, *(report.row(each, how.align) for each in found), *([text, *none] for text in failed)])
    for line, reason in zip(lines, [*[""] * (1 + len(found)), *failed.values()], strict=True):
        print(f"{line}  {reason}".rstrip())
    for line in (report.words(how), *report.notes(truth, found), *map(str, written)):
        print(line)
    return 1 if failed else 0


def _evaluated(texts: list[str], truth: Poses, of_run: bool, how: How) -> tuple[list[Evaluation], dict[str, str]]:
    """What was found, and of each estimate that cannot be compared why. Raises FoveateError where there is but one."""
    read: dict[str, Poses] = {}
    found: list[Evaluation] = []
    failed: dict[str, str] = {}
    for text in texts:
        try:
            read[text] = read_trajectory(text, of_run=of_run)
        except FoveateError as error:
            failed[text] = str(error)
            if len(texts) == 1:
                raise
    alike = len({estimate.name for estimate in read.values()}) < len(read)  # of one name in several folders
    for text, estimate in read.items():
        try:
            found.append(evaluated(replace(estimate, name=text) if alike else estimate, truth, how))
        except FoveateError as error:
            failed[text] = str(error).removeprefix(f"{estimate.name}: ")
            if len(texts) == 1:
                raise
    return found, {text: why.removeprefix(f"{text}: ") for text, why in failed.items()}


def _written(
    options: argparse.Namespace, truth: Poses, found: list[Evaluation], failed: dict[str, str], how: How
) -> list[Path]:
    """Write all files that were asked for, or none. Raises FoveateError."""
    made: dict[Path, str] = {}
    if not found:
        return []
    if options.report is not None:
        made[options.report] = report.page(truth, found, how, failed)
    if options.json is not None:
        plain = [{key: value for key, value in asdict(each).items() if key not in _ARRAYS} for each in found]
        told = {"how": asdict(how), "truth": options.truth, "estimates": plain, "failed": failed}
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
    parser.add_argument("--offset", type=_finite, default=0.0, metavar="S", help="added to the estimates' times")
    parser.add_argument("--delta", type=_above_zero, default=1.0, metavar="N", help="step of the RPE (default 1)")
    parser.add_argument("--unit", choices=["frames", "s", "m", "rad"], default="s", help="of --delta (default s)")
    parser.add_argument("--pairs", choices=["all", "consecutive"], default="all",
                        help="steps from every pose (default), or one after the other")  # fmt: skip
    parser.add_argument("--backward", action="store_true",
                        help="steps seen from their end, as the benchmark's evaluate_rpe.py has them")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="a page with pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the numbers")
    return parser


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not finite")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
