"""The node that counts events by pixel."""

from __future__ import annotations

import numpy as np

from foveate.node import Node
from foveate_nodes.segmentation.messages import EventSlices, EventTensor
from foveate_nodes.segmentation.representations import event_count
from foveate_nodes.segmentation.voxel_grid import tensor_of


class EventCount(Node):
    """How many darker and brighter events each pixel had in each slice: two channels."""

    cost_ns = 500_000

    class Outputs:
        tensor: EventTensor

    def __init__(self) -> None:
        pass

    def step(self, slices: EventSlices) -> EventTensor:
        shape = (slices.height, slices.width)
        value = np.empty((len(slices), 2, *shape), np.float32)
        outside = 0
        for i in range(len(slices)):
            _, x, y, polarity = slices.events_of(i)
            _, off = event_count(x, y, polarity, shape, out=value[i])
            outside += off
        return tensor_of(slices, value, "event_count", outside)
