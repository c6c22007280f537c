"""Planes and spheres through points, some of which belong to something else.

The start is the least median of squares over drawn samples (Rousseeuw 1984), which half of the points may spoil; then
orthogonal least squares with Huber's weights, whose scale is the median absolute residual (Huber 1981).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import stepped, transform
from foveate_nodes.reconstruction.errors import SurfaceError

Array = NDArray[np.float64]
_SAMPLES = 200  # with 40 % strays, a clean sample of four is missed with a chance of 1e-12
_MOST_JUDGED = 4_000  # points that judge a sample
_HUBER = 1.345  # sigmas; 95 % as good as least squares where the noise is normal
_STRAY = 4.0  # sigmas
_ENOUGH = 1e-7  # metres or radians: a step this small ends an alignment
_TO_SIGMA = 1.4826  # from a median of absolute values to a standard deviation


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """n x = d in the frame of the points."""

    normal: Array  # (3,), unit
    distance_m: float
    center_m: Array  # (3,), the weighted mean of the points
    sigma_m: float  # of the points about the plane, strays left out
    sigma_center_m: float  # of the plane's place at `center_m`
    sigma_tilt_rad: float  # of the normal, in its worse direction
    residual_m: Array  # (N,), signed, of all points
    used: NDArray[np.bool_]  # (N,), not a stray

    def distance(self, points: Array) -> Array:
        """Signed distances (N,) of points (N x 3)."""
        return points @ self.normal - self.distance_m


@dataclass(frozen=True, slots=True, eq=False)
class Sphere:
    """A centre and a radius."""

    center_m: Array  # (3,)
    radius_m: float
    sigma_m: float  # of the points about the sphere, strays left out
    sigma_radius_m: float
    sigma_center_m: Array  # (3,)
    residual_m: Array  # (N,), positive outside
    used: NDArray[np.bool_]  # (N,), not a stray


def plane(points: NDArray[np.floating], toward: Array | None = None, seed: int = 1) -> Plane:
    """The plane through most of the points (N x 3, metres); its normal turns to the point `toward`.

    Raises SurfaceError for fewer than four points or points in one line.
    """
    points = _checked(points, 4)

    def through(sample: Array) -> tuple[Array, Array]:
        normal = np.cross(sample[:, 1] - sample[:, 0], sample[:, 2] - sample[:, 0])
        length = np.linalg.norm(normal, axis=1)
        whole = length > 1e-12
        normal = normal[whole] / length[whole, None]
        return normal, np.einsum("ij,ij->i", normal, sample[whole, 0])

    normals, distances = through(_samples(points, 3, seed))
    if not len(normals):
        raise SurfaceError(f"{len(points)} points lie in one line: no plane goes through them alone")
    judged = _judges(points, seed)
    medians = [np.median(np.abs(judged @ n - d)) for n, d in zip(normals, distances, strict=True)]
    best = int(np.argmin(medians))
    normal, distance = normals[best], distances[best]
    for _ in range(20):
        weight, sigma, used = _weights(points @ normal - distance)
        center = weight @ points / weight.sum()
        apart = points - center
        value, vector = np.linalg.eigh((apart * weight[:, None]).T @ apart)
        turned = vector[:, 0] * np.sign(vector[:, 0] @ normal or 1.0)
        moved = float(np.linalg.norm(turned - normal))
        normal, distance = turned, float(turned @ center)
        if moved < 1e-12:
            break
    if toward is not None and normal @ (toward - center) < 0:
        normal, distance = -normal, -distance
    residual = points @ normal - distance
    sigma = _spread(residual[used], 3)
    tilt = sigma / np.sqrt(max(float(value[1]), 1e-30))
    return Plane(normal, distance, center, sigma, sigma / float(np.sqrt(weight.sum())), float(tilt), residual, used)


def sphere(points: NDArray[np.floating], seed: int = 1) -> Sphere:
    """The sphere through most of the points (N x 3, metres). Raises SurfaceError where the points lie in a plane."""
    points = _checked(points, 5)
    middle = points.mean(axis=0)
    local = points - middle
    judged = _judges(local, seed)
    best: tuple[float, Array, float] | None = None
    for sample in _samples(local, 4, seed):
        start = _sphere_through(sample)
        if start is not None:
            median = float(np.median(np.abs(np.linalg.norm(judged - start[0], axis=1) - start[1])))
            if best is None or median < best[0]:
                best = (median, *start)
    if best is None:
        raise SurfaceError(f"{len(points)} points lie in one plane: no sphere goes through them alone")
    _, center, radius = best
    for _ in range(50):
        apart = local - center
        length = np.maximum(np.linalg.norm(apart, axis=1), 1e-12)
        weight, _, used = _weights(length - radius)
        slope = np.column_stack([-apart / length[:, None], -np.ones(len(local))])
        system = (slope * weight[:, None]).T @ slope
        move = -np.linalg.lstsq(system, slope.T @ (weight * (length - radius)), rcond=1e-12)[0]
        center, radius = center + move[:3], radius + float(move[3])
        if np.linalg.norm(move) < 1e-12:
            break
    residual = np.linalg.norm(local - center, axis=1) - radius
    sigma = _spread(residual[used], 4)
    spread = sigma * np.sqrt(np.diag(np.linalg.pinv(system)))
    return Sphere(center + middle, radius, sigma, float(spread[3]), spread[:3], residual, used)


def align(
    points: NDArray[np.floating],
    distance: Callable[[Array], Array],
    sigma_m: Array | None = None,
    around_m: Array | None = None,
    stray_m: float = 0.02,
) -> tuple[Array, Array]:
    """The rigid transform (4 x 4, `surface_from_points`) that lays points on a surface, and what is left (N,), metres.

    `distance` gives signed distances (N,) of points (N x 3); its gradient is taken by differences. Gauss-Newton with
    Huber's weights; points farther than `stray_m` have none. Raises SurfaceError where the surface leaves a direction
    open: a plane alone does not say where along it the points are.
    """
    points = _checked(points, 6)
    center = points.mean(axis=0) if around_m is None else around_m
    pose, step_m = np.eye(4), 1e-5
    weight_of = np.ones(len(points)) if sigma_m is None else 1.0 / np.maximum(sigma_m, 1e-9)
    residual = distance(points)
    for _ in range(30):
        moved = (points - center) @ pose[:3, :3].T + pose[:3, 3]
        residual = distance(moved + center)
        gradient = np.stack(
            [(distance(moved + center + d) - distance(moved + center - d)) / (2 * step_m) for d in step_m * np.eye(3)],
            axis=1,
        )
        huber = _weights(residual * weight_of)[0] * weight_of**2 * (np.abs(residual) < stray_m)
        slope = np.column_stack([np.cross(moved, gradient), gradient])
        system = (slope * huber[:, None]).T @ slope
        scale = np.sqrt(np.maximum(np.diag(system), 1e-30))
        scaled = system / np.outer(scale, scale)
        if np.linalg.eigvalsh(scaled)[0] < 1e-7:
            raise SurfaceError("the surface does not hold the points in all six directions; align with more of it")
        step = -np.linalg.solve(scaled, slope.T @ (huber * residual) / scale) / scale
        pose = stepped(pose, step)
        if np.abs(step).max() < _ENOUGH:
            break
    surface_from_points = transform(pose[:3, :3], pose[:3, 3] + center - pose[:3, :3] @ center)
    return surface_from_points, distance(points @ surface_from_points[:3, :3].T + surface_from_points[:3, 3])


def _checked(points: NDArray[np.floating], least: int) -> Array:
    points = np.asarray(points, np.float64).reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < least:
        raise SurfaceError(f"{len(points)} points are too few; a fit needs {least}")
    return points


def _samples(points: Array, size: int, seed: int) -> Array:
    """_SAMPLES x size x 3, drawn; the same for the same seed."""
    return points[np.random.default_rng(seed).integers(0, len(points), (_SAMPLES, size))]


def _judges(points: Array, seed: int) -> Array:
    if len(points) <= _MOST_JUDGED:
        return points
    return points[np.random.default_rng(seed + 1).choice(len(points), _MOST_JUDGED, replace=False)]


def _weights(residual: Array) -> tuple[Array, float, NDArray[np.bool_]]:
    """Huber's weights, 0 for strays; the scale; what is no stray."""
    size = np.abs(residual)
    sigma = max(_TO_SIGMA * float(np.median(size)), 1e-12)
    used = size <= _STRAY * sigma
    return np.minimum(1.0, _HUBER * sigma / np.maximum(size, 1e-300)) * used, sigma, used


def _spread(residual: Array, parameters: int) -> float:
    return float(np.sqrt((residual**2).sum() / max(len(residual) - parameters, 1)))


def _sphere_through(four: Array) -> tuple[Array, float] | None:
    """The centre and radius of the sphere through four points, None if they lie in a plane."""
    rows = 2 * (four[1:] - four[0])
    size = float(np.abs(rows).max())
    if size == 0 or abs(float(np.linalg.det(rows / size))) < 1e-6:
        return None
    center = np.linalg.solve(rows, (four[1:] ** 2).sum(axis=1) - (four[0] ** 2).sum())
    return center, float(np.linalg.norm(four[0] - center))
