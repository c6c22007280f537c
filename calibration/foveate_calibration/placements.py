"""Which views are of a board that stood still in between: found from the views, so that nobody has to count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.procedures.rig_problem import rig_pose
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_FEWEST_POINTS = 6


class Placements:
    """Numbers views, in the order in which they were taken, by where the board stood.

    The camera as drawn predicts where a board that did not move is seen at other mirror angles. It errs by what
    machining allows (tens of pixels at 10,000 of focal length), so a board counts as moved from `moved_px` on.
    """

    def __init__(self, camera: SteeredCamera, moved_px: float | None = None) -> None:
        self.camera = camera
        self.moved_px = moved_px if moved_px is not None else 0.008 * float(camera.lens.values[0])
        self.count = 0
        self._pose: Array | None = None
        self._points = 0

    def numbered(self, view: BoardView) -> BoardView | None:
        """The view with its placement; None where it shows too little of the board to tell."""
        if len(view.pixel) < _FEWEST_POINTS:
            return None
        try:
            pose = rig_pose(view, self.camera)
        except CalibrationError:
            return None
        if self._pose is None or self._moved(view):
            self.count += 1
            self._pose, self._points = pose, len(view.pixel)
        elif len(view.pixel) > self._points:  # more points know the pose better
            self._pose, self._points = pose, len(view.pixel)
        return replace(view, placement=self.count - 1)

    def _moved(self, view: BoardView) -> bool:
        assert self._pose is not None and view.angle_rad is not None
        points = view.board_m @ self._pose[:3, :3].T + self._pose[:3, 3]
        seen = self.camera.project(points, view.angle_rad)
        return float(np.median(np.linalg.norm(seen - view.pixel, axis=1))) > self.moved_px
