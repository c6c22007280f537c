"""The pinhole camera: pixels to rays and planes to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pinhole:
    """An ideal camera: x right, y down, z forward; a pixel's centre lies at integer coordinates."""

    width: int
    height: int
    focal_px: float

    @classmethod
    def from_field(cls, width: int, height: int, field_rad: float) -> Pinhole:
        """The camera whose image is `field_rad` wide (full horizontal angle, radians)."""
        return cls(width, height, width / (2.0 * math.tan(field_rad / 2.0)))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """3 x 3 intrinsic matrix (pixels)."""
        cx, cy = (self.width - 1) / 2.0, (self.height - 1) / 2.0
        return np.array([[self.focal_px, 0.0, cx], [0.0, self.focal_px, cy], [0.0, 0.0, 1.0]])

    @property
    def half_field_rad(self) -> tuple[float, float]:
        """Half the horizontal and half the vertical angle of view (radians)."""
        return (
            math.atan(self.width / 2.0 / self.focal_px),
            math.atan(self.height / 2.0 / self.focal_px),
        )

    def rays(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Unit directions (N x 3, camera frame) through `pixels` (N x 2)."""
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        matrix = self.matrix
        rays = np.column_stack([(pixels - matrix[:2, 2]) / self.focal_px, np.ones(len(pixels))])
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def image_from_plane(self, camera_from_world: NDArray[np.float64], z_m: float) -> NDArray[np.float64]:
        """Homography (3 x 3) from points (x, y, 1) of the world plane z = `z_m` (metres) to pixels."""
        world_from_plane = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, z_m], [0.0, 0.0, 1.0]])
        return self.matrix @ (camera_from_world @ world_from_plane)[:3]
