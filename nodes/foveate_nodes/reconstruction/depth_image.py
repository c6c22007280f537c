"""Depth images of profiles: what a pinhole where the camera stood would see of their points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.messages import PointCloud

Array = NDArray[np.float64]
_STILL = 1e-3  # of the distance: less is a mirror that creeps, more is another view (8 mm at 2 m in the scanner)
_FEW = 3  # profiles: of fewer, no surface between them can be made
_PIXEL = 0.5  # voxels
_REACH = (1, 2, 3)  # pixels to each side whose points say what depth a pixel has: farther only where nearer are too few
_HIDES = 4.0  # voxels: what is so much nearer, in the same pixel or beside it
_ENOUGH = 8.0  # points of usual weight within the nearest reach
_STEEPEST = 3.0  # metres of depth a metre across: what joins two profiles and is steeper is a step, not a surface
_FLAT = 0.5  # voxels rms about a plane within reach; more is an edge
_LEAST_SPREAD = 0.15  # square pixels: points of less lie on one line
_CENTERED = 0.55  # of the reach, from a pixel to the middle of its points: more is beyond the rim
_LEAST_SIGMA_M = 1e-6
_MOST_PIXELS = 60_000_000
_WIDEST = 2.5  # tangent from the axis


@dataclass(frozen=True, slots=True, eq=False)
class Pinhole:
    """A camera without distortion, pixel centres at integers."""

    matrix: Array  # 3 x 3
    camera_from_world: Array  # 4 x 4
    width: int
    height: int


def views(clouds: Sequence[PointCloud]) -> list[list[PointCloud]]:
    """Profiles in their order, in groups that were seen from one place; those without points are left out.

    Where camera or object move from profile to profile, a group is three that follow each other, and shares its last.
    """
    runs: list[list[PointCloud]] = []
    for cloud in clouds:
        if not len(cloud.point_m):
            continue
        if runs and _beside(runs[-1][0], cloud):
            runs[-1].append(cloud)
        else:
            runs.append([cloud])
    found, moving = list[list[PointCloud]](), list[PointCloud]()
    for run in [*runs, []]:
        if run and len(run) < _FEW:
            moving += run
            continue
        found += [moving[k : k + _FEW] for k in range(0, max(len(moving) - 1, min(len(moving), 1)), _FEW - 1)]
        found += [run] if run else []
        moving = []
    return found


def _beside(first: PointCloud, other: PointCloud) -> bool:
    away = np.linalg.norm(first.point_m.astype(np.float64).mean(axis=0) - first.view_m)
    return bool(np.linalg.norm(other.view_m.astype(np.float64) - first.view_m) < _STILL * away)


def looking_at(view: Sequence[PointCloud], voxel_m: float) -> Pinhole:
    """A pinhole where the camera stood, that shows all points of a view in pixels of half a voxel.

    Raises SurfaceError where that are too many pixels.
    """
    center = np.mean([cloud.view_m for cloud in view], axis=0, dtype=np.float64)
    apart = np.concatenate([cloud.point_m for cloud in view]).astype(np.float64) - center
    axis = apart.mean(axis=0)
    away = float(np.linalg.norm(axis))
    if not 0 < away < np.inf:
        raise SurfaceError(f"a view has points at {away:g} m from the camera; a depth image needs them before it")
    forward = axis / away
    down = np.eye(3)[1 if abs(forward[1]) < 0.9 else 0]
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(forward, right), forward])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ center
    local = apart @ turn.T
    shown = local[_shown(local)]
    if not len(shown):
        raise SurfaceError("a view has no points before the camera; check its 'view_m'")
    focal_px = away / (_PIXEL * voxel_m)
    across = shown[:, :2] / shown[:, 2:] * focal_px
    low, high = np.floor(across.min(axis=0)) - _REACH[-1], np.ceil(across.max(axis=0)) + _REACH[-1]
    width, height = (int(n) + 1 for n in high - low)
    if width * height > _MOST_PIXELS:
        raise SurfaceError(f"a view needs {width} x {height} pixels for voxels of {voxel_m:g} m; take larger voxels")
    matrix = np.array([[focal_px, 0, -low[0]], [0, focal_px, -low[1]], [0, 0, 1]])
    return Pinhole(matrix, pose, width, height)


def _shown(local: Array) -> NDArray[np.bool_]:
    """Points (N x 3, of the camera) before it and not far to the side, (N,)."""
    before: NDArray[np.bool_] = np.abs(local[:, :2]).max(axis=1) < _WIDEST * local[:, 2]
    return before


def depth_image(view: Sequence[PointCloud], camera: Pinhole, voxel_m: float) -> NDArray[np.float32]:
    """Depth (H x W, metres; 0 = not known) of the points of a view; where they hide each other, of the nearest.

    The inverse depth of a plane is linear in the image: each pixel has that of the plane through the points within a
    voxel, which fills gaps between profiles but not steps; at edges it has the mean of the points within it.
    """
    turn, shift = camera.camera_from_world[:3, :3], camera.camera_from_world[:3, 3]
    point = np.concatenate([cloud.point_m for cloud in view]).astype(np.float64) @ turn.T + shift
    weight = _weights(np.concatenate([cloud.covariance_m2 for cloud in view]).astype(np.float64), point @ turn)
    kept = _shown(point)
    point, weight = point[kept], weight[kept]
    focal_px, middle = camera.matrix[0, 0], camera.matrix[:2, 2]
    place = point[:, :2] / point[:, 2:] * focal_px + middle
    pixel = np.rint(place).astype(np.int64)
    inside = ((pixel >= 0) & (pixel < [camera.width, camera.height])).all(axis=1)
    place, pixel, depth, weight = place[inside], pixel[inside], point[inside, 2], weight[inside]
    at = pixel[:, 1] * camera.width + pixel[:, 0]
    near = np.full(camera.width * camera.height, np.inf)
    np.minimum.at(near, at, depth)
    first = depth <= _least(near.reshape(camera.height, camera.width)).reshape(-1)[at] + _HIDES * voxel_m
    scale_m = float(np.median(depth))
    sums = _sums(at[first], place[first] - middle, scale_m / depth[first] - 1.0, weight[first], camera)
    inverse = np.where(sums[0] > 0, sums[6] / np.maximum(sums[0], 1e-12), np.nan)  # of a pixel's own points
    for reach in reversed(_REACH):
        around = _around(sums, reach)
        plane = _planes(around, camera, voxel_m / scale_m, reach)
        enough = np.isfinite(plane) & ((around[0] >= _ENOUGH) | (reach > _REACH[0]))
        inverse = np.where(enough, plane, inverse)
    known = np.isfinite(inverse)
    return np.where(known, scale_m / np.where(known, 1.0 + inverse, 1.0), 0.0).astype(np.float32)


def _weights(six: Array, ray: Array) -> Array:
    """Inverse variances (N,) along the rays (N x 3), of 1 in the middle and 4 at most."""
    a, b, c, d, e, f = six.T
    x, y, z = (ray / np.linalg.norm(ray, axis=1, keepdims=True)).T
    variance = a * x * x + d * y * y + f * z * z + 2 * (b * x * y + c * x * z + e * y * z)
    weight = 1.0 / np.maximum(variance, _LEAST_SIGMA_M**2)
    return np.minimum(weight / np.median(weight), 4.0)


def _sums(at: NDArray[np.int64], place: Array, value: Array, weight: Array, camera: Pinhole) -> Array:
    """Sums in each pixel (10 x H x W) of weights, places, values and their products."""
    u, v = place.T
    terms = (1, u, v, u * u, u * v, v * v, value, value * u, value * v, value * value)
    size = camera.width * camera.height
    found = [np.bincount(at, weight * term, size).reshape(camera.height, camera.width) for term in terms]
    return np.stack(found)


def _least(near: Array) -> Array:
    """The least of each pixel (H x W) and those beside it: between the points of what hides, others show through."""
    wide = np.pad(near, 1, constant_values=np.inf)
    tall = np.minimum(np.minimum(wide[:-2], wide[1:-1]), wide[2:])
    return np.minimum(np.minimum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])


def _around(sums: Array, reach: int) -> Array:
    """Sums over the squares of pixels within reach."""
    for axis in (1, 2):
        total = sums.copy()
        for k in range(1, reach + 1):
            low = (slice(None),) * axis + (slice(None, -k),)
            high = (slice(None),) * axis + (slice(k, None),)
            total[low] += sums[high]
            total[high] += sums[low]
        sums = total
    return sums


def _planes(around: Array, camera: Pinhole, voxel: float, reach: int) -> Array:
    """Inverse depth less one (H x W) by a plane through the points around each pixel; nan where they make none.

    Lengths are in units of the middle of the depths.
    """
    u, v, uu, uv, vv, q, qu, qv, qq = around[1:] / np.maximum(around[0], 1e-12)
    uu, uv, vv = uu - u * u, uv - u * v, vv - v * v
    qu, qv, qq = qu - q * u, qv - q * v, qq - q * q
    determinant = uu * vv - uv * uv
    wide = determinant > _LEAST_SPREAD * np.maximum(uu + vv, 2 * _LEAST_SPREAD)
    divisor = np.where(wide, determinant, 1.0)
    along_u, along_v = (vv * qu - uv * qv) / divisor, (uu * qv - uv * qu) / divisor
    du = np.arange(camera.width) - camera.matrix[0, 2] - u
    dv = (np.arange(camera.height) - camera.matrix[1, 2])[:, None] - v
    depth = 1.0 / np.maximum(1.0 + q, 1e-3)
    off = np.sqrt(np.maximum(qq - along_u * qu - along_v * qv, 0.0)) * depth**2
    steep = np.hypot(along_u, along_v) * camera.matrix[0, 0] * depth
    centered = np.maximum(np.abs(du), np.abs(dv)) < _CENTERED * reach
    good = wide & centered & (off < _FLAT * voxel) & (steep < _STEEPEST)
    return np.where(good, q + along_u * du + along_v * dv, np.nan)
