"""The odometry node: where an RGB-D camera is, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.messages import CameraInfo, DepthFrame, Frame, Message
from foveate.node import Node, Unit
from foveate_nodes.odometry.messages import EdgeMap, Keyframe, PoseEstimate, Tracking


class Odometry(Node):
    """Poses of a camera with aligned depth, by edges and corners; keyframes; what is lost is said to be lost.

    `odom` is where the first keyframe was. A frame that is lost gives no pose.
    """

    cost_ns = 12_000_000

    class Outputs:
        pose: PoseEstimate
        tracking: Tracking
        keyframe: Keyframe
        edge_map: EdgeMap

    def __init__(
        self, *, edges: Literal["canny", "network"] = "canny", model: Path | None = None,
        residual: Literal["photometric", "distance"] = "photometric", corners: bool = True,
        planes: Annotated[float, Ge(0), Le(10)] = 0.05, window: Annotated[int, Ge(0), Le(12)] = 6,
        window_planes: Annotated[float, Ge(0), Le(10)] = 0.05, patience: Annotated[float, Unit("s"), Gt(0)] = 2.0,
    ) -> None:  # fmt: skip
        """`edges`: Canny's with Otsu's thresholds, or those of the network in `model`; `residual`: brightness, or
        distance to the nearest edge; `planes`: weight of surfaces against it (0 = none), `window_planes` the same
        between keyframes; `window`: keyframes that are optimised together (0 = none); `patience`: after so long
        without a way back it begins anew."""
        self._options: dict[str, Any] = {
            "residual": residual, "use_corners": corners, "planes": planes, "window": window,
            "window_planes": window_planes, "patience_s": patience,
        }  # fmt: skip
        self._edge_options = (edges, model)

    def open(self) -> None:
        optional("cv2", "odometry", "odometry")
        optional("numba", "odometry", "odometry")
        from foveate_nodes.odometry.following import Following

        self._following = Following(self._options)

    def step(self, frame: Frame, depth: DepthFrame, info: CameraInfo) -> dict[str, Message]:
        return self._following.step(frame, depth, info)
