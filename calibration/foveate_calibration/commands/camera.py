"""`foveate calibrate camera`."""

from __future__ import annotations

import argparse

from foveate_calibration import arguments

_EXAMPLES = """  foveate calibrate camera shots/ --board chessboard:9x6:25mm -o camera.yaml --report camera.html
  foveate calibrate camera 'left*.jpg' --board chessboard:9x6:25mm --fix-aspect --distortion k1,k2
  foveate calibrate camera logs/run.mcap --stream wide.frame --every 10 --board charuco:17x13:30mm:22mm:DICT_5X5_250"""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    parser = arguments.action(actions, "camera", "a camera's lens from images of a board", _EXAMPLES)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, patterns, or a recording")
    arguments.add_board(parser)
    arguments.add_reading(parser)
    arguments.add_lens(parser)
    arguments.add_output(parser, "camera.yaml")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, fit, write, tell."""
    from foveate_calibration.boards import Board
    from foveate_calibration.procedures.camera import fit_camera
    from foveate_calibration.reading import read_views
    from foveate_calibration.report import Extra, residuals_of

    board, names = Board.parse(options.board), arguments.coefficients(options)
    reading = read_views(
        board, options.images, stream=options.stream, mirrored=options.mirrored, every=options.every,
        progress=arguments.progress("looking for the board"),
    )  # fmt: skip
    arguments.tell(reading.told())
    fitted = fit_camera(
        reading.views, reading.width, reading.height, coefficients=names, fix_aspect=options.fix_aspect,
        mirrored=options.mirrored, tell=arguments.tell,
    )  # fmt: skip
    came = arguments.origin(
        images=f"{reading.images} from {' '.join(options.images)}", sha256=reading.sha256, board=board.text,
        free=",".join(names) or "no distortion", fix_aspect=options.fix_aspect, mirrored=options.mirrored,
    )  # fmt: skip
    lens, sigma = fitted.lens, fitted.solution.sigmas()
    shown = residuals_of("reprojection", "px", fitted.residual_px, [view.name for view in fitted.views],
                         [view.pixel for view in fitted.views], (lens.width, lens.height))  # fmt: skip
    unsure = Extra("Where a known direction would be seen: standard deviation", "px", fitted.direction_sigma_px,
                   (lens.width, lens.height))  # fmt: skip
    return arguments.finish(
        options, fitted.calibration(came), f"Camera, {len(fitted.views)} views of {board.text}", [shown],
        fitted.removed, [unsure],
        {
            "focal length": f"{lens.values[0]:.2f} x {lens.values[1]:.2f} px, sigma {sigma['1.fx']:.2f} px",
            "principal point": f"{lens.values[2]:.2f}, {lens.values[3]:.2f} px, sigma {sigma['1.cx']:.2f}, "
            f"{sigma['1.cy']:.2f} px",
            "residual": f"{fitted.rms_px:.3f} px each axis over {len(fitted.views)} views, "
            f"{fitted.covered:.0%} of the image covered",
        },
    )  # fmt: skip
