"""How well a light-section rig is found again: parameters in units of their predicted sigma, held-out views, shape.

    python benchmarks/calibration.py --seeds 20

Rigs as made are drawn at random about the drawing (axis tilts 3 mrad, places 0.5 mm, gain 0.5 %, focal length 0.3 %);
each sees 14 boards ten times, with 0.1 px on corners, 0.15 px on stripes and 10 urad on readings of the mirrors. The
floor of held-out views is what the rig as it was made leaves on the same views. Shape: points all over 1100 x 1300 x
650 mm, triangulated without noise, after the best rigid motion; beside it the same with the rig as drawn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests import scanner_rig as rig

from foveate_calibration.procedures.rig import RigFit, fit_rig
from foveate_calibration.procedures.rig_problem import RigProblem
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser


@dataclass(frozen=True)
class Result:
    """Of one rig."""

    z: np.ndarray  # of each fitted parameter, in its predicted sigmas
    held_ratio: float  # of held-out views: with the fitted rig by with the true one
    own_ratio: float  # the same without what the errors of each view's readings explain, by what noise leaves
    shape_mm: np.ndarray  # of each point
    drawn_mm: np.ndarray
    seconds: float


def shape_mm(camera: SteeredCamera, laser: SteeredLaser, seed: int) -> np.ndarray:
    """Distances of 200 triangulated points of the volume from the truth after rigid alignment."""
    true_camera, true_laser = rig.made(seed)
    points = np.random.default_rng(1).uniform(rig.LOW, rig.HIGH, (200, 3))
    found = []
    for point in points:
        angle, light = rig.aim_camera(true_camera, point), np.array([rig.aim_laser(true_laser, point)])
        found.append(rig.triangulate(camera, laser, true_camera.project(point[None], angle)[0], angle, light))
    return 1e3 * np.linalg.norm(rig.aligned(np.array(found), points) - points, axis=1)


def true_px(fit: RigFit, seed: int) -> float:
    """Root mean square of the held-out views with the rig and the boards as they were."""
    problem = RigProblem(*rig.made(seed), rig.poses(seed, 14), (), fit.problem.noise)
    squares = [problem.block(view).residual[: 2 * len(view.pixel)] for view in fit.held_out.views]
    return float(np.sqrt(np.mean(np.concatenate(squares) ** 2)) * fit.problem.noise.corner_px)


def one(seed: int) -> Result:
    """Fit one rig."""
    views = rig.views(*rig.made(seed), seed, placements=14)
    start = time.perf_counter()
    fit = fit_rig(views, *rig.drawn())
    seconds = time.perf_counter() - start
    problem, free = fit.problem, fit.solution.prior_sigma > 0
    assert problem.laser is not None
    z = ((fit.solution.shift - rig.errors(seed)) / np.where(free, fit.solution.sigma, 1))[free]
    own = fit.held_out.own_rms_px / fit.held_out.own_floor_px
    return Result(
        z, fit.held_out.rms_px / true_px(fit, seed), own, shape_mm(problem.camera, problem.laser, seed),
        shape_mm(*rig.drawn(), seed), seconds,
    )  # fmt: skip


def main() -> None:
    """Print a line a rig and what all of them come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    results = []
    for seed in range(parser.parse_args().seeds):
        found = one(seed)
        results.append(found)
        print(
            f"rig {seed:2}: parameters {np.sqrt(np.mean(found.z**2)):.2f} sigma (max {np.abs(found.z).max():.1f}), "
            f"held out {found.held_ratio:.3f} and {found.own_ratio:.3f} of the floor, shape "
            f"{np.sqrt(np.mean(found.shape_mm**2)):.3f} mm (max {found.shape_mm.max():.3f}; as drawn "
            f"{np.sqrt(np.mean(found.drawn_mm**2)):.1f}), {found.seconds:.1f} s",
            flush=True,
        )
    z = np.concatenate([found.z for found in results])
    print(f"all: {np.sqrt(np.mean(z**2)):.2f} sigma, {np.mean(np.abs(z) > 3):.1%} beyond 3 (normal: 0.3 %)")
    for name in ("held_ratio", "own_ratio", "seconds"):
        values = [getattr(found, name) for found in results]
        print(f"{name}: median {statistics.median(values):.3f}, most {max(values):.3f}")
    rms = [float(np.sqrt(np.mean(found.shape_mm**2))) for found in results]
    drawn = [float(np.sqrt(np.mean(found.drawn_mm**2))) for found in results]
    print(
        f"shape: median {statistics.median(rms):.3f} mm, most {max(rms):.3f}; as drawn {statistics.median(drawn):.1f}"
    )


if __name__ == "__main__":
    main()
