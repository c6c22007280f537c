"""The sweep: a mirror to and fro about a direction, for calibrating in time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt, Le

from foveate.messages import Frame, Gaze, Stamp
from foveate.node import Node, Unit
from foveate_drivers.mirrors.base import Mirror


class SweepGaze(Node):
    """A gaze for each frame, on a sine about `center`; axes have rates of their own, so that they can be told apart."""

    cost_ns = 50_000

    class Outputs:
        target: Gaze

    def __init__(
        self, *, mirror: Mirror, center: tuple[float, ...] = (0.0, 0.0),
        amplitude: Annotated[float, Unit("rad"), Gt(0), Le(0.5)] = 0.004,
        rate: Annotated[float, Unit("Hz"), Gt(0), Le(100)] = 1.0,
    ) -> None:  # fmt: skip
        """`center`: mechanical radians, one an axis; `amplitude`: to each side; `rate`: of the first axis."""
        self._center = np.zeros(mirror.axes)
        self._center[: len(center)] = center[: mirror.axes]
        self._amplitude_rad, self._rate_hz = amplitude, rate

    def step(self, strobe: Frame) -> Gaze:
        rates = self._rate_hz * (1.0 + 0.37 * np.arange(len(self._center)))
        angle = self._center + self._amplitude_rad * np.sin(2 * np.pi * rates * strobe.stamp.t_ns / 1e9)
        return Gaze(Stamp(strobe.stamp.t_ns), angle, 0, 0.0, "sweep")
