"""The pose of a board before a camera whose lens is known."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.rigid import rotation_from, transform
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_FEWEST = 6


def board_pose(view: BoardView, lens: Lens) -> Array:
    """camera_from_board (4 x 4) that leaves the least squares of pixels. Raises CalibrationError as `pose_of_rays`."""
    return pose_of_rays(view, lens.rays(view.pixel))


def pose_of_rays(view: BoardView, rays: Array) -> Array:
    """Pose (4 x 4) of the view's board in the frame of the rays (N x 3) to its points.

    Raises CalibrationError for too few points, and where the board is seen from behind.
    """
    count = len(view.pixel)
    if count < _FEWEST:
        raise CalibrationError(f"{view.name}: {count} points are too few for the pose of a board; {_FEWEST} are needed")
    ideal = np.ascontiguousarray(rays[:, :2] / rays[:, 2:])
    found, turns, shifts, errors = cv2.solvePnPGeneric(view.board_m, ideal, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
    if not found:
        raise CalibrationError(f"{view.name}: the pose of the board cannot be found from its {count} points")
    best = int(np.argmin(np.ravel(errors)))
    turn, shift = cv2.solvePnPRefineLM(view.board_m, ideal, np.eye(3), None, turns[best], shifts[best])
    pose = transform(rotation_from(np.ravel(turn).astype(np.float64)), np.ravel(shift).astype(np.float64))
    if pose[:3, 2] @ pose[:3, 3] <= 0:
        raise CalibrationError(f"{view.name}: the board is seen from behind: a mirrored image, or another board")
    return pose
