"""The node that tells how long ago every pixel fired."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from foveate.node import Node, Unit
from foveate_nodes.segmentation.messages import EventSlices, EventTensor
from foveate_nodes.segmentation.representations import NEVER, last_times, time_surface
from foveate_nodes.segmentation.voxel_grid import tensor_of


class TimeSurface(Node):
    """exp(-age / decay) of each pixel's last darker and brighter event at the end of each slice, over all slices so far
    (Lagorce et al. 2017); 0 where nothing ever happened."""

    cost_ns = 1_000_000

    class Outputs:
        tensor: EventTensor

    def __init__(self, *, decay: Annotated[float, Unit("s"), Ge(1e-5), Le(100)] = 0.05) -> None:
        self._decay_ns = decay * 1e9
        self._last_ns = np.zeros((2, 0, 0), np.int64)

    def step(self, slices: EventSlices) -> EventTensor:
        shape = (2, slices.height, slices.width)
        if slices.fresh or self._last_ns.shape != shape:
            self._last_ns = np.full(shape, NEVER, np.int64)
        value = np.empty((len(slices), *shape), np.float32)
        outside = 0
        for i in range(len(slices)):
            outside += int(last_times(*slices.events_of(i), self._last_ns))
            time_surface(self._last_ns, int(slices.end_ns[i]), self._decay_ns, out=value[i])
        return tensor_of(slices, value, "time_surface", outside)
