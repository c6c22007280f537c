"""The ground truth node: what a simulated world knows, for reports and tests only."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from foveate.messages import Message, Objects, Pose, Stamp
from foveate.node import Node, Unit
from foveate_drivers.world.base import TruthSource
from foveate_nodes.segmentation.messages import LabelImage


class GroundTruth(Node):
    """Every object of the world, the rig's pose where it moves, and what each pixel of its event camera shows on a
    street, at a steady rate; on a rig without a world (`none:`) it ends at once. The pose is that of a camera at the
    rig's origin."""

    class Outputs:
        objects: Objects
        pose: Pose
        labels: LabelImage

    def __init__(self, *, device: TruthSource, rate: Annotated[float, Unit("Hz"), Gt(0), Le(1000)] = 20.0) -> None:
        self.device = device
        self._period_ns = round(1e9 / rate)
        self._next_ns = 0

    def due_ns(self) -> int:
        return self._next_ns

    def step(self) -> dict[str, Message] | None:
        t_ns, self._next_ns = self._next_ns, self._next_ns + self._period_ns
        found = {"objects": self.device.objects(t_ns), "pose": self.device.pose(t_ns), "labels": self._labels(t_ns)}
        return {name: message for name, message in found.items() if message is not None} or None

    def _labels(self, t_ns: int) -> LabelImage | None:
        seen = self.device.classes(t_ns)
        return None if seen is None else LabelImage(Stamp(t_ns), seen.label, seen.names)
