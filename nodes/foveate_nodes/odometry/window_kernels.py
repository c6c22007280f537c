"""The loops of the local window: brightness of points with unknown inverse depth, eliminated point by point.

One call does one linearisation, so that the thread which runs it hardly ever needs the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from foveate_nodes.odometry.kernels import BEND, HIDDEN, OUT_COST, plane_terms, row, sample, spread_of
from foveate_nodes.odometry.pyramid import MIDDLE

UNKNOWNS = 8  # of a keyframe: turn, shift, logarithm of gain, offset


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spread(full: Any, right: Any, to_host: Any, t: int, h: int, normal: Any, side: Any) -> None:
    """Add equations of a target's unknowns (first row `t`), and through `to_host` (8 x 8) those of its host (`h`)."""
    size = UNKNOWNS
    mixed = np.zeros((size, size))
    for a in range(size):
        for b in range(size):
            for c in range(size):
                mixed[a, b] += to_host[a, c] * full[c, b]
    for a in range(size):
        side[t + a] += right[a]
        for b in range(size):
            side[h + a] += to_host[a, b] * right[b]
            normal[t + a, t + b] += full[a, b]
            normal[h + a, t + b] += mixed[a, b]
            normal[t + b, h + a] += mixed[a, b]
            for c in range(size):
                normal[h + a, h + b] += mixed[a, c] * to_host[b, c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _to_host(adjoint: Any, ratio: float) -> Any:
    """8 x 8: what a residual's derivatives to the target's unknowns make those to its host's."""
    made = np.zeros((UNKNOWNS, UNKNOWNS))
    for a in range(6):
        for b in range(6):
            made[a, b] = -adjoint[b, a]
    made[6, 6], made[7, 7] = -1.0, -ratio
    return made


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pair_terms(
    image: Any, depth: Any, ray: Any, inverse_depth: Any, value: Any, pose: Any, adjoint: Any, camera: Any, light: Any,
    sigma: float, host: int, target: int, normal: Any, side: Any, point_normal: Any, point_side: Any, cross: Any,
    residual: Any
) -> Any:  # fmt: skip
    """Add what points of one keyframe (`ray` N x 3 with z = 1) say in the image of another.

    `pose`: target_from_host (4 x 4), `adjoint`: its 6 x 6; `light`: log gain and offset of the host, then the target.
    Adds to `normal` (8K x 8K) and `side`, and for each point to `point_normal`, `point_side` (N) and `cross` (N x 8K),
    and writes `residual` (N; NaN where not in view). Returns (cost, points in view).
    """
    height, width = image.shape
    ratio, h, t = np.exp(light[2] - light[0]), host * UNKNOWNS, target * UNKNOWNS
    total, seen, inverse = 0.0, 0, 1.0 / (sigma * sigma)
    j, way, right, full = np.zeros(UNKNOWNS), np.zeros(3), np.zeros(UNKNOWNS), np.zeros((UNKNOWNS, UNKNOWNS))
    to_host = _to_host(adjoint, ratio)
    for i in range(len(ray)):
        residual[i] = np.nan
        z0 = 1.0 / inverse_depth[i]
        for k in range(3):
            way[k] = pose[k, 0] * ray[i, 0] + pose[k, 1] * ray[i, 1] + pose[k, 2] * ray[i, 2]
        x, y, z = way[0] * z0 + pose[0, 3], way[1] * z0 + pose[1, 3], way[2] * z0 + pose[2, 3]
        u, v = camera[0] * x / z + camera[2], camera[1] * y / z + camera[3]
        if not (z > 0.05 and u >= 1 and v >= 1 and u < width - 2 and v < height - 2):
            continue
        if 0 < depth[int(v + 0.5), int(u + 0.5)] < z * (1 - HIDDEN):
            continue
        now, gx, gy = sample(image, u, v)
        r = now - MIDDLE - light[3] - ratio * (value[i] - light[1])
        residual[i] = r
        seen += 1
        share = 1.0 / (1.0 + r * r * inverse * BEND)
        total += r * r * inverse * share
        w = share * share * inverse
        row(x, y, 1.0 / z, gx * camera[0], gy * camera[1], j)
        jp = -(j[3] * way[0] + j[4] * way[1] + j[5] * way[2]) * z0 * z0  # d point / d inverse depth = -R ray / rho^2
        j[6], j[7] = -ratio * (value[i] - light[1]), -1.0
        point_normal[i] += w * jp * jp
        point_side[i] += w * jp * r
        for a in range(UNKNOWNS):
            wa = w * j[a]
            right[a] += wa * r
            cross[i, t + a] += jp * wa
            back = 0.0
            for b in range(UNKNOWNS):  # all of the row: so it is vectorised
                full[a, b] += wa * j[b]
                back += to_host[a, b] * j[b]
            cross[i, h + a] += w * jp * back
    _spread(full, right, to_host, t, h, normal, side)
    return 0.5 * total + OUT_COST * (len(ray) - seen), seen


@numba.njit(cache=True, nogil=True, error_model="numpy")
def window_terms(
    image: Any, depth: Any, far: Any, camera: Any, start: Any, ray: Any, inverse_depth: Any, value: Any,
    plane_start: Any, plane: Any, plane_weight: float, noise: Any, relative: Any, adjoint: Any, light: Any, sigma: Any,
    use: Any, least: float, normal: Any, side: Any, point_normal: Any, point_side: Any, cross: Any, spread: Any
) -> float:  # fmt: skip
    """Add what all points and surfaces of K keyframes say in all others; returns the cost.

    `image`, `depth` K x H x W; `far`: depth at the surfaces' level; `camera`: of the image, and of that level (2 x 4);
    `start`, `plane_start` (K + 1): where a keyframe's points and surfaces begin; `relative`, `adjoint` K x K x 4 x 4
    and 6 x 6, target_from_host at [host, target]; `light` K x 2; `sigma`, `use` K x K: of a pair's brightness, and
    whether it counts; `noise` (K): of depth. Writes `spread` (K x K): what `sigma` should be, at least `least`.
    """
    cost = 0.0
    both, none = np.empty(4), np.zeros((UNKNOWNS, UNKNOWNS))
    for h in range(len(image)):
        first, last = start[h], start[h + 1]
        surface = plane[plane_start[h] : plane_start[h + 1]]
        residual, plane_residual = np.empty(last - first), np.empty(len(surface))
        for t in range(len(image)):
            if not use[h, t]:
                continue
            both[:2], both[2:] = light[h], light[t]
            more, _ = pair_terms(
                image[t], depth[t], ray[first:last], inverse_depth[first:last], value[first:last], relative[h, t],
                adjoint[h, t], camera[0], both, sigma[h, t], h, t, normal, side, point_normal[first:last],
                point_side[first:last], cross[first:last], residual,
            )  # fmt: skip
            cost += more
            spread[h, t] = spread_of(residual, 1.0, least)
            if plane_weight > 0:
                small, right = none.copy(), np.zeros(UNKNOWNS)
                more, _ = plane_terms(
                    far[t], surface, relative[h, t], camera[1], max(noise[h], noise[t]), plane_weight, small, right,
                    plane_residual,
                )  # fmt: skip
                cost += more
                _spread(small, right, _to_host(adjoint[h, t], 0.0), t * UNKNOWNS, h * UNKNOWNS, normal, side)
    return cost


@numba.njit(cache=True, nogil=True, error_model="numpy")
def eliminate(point_normal: Any, point_side: Any, cross: Any, normal: Any, side: Any) -> None:
    """Take the points out of the normal equations (Schur's complement)."""
    size = len(side)
    for i in range(len(point_normal)):
        if point_normal[i] <= 0:
            continue
        inverse = 1.0 / point_normal[i]
        for a in range(size):
            ca = cross[i, a] * inverse
            if ca == 0.0:
                continue
            side[a] -= ca * point_side[i]
            for b in range(a, size):  # the upper half
                normal[a, b] -= ca * cross[i, b]
    for a in range(size):
        for b in range(a):
            normal[a, b] = normal[b, a]
