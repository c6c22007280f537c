"""foveate's own estimator: its tracker without the graph around it, in variants.

A variant is a line of `VARIANTS` and a name in `odometry_peers.MODULES`; its options are those of `Tracker`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveate.messages import Stamp
from foveate_calibration.rigid import invert
from foveate_nodes.odometry.closing import Closing
from foveate_nodes.odometry.messages import Keyframe
from foveate_nodes.odometry.network_edges import NetworkEdges
from foveate_nodes.odometry.se3 import orientation_of
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.tracker import Key, Tracked, Tracker
from foveate_nodes.odometry.view import EdgeDetector, View

_MODEL = Path(__file__).parents[2] / "launch/models/edges.onnx"


class Ours:
    def __init__(self, matrix: Any, width: int, height: int, network: bool = False, **options: Any) -> None:
        self.name = "foveate"
        self._matrix = np.asarray(matrix, np.float64)
        self._edges: EdgeDetector = NetworkEdges(_MODEL) if network else canny_edges
        self._tracker = Tracker(**options)
        self._seq = 0

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        pose, found = self._followed(image, depth, time_s)
        return pose, found.state != "lost"

    def _followed(self, image: Any, depth: Any, time_s: float) -> tuple[Any, Tracked]:
        view = View(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), depth, self._matrix, self._edges)
        found = self._tracker.track(view, self._seq, time_s)
        self._seq += 1
        return found.world_from_camera, found


class WithLoops(Ours):
    """With loop closure; its time counts where it would run on the same core."""

    def __init__(self, matrix: Any, width: int, height: int, **options: Any) -> None:
        super().__init__(matrix, width, height, **options)
        self._closing = Closing(canny_edges, 0.5, 500)
        self._frames: dict[int, tuple[Any, Any]] = {}  # the last, and that of the keyframe
        self._of_key: list[tuple[int, Any]] = []
        self._odom: dict[int, Any] = {}  # keyframes, as odometry said last

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        seq = self._seq
        self._frames[seq] = image, depth
        pose, found = self._followed(image, depth, time_s)
        if found.ready is not None:
            self._closing.step(self._keyframe(found.ready, time_s))
        key = found.key
        kept = {seq} if key is None else {seq, key.seq}
        self._frames = {number: self._frames[number] for number in kept & self._frames.keys()}
        if key is not None:
            self._odom[key.seq] = key.world_from_camera
        self._of_key.append(
            (-1, np.eye(4)) if key is None or pose is None else (key.seq, invert(key.world_from_camera) @ pose)
        )
        return pose, found.state != "lost"

    def _keyframe(self, key: Key, time_s: float) -> Keyframe:
        image, depth = self._frames[key.seq]
        units = np.clip(np.nan_to_num(depth) * 1000 + 0.5, 0, 65535).astype(np.uint16)
        pose = key.world_from_camera
        return Keyframe(
            Stamp(round(time_s * 1e9)),
            image.copy(),
            units,
            0.001,
            self._matrix,
            pose[:3, 3].copy(),
            orientation_of(pose[:3, :3]),
            key.covariance,
            key.seq,
            key.before,
        )

    def trajectory(self) -> Any:
        """N x 4 x 4, after the loops; a frame that was lost has the pose before it."""
        made, moved, closed = [np.eye(4)], np.eye(4), self._closing.graph.poses
        for key, relative in self._of_key:
            if key in closed:
                moved = closed[key] @ invert(self._odom[key])  # keyframes that it has not move with the one before
            made.append(made[-1] if key < 0 else moved @ self._odom[key] @ relative)
        return np.stack(made[1:])


VARIANTS = {
    "foveate": Ours,
    "foveate_frames": partial(Ours, window=0),
    "foveate_loops": WithLoops,
    "foveate_both": partial(Ours, residual="both"),
    "foveate_distance": partial(Ours, residual="distance"),
    "foveate_network": partial(Ours, network=True),
}
