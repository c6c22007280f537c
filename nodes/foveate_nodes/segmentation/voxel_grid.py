"""The node that makes voxel grids of slices."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from foveate.node import Node
from foveate_nodes.segmentation.canvas import Canvas
from foveate_nodes.segmentation.messages import EventSlices, EventTensor
from foveate_nodes.segmentation.representations import voxel_grid

_Side = Annotated[int, Ge(0), Le(4096)]


class VoxelGrid(Node):
    """Signed sums by pixel and time, `bins` channels a slice; normalised as SLTNet's networks want it."""

    cost_ns = 1_000_000

    class Outputs:
        tensor: EventTensor

    def __init__(
        self, *, bins: Annotated[int, Ge(1), Le(64)] = 5, normalise: bool = True, width: _Side = 0, height: _Side = 0
    ) -> None:
        """`width`, `height`: of the grid, into which the sensor's picture is shrunk; 0 = as the sensor has it."""
        self._bins, self._normalise = bins, normalise
        self._size = (width, height)

    def step(self, slices: EventSlices) -> EventTensor:
        canvas = canvas_of(slices, self._size)
        shape = (self._bins, canvas.size[1], canvas.size[0])
        value = np.empty((len(slices), *shape), np.float32)
        outside = 0
        for i in range(len(slices)):
            t_ns, x, y, polarity = slices.events_of(i)
            _, off = voxel_grid(t_ns, *canvas.place(x, y), polarity, shape, self._normalise, out=value[i])
            outside += off
        return tensor_of(slices, value, "voxel_grid", outside)


def canvas_of(slices: EventSlices, size: tuple[int, int]) -> Canvas:
    """Where a sensor's events go on a grid of `size`; 0: as many pixels as the sensor has."""
    sensor = (slices.width, slices.height)
    return Canvas(sensor, (size[0] or sensor[0], size[1] or sensor[1]))


def tensor_of(slices: EventSlices, value: np.ndarray, kind: str, outside: int) -> EventTensor:
    """What a node says of some slices."""
    return EventTensor(slices.stamp, value, kind, slices.begin_ns, slices.end_ns, outside, slices.skipped, slices.fresh)
