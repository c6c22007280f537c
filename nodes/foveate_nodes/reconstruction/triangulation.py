"""Where the rays of a stripe's pixels meet the laser's plane, and how uncertain that is.

A point is X = o + s r with s = (d - n o) / (n r): o, r of the ray, n, d of the plane. A small error moves it by its
derivative: a shift of the pixel across the stripe, the angle of each camera mirror, the angle of the laser's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.galvanometer import reflection_derivatives, reflection_in
from foveate_calibration.lens import Lens
from foveate_calibration.residual_map import ResidualMap
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane, SteeredLaser

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A camera at one place: its lens, where it is, and how that changes with its mirrors' angles."""

    lens: Lens
    rig_from_camera: Array  # 4 x 4, of the virtual camera where there are mirrors
    slope: Array  # axes x 4 x 4, by the commanded angles (radians)
    angle_rad: Array  # (axes,)
    residual: ResidualMap | None = None

    @property
    def center_m(self) -> Array:
        """(3,) where the rays come from."""
        return self.rig_from_camera[:3, 3]

    def rays(self, pixels: Array) -> Array:
        """Unit directions (N x 3, camera frame) of pixels (N x 2)."""
        return self.lens.rays(pixels if self.residual is None else self.residual.removed(pixels, self.angle_rad))


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The laser's light at one place, and how it changes with its mirror's angle."""

    plane: Array  # (4,): unit normal and distance, n x = d
    slope: Array  # (4,), by the commanded angle (radians); 0 for one that does not move


@dataclass(frozen=True, slots=True)
class Sigmas:
    """Standard deviations of the angles, radians; one value for all points of a profile, so they move together."""

    camera_rad: float
    laser_rad: float


def view_of(camera: SteeredCamera | Lens, angle_rad: Array | None, fixed: Array | None = None) -> View:
    """The camera at its mirrors' angles (axes,); one without mirrors is at `fixed` (4 x 4), the origin if None."""
    if isinstance(camera, Lens):
        return View(camera, np.eye(4) if fixed is None else fixed, np.zeros((0, 4, 4)), np.zeros(0))
    assert angle_rad is not None
    pose, slopes = camera.rig_from_camera, np.zeros((0, 4, 4))
    for mirror, angle in zip(camera.mirrors, angle_rad, strict=True):
        plane, by = mirror.linearize(float(angle))
        reflection = reflection_in(plane)
        turning = reflection_derivatives(plane, by[8:9] * (mirror.gain + 3 * mirror.cubic * float(angle) ** 2))
        slopes = np.concatenate([reflection @ slopes, turning @ pose])
        pose = reflection @ pose
    return View(camera.lens, pose, slopes, np.asarray(angle_rad, np.float64), camera.residual)


def sheet_of(laser: SteeredLaser | LaserPlane, angle_rad: Array | None) -> Sheet:
    """The light at its mirror's angle (1,)."""
    if isinstance(laser, LaserPlane):
        return Sheet(laser.plane(), np.zeros(4))
    assert angle_rad is not None
    plane, _, slope = laser.linearize(angle_rad)
    return Sheet(plane, slope)


def points(view: View, sheet: Sheet, pixels: Array) -> Array:
    """Points (N x 3, metres, rig frame) of pixels (N x 2); nan where a ray meets no light before the camera."""
    return _meet(view.center_m, view.rays(pixels) @ view.rig_from_camera[:3, :3].T, sheet.plane)[0]


def points_with_errors(
    view: View, sheet: Sheet, pixels: Array, normal_px: Array, sigma_px: Array, sigmas: Sigmas
) -> tuple[Array, Array]:
    """Points (N x 3, metres, rig frame) and their covariances (N x 6: xx, xy, xz, yy, yz, zz, m^2); nan as in `points`.

    `normal_px` (N x 2, unit) across the stripe, `sigma_px` (N) along that. Along the stripe there is no error: a
    shift there is another point of the same surface.
    """
    moves = derivatives(view, sheet, pixels, normal_px)
    found, by_pixel, by_camera, by_laser = moves
    parts = [by_pixel * sigma_px[:, None], *(by_camera * sigmas.camera_rad), by_laser * sigmas.laser_rad]
    covariance = np.zeros((len(found), 6))
    for part in parts:
        x, y, z = part.T
        covariance += np.stack([x * x, x * y, x * z, y * y, y * z, z * z], axis=1)
    return found, covariance


def derivatives(view: View, sheet: Sheet, pixels: Array, normal_px: Array) -> tuple[Array, Array, Array, Array]:
    """Points (N x 3) and how they move: with the pixel along its normal (N x 3, m / px), with the camera's angles
    (axes x N x 3, m / rad), with the laser's (N x 3, m / rad).
    """
    rays = view.rays(pixels)
    turn, normal = view.rig_from_camera[:3, :3], sheet.plane[:3]
    directions = rays @ turn.T
    found, distance, along = _meet(view.center_m, directions, sheet.plane)

    def slide(shift: Array) -> Array:
        """Of a shift (N x 3) of the ray at the point, what is left once the point is back in the plane."""
        return shift - directions * ((shift @ normal) / along)[:, None]

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        by_pixel = slide(distance[:, None] * (_ray_slopes(view.lens, rays, normal_px) @ turn.T))
        by_camera = np.empty((len(view.slope), len(found), 3))
        for k, slope in enumerate(view.slope):
            by_camera[k] = slide(slope[:3, 3] + distance[:, None] * (rays @ slope[:3, :3].T))
        lift = sheet.slope[3] - found @ sheet.slope[:3]  # how far the plane rises at the point
        by_laser = directions * (lift / along)[:, None]
    return found, by_pixel, by_camera, by_laser


def _meet(center: Array, directions: Array, plane: Array) -> tuple[Array, Array, Array]:
    """Points (N x 3), distances (N, nan behind the camera) and n r (N)."""
    along = directions @ plane[:3]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        distance = (plane[3] - center @ plane[:3]) / along
        distance = np.where((distance > 0) & np.isfinite(distance), distance, np.nan)
        return center + directions * distance[:, None], distance, along


def _ray_slopes(lens: Lens, rays: Array, normal_px: Array) -> Array:
    """Directions' change (N x 3, camera frame) by a pixel along `normal_px`; the part along the ray does not matter."""
    _, by_point, _ = lens.linearize(rays)
    (a, b), (c, d) = by_point[:, :, 0].T, by_point[:, :, 1].T  # columns of the 2 x 2 part
    determinant = a * d - b * c
    u, v = normal_px.T
    slopes = np.zeros_like(rays)
    slopes[:, 0] = (d * u - c * v) / determinant
    slopes[:, 1] = (a * v - b * u) / determinant
    return slopes
