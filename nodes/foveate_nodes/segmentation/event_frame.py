"""The node that makes a picture of events, to look at."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from foveate.messages import Frame
from foveate.node import Node
from foveate_nodes.segmentation.messages import EventSlices
from foveate_nodes.segmentation.representations import event_frame


class EventFrame(Node):
    """The newest slice as a grey picture: brighter where light rose, darker where it fell."""

    cost_ns = 300_000

    class Outputs:
        frame: Frame

    def __init__(self, *, contrast: Annotated[int, Ge(1), Le(1000)] = 3) -> None:
        """`contrast`: events of one sign that are white or black."""
        self._contrast = contrast
        self._seq = 0

    def step(self, slices: EventSlices) -> Frame:
        _, x, y, polarity = slices.events_of(len(slices) - 1)
        image, _ = event_frame(x, y, polarity, (slices.height, slices.width), self._contrast)
        self._seq += 1
        return Frame(slices.stamp, image, "Mono8", self._seq - 1)
