"""The sweep: a mirror to and fro about a direction, for calibrating in time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt, Le

from foveate.errors import StateError
from foveate.messages import Gaze, Stamp
from foveate.node import Node, Unit
from foveate_drivers.mirrors.base import Mirror


class SweepGaze(Node):
    """Gazes on a sine about `center`; axes have rates of their own, so that they can be told apart.

    It does not wait for frames: steps from frame to frame would look the same at any offset within a step.
    """

    class Outputs:
        target: Gaze

    def __init__(
        self, *, mirror: Mirror, center: tuple[float, ...] = (0.0, 0.0),
        amplitude: Annotated[float, Unit("rad"), Gt(0), Le(0.5)] = 0.004,
        rate: Annotated[float, Unit("Hz"), Gt(0), Le(100)] = 1.0,
        steps: Annotated[float, Unit("Hz"), Gt(0), Le(10_000)] = 1000.0,
    ) -> None:  # fmt: skip
        """`center`: mechanical radians, one an axis; `amplitude`: to each side; `rate`: of the first axis; `steps`: how
        often the mirror is told where to go. Raises StateError where `center` does not fit."""
        if len(center) != mirror.axes:
            raise StateError(mirror.uri, "sweep", f"'center' has {len(center)} angles, and it {mirror.axes} axes")
        self._center = np.array(center)
        self._amplitude_rad, self._rates_hz = amplitude, rate * (1.0 + 0.37 * np.arange(mirror.axes))
        self._period_ns = round(1e9 / steps)
        self._next_ns = 0

    def due_ns(self) -> int:
        return self._next_ns

    def step(self) -> Gaze:
        t_ns, self._next_ns = self._next_ns, self._next_ns + self._period_ns
        angle = self._center + self._amplitude_rad * np.sin(2 * np.pi * self._rates_hz * t_ns / 1e9)
        return Gaze(Stamp(t_ns), angle, 0, 0.0, "sweep")
