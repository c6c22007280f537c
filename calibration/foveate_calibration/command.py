"""The command `foveate calibrate`. Its actions are the modules of `commands` that have `add`."""

from __future__ import annotations

import argparse
from importlib import import_module
from pkgutil import iter_modules

from foveate.catalog import optional
from foveate_calibration import commands

_EXAMPLES = """examples:
  foveate calibrate board charuco:17x13:30mm:22mm:DICT_5X5_250 -o board.svg      print it at 100 %
  foveate calibrate camera shots/ --board charuco:17x13:30mm:22mm:DICT_5X5_250 -o camera.yaml --report camera.html
  foveate calibrate camera logs/run.mcap --stream wide.frame --board chessboard:9x6:25mm -o camera.yaml
  foveate calibrate stereo --left 'left*.png' --right 'right*.png' --board chessboard:9x6:25mm -o stereo.yaml
  foveate calibrate handeye --hand robot.tum --images shots/ --lens camera.yaml --board apriltag:6x6:24mm:7.2mm:tag36h11
  foveate calibrate check camera.yaml
"""


def main(arguments: list[str]) -> int:
    """Do an action; returns its exit code."""
    options = parser().parse_args(arguments)
    if options.needs_vision:
        optional("cv2", "calibrate", "vision")
    return int(options.run(options))


def parser() -> argparse.ArgumentParser:
    """The arguments of `foveate calibrate`."""
    top = argparse.ArgumentParser(
        prog="foveate calibrate", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EXAMPLES,
        description="Fit cameras, mirrors and lasers to images of a board; write YAML with a checksum and a report.",
    )  # fmt: skip
    top.set_defaults(needs_vision=True)
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    for found in sorted(iter_modules(commands.__path__), key=lambda module: module.name):
        module = import_module(f"foveate_calibration.commands.{found.name}")
        if hasattr(module, "add"):
            module.add(actions)
    return top
