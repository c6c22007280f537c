"""Between pixels of a steered camera, mirror angles and directions of the rig."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.errors import StateError
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror

Array = NDArray[np.float64]


class SteeredView:
    """A pinhole camera behind two mirrors, looking at things about `range_m` away.

    The view has no single centre of projection, so a direction depends on the range: an error of the
    range by 10 % moves a direction by less than the mirrors' spacing over the range, times 0.1.
    """

    def __init__(self, camera: Camera, mirror: Mirror, range_m: float) -> None:
        """Raises StateError when the rig does not say how camera or mirror see."""
        if camera.pinhole is None:
            raise StateError(camera.uri, "steer", "the rig must give its angle of view (option 'field')")
        if mirror.geometry is None:
            raise StateError(mirror.uri, "steer", "the rig must give its geometry (option 'spacing')")
        self.pinhole: Pinhole = camera.pinhole
        self.geometry: TwoMirror = mirror.geometry
        self.range_m = range_m
        self.limit_rad = mirror.limit_rad

    def directions(self, pixels: NDArray[np.floating], angle_rad: Array) -> Array:
        """Rig directions (N x 2) of image points (N x 2) seen at mirror angles `angle_rad`."""
        pose = self.geometry.rig_from_camera(angle_rad)
        rays = self.pinhole.rays(pixels) @ pose[:3, :3].T
        origin = pose[:3, 3]
        points = origin[:2] + rays[:, :2] * ((self.range_m - origin[2]) / rays[:, 2])[:, None]
        return np.arctan(points / self.range_m)

    def aim(self, direction_rad: Array) -> Array:
        """Mirror angles (2,) that centre a direction, kept within the mirror's limits."""
        x, y = np.tan(direction_rad) * self.range_m
        return np.clip(self.geometry.aim(float(x), float(y), self.range_m), -self.limit_rad, self.limit_rad)

    def center(self, angle_rad: Array) -> Array:
        """The direction (2,) of the image's centre."""
        return np.arctan(self.geometry.hit(angle_rad, self.range_m) / self.range_m)

    @property
    def half_field_rad(self) -> tuple[float, float]:
        """Half of the view's width and height."""
        return self.pinhole.half_field_rad
