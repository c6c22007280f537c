"""`foveate calibrate rig`, and what it shares with `mirror` and `laser`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate_calibration import arguments

if TYPE_CHECKING:
    from foveate_calibration.procedures.rig import RigFit
    from foveate_calibration.report import Residuals
    from foveate_calibration.rig_reading import RigReading

_EXAMPLES = """  foveate calibrate rig boards.mcap --board charuco:17x13:30mm:14mm:DICT_5X5_250 --report rig.html
  foveate calibrate rig boards.mcap --frames cam.frame --light galvo.state --board charuco:17x13:30mm:14mm:DICT_5X5_250

A recording of a board that is held still at 10 to 30 places all over the volume, tilted to all sides, while the mirrors
look at it and sweep the laser over it: its frames, and the readings of the laser's mirror (node mirror_reading)."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    text = "a steered camera and a steered laser, everything jointly, from a recording of boards"
    parser = arguments.action(actions, "rig", text, _EXAMPLES)
    add_recording(parser)
    add_fit(parser)
    arguments.add_output(parser, "rig.yaml")
    parser.set_defaults(run=run)


def add_recording(parser: argparse.ArgumentParser, light: bool = True) -> None:
    """The recording and its streams."""
    parser.add_argument("log", type=Path, metavar="LOG", help="a recording of boards")
    arguments.add_board(parser)
    parser.add_argument("--frames", default="camera.frame", metavar="NODE.OUTPUT", help="default: camera.frame")
    if light:
        parser.add_argument("--light", default="light.state", metavar="NODE.OUTPUT",
                            help="readings of the laser's mirror (default: light.state)")  # fmt: skip


def add_fit(parser: argparse.ArgumentParser) -> None:
    """What may change in the fit."""
    parser.add_argument("--free", default="fx,fy,cx,cy,k1", metavar="NAMES",
                        help="of the lens, with commas (default: fx,fy,cx,cy,k1)")  # fmt: skip
    parser.add_argument("--machined", type=arguments.factor, default=1.0, metavar="FACTOR",
                        help="how far mirrors may be from the drawing, by what is usual (default: 1)")  # fmt: skip


def free_names(options: argparse.Namespace) -> tuple[str, ...]:
    """The lens parameters of `--free`. Raises CalibrationError."""
    from foveate_calibration.procedures.rig import check_free

    names = tuple(name.strip() for name in options.free.split(",") if name.strip())
    check_free(names)
    return names


def run(options: argparse.Namespace) -> int:
    """Read, fit, write, tell."""
    from foveate_calibration.procedures.rig import fit_rig
    from foveate_calibration.procedures.rig_document import rig_document

    free = free_names(options)  # before the long reading
    reading = read(options, options.light)
    fit = fit_rig(
        reading.views, reading.camera, reading.laser, machined=options.machined, free_lens=free,
        tell=arguments.tell,
    )  # fmt: skip
    calibration = rig_document(fit, came_from(options, reading, "rig"))
    title = f"Rig, {len(fit.problem.views)} views of {options.board}"
    return arguments.finish(options, calibration, title, shown(fit), fit.removed, (), lines(fit))


def read(options: argparse.Namespace, light: str | None) -> RigReading:
    """What the recording shows."""
    from foveate_calibration.boards import Board
    from foveate_calibration.rig_reading import read_rig

    reading = read_rig(
        options.log, Board.parse(options.board), frames=options.frames, light=light,
        progress=arguments.progress("looking for the board"),
    )  # fmt: skip
    arguments.tell(reading.told())
    return reading


def came_from(options: argparse.Namespace, reading: RigReading, procedure: str) -> dict[str, str]:
    """The origin of a calibration."""
    from foveate.recording.seal import sha256_of

    return arguments.origin(
        procedure=procedure, recording=options.log, sha256=sha256_of(options.log), board=options.board,
        seen=reading.told(),
    )  # fmt: skip


def shown(fit: RigFit) -> Sequence[Residuals]:
    """Residuals for the page: of the views that were fitted, and of those that were not."""
    from foveate_calibration.report import Residuals, residuals_of

    problem, noise = fit.problem, fit.problem.noise
    names = [view.name for view in problem.views]
    size = (problem.camera.lens.width, problem.camera.lens.height)
    parts = list(zip(problem.views, fit.solution.residuals, strict=True))
    corners = [r[: 2 * len(v.pixel)].reshape(-1, 2) * noise.corner_px for v, r in parts]
    found = [residuals_of("corners", "px", corners, names, [view.pixel for view, _ in parts], size)]
    if problem.laser is not None:
        stripes = [r[2 * len(v.pixel) :].reshape(-1, 1) * noise.stripe_px for v, r in parts]
        found.append(residuals_of("stripe across the line", "px", stripes, names))
    held = fit.held_out
    if held.views:
        names_held = tuple(view.name for view in held.views)
        found.append(Residuals("corners, held out", "px", held.own_px, held.number, names_held, held.at_px, size))
    return found


def lines(fit: RigFit) -> dict[str, str]:
    """What a fit comes to."""
    noise, held = fit.problem.noise, fit.held_out
    told = {
        "views": f"{len(fit.problem.views)} fitted, {len(held.views)} held out, {len(fit.removed)} left out",
        "corners": f"{noise.corner_px:.3f} px; readings of the camera's mirror {noise.camera_rad * 1e6:.1f} urad",
        "held out": f"{held.rms_px:.3f} px, {held.rms_px / held.floor_px:.2f} of what noise leaves"
        if len(held.raw_px)
        else "nothing: fewer than 5 views of each place, so there is nothing to judge by",
    }
    if fit.problem.laser is not None and len(held.stripe_m):
        told["laser"] = (
            f"stripes {noise.stripe_px:.3f} px; readings of its mirror {noise.laser_rad * 1e6:.1f} urad; "
            f"held-out stripes {1e3 * float((held.stripe_m**2).mean() ** 0.5):.3f} mm off its plane"
        )
    return told
