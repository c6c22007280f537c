"""A depth camera: a lens whose every pixel tells the distance along the optical axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.lens import Lens
from foveate_calibration.rigid import invert, rigid_of

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DepthCamera:
    """Points of depth images; measured depth z is true depth (z - bias_m) / gain."""

    lens: Lens
    rig_from_camera: Array  # 4 x 4
    scale_m: float = 0.001  # metres a unit
    gain: float = 1.0
    bias_m: float = 0.0

    def points(self, depth: NDArray[np.integer]) -> tuple[Array, NDArray[np.bool_]]:
        """(points H W x 3 in metres, rig frame; which were measured) of a depth image (H x W, 0 = not measured)."""
        height, width = depth.shape
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        rays = self.lens.rays(np.column_stack([columns.ravel(), rows.ravel()]))
        z = (depth.ravel() * self.scale_m - self.bias_m) / self.gain
        seen = rays * (z / rays[:, 2])[:, None]
        return seen @ self.rig_from_camera[:3, :3].T + self.rig_from_camera[:3, 3], depth.ravel() > 0

    def project(self, points_m: Array) -> tuple[Array, Array]:
        """(pixels N x 2, measured depth N in units) of points (N x 3, rig frame)."""
        pose = invert(self.rig_from_camera)
        seen = points_m @ pose[:3, :3].T + pose[:3, 3]
        return self.lens.project(seen), (seen[:, 2] * self.gain + self.bias_m) / self.scale_m

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        return {
            "lens": self.lens.plain(), "rig_from_camera": self.rig_from_camera[:3].tolist(),
            "scale_m": self.scale_m, "gain": self.gain, "bias_m": self.bias_m,
        }  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        scale, gain, bias = (float(plain[k]) for k in ("scale_m", "gain", "bias_m"))
        if not (scale > 0 and gain > 0):
            raise ValueError("scale_m and gain must be above 0")
        return cls(Lens.from_plain(plain["lens"]), rigid_of(plain["rig_from_camera"]), scale, gain, bias)
