"""What views of a board must be before a fit is worth its name: enough, not mirrored, not all parallel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]

_FEWEST_POINTS = 6
_LEAST_SPREAD = 0.02  # width of the points' cloud across its longest direction, below which they are on a line
_LEAST_TILT_RAD = 0.05  # between the normals of two boards
_CELLS = (8, 6)  # of the image, for the share that is covered


def usable(views: Sequence[BoardView], mirrored: bool = False) -> tuple[list[BoardView], list[str]]:
    """(views with enough points, what was left out and why). Raises CalibrationError where a board is flipped."""
    kept, removed = [], []
    for view in views:
        if len(view.pixel) < _FEWEST_POINTS:
            removed.append(f"{view.name}: {len(view.pixel)} points, fewer than {_FEWEST_POINTS}")
        elif _flat(view.board_m[:, :2]) < _LEAST_SPREAD or _flat(view.pixel) < _LEAST_SPREAD:
            removed.append(f"{view.name}: its {len(view.pixel)} points lie on a line")
        else:
            kept.append(view)
    for view in kept:
        if (_winding(view) < 0) != mirrored:
            raise CalibrationError(_flipped(view, kept, mirrored))
    return kept, removed


def _flipped(view: BoardView, views: Sequence[BoardView], mirrored: bool) -> str:
    if mirrored:
        return f"{view.name}: the board does not appear mirrored in it; leave --mirrored out, or the image"
    count = sum(_winding(other) < 0 for other in views)
    return (
        f"{view.name}: the board appears flipped, as in a mirror ({count} of {len(views)} views do); do not flip "
        "images or number corners against the clock; --mirrored for a camera that looks by way of one mirror"
    )


def _flat(points: Array) -> float:
    lengths = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(lengths[1] / max(lengths[0], 1e-300))


def homography(view: BoardView) -> Array:
    """pixel_from_board (3 x 3) by least squares."""
    import cv2

    found, _ = cv2.findHomography(view.board_m[:, :2], view.pixel)
    if found is None:
        raise CalibrationError(f"{view.name}: its {len(view.pixel)} points are no view of a flat board; leave it out")
    return np.asarray(found, np.float64)


def _winding(view: BoardView) -> float:
    """Above 0 where the image shows the board's front: x right, y down."""
    affine = np.linalg.lstsq(np.column_stack([view.board_m[:, :2], np.ones(len(view.pixel))]), view.pixel, rcond=None)[
        0
    ]
    return float(np.linalg.det(affine[:2]))


def check_tilts(views: Sequence[BoardView], width: int, height: int) -> None:
    """Raises CalibrationError where all boards are parallel: then focal length and distance cannot be told apart.

    The vanishing line of a board gives its normal; a rough focal length is good enough to compare normals. Distortion
    bends the lines, so boards that are nearly parallel may pass: then the covariance tells.
    """
    about = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    normals = []
    for view in views:
        line = about.T @ np.linalg.inv(homography(view)).T @ np.array([0, 0, 1.0])
        normals.append(line / np.linalg.norm(line))
    stacked = np.array(normals)
    widest = float(np.arccos(np.clip(np.abs(stacked @ stacked.T), 0, 1)).max())
    if widest < _LEAST_TILT_RAD:
        raise parallel(len(views), widest)


def parallel(count: int, widest_rad: float) -> CalibrationError:
    """The error of boards that all lie alike."""
    return CalibrationError(
        f"all {count} boards are parallel (normals within {np.degrees(widest_rad):.1f} degrees), so the focal length "
        "and the distance cannot be told apart; add views with the board tilted by 30 degrees"
    )


def coverage(views: Sequence[BoardView], width: int, height: int) -> float:
    """Share of the image's cells (8 x 6) in which points were seen."""
    pixels = np.concatenate([view.pixel for view in views])
    cells = np.floor(pixels / (width, height) * _CELLS).astype(int).clip(0, (_CELLS[0] - 1, _CELLS[1] - 1))
    return len(np.unique(cells, axis=0)) / (_CELLS[0] * _CELLS[1])
