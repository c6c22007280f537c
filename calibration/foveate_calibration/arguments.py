"""Arguments that the procedures' commands share, and how they end: with a file, a report and a few lines."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from foveate.terminal import Progress
from foveate_calibration.document import Calibration
from foveate_calibration.errors import CalibrationError
from foveate_calibration.report import Extra, Residuals, page

BOARD_HELP = "such as chessboard:9x6:25mm, charuco:17x13:30mm:22mm:DICT_5X5_250, apriltag:6x6:24mm:7.2mm:tag36h11"


def action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, examples: str = ""
) -> argparse.ArgumentParser:
    """A sub-command with its help; `examples`: lines for the end of it."""
    return actions.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def add_board(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--board`."""
    parser.add_argument("--board", required=required, metavar="BOARD", help=BOARD_HELP)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """`--stream`, `--every`, `--mirrored`: how images are read."""
    parser.add_argument("--stream", metavar="NODE.OUTPUT", help="of a recording: which frames")
    parser.add_argument("--every", type=count, default=1, metavar="N", help="look only at each n-th image")
    parser.add_argument("--mirrored", action="store_true", help="the camera looks at the board by way of one mirror")


def add_lens(parser: argparse.ArgumentParser) -> None:
    """Which distortion is fitted."""
    parser.add_argument(
        "--distortion", default="k1,k2,p1,p2,k3", metavar="NAMES",
        help="coefficients to fit, with commas, or 'none' (default: k1,k2,p1,p2,k3)",
    )  # fmt: skip
    parser.add_argument("--rational", action="store_true", help="also k4,k5,k6: wide lenses")
    parser.add_argument("--tilted", action="store_true", help="a tilted sensor: tx,ty in the place of p1,p2")
    parser.add_argument("--fix-aspect", action="store_true", help="fy = fx: square pixels")


def coefficients(options: argparse.Namespace) -> tuple[str, ...]:
    """The names that the options of `add_lens` chose."""
    text = options.distortion.strip()
    names = [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]
    if options.tilted:
        names = [name for name in names if name not in ("p1", "p2")] + ["tx", "ty"]
    if options.rational:
        names += ["k4", "k5", "k6"]
    return tuple(dict.fromkeys(names))


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """`-o` and `--report`."""
    parser.add_argument("-o", "--output", type=Path, default=Path(default), metavar="FILE.yaml",
                        help=f"the calibration (default: {default})")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="a page with the residuals, opens offline")


def progress(title: str) -> Progress:
    """A bar on stderr where that is a terminal, else a line now and then."""
    return Progress(title, sys.stderr)


def tell(text: str) -> None:
    """A plain line on stderr."""
    print(text, file=sys.stderr)


def origin(**values: object) -> dict[str, str]:
    """Where a calibration is from, as text."""
    return {"foveate": version("foveate"), **{name: str(value) for name, value in values.items()}}


def finish(
    options: argparse.Namespace, calibration: Calibration, title: str, residuals: Sequence[Residuals] = (),
    removed: Sequence[str] = (), extras: Sequence[Extra] = (), lines: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Write the file and the report, and tell in a few lines what came of it; nothing is written before all is made."""
    calibration.text()  # refuses numbers that are not finite
    html = page(calibration, title, residuals, removed, extras) if options.report is not None else ""
    if options.report is not None and options.report.resolve() == options.output.resolve():
        raise CalibrationError(f"{options.report}: is named for the calibration and for the report; name two files")
    for path in (options.output, options.report):
        if path is not None and path.is_dir():
            raise CalibrationError(f"{path}: is a folder; name a file")
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(html, encoding="utf-8")
    calibration.save(options.output)
    for name, text in (lines or {}).items():
        print(f"{name:<18} {text}")
    for line in removed:
        print(f"{'left out':<18} {line}")
    for line in calibration.weak:
        print(f"{'weak':<18} {line}")
    print(f"{'written':<18} {options.output}" + (f", {options.report}" if options.report else ""))
    return 0


def factor(text: str) -> float:
    """A finite number from 0 on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 on")
    return value


def count(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no count from 1 on")
    return int(text)
