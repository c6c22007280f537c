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
    """camera_from_board (4 x 4) that leaves the least squares of pixels. Raises CalibrationError for too few points."""
    if len(view.pixel) < _FEWEST:
        raise CalibrationError(f"{view.name}: {len(view.pixel)} points of the board are too few for its pose; "
                               f"{_FEWEST} are needed")  # fmt: skip
    rays = lens.rays(view.pixel)
    ideal = np.ascontiguousarray(rays[:, :2] / rays[:, 2:])
    found, turns, shifts, errors = cv2.solvePnPGeneric(view.board_m, ideal, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
    if not found:
        raise CalibrationError(f"{view.name}: the pose of the board is not found from its {len(view.pixel)} points")
    best = int(np.argmin(np.ravel(errors)))
    turn, shift = cv2.solvePnPRefineLM(view.board_m, ideal, np.eye(3), None, turns[best], shifts[best])
    return transform(rotation_from(np.ravel(turn).astype(np.float64)), np.ravel(shift).astype(np.float64))
