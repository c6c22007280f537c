"""`foveate calibrate stereo`."""

from __future__ import annotations

import argparse

from foveate_calibration import arguments
from foveate_calibration.lens import Lens

_EXAMPLES = """  foveate calibrate stereo --left 'left*.jpg' --right 'right*.jpg' --board chessboard:9x6:25mm -o lr.yaml
  foveate calibrate stereo --left run.mcap --right run.mcap --streams left.frame,right.frame --board ...
  foveate calibrate stereo --left l/ --right r/ --lenses left.yaml,right.yaml --board ...    lenses held as they are"""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    parser = arguments.action(actions, "stereo", "two cameras and the transform between them", _EXAMPLES)
    for side in ("left", "right"):
        parser.add_argument(f"--{side}", nargs="+", required=True, metavar="IMAGES",
                            help=f"of the {side} camera: files, folders, patterns, or a recording")  # fmt: skip
    parser.add_argument("--streams", metavar="LEFT,RIGHT", help="of recordings: which frames")
    parser.add_argument("--every", type=arguments.count, default=1, metavar="N", help="look only at each n-th image")
    parser.add_argument("--apart", type=float, default=0.005, metavar="SECONDS",
                        help="stamps of a pair differ by no more (default: 0.005)")  # fmt: skip
    parser.add_argument("--lenses", metavar="FILE,FILE", help="calibrations of both cameras, to be held as they are")
    arguments.add_board(parser)
    arguments.add_lens(parser)
    arguments.add_output(parser, "stereo.yaml")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, pair, fit, write, tell."""
    from foveate_calibration.boards import Board
    from foveate_calibration.errors import CalibrationError
    from foveate_calibration.procedures.stereo import fit_stereo, paired
    from foveate_calibration.reading import read_views
    from foveate_calibration.report import residuals_of

    board, names = Board.parse(options.board), arguments.coefficients(options)
    if board.ambiguous:
        raise CalibrationError(f"{board.text} looks the same upside down, so two cameras may number its corners "
                               "differently; use a chessboard of odd x even counts, as 9x6, or markers")  # fmt: skip
    streams = _two(options.streams, "--streams") or (None, None)
    lenses = _lenses(_two(options.lenses, "--lenses"))
    both = []
    for side, stream in zip(("left", "right"), streams, strict=True):
        bar = arguments.progress(f"looking for the board, {side}")
        both.append(read_views(board, getattr(options, side), stream=stream, every=options.every, progress=bar))
        arguments.tell(f"{side}: {both[-1].told()}")
    left, right = both
    pairs = paired(left.views, right.views, options.apart)
    fitted = fit_stereo(pairs, (left.width, left.height), (right.width, right.height), coefficients=names,
                        fix_aspect=options.fix_aspect, lenses=lenses, tell=arguments.tell)  # fmt: skip
    came = arguments.origin(left=" ".join(options.left), right=" ".join(options.right), sha256_left=left.sha256,
                            sha256_right=right.sha256, board=board.text, free=",".join(names) or "no distortion",
                            lenses=options.lenses or "fitted")  # fmt: skip
    calibration = fitted.calibration(came)
    shown = [
        residuals_of(f"reprojection, {side}", "px", [pair[k] for pair in fitted.residual_px],
                     [pair[k].name for pair in fitted.pairs], [pair[k].pixel for pair in fitted.pairs],
                     (both[k].width, both[k].height)) for k, side in enumerate(("left", "right"))
    ]  # fmt: skip
    epipolar = residuals_of("distance from the epipolar line", "px", [e[:, None] for e in fitted.epipolar_px],
                            [pair[0].name for pair in fitted.pairs])  # fmt: skip
    return arguments.finish(
        options, calibration, f"Stereo, {len(pairs)} pairs of {board.text}", [*shown, epipolar], fitted.removed, (),
        {
            "baseline": f"{1e3 * fitted.baseline_m:.2f} mm, sigma {1e3 * fitted.baseline_sigma_m:.2f} mm",
            "residual": f"left {calibration.residuals['left_px']['rms']:.3f} px, right "
            f"{calibration.residuals['right_px']['rms']:.3f} px, epipolar "
            f"{calibration.residuals.get('epipolar_px', {}).get('rms', float('nan')):.3f} px",
        },
    )  # fmt: skip


def _two(text: str | None, flag: str) -> tuple[str, str] | None:
    from foveate_calibration.errors import CalibrationError

    if text is None:
        return None
    left, comma, right = text.partition(",")
    if not comma or not left or not right:
        raise CalibrationError(f"{flag} {text}: two are wanted with a comma between, LEFT,RIGHT")
    return left, right


def _lenses(names: tuple[str, str] | None) -> tuple[Lens, Lens] | None:
    from foveate_calibration.stored import lens_of

    return None if names is None else (lens_of(names[0], "left"), lens_of(names[1], "right"))
