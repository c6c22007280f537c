"""A baseline: anywhere in the field of regard, each direction equally likely."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt

from foveate.messages import Frame, Gaze, Stamp
from foveate.node import Node, Unit
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.detection.steered_view import SteeredView
from foveate_nodes.devices.look_timing import LookTiming


class RandomGaze(Node):
    """Uniformly random directions from a seed."""

    cost_ns = 50_000

    state = ("_angle", "_rng")

    class Outputs:
        target: Gaze

    def __init__(
        self,
        *,
        camera: Camera,
        mirror: Mirror,
        range: Annotated[float, Unit("m"), Gt(0)] = 150.0,
        width: Annotated[float, Unit("rad"), Gt(0)] = 0.838,
        height: Annotated[float, Unit("rad"), Gt(0)] = 0.471,
        seed: int = 1,
    ) -> None:
        self._view = SteeredView(camera, mirror, range)
        self._timing = LookTiming(camera, mirror)
        half = np.array(self._view.half_field_rad)
        self._reach = np.maximum(np.array([width, height]) / 2 - half, 0)
        self._rng = np.random.default_rng(seed)
        self._angle = np.zeros(2)

    def step(self, strobe: Frame) -> Gaze | None:
        if not self._timing.due():
            return None
        angle = self._view.aim(self._rng.uniform(-self._reach, self._reach))
        self._timing.hold(angle - self._angle, strobe.stamp.exposure_ns)
        self._angle = angle
        return Gaze(Stamp(strobe.stamp.t_ns), angle, self._timing.start_ns(strobe), 0.0, "random")
