"""The loop closure node: corrects the poses of keyframes when the camera comes back to where it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from foveate.catalog import optional
from foveate.errors import BackendMissing
from foveate.node import Node, Problem
from foveate_nodes.odometry.messages import Keyframe, PoseGraph

if TYPE_CHECKING:
    from foveate_nodes.odometry.closing import State


class LoopClosure(Node):
    """The graph of keyframes, after each that sees a place of before; needs the extra `slam`."""

    cost_ns = 30_000_000

    class Outputs:
        graph: PoseGraph

    def __init__(
        self, *, planes: Annotated[float, Ge(0), Le(10)] = 0.5, most: Annotated[int, Ge(10), Le(10_000)] = 500
    ) -> None:
        """`planes`: weight of depth against image where two keyframes are compared; `most`: keyframes that are looked
        at: half a megabyte each. The poses of older ones are corrected all the same."""
        self._planes, self._most = planes, most

    @classmethod
    def check(cls, **parameters: Any) -> Iterator[Problem]:
        try:
            _needed()
        except BackendMissing as error:
            yield Problem("use", str(error))

    def open(self) -> None:
        _needed()
        from foveate_nodes.odometry.closing import Closing
        from foveate_nodes.odometry.selection import canny_edges

        self._closing = Closing(canny_edges, self._planes, self._most)

    def state_dict(self) -> State:
        return self._closing.state()

    def load_state_dict(self, state: State) -> None:
        self._closing.resume(state)

    def step(self, keyframe: Keyframe) -> PoseGraph | None:
        return self._closing.step(keyframe)


def _needed() -> None:
    """Raises BackendMissing."""
    for module in ("cv2", "numba", "gtsam"):
        optional(module, "loop closure", "slam")
