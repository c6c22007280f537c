"""A camera that looks through two galvanometer mirrors: exact reflection, no single centre of projection.

The rig frame has x right, y down, z forward; the second mirror turns about x through the origin, the
first about z through (0, -spacing, 0). The camera looks along +x at the first mirror; at rest the
view leaves along +z. Each mirror image of the camera is a virtual camera (Manakov et al., VMV 2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.rigid import invert, reflection, rotation, transform

_HALF = math.sqrt(0.5)
_NORMALS = np.array([[-_HALF, _HALF, 0.0], [0.0, -_HALF, _HALF]])
_AXES = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
# Columns: the camera's x, y, z axes in the rig frame, so that at rest the view is upright.
_CAMERA_AXES = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, slots=True)
class TwoMirror:
    """Two plane mirrors `spacing_m` apart and a camera `camera_distance_m` before the first."""

    spacing_m: float = 0.045
    camera_distance_m: float = 0.08

    def mirror_planes(self, angle_rad: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """(unit normal, point) of both mirrors at mechanical angles `angle_rad` (2,), radians."""
        points = (np.array([0.0, -self.spacing_m, 0.0]), np.zeros(3))
        return [(rotation(_AXES[i], float(angle_rad[i])) @ _NORMALS[i], points[i]) for i in range(2)]

    def galvanometers(self) -> tuple[Galvanometer, Galvanometer]:
        """The same two mirrors in the general model, where they have errors."""
        points = (np.array([0.0, -self.spacing_m, 0.0]), np.zeros(3))
        return Galvanometer(_AXES[0], points[0], _NORMALS[0]), Galvanometer(_AXES[1], points[1], _NORMALS[1])

    @property
    def rig_from_bare_camera(self) -> NDArray[np.float64]:
        """Pose (4 x 4) of the real camera, before the first mirror."""
        return transform(_CAMERA_AXES, np.array([-self.camera_distance_m, -self.spacing_m, 0.0]))

    def rig_from_camera(self, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pose (4 x 4) of the virtual camera: the real one reflected in both mirrors."""
        first, second = self.mirror_planes(angle_rad)
        return reflection(*second) @ reflection(*first) @ self.rig_from_bare_camera

    def camera_from_rig(self, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `rig_from_camera` (4 x 4)."""
        return invert(self.rig_from_camera(angle_rad))

    def ray(self, angle_rad: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(exit point on the second mirror in metres, unit direction) of the optical axis, rig frame."""
        origin = np.array([-self.camera_distance_m, -self.spacing_m, 0.0])
        direction = np.array([1.0, 0.0, 0.0])
        for normal, point in self.mirror_planes(angle_rad):
            origin = origin + direction * ((point - origin) @ normal) / (direction @ normal)
            direction = direction - 2.0 * (direction @ normal) * normal
        return origin, direction

    def hit(self, angle_rad: NDArray[np.float64], z_m: float) -> NDArray[np.float64]:
        """Where the optical axis meets the plane z = `z_m`: (x, y) in metres."""
        origin, direction = self.ray(angle_rad)
        return (origin + direction * (z_m - origin[2]) / direction[2])[:2]

    def aim(self, x_m: float, y_m: float, z_m: float) -> NDArray[np.float64]:
        """Mechanical angles (2,), radians, that put the optical axis on the point (x, y, z).

        Closed form for a plane at z: beta = atan(y/z)/2, alpha = atan(x/(hypot(y, z) + spacing))/2.
        """
        alpha = 0.5 * math.atan2(x_m, math.hypot(y_m, z_m) + self.spacing_m)
        beta = 0.5 * math.atan2(y_m, z_m)
        return np.array([alpha, beta])
