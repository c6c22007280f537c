"""A baseline: the field of regard line by line, to and fro."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt

from foveate.messages import Frame, Gaze, Stamp
from foveate.node import Node, Unit
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.detection.steered_view import SteeredView
from foveate_nodes.devices.look_timing import LookTiming


class RasterGaze(Node):
    """Looks at every tile of the field in turn; neighbouring tiles share `overlap` of their width."""

    cost_ns = 50_000

    state = ("_angle", "_next")

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
        overlap: Annotated[float, Ge(0), Lt(0.9)] = 0.1,
    ) -> None:
        self._view = SteeredView(camera, mirror, range)
        self._timing = LookTiming(camera, mirror)
        self._tiles = self.tiles(np.array([width, height]), overlap)
        self._angle = np.zeros(2)
        self._next = 0

    def tiles(self, field_rad: np.ndarray, overlap: float) -> np.ndarray:
        """Directions (N x 2) in the order of the scan; the outermost views end at the field's edge."""
        full = 2 * np.array(self._view.half_field_rad)
        counts = np.maximum(np.ceil((field_rad - full) / (full * (1 - overlap))), 0).astype(int) + 1
        axes = [
            np.linspace(-1, 1, n) * max(size - view, 0) / 2 if n > 1 else np.zeros(1)
            for n, size, view in zip(counts, field_rad, full, strict=True)
        ]
        lines = [[(x, y) for x in (axes[0] if i % 2 == 0 else axes[0][::-1])] for i, y in enumerate(axes[1])]
        return np.array([tile for line in lines for tile in line])

    def step(self, strobe: Frame) -> Gaze | None:
        if not self._timing.due():
            return None
        angle = self._view.aim(self._tiles[self._next])
        self._next = (self._next + 1) % len(self._tiles)
        self._timing.hold(angle - self._angle, strobe.stamp.exposure_ns)
        self._angle = angle
        return Gaze(Stamp(strobe.stamp.t_ns), angle, self._timing.start_ns(strobe), 0.0, "raster")
