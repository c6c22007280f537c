"""A simulated street with a camera that drives along it: images for event cameras, and the class of every pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world.scene import Pixels
from foveate_drivers.world.street_draw import draw
from foveate_drivers.world.street_layout import CLASSES, layout

Array = NDArray[np.float64]
_FINE = 2  # rays a pixel, along each side


class Street:
    """A drive along the street of a seed: it never ends, and repeats its houses every 320 m."""

    classes = CLASSES

    def __init__(self, seed: int) -> None:
        self._layout = layout(seed)
        rng = np.random.default_rng([seed, 1])
        self._phase = rng.uniform(0, 2 * math.pi, 8)
        self._bend = float(rng.uniform(0.03, 0.12))

    def world_from_rig(self, t_s: float) -> Array:
        """4 x 4: x right, y down, z along the street, metres; the ground is y = 0."""
        a, way = self._phase, self._layout
        along = way.speed_m_s * t_s + 5.0 * (math.cos(a[0]) - math.cos(0.4 * t_s + a[0]))
        across = way.lane_m + 0.25 * math.sin(0.5 * t_s + a[1])
        yaw = self._bend * math.sin(0.35 * t_s + a[2]) + 0.02 * math.sin(1.1 * t_s + a[3])
        pitch = 0.010 * math.sin(5.3 * t_s + a[4]) + 0.006 * math.sin(11 * t_s + a[5])
        roll = 0.008 * math.sin(2.1 * t_s + a[6])
        matrix = np.eye(4)
        matrix[:3, :3] = _turn(yaw, 1) @ _turn(pitch, 0) @ _turn(roll, 2)
        matrix[:3, 3] = across, -(way.eye_m + 0.02 * math.sin(7 * t_s + a[7])), along
        return matrix

    def see(
        self, pinhole: Pinhole, t_s: float, rig_from_camera: Array | None = None
    ) -> tuple[Pixels, NDArray[np.uint8]]:
        """Grey levels (H x W) and classes (H x W, indices of `classes`) of a camera that the car carries."""
        pose = self.world_from_rig(t_s) if rig_from_camera is None else self.world_from_rig(t_s) @ rig_from_camera
        way = self._layout
        shape = (pinhole.height * _FINE, pinhole.width * _FINE)
        depth, grey, label = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint8)
        street = np.array([way.road_m, way.walk_m, way.crossing_m])
        draw(way.items, street, pose[:3, 3].copy(), np.ascontiguousarray(pose[:3, :3]), t_s, pinhole.focal_px * _FINE,
             depth, grey, label)  # fmt: skip
        small = cv2.resize(grey, (pinhole.width, pinhole.height), interpolation=cv2.INTER_AREA)
        return np.clip(small * way.light, 0, 255).astype(np.uint8), label[::_FINE, ::_FINE].copy()


def _turn(angle: float, axis: int) -> Array:
    """3 x 3, about x, y or z."""
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = cosine
    matrix[i, j], matrix[j, i] = -sine, sine
    return matrix
