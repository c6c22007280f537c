"""`foveate calibrate time`."""

from __future__ import annotations

import argparse
from pathlib import Path

from foveate_calibration import arguments
from foveate_calibration.commands import rig

_EXAMPLES = """  foveate calibrate time sweep.mcap --camera rig.yaml --readings poll.state --board chessboard:9x6:25mm

A recording of a board that stands still while the mirror sweeps to and fro: frames, and readings of the mirror
that were taken by themselves (node mirror_position), not at the moments of the frames."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    text = "offset and drift between the clocks of a mirror's readings and of images, from motion"
    parser = arguments.action(actions, "time", text, _EXAMPLES)
    rig.add_recording(parser, light=False)
    parser.add_argument("--readings", required=True, metavar="NODE.OUTPUT", help="readings of the mirror")
    parser.add_argument(
        "--camera", type=Path, required=True, metavar="FILE.yaml", help="the steered camera's calibration"
    )
    parser.add_argument(
        "--most", type=arguments.factor, default=0.1, metavar="S", help="largest offset looked for (default: 0.1)"
    )
    parser.add_argument("--no-drift", action="store_true", help="the clocks run equally fast")
    arguments.add_output(parser, "time.yaml")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, fit, write, tell."""
    import numpy as np

    from foveate_calibration.boards import Board
    from foveate_calibration.document import Calibration
    from foveate_calibration.procedures.rig_problem import start_poses
    from foveate_calibration.procedures.time import fit_time, seen_angles
    from foveate_calibration.report import residuals_of
    from foveate_calibration.rig_reading import read_moving
    from foveate_calibration.steered_camera import SteeredCamera

    camera = Calibration.load(options.camera).model("camera", SteeredCamera)
    views, mirror_ns, mirror_rad = read_moving(
        options.log, Board.parse(options.board), options.frames, options.readings,
        arguments.progress("looking for the board"),
    )  # fmt: skip
    pose = start_poses(views[:1], camera)[0]
    seen = seen_angles(views, camera, pose)
    frames_ns = np.array([view.t_ns for view in views])
    fit = fit_time(frames_ns, seen, mirror_ns, mirror_rad, most_s=options.most, with_drift=not options.no_drift)
    rms = float(np.sqrt(np.mean(fit.residual_rad**2)))
    residuals = {"angle_rad": {"rms": rms, "max": float(np.abs(fit.residual_rad).max())}}
    sigmas = {"time.offset_s": fit.sigma_s, "time.drift": fit.sigma_drift}
    came = arguments.origin(procedure="time", recording=options.log, board=options.board, camera=options.camera)
    calibration = Calibration({"time": fit.model}, residuals, sigmas, fit.weak, came)
    shown = residuals_of("angle", "urad", [1e6 * fit.residual_rad], ["sweep"])
    drift = (
        f"{1e6 * fit.model.drift:+.2f} ppm, sigma {1e6 * fit.sigma_drift:.2f}" if not options.no_drift else "held at 0"
    )
    return arguments.finish(
        options, calibration, f"Time, {len(views)} images", [shown], (), (),
        {
            "offset": f"{1e3 * fit.model.offset_s:+.4f} ms, sigma {1e3 * fit.sigma_s:.4f} ms",
            "drift": drift, "residual": f"{1e6 * rms:.1f} urad over {len(views)} images",
        },
    )  # fmt: skip
