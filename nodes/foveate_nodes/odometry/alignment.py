"""The pose of a view against a reference: Levenberg and Marquardt's method, from coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry import kernels
from foveate_nodes.odometry.pyramid import LEVELS
from foveate_nodes.odometry.view import PLANE_LEVEL, Reference, View

Array = NDArray[np.float64]
Residual = Literal["photometric", "distance"]
ITERATIONS = (10, 15, 20, 25)  # at most, by level
_LEAST_SIGMA = {"photometric": 3.0, "distance": 0.7}  # grey levels of noise and resampling; pixels
_STILL = 1e-7  # |turn|^2 and |shift|^2 of a step that ends a level
_ENOUGH = 1e-3  # of the cost: who gains less has arrived
_FAILURES = 5  # in a row, that end a level
_GAIN_SIGMA, _OFFSET_SIGMA = 0.4, 40.0
_NONE = np.zeros((0, 6))


@dataclass(slots=True, eq=False)
class Alignment:
    """Where a view is, seen from a reference."""

    pose: Array  # 4 x 4, view_from_reference
    brightness: Array  # (2,): gain and offset
    cost: float  # mean of the last level, of all points
    information: Array  # 6 x 6, of a step in the view's frame
    seen: int  # points in view
    sigma: float  # of the image residual
    plane_sigma: float  # of the depth, in units of what the camera's noise is
    iterations: int
    residual: Array  # of the points of the last level; NaN where not in view
    plane_residual: Array  # in units of plane_sigma


def align(
    reference: Reference, view: View, pose: Array, brightness: Array, residual: Residual = "photometric",
    planes: float = 1.0, levels: tuple[int, ...] = tuple(reversed(range(LEVELS))),
    iterations: tuple[int, ...] = ITERATIONS,
) -> Alignment:  # fmt: skip
    """Refine `pose` (4 x 4, view_from_reference) over `levels`. `planes`: weight of depth against image, 0 = none."""
    pose, brightness = pose.copy(), brightness.copy()
    photometric, steps, total = residual == "photometric", 0, 1.0
    normal, spread = np.zeros((kernels.SIZE, kernels.SIZE)), np.zeros(2)
    cost, seen = 0.0, 0
    residuals = plane_residuals = np.zeros(0)
    for level in levels:
        field: Any = view.gray[level] if photometric else view.distance[level]
        point, value = reference.point_m[level], reference.value[level]
        if not photometric:
            point = point[reference.on_edge[level]]
            value = np.zeros(len(point), np.float32)
        plane = reference.plane[level] if planes > 0 else _NONE
        residuals, plane_residuals = np.full(len(point), np.nan), np.full(len(plane), np.nan)
        if not photometric:
            spread[:] = 0  # pixels of another size
        numbers = (view.camera[level].numbers, view.camera[PLANE_LEVEL].numbers)
        cost, seen, used = _descend(
            field, view.depth[level], point, value, view.depth[PLANE_LEVEL], plane, pose, *numbers, brightness, spread,
            _LEAST_SIGMA[residual], planes, photometric, iterations[level], normal, residuals, plane_residuals,
        )  # fmt: skip
        steps += used
        total = max(len(point) + planes * len(plane), 1.0)
    return Alignment(
        pose, brightness, cost / total, normal[:6, :6].copy(), seen, spread[0].item(), spread[1].item(), steps,
        residuals, plane_residuals,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spread(residual: Any, unit: float, least: float) -> float:
    """The standard deviation by the median of |r|; `least` where it is smaller, or too few are known."""
    size = np.abs(residual[np.isfinite(residual)])
    return max(least, 1.4826 * unit * np.median(size)) if len(size) > 20 else least


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _linear(
    field: Any,
    depth: Any,
    point: Any,
    value: Any,
    plane_depth: Any,
    plane: Any,
    pose: Any,
    camera: Any,
    plane_camera: Any,
    brightness: Any,
    spread: Any,
    planes: float,
    free: bool,
    normal: Any,
    side: Any,
    residual: Any,
    plane_residual: Any,
) -> Any:
    """Cost and normal equations at a pose; `free`: the brightness is unknown too."""
    normal[:] = 0
    side[:] = 0
    cost, seen, _ = kernels.image_terms(
        field, depth, point, value, pose, camera, brightness, spread[0], 1.0, normal, side, residual
    )
    if len(plane) > 0:
        more, _ = kernels.plane_terms(
            plane_depth, plane, pose, plane_camera, spread[1], planes, normal, side, plane_residual
        )
        cost += more
    if free:
        off = brightness[0] - 1.0
        cost += 0.5 * (off / _GAIN_SIGMA) ** 2 + 0.5 * (brightness[1] / _OFFSET_SIGMA) ** 2
        normal[6, 6] += 1 / _GAIN_SIGMA**2
        normal[7, 7] += 1 / _OFFSET_SIGMA**2
        side[6] += off / _GAIN_SIGMA**2
        side[7] += brightness[1] / _OFFSET_SIGMA**2
    else:
        normal[6:, :] = 0
        normal[:, 6:] = 0
        side[6:] = 0
        normal[6, 6] = normal[7, 7] = 1.0
    return cost, seen


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _descend(
    field: Any,
    depth: Any,
    point: Any,
    value: Any,
    plane_depth: Any,
    plane: Any,
    pose: Any,
    camera: Any,
    plane_camera: Any,
    brightness: Any,
    spread: Any,
    least: float,
    planes: float,
    free: bool,
    most: int,
    normal: Any,
    residual: Any,
    plane_residual: Any,
) -> Any:
    """One level: changes pose, brightness, spread, the normal equations and the residuals. Returns (cost, points in
    view, steps)."""
    side, step = np.zeros(kernels.SIZE), np.zeros(kernels.SIZE)
    next_normal, next_side, next_pose = np.zeros_like(normal), np.zeros_like(side), pose.copy()
    some, lenses = (field, depth, point, value, plane_depth, plane), (camera, plane_camera)
    into = (residual, plane_residual)
    if spread[0] == 0:  # the first level: nothing is known of the spread
        spread[0], spread[1] = least, 1.0
        _linear(*some, pose, *lenses, brightness, spread, planes, free, normal, side, *into)
        spread[0], spread[1] = _spread(residual, 1.0, least), _spread(plane_residual, 1.0, 1.0)
    cost, seen = _linear(*some, pose, *lenses, brightness, spread, planes, free, normal, side, *into)
    damping, failures, used, stale = 0.0, 0, 0, False
    while used < most and failures <= _FAILURES:
        used += 1
        if not kernels.solve(normal, side, damping, step):
            damping, failures = max(2 * damping, 0.2), failures + 1
            continue
        kernels.moved(pose, step, next_pose)
        light = brightness + step[6:]
        next_cost, next_seen = _linear(
            *some, next_pose, *lenses, light, spread, planes, free, next_normal, next_side, *into
        )
        still = (step[:3] ** 2).sum() < _STILL and (step[3:6] ** 2).sum() < _STILL
        stale = not next_cost < cost
        if stale:
            damping, failures = max(4 * damping, 0.2), failures + 1
        else:
            still = still or cost - next_cost < _ENOUGH * next_cost
            pose[:3], brightness[:], normal[:], side[:] = next_pose[:3], light, next_normal, next_side
            cost, seen, failures = next_cost, next_seen, 0
            damping = 0.0 if damping <= 0.2 else damping / 2
        if still:
            break
    if stale:  # the residuals are those of a step that was not taken
        cost, seen = _linear(*some, pose, *lenses, brightness, spread, planes, free, normal, side, *into)
    spread[0], spread[1] = _spread(residual, 1.0, least), _spread(plane_residual, spread[1], 1.0)
    return cost, seen, used
