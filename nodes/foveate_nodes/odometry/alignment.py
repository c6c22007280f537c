"""The pose of a view against a reference: Levenberg and Marquardt's method, from coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry import kernels
from foveate_nodes.odometry.pyramid import LEVELS
from foveate_nodes.odometry.view import Reference, View

Array = NDArray[np.float64]
Residual = Literal["photometric", "distance"]
ITERATIONS = (10, 15, 20, 25)  # at most, by level
_PLANE_LEVEL = 1
_LEAST_SIGMA = {"photometric": 3.0, "distance": 0.7}  # grey levels of noise and resampling; pixels
_STILL = 1e-7  # |turn|^2 and |shift|^2 of a step that ends a level
_GAIN_SIGMA, _OFFSET_SIGMA = 0.4, 40.0


@dataclass(slots=True, eq=False)
class Alignment:
    """Where a view is, seen from a reference."""

    pose: Array  # 4 x 4, view_from_reference
    brightness: Array  # (2,): gain and offset
    cost: float  # mean of the last level, of all points
    information: Array  # 6 x 6, of a step in the view's frame
    seen: int  # points in view
    total: int
    hidden: int
    sigma: float  # of the image residual
    plane_sigma: float  # in units of the depth's sigma
    iterations: int
    residual: NDArray[np.float64]  # of the points; NaN where not in view
    plane_residual: NDArray[np.float64]


def align(
    reference: Reference, view: View, pose: Array, brightness: Array, residual: Residual = "photometric",
    planes: float = 1.0, levels: tuple[int, ...] = tuple(reversed(range(LEVELS))), iterations: Any = ITERATIONS,
) -> Alignment:  # fmt: skip
    """Refine `pose` (4 x 4, view_from_reference) over `levels`. `planes`: weight of depth against image, 0 = none."""
    pose, brightness = pose.copy(), brightness.copy()
    found, steps = None, 0
    for level in levels:
        photometric = residual == "photometric"
        field: Any = view.gray[level] if photometric else view.distance[level]
        point, value = reference.point_m[level], reference.value[level]
        if not photometric:
            point = point[reference.on_edge[level]]
            value = np.zeros(len(point), np.float32)
        plane = reference.plane[level] if planes > 0 else np.zeros((0, 6))
        normal = np.zeros((kernels.SIZE, kernels.SIZE))
        residuals, plane_residuals = np.empty(len(point)), np.empty(len(plane))
        cost, seen, hidden, sigma, scale, used = _descend(
            field, view.depth[level], point, value, view.depth[_PLANE_LEVEL], plane, pose, view.camera[level].numbers,
            view.camera[_PLANE_LEVEL].numbers, brightness, _LEAST_SIGMA[residual], planes, photometric,
            iterations[level], normal, residuals, plane_residuals,
        )  # fmt: skip
        steps += used
        total = max(len(point) + planes * len(plane), 1.0)
        found = Alignment(
            pose, brightness, cost / total, normal[:6, :6] + np.triu(normal[:6, :6], 1).T, seen, len(point), hidden,
            sigma, scale, steps, residuals, plane_residuals,
        )  # fmt: skip
    assert found is not None
    found.iterations = steps
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spread(residual: Any, least: float) -> float:
    """The standard deviation by the median of |r|; `least` where it is smaller, or too few are known."""
    size = np.abs(residual[np.isfinite(residual)])
    return max(least, 1.4826 * np.median(size)) if len(size) > 20 else least


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
    sigma: float,
    scale: float,
    planes: float,
    free: bool,
    normal: Any,
    side: Any,
    residual: Any,
    plane_residual: Any,
) -> Any:
    normal[:] = 0
    side[:] = 0
    cost, seen, hidden = kernels.image_terms(
        field, depth, point, value, pose, camera, brightness, sigma, 1.0, normal, side, residual
    )
    if len(plane) > 0:
        more, _ = kernels.plane_terms(
            plane_depth, plane, pose, plane_camera, scale, planes, normal, side, plane_residual
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
    return cost, seen, hidden


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
    least: float,
    planes: float,
    free: bool,
    most: int,
    normal: Any,
    residual: Any,
    plane_residual: Any,
) -> Any:
    side, step = np.zeros(kernels.SIZE), np.zeros(kernels.SIZE)
    trial_normal, trial_side = np.zeros_like(normal), np.zeros_like(side)
    trial, light = pose.copy(), brightness.copy()
    sigma, scale = least, 1.0
    arguments = (field, depth, point, value, plane_depth, plane)
    _linear(*arguments, pose, camera, plane_camera, brightness, sigma, scale, planes, free, normal, side, residual,
            plane_residual)  # fmt: skip
    sigma, scale = _spread(residual, least), _spread(plane_residual, 1.0)
    cost, seen, hidden = _linear(
        *arguments, pose, camera, plane_camera, brightness, sigma, scale, planes, free, normal, side, residual,
        plane_residual,
    )  # fmt: skip
    damping, used, failed = 0.0, 0, 0
    while used < most:
        used += 1
        if not kernels.solve(normal, side, damping, step):
            damping = max(2 * damping, 0.2)
            failed += 1
            if failed > 5:
                break
            continue
        kernels.moved(pose, step, trial)
        light[0], light[1] = brightness[0] + step[6], brightness[1] + step[7]
        trial_cost, trial_seen, trial_hidden = _linear(
            *arguments, trial, camera, plane_camera, light, sigma, scale, planes, free, trial_normal, trial_side,
            residual, plane_residual,
        )  # fmt: skip
        small = (
            step[0] ** 2 + step[1] ** 2 + step[2] ** 2 < _STILL and step[3] ** 2 + step[4] ** 2 + step[5] ** 2 < _STILL
        )
        if trial_cost < cost:
            gained = cost - trial_cost
            pose[:3] = trial[:3]
            brightness[:] = light
            normal[:], side[:] = trial_normal, trial_side
            seen, hidden = trial_seen, trial_hidden
            cost = trial_cost
            damping = 0.0 if damping <= 0.2 else damping / 2
            failed = 0
            if small or gained < 1e-3 * cost:
                break
        else:
            damping = max(4 * damping, 0.2)
            failed += 1
            if small or failed > 5:
                break
    cost, seen, hidden = _linear(
        *arguments, pose, camera, plane_camera, brightness, sigma, scale, planes, free, normal, side, residual,
        plane_residual,
    )  # fmt: skip
    return cost, seen, hidden, sigma, scale, used
