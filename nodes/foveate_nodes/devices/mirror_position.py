"""The mirror position node: where a mirror says it is, at a steady rate and whatever the camera does."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from foveate.messages import MirrorState
from foveate.node import Node, Unit
from foveate_drivers.mirrors.base import Mirror as MirrorDevice


class MirrorPosition(Node):
    """Readings of a mirror with the moments at which they were taken; `calibrate time` holds them against images."""

    class Outputs:
        state: MirrorState

    def __init__(self, *, device: MirrorDevice, rate: Annotated[float, Unit("Hz"), Gt(0), Le(10_000)] = 500.0) -> None:
        self.device = device
        self._period_ns = round(1e9 / rate)
        self._next_ns = 0

    def due_ns(self) -> int:
        return self._next_ns

    def step(self) -> MirrorState:
        state = self.device.position()
        # one that was held up does not catch up: readings are of now
        self._next_ns = max(self._next_ns, state.stamp.t_ns - self._period_ns) + self._period_ns
        return state
