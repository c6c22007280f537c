"""`foveate calibrate laser`: steered, from a recording; fixed, from images."""

from __future__ import annotations

import argparse
from pathlib import Path

from foveate_calibration import arguments
from foveate_calibration.commands import rig

_EXAMPLES = """  foveate calibrate laser boards.mcap --camera mirror.yaml --board charuco:17x13:30mm:14mm:DICT_5X5_250
  foveate calibrate laser shots/ --camera camera.yaml --board chessboard:9x6:25mm --width 5 -o laser.yaml

With a steered camera in --camera: a recording, as for `rig`. With a lens: images of the stripe on a board."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    text = "the plane of a laser, fixed or steered, seen by a camera that is calibrated already"
    parser = arguments.action(actions, "laser", text, _EXAMPLES)
    parser.add_argument(
        "images", nargs="+", metavar="LOG|IMAGES", help="a recording, or images of the stripe on a board"
    )
    arguments.add_board(parser)
    parser.add_argument("--camera", required=True, metavar="FILE[:NAME]", help="the camera's calibration")
    parser.add_argument("--frames", default="camera.frame", metavar="NODE.OUTPUT", help="default: camera.frame")
    parser.add_argument("--light", default="light.state", metavar="NODE.OUTPUT",
                        help="readings of the laser's mirror (default: light.state)")  # fmt: skip
    parser.add_argument("--machined", type=arguments.factor, default=1.0, metavar="FACTOR",
                        help="how far the mirror may be from the drawing (default: 1)")  # fmt: skip
    parser.add_argument(
        "--width", type=arguments.factor, default=6.0, metavar="PX", help="of the stripe at half height (default: 6)"
    )
    parser.add_argument(
        "--channel", default="gray", choices=("gray", "red", "green", "blue"), help="the laser's colour"
    )
    arguments.add_output(parser, "laser.yaml")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, fit, write, tell."""
    from foveate_calibration.document import Calibration
    from foveate_calibration.steered_camera import SteeredCamera

    path = Path(options.camera)
    known = Calibration.load(path) if path.is_file() else Calibration({})
    if any(isinstance(model, SteeredCamera) for model in known.models.values()):
        return _steered(options, known.model("camera", SteeredCamera))
    return _fixed(options)


def _steered(options: argparse.Namespace, camera: object) -> int:
    from foveate_calibration.errors import CalibrationError
    from foveate_calibration.procedures.laser import planes_by_angle
    from foveate_calibration.procedures.rig import fit_rig
    from foveate_calibration.procedures.rig_document import rig_document
    from foveate_calibration.steered_camera import SteeredCamera

    assert isinstance(camera, SteeredCamera)
    if len(options.images) != 1 or not options.images[0].endswith(".mcap"):
        raise CalibrationError(f"{options.images[0]}: with a steered camera the laser needs one recording")
    options.log = Path(options.images[0])
    reading = rig.read(options, options.light)
    fit = fit_rig(
        reading.views, camera, reading.laser, machined=options.machined, free_lens=(), hold_camera=True,
        tell=arguments.tell,
    )  # fmt: skip
    planes = planes_by_angle(fit.problem.views, fit.problem.camera, fit.problem.rig_from_board)
    calibration = rig_document(fit, rig.came_from(options, reading, "laser"))
    told = rig.lines(fit)
    if planes:
        worst = max(planes, key=lambda plane: plane.rms_m)
        told["planes"] = (
            f"{len(planes)} angles on several boards, worst {1e3 * worst.rms_m:.3f} mm at {worst.angle_rad:.4f} rad"
        )
    title = f"Laser, {len(fit.problem.views)} views of {options.board}"
    return arguments.finish(options, calibration, title, rig.shown(fit), fit.removed, (), told)


def _fixed(options: argparse.Namespace) -> int:
    import numpy as np

    from foveate_calibration.boards import Board
    from foveate_calibration.document import Calibration
    from foveate_calibration.procedures.laser import fit_laser_plane, with_stripe
    from foveate_calibration.report import residuals_of
    from foveate_calibration.stored import lens_of
    from foveate_calibration.stripe_reading import read_stripes

    board, lens = Board.parse(options.board), lens_of(options.camera)
    views = read_stripes(
        board, options.images, lens, width_px=options.width, channel=options.channel, tell=arguments.tell,
        progress=arguments.progress("looking for board and stripe"),
    )  # fmt: skip
    laser, fit = fit_laser_plane(views, lens)
    residuals = {"plane_m": {"rms": fit.rms_m, "max": float(np.abs(fit.residual_m[fit.used]).max()),
                             "count": float(fit.used.sum()), "left_out": float((~fit.used).sum())}}  # fmt: skip
    sigma = np.sqrt(np.diag(fit.covariance))
    sigmas = {"laser.tilt_a": float(sigma[0]), "laser.tilt_b": float(sigma[1]), "laser.distance": float(sigma[2])}
    came = arguments.origin(procedure="laser", images=" ".join(options.images), board=board.text, camera=options.camera)
    calibration = Calibration({"camera": lens, "laser": laser}, residuals, sigmas, (), came)
    lit = with_stripe(views)
    counts = np.cumsum([len(view.stripe_px) for view in lit if view.stripe_px is not None])[:-1]
    parts = [1e3 * part[:, None] for part in np.split(fit.residual_m, counts)]
    shown = residuals_of("stripe off the plane", "mm", parts, [view.name for view in lit])
    return arguments.finish(
        options, calibration, f"Laser plane, {len(lit)} images of {board.text}", [shown], (), (),
        {
            "plane": f"normal {np.round(laser.sheet[:3], 5).tolist()}, distance {laser.sheet[3]:.5f} m",
            "residual": f"{1e3 * fit.rms_m:.3f} mm over {int(fit.used.sum())} points of {len(lit)} images",
            "sigma": f"{1e3 * sigma[0]:.3f} and {1e3 * sigma[1]:.3f} mrad, {1e3 * sigma[2]:.4f} mm",
        },
    )  # fmt: skip
