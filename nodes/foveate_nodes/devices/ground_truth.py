"""The ground truth node: what a simulated world knows, for reports and tests only."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from foveate.messages import Objects
from foveate.node import Node, Unit
from foveate_drivers.world.base import TruthSource


class GroundTruth(Node):
    """Every object of the world at a steady rate; on a rig without a world (`none:`) it ends at once."""

    class Outputs:
        objects: Objects

    def __init__(self, *, device: TruthSource, rate: Annotated[float, Unit("Hz"), Gt(0), Le(1000)] = 20.0) -> None:
        self.device = device
        self._period_ns = round(1e9 / rate)
        self._next_ns = 0

    def due_ns(self) -> int:
        return self._next_ns

    def step(self) -> Objects | None:
        t_ns, self._next_ns = self._next_ns, self._next_ns + self._period_ns
        return self.device.objects(t_ns)
