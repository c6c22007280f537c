"""The ground truth node: what a simulated world knows, for reports and tests only."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from foveate.messages import Message, Objects, Pose
from foveate.node import Node, Unit
from foveate_drivers.world.base import TruthSource


class GroundTruth(Node):
    """Every object of the world, and the rig's pose where it moves, at a steady rate; on a rig without a world
    (`none:`) it ends at once. The pose is that of a camera at the rig's origin."""

    class Outputs:
        objects: Objects
        pose: Pose

    def __init__(self, *, device: TruthSource, rate: Annotated[float, Unit("Hz"), Gt(0), Le(1000)] = 20.0) -> None:
        self.device = device
        self._period_ns = round(1e9 / rate)
        self._next_ns = 0

    def due_ns(self) -> int:
        return self._next_ns

    def step(self) -> dict[str, Message] | None:
        t_ns, self._next_ns = self._next_ns, self._next_ns + self._period_ns
        found = {"objects": self.device.objects(t_ns), "pose": self.device.pose(t_ns)}
        return {name: message for name, message in found.items() if message is not None} or None
