"""A camera behind galvanometer mirrors: the physical model, and a residual map where that earns its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.procedures.rig import RigFit, Tell, fit_rig
from foveate_calibration.procedures.rig_problem import Noise, RigProblem
from foveate_calibration.residual_map import ResidualMap
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
PHYSICAL, POLYNOMIAL, PROCESS = "physical", "polynomial", "gaussian_process"
_LENGTHS = (0.2, 0.4, 0.8, 1.6)  # of a Gaussian process's kernel, as shares of half the range of each variable
_STRAY = 12.0  # times the median distance
_WORTH = 0.97  # of the physical model's error: a map that gains less is noise that was learnt


@dataclass(frozen=True, slots=True, eq=False)
class MirrorFit:
    """The physical fit, the camera to use, and the root mean square on held-out views (px) of each kind of model."""

    rig: RigFit
    camera: SteeredCamera
    held_out_px: Mapping[str, float]
    chosen: str


def fit_mirror(
    views: Sequence[BoardView], camera: SteeredCamera, *, noise: Noise | None = None, machined: float = 1.0,
    free_lens: Sequence[str] = ("fx", "fy", "cx", "cy", "k1"), residual: str = "best", tell: Tell = lambda text: None,
) -> MirrorFit:  # fmt: skip
    """Fit the mirrors of a steered camera. `residual`: physical | polynomial | gaussian_process | best of them.

    The best is that with the least error on held-out views. Raises CalibrationError as `fit_rig` does.
    """
    rig = fit_rig(views, camera, None, noise=noise, machined=machined, free_lens=free_lens, tell=tell)
    maps: dict[str, ResidualMap | None] = {PHYSICAL: None}
    problem = rig.problem
    pixels, angles, off = residuals_of(problem, problem.views)
    maps[POLYNOMIAL] = ResidualMap.polynomial(pixels, angles, -off)
    length = _best_length(problem, rig.held_out.floor_px)
    maps[PROCESS] = ResidualMap.gaussian_process(pixels, angles, -off, rig.held_out.floor_px, length)
    errors = {name: _held_out_px(rig, found) for name, found in maps.items()}
    for name, error in errors.items():
        tell(f"{name.replace('_', ' ')}: {error:.4f} px on held-out views")
    best = min(errors, key=lambda name: errors[name])
    chosen = residual if residual != "best" else (best if errors[best] < _WORTH * errors[PHYSICAL] else PHYSICAL)
    return MirrorFit(rig, replace(problem.camera, residual=maps[chosen]), errors, chosen)


def _best_length(problem: RigProblem, noise_px: float) -> float:
    """The length of the kernel that predicts every fourth view from the others best."""
    kept = residuals_of(problem, [view for k, view in enumerate(problem.views) if k % 4])
    left = residuals_of(problem, problem.views[::4])

    def error(length: float) -> float:
        found = ResidualMap.gaussian_process(kept[0], kept[1], -kept[2], noise_px, length)
        return float(np.mean((left[2] + found.offset_px(left[0], left[1])) ** 2))

    return min(_LENGTHS, key=error)


def residuals_of(problem: RigProblem, views: Sequence[BoardView]) -> tuple[Array, Array, Array]:
    """The physical model's pixels (N x 2), the mirror's angles (N x axes), and model minus seen (N x 2, px)."""
    pixels, angles, off = [], [], []
    for view in views:
        pose = problem.rig_from_board[view.placement]
        assert view.angle_rad is not None
        seen = replace(problem.camera, residual=None).project(
            view.board_m @ pose[:3, :3].T + pose[:3, 3], view.angle_rad
        )
        pixels.append(seen)
        angles.append(np.broadcast_to(view.angle_rad, (len(seen), len(view.angle_rad))))
        off.append(seen - view.pixel)
    length = np.linalg.norm(np.concatenate(off), axis=1)
    good = length < _STRAY * float(np.median(length))  # a marker's edge that was taken for a corner is no residual
    return np.concatenate(pixels)[good], np.concatenate(angles)[good], np.concatenate(off)[good]


def _held_out_px(rig: RigFit, found: ResidualMap | None) -> float:
    if not rig.held_out.views:
        return float("nan")
    pixels, angles, off = residuals_of(rig.problem, rig.held_out.views)
    if found is not None:
        off = off + found.offset_px(pixels, angles)
    return float(np.sqrt(np.mean(off**2)))
