"""What visual odometry says: poses and how sure they are, keyframes, edges in space, the graph of poses."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foveate.messages import Message, Pose


def _unknown() -> NDArray[np.float64]:
    return np.full((6, 6), np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class PoseEstimate(Pose):
    """A camera's pose in the frame where odometry began (`odom`), and how far it may be off since its keyframe."""

    covariance: NDArray[np.float64] = field(default_factory=_unknown)  # 6 x 6, of a small turn (rad) and then a small
    # shift (m) of the camera in its own axes, relative to the keyframe; infinite where nothing is known
    keyframe: int = -1  # the seq of the keyframe that it was measured against
    keyframe_position_m: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))  # (3,), odom_from_keyframe
    keyframe_orientation: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))  # (4,)
    device_ns: int = 0  # of the frame, on the device's or the log's own clock; 0 = it gives none


@dataclass(frozen=True, slots=True, eq=False)
class Tracking(Message):
    """How well one frame was tracked."""

    state: str  # "started" | "tracking" | "lost" | "relocalised" | "restarted"
    reason: str  # why it is lost, or "" where it is not
    seq: int  # of the frame
    keyframe: int  # the seq of the keyframe; a new one has the frame's
    points: int  # of the keyframe that were seen
    inlier: float  # share of the edges that lie on edges, beyond what chance gives: 0.4 to 1 where the pose is right
    plane_inlier: float  # share of the depth measurements that agree; 1 where there are none
    overlap: float  # share of the keyframe's points that are in view, 0 to 1
    flow_px: float  # root mean square movement of the points since the keyframe
    residual: float  # typical disagreement: grey levels, or pixels for the residual "distance"
    sigma_m: float  # of the position since the keyframe; infinite when lost
    sigma_rad: float  # of the orientation since the keyframe
    iterations: int  # steps of the optimisation over all levels
    starts: int  # starting poses that were tried


@dataclass(frozen=True, slots=True, eq=False)
class Keyframe(Message):
    """A frame that others are measured against, with its depth and its place in `odom`."""

    image: NDArray[np.uint8]  # H x W or H x W x 3 (blue first), without distortion
    depth: NDArray[np.uint16]  # H x W, 0 = not measured
    scale_m: float  # metres a unit of depth
    camera_matrix: NDArray[np.float64]  # 3 x 3
    position_m: NDArray[np.float64]  # (3,), odom_from_camera
    orientation: NDArray[np.float64]  # (4,), x, y, z, w
    covariance: NDArray[np.float64]  # 6 x 6, of the step from the keyframe before, as in PoseEstimate
    seq: int  # of the frame; where a camera begins anew to count it goes on
    before: int  # the seq of the keyframe before; -1 = the first, or the first after a loss without relocalisation


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMap(Message):
    """The points of edges and corners of one keyframe, in `odom`."""

    point_m: NDArray[np.float32]  # N x 3
    gray: NDArray[np.uint8]  # N
    keyframe: int  # its seq


@dataclass(frozen=True, slots=True, eq=False)
class PoseGraph(Message):
    """The keyframes after loops were closed, in `map`, which is `odom` of the first keyframe."""

    seq: NDArray[np.int64]  # K
    position_m: NDArray[np.float64]  # K x 3, map_from_camera
    orientation: NDArray[np.float64]  # K x 4, x, y, z, w
    loops: NDArray[np.int64]  # L x 2: seqs of keyframes that were found to see the same place
