"""The pose of a view against a reference: Levenberg and Marquardt's method, from coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry import kernels
from foveate_nodes.odometry.pyramid import LEVELS, MIDDLE
from foveate_nodes.odometry.view import PLANE_LEVEL, Reference, View

Array = NDArray[np.float64]
Residual = Literal["photometric", "distance", "both"]
ITERATIONS = (10, 15, 20, 25)  # at most, by level
_LEAST_SIGMA = np.array([1.5, 0.4, 0.7])  # grey levels of noise and resampling; of the depth's own; pixels
_STILL = 1e-7  # |turn|^2 and |shift|^2 of a step that ends a level
_ENOUGH = 1e-3  # of the cost: who gains less has arrived
_FAILURES = 5  # in a row, that end a level
_GAIN_SIGMA, _OFFSET_SIGMA = 0.4, 8.0
PLAIN = np.array([1.0, MIDDLE])  # gain and offset of the same light
_ANY = np.full(3, np.inf)
_NO_FIELD = np.zeros((1, 1), np.float32)


@dataclass(slots=True, eq=False)
class Alignment:
    """Where a view is, seen from a reference."""

    pose: Array  # 4 x 4, view_from_reference
    brightness: Array  # (2,): gain and offset
    cost: float  # mean of the last level, of all points
    information: Array  # 6 x 6, of a step in the view's frame
    seen: int  # points in view
    sigma: float  # of the image residual: grey levels, or pixels where it is distances alone
    plane_sigma: float  # of the depth, in units of what the camera's noise is
    iterations: int
    residual: Array  # of the points of the last level; NaN where not in view
    plane_residual: Array  # in units of plane_sigma


def align(
    reference: Reference, view: View, pose: Array, brightness: Array, residual: Residual = "photometric",
    planes: float = 1.0, levels: tuple[int, ...] = tuple(reversed(range(LEVELS))),
    iterations: tuple[int, ...] = ITERATIONS, spread: Array | None = None,
    ceiling: Array = _ANY,
) -> Alignment:  # fmt: skip
    """Refine `pose` (4 x 4, view_from_reference) over `levels`. `planes`: weight of depth against image, 0 = none;
    `spread` (3,): what the residuals are taken to be at first; 0 or none = measured; `ceiling` (3,): they are
    never taken to be more: where most of the view moves by itself, the rest still counts."""
    pose, brightness = pose.copy(), brightness.copy()
    steps, total, cost, seen = 0, 1.0, 0.0, 0
    normal = np.zeros((kernels.SIZE, kernels.SIZE))
    spread = np.zeros(3) if spread is None else spread.copy()
    residuals = plane_residuals = np.zeros(0)
    weights = np.array([float(residual != "distance"), planes, float(residual != "photometric")])
    for level in levels:
        point, value, plane = reference.point_m[level], reference.value[level], reference.plane[level]
        edge = point[reference.on_edge[level]]
        far = view.distance[level] if weights[2] > 0 else _NO_FIELD
        residuals, plane_residuals = np.full(len(point), np.nan), np.full(len(plane), np.nan)
        numbers = (view.camera[level].numbers, view.camera[PLANE_LEVEL].numbers)
        if level != levels[0]:
            spread[2] = 0.0  # the pixels of a finer level are smaller
        cost, seen, used = _descend(
            (view.even[level], view.depth[level], view.depth[PLANE_LEVEL], far), (point, value, plane, edge), numbers,
            weights, pose, brightness, spread, ceiling, iterations[level], normal, residuals, plane_residuals,
            np.full(len(edge), np.nan),
        )  # fmt: skip
        steps += used
        total = max(float(weights @ [len(point), len(plane), len(edge)]), 1.0)
    return Alignment(
        pose, brightness, cost / total, normal[:6, :6].copy(), seen, spread[0 if weights[0] > 0 else 2].item(),
        spread[1].item(), steps,
        residuals, plane_residuals,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _measure(into: Any, spread: Any, which: Any, ceiling: Any) -> None:
    """Standard deviations of the residuals; those of depth are in units of the one before."""
    for k in range(3):
        if which[k]:
            spread[k] = min(kernels.spread_of(into[k], spread[k] if k == 1 else 1.0, _LEAST_SIGMA[k]), ceiling[k])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _linear(
    target: Any,
    source: Any,
    numbers: Any,
    weights: Any,
    pose: Any,
    brightness: Any,
    spread: Any,
    normal: Any,
    side: Any,
    into: Any,
) -> Any:
    """Cost and normal equations at a pose, and the points in view."""
    image, depth, plane_depth, far = target
    point, value, plane, edge = source
    normal[:] = 0
    side[:] = 0
    cost, seen = 0.0, 0
    if weights[0] > 0:
        cost, seen = kernels.image_terms(
            image, depth, point, value, pose, numbers[0], brightness, spread[0], weights[0], 1.0, normal, side, into[0]
        )
    if weights[1] > 0:
        more, _ = kernels.plane_terms(
            plane_depth, plane, pose, numbers[1], spread[1], weights[1], normal, side, into[1]
        )
        cost += more
    if weights[2] > 0:
        more, there = kernels.image_terms(
            far, depth, edge, np.zeros(len(edge), np.float32), pose, numbers[0], brightness, spread[2], weights[2], 0.0,
            normal, side, into[2],
        )  # fmt: skip
        cost += more
        seen = max(seen, there)
    off, lift = brightness[0] - 1.0, brightness[1] - MIDDLE
    cost += 0.5 * (off / _GAIN_SIGMA) ** 2 + 0.5 * (lift / _OFFSET_SIGMA) ** 2
    normal[6, 6] += 1 / _GAIN_SIGMA**2
    normal[7, 7] += 1 / _OFFSET_SIGMA**2
    side[6] += off / _GAIN_SIGMA**2
    side[7] += lift / _OFFSET_SIGMA**2
    return cost, seen


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _descend(
    target: Any, source: Any, numbers: Any, weights: Any, pose: Any, brightness: Any, spread: Any, ceiling: Any,
    most: int, normal: Any, residual: Any, plane_residual: Any, edge_residual: Any
) -> Any:  # fmt: skip
    """One level: changes pose, brightness, spread, the normal equations and the residuals. Returns (cost, points in
    view, steps)."""
    side, step = np.zeros(kernels.SIZE), np.zeros(kernels.SIZE)
    next_normal, next_side, next_pose = np.zeros_like(normal), np.zeros_like(side), pose.copy()
    into = (residual, plane_residual, edge_residual)
    what = (target, source, numbers, weights)
    if (spread == 0).any():
        unknown = spread == 0
        spread[unknown] = _LEAST_SIGMA[unknown]
        _linear(*what, pose, brightness, spread, normal, side, into)
        _measure(into, spread, unknown, ceiling)
    cost, seen = _linear(*what, pose, brightness, spread, normal, side, into)
    damping, failures, used, stale = 0.0, 0, 0, False
    while used < most and failures <= _FAILURES:
        used += 1
        if not kernels.solve(normal, side, damping, step):
            damping, failures = max(2 * damping, 0.2), failures + 1
            continue
        kernels.moved(pose, step, next_pose)
        light = brightness + step[6:]
        next_cost, next_seen = _linear(*what, next_pose, light, spread, next_normal, next_side, into)
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
        cost, seen = _linear(*what, pose, brightness, spread, normal, side, into)
    _measure(into, spread, spread > 0, ceiling)
    return cost, seen, used
