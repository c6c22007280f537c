"""The odometry node: where an RGB-D camera is, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.errors import BackendMissing, FoveateError
from foveate.messages import CameraInfo, DepthFrame, Frame, Message
from foveate.node import Node, Problem, Unit
from foveate_nodes.models.model_check import problems
from foveate_nodes.odometry.errors import OdometryError
from foveate_nodes.odometry.messages import EdgeMap, Keyframe, PoseEstimate, Tracking

if TYPE_CHECKING:
    from foveate_nodes.odometry.following import State
    from foveate_nodes.odometry.view import EdgeDetector


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
        residual: Literal["photometric", "distance", "both"] = "photometric", corners: bool = True,
        planes: Annotated[float, Ge(0), Le(10)] = 0.5, window: Annotated[int, Ge(0), Le(12)] = 6,
        window_planes: Annotated[float, Ge(0), Le(10)] = 0.05, patience: Annotated[float, Unit("s"), Gt(0)] = 2.0,
        backend: str = "onnx",
        threads: Annotated[int, Ge(1), Le(64)] = 1,
    ) -> None:  # fmt: skip
        """`edges`: Canny's with Otsu's thresholds, or those of the network in `model`; `residual`: brightness,
        distance to the nearest edge, or both; `planes`: weight of surfaces against it, 0 = none; `window_planes`: that
        between keyframes; `window`: keyframes that are optimised together (0 = none); `patience`: after so long
        without a way back it begins anew; `backend`, `threads`: of the network."""
        self._options: dict[str, Any] = {
            "residual": residual, "use_corners": corners, "planes": planes, "window": window,
            "window_planes": window_planes, "patience_s": patience,
        }  # fmt: skip
        self._edge_options = (edges, model, backend, threads)

    @classmethod
    def check(cls, **p: Any) -> Iterator[Problem]:
        options = (p["edges"], p["model"], p["backend"], p["threads"])
        if p["edges"] == "network" and p["model"] is not None:
            yield from problems(lambda: _detector(*options), p["backend"], "")
            return
        try:
            _detector(*options)
        except BackendMissing as error:
            yield Problem("use", str(error))
        except FoveateError as error:
            yield Problem("model", str(error))

    def open(self) -> None:
        edges = _detector(*self._edge_options)
        from foveate_nodes.odometry.following import Following, warm_up

        warm_up()
        self._following = Following(self._options, edges)

    def state_dict(self) -> State:
        return self._following.state()

    def load_state_dict(self, state: State) -> None:
        self._following.resume(state)

    def step(self, frame: Frame, depth: DepthFrame, info: CameraInfo) -> dict[str, Message]:
        return self._following.step(frame, depth, info)


def _detector(edges: str, model: Path | None, backend: str, threads: int) -> EdgeDetector:
    """Raises ModelError, BackendMissing, OdometryError (no model is named)."""
    optional("cv2", "odometry", "odometry")
    optional("numba", "odometry", "odometry")
    if edges == "canny":
        from foveate_nodes.odometry.selection import canny_edges

        return canny_edges
    if model is None:
        raise OdometryError("odometry: 'edges: network' needs the network's file; add 'model: models/edges.onnx'")
    from foveate_nodes.odometry.network_edges import NetworkEdges

    return NetworkEdges(model, backend=backend, threads=threads)
