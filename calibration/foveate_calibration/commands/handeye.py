"""`foveate calibrate handeye`."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from foveate_calibration import arguments
from foveate_calibration.errors import CalibrationError

Array = NDArray[np.float64]

_EXAMPLES = """  foveate calibrate handeye --hand robot.tum --board-poses seen.tum -o hand.yaml
  foveate calibrate handeye --hand robot.csv --images shots/ --lens camera.yaml --board chessboard:9x6:25mm
  foveate calibrate handeye --hand run.mcap:robot.pose --board-poses run.mcap:board.pose --eye-to-hand"""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    parser = arguments.action(actions, "handeye", "where a camera is on, or beside, a robot", _EXAMPLES)
    poses = "TUM text, .csv, .json, or FILE.mcap:node.output"
    parser.add_argument("--hand", required=True, metavar="POSES", help=f"world_from_hand: {poses}")
    parser.add_argument("--board-poses", metavar="POSES", help=f"camera_from_board: {poses}")
    parser.add_argument("--images", nargs="+", metavar="IMAGES",
                        help="or images of the board: one for each pose, in order, or a recording")  # fmt: skip
    arguments.add_board(parser, required=False)
    parser.add_argument("--lens", metavar="FILE[:NAME]", help="with --images: the camera's calibration")
    arguments.add_reading(parser)
    parser.add_argument("--eye-to-hand", action="store_true", help="the camera is fixed and the board on the hand")
    parser.add_argument("--apart", type=float, default=0.01, metavar="SECONDS",
                        help="times of a pair of poses differ by no more (default: 0.01)")  # fmt: skip
    parser.add_argument("--by-number", action="store_true", help="pair first with first, whatever their times are")
    arguments.add_output(parser, "handeye.yaml")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, pair, fit, write, tell."""
    from foveate_calibration.poses import paired, read_poses
    from foveate_calibration.procedures.handeye import fit_hand_eye
    from foveate_calibration.report import residuals_of

    hand = read_poses(options.hand)
    if (options.images is None) == (options.board_poses is None):
        raise CalibrationError(
            "the board's poses are wanted once: --board-poses FILE, or --images with --board, --lens"
        )
    if options.images is not None:
        world, seen = _of_images(options, hand.matrices, hand.time_s)
    else:
        board = read_poses(options.board_poses)
        if options.by_number:
            if len(hand) != len(board):
                raise CalibrationError(f"{hand.name} has {len(hand)} poses and {board.name} {len(board)}; --by-number "
                                       "needs as many of both")  # fmt: skip
            world, seen = hand.matrices, board.matrices
        else:
            world, seen = paired(hand, board, options.apart)
    fitted = fit_hand_eye(world, seen, eye_in_hand=not options.eye_to_hand, tell=arguments.tell)
    came = arguments.origin(hand=options.hand, poses=len(world), camera=options.board_poses or " ".join(options.images),
                            eye="to hand" if options.eye_to_hand else "in hand")  # fmt: skip
    names = [f"pose {k + 1}" for k in fitted.used]
    shown = [
        residuals_of("rotation", "mrad", [1e3 * row[None, :3] for row in fitted.residual], names),
        residuals_of("translation", "mm", [1e3 * row[None, 3:] for row in fitted.residual], names),
    ]
    shift, turn = fitted.x[:3, 3], np.sqrt(np.mean(fitted.residual[:, :3] ** 2))
    sigma = 1e3 * fitted.solution.sigma[3:6]
    return arguments.finish(
        options, fitted.calibration(came), f"Hand-eye, {len(fitted.used)} poses", shown, fitted.removed, (),
        {
            fitted.names[0]: f"at {', '.join(f'{1e3 * v:.2f}' for v in shift)} mm, sigma "
            f"{', '.join(f'{v:.2f}' for v in sigma)} mm",
            "residual": f"{1e3 * turn:.3f} mrad, {1e3 * np.sqrt(np.mean(fitted.residual[:, 3:] ** 2)):.3f} mm an axis",
        },
    )  # fmt: skip


def _of_images(options: argparse.Namespace, hand: Array, time_s: Array) -> tuple[Array, Array]:
    """Poses (N x 4 x 4 each) of the hand and of the board, where the board was seen."""
    from foveate_calibration.boards import Board
    from foveate_calibration.procedures.board_pose import board_pose
    from foveate_calibration.reading import image_files, names_of, read_views
    from foveate_calibration.stored import lens_of

    if options.board is None or options.lens is None:
        raise CalibrationError("--images needs --board and --lens: a board's pose follows from both")
    board, lens = Board.parse(options.board), lens_of(options.lens)
    if board.ambiguous:
        raise CalibrationError(f"{board.text} looks the same upside down, so its pose is not known; use a chessboard "
                               "of odd x even counts, such as 9x6, or markers")  # fmt: skip
    reading = read_views(board, options.images, stream=options.stream, mirrored=options.mirrored, every=options.every,
                         progress=arguments.progress("looking for the board"))  # fmt: skip
    arguments.tell(reading.told())
    if (reading.width, reading.height) != (lens.width, lens.height):
        raise CalibrationError(f"the images are {reading.width} x {reading.height} and {options.lens} is of a camera "
                               f"of {lens.width} x {lens.height}")  # fmt: skip
    seen = np.stack([board_pose(view, lens) for view in reading.views])
    if any(view.t_ns for view in reading.views):
        off = np.abs(np.array([view.t_ns for view in reading.views])[:, None] * 1e-9 - time_s)
        near = off.argmin(axis=1)
        fits = off[np.arange(len(off)), near] <= options.apart
        if not fits.any():
            raise CalibrationError(f"no frame is within {options.apart:g} s of a pose of the hand; are both stamped by "
                                   "one clock?")  # fmt: skip
        return hand[near[fits]], seen[fits]
    if reading.images != len(hand):
        raise CalibrationError(f"{reading.images} images and {len(hand)} poses of the hand; as many of both are wanted")
    looked = names_of(image_files(options.images))[:: options.every]
    return hand[[looked.index(view.name) for view in reading.views]], seen
