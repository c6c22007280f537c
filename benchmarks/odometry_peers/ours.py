"""foveate's own estimator: its tracker without the graph around it, in variants.

A variant is a line of `VARIANTS` and a name in `odometry_peers.MODULES`; its options are those of `Tracker`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np

from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.tracker import Tracker
from foveate_nodes.odometry.view import View


class Ours:
    def __init__(self, matrix: Any, width: int, height: int, **options: Any) -> None:
        self.name = "foveate"
        self._matrix = np.asarray(matrix, np.float64)
        self._tracker = Tracker(**options)
        self._seq = 0

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        view = View(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), depth, self._matrix, canny_edges)
        found = self._tracker.track(view, self._seq, time_s)
        self._seq += 1
        return found.world_from_camera, found.state != "lost"


VARIANTS = {
    "foveate": Ours,
    "foveate_frames": partial(Ours, window=0),
    "foveate_distance": partial(Ours, residual="distance"),
}
