"""A real lens on a sensor: the pinhole with distortion, and a sensor that may be tilted (Scheimpflug).

The model and the order of its coefficients are OpenCV's (calib3d, "Camera Calibration and 3D Reconstruction"): Brown's
radial and tangential terms, the rational denominator, thin prism, and the tilted sensor of Louhichi et al. 2007.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty")
PARAMETERS = ("fx", "fy", "cx", "cy", *COEFFICIENTS)
_NEWTON_STEPS = 12
_LAST_STEP = 1e-8  # of normalised image points
_FAR = 1e6  # of these: a direction at right angles to the optical axis


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """Pixels of points and rays of pixels; x right, y down, z forward; a pixel's centre lies at integer coordinates."""

    width: int
    height: int
    values: Array  # (18,): fx, fy, cx, cy (px), then COEFFICIENTS; tx, ty are the sensor's tilt in radians

    @classmethod
    def from_matrix(cls, matrix: Array, distortion: Array, width: int, height: int) -> Self:
        """From a 3 x 3 camera matrix and OpenCV's 0, 4, 5, 8, 12 or 14 coefficients."""
        values = np.zeros(len(PARAMETERS))
        values[:4] = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
        coefficients = np.ravel(distortion)
        values[4 : 4 + len(coefficients)] = coefficients
        return cls(width, height, values)

    @property
    def matrix(self) -> Array:
        """3 x 3 camera matrix (pixels)."""
        fx, fy, cx, cy = self.values[:4]
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    @property
    def distortion(self) -> Array:
        """(14,) coefficients in OpenCV's order."""
        return self.values[4:]

    def stepped(self, step: Array) -> Lens:
        """The lens with `step` (18,) added to its parameters."""
        return replace(self, values=self.values + step)

    def project(self, points: Array) -> Array:
        """Pixels (N x 2) of points (N x 3, metres, camera frame) before the camera."""
        points = np.asarray(points, np.float64).reshape(-1, 3)
        distorted = _distort(points[:, :2] / points[:, 2:], self.distortion)
        return _tilted(distorted, self.distortion[12:])[0] * self.values[:2] + self.values[2:4]

    def linearize(self, points: Array) -> tuple[Array, Array, Array]:
        """Pixels (N x 2), their derivatives by the points (N x 2 x 3), and by the 18 parameters (N x 2 x 18)."""
        points = np.asarray(points, np.float64).reshape(-1, 3)
        normal = points[:, :2] / points[:, 2:]
        distorted = _distort(normal, self.distortion)
        by_normal, by_coefficient = _distortion_derivatives(normal, self.distortion)
        image, by_distorted, by_tilt = _tilted(distorted, self.distortion[12:])
        focal = self.values[:2]
        by_parameter = np.zeros((len(points), 2, len(PARAMETERS)))
        by_parameter[:, 0, 0], by_parameter[:, 1, 1] = image[:, 0], image[:, 1]
        by_parameter[:, 0, 2] = by_parameter[:, 1, 3] = 1.0
        scaled = by_distorted * focal[:, None]
        by_parameter[:, :, 4:16] = scaled @ by_coefficient
        by_parameter[:, :, 16:] = by_tilt * focal[:, None]
        by_point = np.zeros((len(points), 2, 3))
        inverse_z = 1.0 / points[:, 2]
        by_point[:, 0, 0] = by_point[:, 1, 1] = inverse_z
        by_point[:, :, 2] = -normal * inverse_z[:, None]
        return image * focal + self.values[2:4], scaled @ by_normal @ by_point, by_parameter

    def rays(self, pixels: NDArray[np.floating]) -> Array:
        """Unit directions (N x 3, camera frame) through `pixels` (N x 2), to 1e-12 where the model can be inverted.

        Elsewhere, as beyond the fold of a barrel distortion, they are finite and mean nothing.
        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        wanted = _untilted((pixels - self.values[2:4]) / self.values[:2], self.distortion[12:])
        normal = _undistorted(wanted, self.distortion) if self.distortion[:12].any() else wanted
        rays = np.column_stack([normal, np.ones(len(normal))])
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        numbers = {name: float(value) for name, value in zip(PARAMETERS, self.values, strict=True)}
        return {"width": self.width, "height": self.height, **numbers}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        width, height = int(plain["width"]), int(plain["height"])
        values = np.array([float(plain[name]) for name in PARAMETERS])
        if min(width, height) < 1 or not (values[:2] > 0).all():
            raise ValueError("width, height, fx and fy must be above 0")
        return cls(width, height, values)


def _distort(normal: Array, c: Array) -> Array:
    """Where ideal normalised image points (N x 2) land on an untilted sensor."""
    x, y = normal[:, 0], normal[:, 1]
    r2 = x * x + y * y
    radial = _above(r2, c) / _below(r2, c)
    out = np.empty_like(normal)
    out[:, 0] = x * radial + 2 * c[2] * x * y + c[3] * (r2 + 2 * x * x) + r2 * (c[8] + r2 * c[9])
    out[:, 1] = y * radial + c[2] * (r2 + 2 * y * y) + 2 * c[3] * x * y + r2 * (c[10] + r2 * c[11])
    return out


def _above(r2: Array, c: Array) -> Array:
    return np.asarray(1 + r2 * (c[0] + r2 * (c[1] + r2 * c[4])))


def _below(r2: Array, c: Array) -> Array:
    return np.asarray(1 + r2 * (c[5] + r2 * (c[6] + r2 * c[7])))


def _undistorted(wanted: Array, c: Array) -> Array:
    """Ideal points (N x 2) that land on `wanted` ones: Newton's method, all points at once.

    A step of d leaves an error of about d^2, so that the last one needs no look at what it left.
    """
    px, py = np.ascontiguousarray(wanted.T)
    x, y = px.copy(), py.copy()
    with np.errstate(all="ignore"):  # beyond where the model can be inverted a step may lead anywhere
        for _ in range(_NEWTON_STEPS):
            off_x, off_y, xx, xy, yx, yy = _newton(x, y, px, py, c)
            unit = 1.0 / (xx * yy - xy * yx)
            step_x, step_y = (yy * off_x - xy * off_y) * unit, (xx * off_y - yx * off_x) * unit
            x -= step_x
            y -= step_y
            if max(np.abs(step_x).max(initial=0.0), np.abs(step_y).max(initial=0.0)) < _LAST_STEP:
                break
    found = np.column_stack([x, y])
    return np.where(np.abs(found).max(axis=1, keepdims=True) < _FAR, found, wanted)  # nan is not less than anything


def _newton(x: Array, y: Array, px: Array, py: Array, c: Array) -> tuple[Array, ...]:
    """How far distorted points are from wanted ones (x, y), and the slopes of that: x by x, x by y, y by x, y by y."""
    x2, y2, two_xy = x * x, y * y, 2 * x * y
    r2 = x2 + y2
    radial, slope = _above(r2, c), c[0] + r2 * (2 * c[1] + 3 * c[4] * r2)
    if c[5:8].any():
        below = _below(r2, c)
        radial = radial / below
        slope = (slope - radial * (c[5] + r2 * (2 * c[6] + 3 * c[7] * r2))) / below
    off_x, off_y = x * radial - px, y * radial - py
    twice = 2 * slope
    xx, xy, yy = radial + twice * x2, slope * two_xy, radial + twice * y2
    yx = xy
    if c[2] or c[3]:
        off_x, off_y = off_x + c[2] * two_xy + c[3] * (r2 + 2 * x2), off_y + c[2] * (r2 + 2 * y2) + c[3] * two_xy
        both = 2 * (c[2] * x + c[3] * y)
        xx, yy = xx + 2 * c[2] * y + 6 * c[3] * x, yy + 6 * c[2] * y + 2 * c[3] * x
        xy = yx = xy + both
    if c[8:12].any():
        off_x, off_y = off_x + r2 * (c[8] + r2 * c[9]), off_y + r2 * (c[10] + r2 * c[11])
        prism_x, prism_y = 2 * (c[8] + 2 * c[9] * r2), 2 * (c[10] + 2 * c[11] * r2)
        xx, xy, yx, yy = xx + x * prism_x, xy + y * prism_x, yx + x * prism_y, yy + y * prism_y
    return off_x, off_y, xx, xy, yx, yy


def _distortion_derivatives(normal: Array, c: Array) -> tuple[Array, Array]:
    """Of `_distort` by the point (N x 2 x 2) and by the first twelve coefficients (N x 2 x 12)."""
    x, y = normal[:, 0], normal[:, 1]
    r2 = x * x + y * y
    below = _below(r2, c)
    radial = _above(r2, c) / below
    by_normal = np.empty((len(normal), 2, 2))
    slopes = _newton(x, y, x, y, c)[2:]
    by_normal[:, 0, 0], by_normal[:, 0, 1], by_normal[:, 1, 0], by_normal[:, 1, 1] = slopes
    by_coefficient = np.zeros((len(normal), 2, 12))
    powers = r2[:, None] ** np.array([1, 2, 3])
    by_coefficient[:, :, [0, 1, 4]] = normal[:, :, None] * (powers / below[:, None])[:, None, :]
    by_coefficient[:, :, [5, 6, 7]] = -normal[:, :, None] * (powers * (radial / below)[:, None])[:, None, :]
    by_coefficient[:, 0, 2], by_coefficient[:, 1, 2] = 2 * x * y, r2 + 2 * y * y
    by_coefficient[:, 0, 3], by_coefficient[:, 1, 3] = r2 + 2 * x * x, 2 * x * y
    by_coefficient[:, 0, 8], by_coefficient[:, 0, 9] = r2, r2 * r2
    by_coefficient[:, 1, 10], by_coefficient[:, 1, 11] = r2, r2 * r2
    return by_normal, by_coefficient


def _tilt(tilt_rad: Array) -> tuple[Array, Array]:
    """The homography (3 x 3) of a sensor tilted about x, then y, and its derivatives (2 x 3 x 3) by both angles."""
    (cx, sx), (cy, sy) = ((np.cos(t), np.sin(t)) for t in tilt_rad)
    about_x, about_y = (
        np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]]),
        np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]),
    )
    by_x, by_y = np.array([[0, 0, 0], [0, -sx, cx], [0, -cx, -sx]]), np.array([[-sy, 0, -cy], [0, 0, 0], [cy, 0, -sy]])
    turn = about_y @ about_x

    def projected(t: Array, unit: float) -> Array:
        return np.array([[t[2, 2], 0, -t[0, 2]], [0, t[2, 2], -t[1, 2]], [0, 0, unit]])

    scale = projected(turn, 1.0)
    slopes = [projected(d, 0.0) @ turn + scale @ d for d in (about_y @ by_x, by_y @ about_x)]
    return scale @ turn, np.stack(slopes)


def _tilted(points: Array, tilt_rad: Array) -> tuple[Array, Array, Array]:
    """Points (N x 2) on the tilted sensor, and derivatives by the points (N x 2 x 2) and the angles (N x 2 x 2)."""
    homography, slopes = _tilt(tilt_rad)
    ends = np.column_stack([points, np.ones(len(points))])
    raised = ends @ homography.T
    flat = raised[:, :2] / raised[:, 2:]
    moved = np.einsum("kij,nj->nik", slopes, ends)  # N x 3 x 2
    by_angle = (moved[:, :2] - flat[:, :, None] * moved[:, 2:]) / raised[:, 2, None, None]
    by_point = (homography[None, :2, :2] - flat[:, :, None] * homography[2, None, :2]) / raised[:, 2, None, None]
    return flat, by_point, by_angle


def _untilted(points: Array, tilt_rad: Array) -> Array:
    if not tilt_rad.any():
        return points
    raised = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(_tilt(tilt_rad)[0]).T
    return raised[:, :2] / raised[:, 2:]
