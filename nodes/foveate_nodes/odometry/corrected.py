"""Keyframes where odometry had them, and where closed loops moved them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import invert, transform
from foveate_nodes.odometry.messages import Keyframe, PoseEstimate, PoseGraph

Array = NDArray[np.float64]


def matrix(position_m: NDArray[np.float64], orientation: NDArray[np.float64]) -> Array:
    """4 x 4 of a position (3,) and a unit quaternion x, y, z, w."""
    return transform(quaternion(orientation), position_m)


class Corrected:
    """The poses (4 x 4) of keyframes by their number: as odometry said last, or as the graph of poses has them.

    A keyframe that is newer than the graph moves with the newest one that is in it.
    """

    def __init__(self) -> None:
        self.odom: dict[int, Array] = {}  # odom_from_keyframe, as told last, in the order that they came
        self.loops: list[tuple[int, int]] = []
        self._moved: dict[int, Array] = {}  # map_from_keyframe, of the newest graph
        self._newer = np.eye(4)  # map_from_odom, for keyframes that the graph has not

    def saw(self, said: PoseEstimate | Keyframe) -> None:
        """Take over where odometry has a keyframe."""
        if isinstance(said, Keyframe):
            self.odom[said.seq] = matrix(said.position_m, said.orientation)
        else:
            self.odom[said.keyframe] = matrix(said.keyframe_position_m, said.keyframe_orientation)

    def closed(self, graph: PoseGraph) -> None:
        """Take over a graph."""
        self._moved = {
            int(seq): matrix(graph.position_m[k], graph.orientation[k]) for k, seq in enumerate(graph.seq.tolist())
        }
        self.loops = [(int(one), int(other)) for one, other in graph.loops]
        both = [seq for seq in self._moved if seq in self.odom]
        self._newer = self._moved[both[-1]] @ invert(self.odom[both[-1]]) if both else np.eye(4)

    def pose(self, seq: int) -> Array:
        """map_from_keyframe. Raises KeyError for one that nobody told of."""
        found = self._moved.get(seq)
        return self._newer @ self.odom[seq] if found is None else found

    def camera(self, said: PoseEstimate) -> Array:
        """map_from_camera of a pose: its keyframe's place, and what odometry measured since."""
        since = invert(matrix(said.keyframe_position_m, said.keyframe_orientation))
        at = matrix(said.position_m, said.orientation)
        moved = self._moved.get(said.keyframe)
        return self._newer @ at if moved is None else moved @ since @ at
