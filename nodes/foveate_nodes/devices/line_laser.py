"""The line laser node: asks for light again and again, so that a graph that hangs goes dark."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from foveate.errors import OutOfRange
from foveate.messages import LaserState
from foveate.node import Node, Unit
from foveate_drivers.lasers.base import LineLaser as LaserDevice


class LineLaser(Node):
    """Light of a line laser at a steady power, as long as the graph runs; what it does is read back each time.

    Opening raises OutOfRange where the rate is so low that the laser would go out in between.
    """

    drives_hardware = True

    class Outputs:
        state: LaserState

    def __init__(
        self, *, device: LaserDevice, power: Annotated[float, Ge(0), Le(1)] = 0.5,
        rate: Annotated[float, Unit("Hz"), Gt(0), Le(1000)] = 30.0,
    ) -> None:  # fmt: skip
        """`power`: share of the most; `rate`: how often to ask for light."""
        self.device = device
        self._power = power
        self._period_ns = round(1e9 / rate)
        self._next_ns = 0

    def open(self) -> None:
        least_hz = 1 / self.device.deadline_s
        if 1e9 / self._period_ns <= least_hz:
            raise OutOfRange(self.device.uri, "rate", 1e9 / self._period_ns, least_hz, 1000.0, "Hz")

    def due_ns(self) -> int:
        return self._next_ns

    def step(self) -> LaserState:
        state = self.device.emit(self._power)
        # one that was held up does not catch up: what counts is light from now on
        self._next_ns = max(self._next_ns, state.stamp.t_ns - self._period_ns) + self._period_ns
        return state
