"""The belief node: where objects that nobody has found yet may be, updated by Bayes' rule at each look."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from foveate.messages import Boxes, Objects, ProbabilityMap
from foveate.node import Node, Unit
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.detection.grid import Grid
from foveate_nodes.detection.steered_view import SteeredView

_FOUND_LEFT = 0.03  # share of a cell's expectation left after an object was found in it
_SMEARED = 0.35  # share of the detector's power left when the mirror moved in the exposure
_EDGE = 0.45  # share left where an object would be cut by the image's edge


class ProbabilityMapNode(Node):
    """Expected undiscovered objects by direction.

    A look without detection there: p <- p (1 - pd) / (p (1 - pd) + (1 - p)(1 - pf)). A detection hands
    its object over to the object map. Between looks p returns to the prior with time constant `return_time`,
    but not where a known object explains the prior.
    """

    cost_ns = 200_000

    state = ("_prior", "_belief", "_seen", "_last_ns")

    class Outputs:
        map: ProbabilityMap

    def __init__(
        self,
        *,
        camera: Camera,
        mirror: Mirror,
        range: Annotated[float, Unit("m"), Gt(0)] = 150.0,
        width: Annotated[float, Unit("rad"), Gt(0)] = 0.838,
        height: Annotated[float, Unit("rad"), Gt(0)] = 0.471,
        cell: Annotated[float, Unit("rad"), Gt(0.0005)] = 0.007,
        detection: Annotated[float, Gt(0), Lt(1)] = 0.85,
        false_alarm: Annotated[float, Gt(0), Lt(1)] = 0.01,
        return_time: Annotated[float, Unit("s"), Gt(0)] = 6.0,
        margin: Annotated[float, Unit("rad"), Gt(0)] = 0.004,
    ) -> None:
        """`detection`, `false_alarm`: pd and pf of one look; `margin`: half the size of a typical object."""
        self._view = SteeredView(camera, mirror, range)
        self._grid = Grid.over(width, height, cell)
        self._rates = (detection, false_alarm)
        self._return_ns = return_time * 1e9
        self._margin = margin
        self._prior: NDArray[np.float32] | None = None
        self._belief: NDArray[np.float32] | None = None
        self._seen: tuple[int, int] = (-1, -1)
        self._last_ns = 0

    def step(self, boxes: Boxes, prior: ProbabilityMap | None, objects: Objects | None) -> ProbabilityMap:
        t_ns = boxes.stamp.t_ns
        self._renew(prior, objects)
        assert self._prior is not None
        if self._belief is None:
            self._belief = self._prior.copy()
        back = 1.0 - np.exp(-max(t_ns - self._last_ns, 0) / self._return_ns)
        self._belief += np.float32(back) * (self._prior - self._belief)
        self._last_ns = t_ns
        if boxes.mirror is not None:
            self._look(boxes, self._belief)
        grid = self._grid
        return ProbabilityMap(boxes.stamp, self._belief.copy(), grid.left_rad, grid.top_rad, grid.cell_rad)

    def _renew(self, prior: ProbabilityMap | None, objects: Objects | None) -> None:
        """The prior without what known objects explain; only when either is new enough to matter."""
        if prior is None:
            if self._prior is None:
                grid = self._grid
                self._prior = np.full((grid.rows, grid.columns), 0.02, np.float32)
            return
        known_ns = objects.stamp.t_ns // 100_000_000 if objects is not None else -1
        key = (prior.stamp.t_ns, known_ns)
        if key == self._seen:
            return
        first = self._seen[0] < 0
        self._seen = key
        if prior.expected.shape != (self._grid.rows, self._grid.columns):
            raise ValueError(
                f"the prior is {prior.expected.shape[0]} x {prior.expected.shape[1]} cells, this map "
                f"{self._grid.rows} x {self._grid.columns}: give both nodes the same width, height and cell"
            )
        self._prior = np.minimum(prior.expected, np.float32(0.9))
        if objects is not None:
            sure = objects.probability > 0.5
            half = objects.extent_rad[sure] / 2 + self._grid.cell_rad / 2
            for center, reach in zip(objects.direction_rad[sure], half, strict=True):
                rows, columns = self._grid.window(center, reach)
                self._prior[rows, columns] *= np.float32(_FOUND_LEFT)
        if first:
            self._belief = None

    def _look(self, boxes: Boxes, belief: NDArray[np.float32]) -> None:
        pd, pf = self._rates
        mirror = boxes.mirror
        assert mirror is not None
        if mirror.moved:
            pd *= _SMEARED
        center = self._view.center(mirror.angle_rad)
        half = np.array(self._view.half_field_rad)
        for reach, power in ((half, pd * _EDGE), (half - self._margin, pd * (1 - _EDGE))):
            rows, columns = self._grid.window(center, np.maximum(reach, 0))
            p = belief[rows, columns]
            missed = p * (1 - power)
            belief[rows, columns] = missed / (missed + (1 - p) * (1 - pf))
        if len(boxes.box_px):
            middle = (boxes.box_px[:, :2] + boxes.box_px[:, 2:]) / 2
            direction = self._view.directions(middle, mirror.angle_rad)
            size = (boxes.box_px[:, 2:] - boxes.box_px[:, :2]) / self._view.pinhole.focal_px
            for place, extent in zip(direction, size, strict=True):
                rows, columns = self._grid.window(place, extent / 2 + self._grid.cell_rad / 2)
                belief[rows, columns] *= np.float32(_FOUND_LEFT)
