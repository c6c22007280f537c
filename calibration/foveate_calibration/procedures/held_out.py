"""Views that a fit of a rig has not seen, and what it leaves there: how it will do on views to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.procedures.rig_problem import RigProblem, board_plane, on_plane
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_EVERY = 5  # view of a placement is kept for the judgement
_STRAY_SIGMAS = 8.0  # of a corner's noise: a marker's edge was taken for a corner
_MOST_OFF = 6.0  # standard deviations of a view's typical residual: farther off, the board has moved
_LEAST_OFF_PX = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Residuals (K x 2, pixels) of corners that were not fitted; corners found in the wrong place are left out."""

    views: tuple[BoardView, ...]
    raw_px: Array
    floor_px: float  # what their root mean square would be with a perfect model: noise of corners and of readings
    own_px: Array  # without the part that the errors of each view's readings explain
    own_floor_px: float
    number: NDArray[np.int64]  # (K,) which of the views
    at_px: Array  # K x 2, where it was seen
    strays: int
    stripe_m: Array  # distances of stripe points from the laser's plane, metres

    @property
    def rms_px(self) -> float:
        """Root mean square (each axis); nan without views."""
        return _rms(self.raw_px)

    @property
    def own_rms_px(self) -> float:
        """The same without the errors of the readings."""
        return _rms(self.own_px)


def split(views: Sequence[BoardView]) -> tuple[list[BoardView], list[BoardView]]:
    """The views to fit, and every fifth of a placement to judge by."""
    kept: list[BoardView] = []
    held: list[BoardView] = []
    seen: dict[int, int] = {}
    for view in views:
        seen[view.placement] = seen.get(view.placement, 0) + 1
        (held if seen[view.placement] % _EVERY == 0 else kept).append(view)
    return kept, held


def judge(problem: RigProblem, views: Sequence[BoardView]) -> HeldOut:
    """What a fitted rig leaves in views that it has not seen; those whose board moved are left out."""
    views = _believable(problem, views)
    sigma, strays, squares, own_squares = problem.noise.corner_px, 0, 0.0, 0.0
    raw, own, at_px, distances = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros(0)]
    number = [np.zeros(0, np.int64)]
    for k, view in enumerate(views):
        residual, left, nuisance, seen = _left_in(problem, view)
        raw.append(residual.reshape(-1, 2) * sigma)
        own.append(left.reshape(-1, 2) * sigma)
        number.append(np.full(len(seen), k))
        at_px.append(seen)
        strays += len(view.pixel) - len(seen)
        squares += (len(residual) + float((nuisance**2).sum())) * sigma**2
        own_squares += max(len(residual) - nuisance.shape[1], 0) * sigma**2
        distances.append(_off_plane(problem, view))
    count = max(sum(2 * len(part) for part in raw), 1)
    return HeldOut(
        tuple(views), np.concatenate(raw), float(np.sqrt(squares / count)), np.concatenate(own),
        float(np.sqrt(own_squares / count)), np.concatenate(number), np.concatenate(at_px), strays,
        np.concatenate(distances),
    )  # fmt: skip


def _left_in(problem: RigProblem, view: BoardView) -> tuple[Array, Array, Array, Array]:
    """Residuals of corners in sigmas, the same without the errors of the readings, their slopes, and the pixels."""
    block = problem.block(view)
    seen, corners = view.pixel, 2 * len(view.pixel)
    assert block.by_nuisance is not None
    nuisance, residual, left = block.by_nuisance[:corners], block.residual[:corners], block.residual[:corners]
    for _ in range(2):  # once more without corners that were found in the wrong place
        found = np.linalg.solve(nuisance.T @ nuisance + np.eye(nuisance.shape[1]), nuisance.T @ residual)
        left = residual - nuisance @ found
        good = np.linalg.norm(left.reshape(-1, 2), axis=1) < _STRAY_SIGMAS
        both = np.repeat(good, 2)
        residual, left, nuisance, seen = residual[both], left[both], nuisance[both], seen[good]
    return residual, left, nuisance, seen


def _off_plane(problem: RigProblem, view: BoardView) -> Array:
    """Distances (metres) of the view's stripe points on the board from the laser's plane."""
    if problem.laser is None or view.stripe_px is None or view.laser_rad is None:
        return np.zeros(0)
    assert view.angle_rad is not None
    board = board_plane(problem.rig_from_board[view.placement])
    points = on_plane(problem.camera, view.stripe_px, view.angle_rad, board)
    plane = problem.laser.plane(view.laser_rad)
    return points @ plane[:3] - plane[3]


def _believable(problem: RigProblem, views: Sequence[BoardView]) -> list[BoardView]:
    """Those whose board stands where a fitted view saw it."""
    placements = {view.placement for view in problem.views}
    by_reading_px = 2 * float(problem.camera.lens.values[0]) * problem.noise.camera_rad
    limit_px = max(_MOST_OFF * float(np.hypot(by_reading_px, problem.noise.corner_px)), _LEAST_OFF_PX)
    found = []
    for view in views:
        if view.placement in placements:
            residual = problem.block(view).residual[: 2 * len(view.pixel)] * problem.noise.corner_px
            if np.median(np.abs(residual)) < limit_px:
                found.append(view)
    return found


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
