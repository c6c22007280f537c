"""The plane of a line laser from its stripes on boards of known pose: fixed, or turned by a mirror.

A steered laser goes plane by plane first (one for each angle commanded), then sheet, axis, gain and offset over all of
them: `fit_rig` does that with the errors of the readings, and the planes are there to judge by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.procedures.rig_problem import board_plane, on_plane, start_poses
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_FEWEST_VIEWS = 3
_LEAST_DEPTH = 0.05  # spread of the points across their longest direction, as a share of that: below, it is a line


@dataclass(frozen=True, slots=True, eq=False)
class PlaneFit:
    """A plane through stripe points of several boards."""

    plane: Array  # (4,) unit normal and distance (metres)
    covariance: (
        Array  # 3 x 3: of two tilts (radians) about the points' main directions, and of the distance at their middle
    )
    residual_m: Array  # (N,) of all points
    used: NDArray[np.bool_]  # (N,) not an outlier
    angle_rad: float = 0.0  # of the laser's mirror, where it is steered

    @property
    def rms_m(self) -> float:
        """Of the points that were used."""
        return float(np.sqrt(np.mean(self.residual_m[self.used] ** 2)))


def fit_plane(points: Array, what: str = "the stripe's points") -> PlaneFit:
    """Total least squares with Tukey's weights. Raises CalibrationError where the points do not span a plane."""
    if len(points) < 8:
        raise CalibrationError(f"{what}: {len(points)} points are too few for a plane")
    weights = np.ones(len(points))
    normal, middle, lengths = np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(12):
        middle = weights @ points / weights.sum()
        centred = points - middle
        lengths, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred / weights.sum())
        normal = axes[:, 0]
        off = np.abs(centred @ normal)
        scale = max(4.685 * 1.4826 * float(np.median(off)), 1e-9)
        weights = np.where(off < scale, (1 - np.minimum(off / scale, 1.0) ** 2) ** 2, 0.0)
    if lengths[1] < _LEAST_DEPTH**2 * lengths[2]:
        raise CalibrationError(f"{what} lie on one line: tilt the board, or move it nearer and farther, between images")
    residual = (points - middle) @ normal
    used = weights > 0
    variance = float(np.sum(weights * residual**2) / max(weights.sum() - 3, 1.0))
    spread = np.array([variance / (weights.sum() * lengths[2]), variance / (weights.sum() * lengths[1])])
    plane = np.append(normal, normal @ middle) * (1.0 if normal @ middle >= 0 else -1.0)
    return PlaneFit(plane, np.diag([*spread, variance / weights.sum()]), residual, used)


def fit_laser_plane(views: Sequence[BoardView], lens: Lens) -> tuple[LaserPlane, PlaneFit]:
    """A fixed laser before a fixed camera, from images of a board with the stripe on it; in the frame of the camera.

    Raises CalibrationError for too few images, and stripes that do not span a plane.
    """
    seen = [replace(view, angle_rad=np.zeros(0), placement=k) for k, view in enumerate(with_stripe(views))]
    if len(seen) < _FEWEST_VIEWS:
        raise CalibrationError(f"the stripe is on the board in {len(seen)} images; {_FEWEST_VIEWS} are needed")
    camera = SteeredCamera(lens, np.eye(4), ())
    poses = start_poses(seen, camera)
    points = np.concatenate([_lit(view, camera, pose) for view, pose in zip(seen, poses, strict=True)])
    found = fit_plane(points, f"the stripes in {len(seen)} images")
    return LaserPlane(found.plane), found


def planes_by_angle(views: Sequence[BoardView], camera: SteeredCamera, poses: Sequence[Array]) -> list[PlaneFit]:
    """A plane for each angle of the laser's mirror (equal to 0.1 mrad) that was seen on boards in two places."""
    groups: dict[int, list[BoardView]] = {}
    for view in with_stripe(views):
        assert view.laser_rad is not None
        groups.setdefault(round(float(view.laser_rad[0]) / 1e-4), []).append(view)
    found = []
    for group in groups.values():
        points = np.concatenate([_lit(view, camera, poses[view.placement]) for view in group])
        try:
            fit = fit_plane(points)
        except CalibrationError:  # seen on one board alone: a line, which says nothing of a plane
            continue
        angle = float(np.mean([view.laser_rad[0] for view in group if view.laser_rad is not None]))
        found.append(replace(fit, angle_rad=angle))
    return sorted(found, key=lambda fit: fit.angle_rad)


def with_stripe(views: Sequence[BoardView]) -> list[BoardView]:
    """Views in which the stripe is on the board."""
    return [view for view in views if view.stripe_px is not None and len(view.stripe_px)]


def _lit(view: BoardView, camera: SteeredCamera, pose: Array) -> Array:
    """Points (N x 3) of the stripe on its board."""
    assert view.stripe_px is not None and view.angle_rad is not None
    return on_plane(camera, view.stripe_px, view.angle_rad, board_plane(pose))
