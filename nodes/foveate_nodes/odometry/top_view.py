"""The top view node: what odometry has seen so far, from above, as a picture."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.messages import Frame
from foveate.node import Node, Unit
from foveate_nodes.odometry.messages import EdgeMap, PoseEstimate, PoseGraph, Tracking


class TopView(Node):
    """Edges, the way of the camera, keyframes and loops seen along y of the first keyframe, which points down.

    The picture zooms to fit. Its memory has a bound: of many keyframes every second is thinned out, of a long way too.
    """

    cost_ns = 2_000_000

    class Outputs:
        frame: Frame

    def __init__(
        self, *, rate: Annotated[float, Unit("Hz"), Gt(0), Le(60)] = 5.0,
        width: Annotated[int, Unit("px"), Ge(240), Le(1920)] = 800,
        height: Annotated[int, Unit("px"), Ge(180), Le(1080)] = 600,
    ) -> None:  # fmt: skip
        """`rate`: pictures a second at most, by the frames' stamps."""
        self._period_ns = round(1e9 / rate)
        self._size = (width, height)
        self._due_ns: int | None = None
        self._seq = 0

    def open(self) -> None:
        optional("cv2", "top view", "vision")
        from foveate_nodes.odometry.top_view_picture import Drawn
        from foveate_nodes.odometry.top_view_places import Places

        self._places = Places()
        self._drawn = Drawn(*self._size)

    def step(
        self, tracking: Tracking, pose: PoseEstimate | None, edge_map: EdgeMap | None, graph: PoseGraph | None
    ) -> Frame | None:
        self._places.take(tracking, pose, edge_map, graph)
        now_ns = tracking.stamp.t_ns
        if self._due_ns is not None and now_ns < self._due_ns:
            return None
        late = self._due_ns is None or now_ns >= self._due_ns + self._period_ns
        self._due_ns = (now_ns if late or self._due_ns is None else self._due_ns) + self._period_ns
        self._seq += 1
        return Frame(tracking.stamp, self._drawn.picture(self._places), "BGR8", self._seq)
