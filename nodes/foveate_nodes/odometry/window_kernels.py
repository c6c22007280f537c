"""The loops of the local window: brightness of points with unknown inverse depth, eliminated point by point."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from foveate_nodes.odometry.kernels import BEND, HIDDEN, OUT_COST, row, sample
from foveate_nodes.odometry.pyramid import MIDDLE

UNKNOWNS = 8  # of a keyframe: turn, shift, logarithm of gain, offset


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add(jt: Any, jh: Any, w: float, r: float, t: int, h: int, normal: Any, side: Any) -> None:
    """One residual's part in the equations of target `t` and host `h` (their first rows)."""
    for a in range(UNKNOWNS):
        wt, wh = w * jt[a], w * jh[a]
        side[t + a] += wt * r
        side[h + a] += wh * r
        for b in range(UNKNOWNS):
            normal[t + a, t + b] += wt * jt[b]
            normal[h + a, h + b] += wh * jh[b]
            normal[t + a, h + b] += wt * jh[b]
            normal[h + a, t + b] += wh * jt[b]


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
    j, jh, jt, way = np.zeros(6), np.zeros(UNKNOWNS), np.zeros(UNKNOWNS), np.zeros(3)
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
        for a in range(6):
            jt[a], jh[a] = j[a], 0.0
            for b in range(6):
                jh[a] -= j[b] * adjoint[b, a]
        jt[6], jt[7] = -ratio * (value[i] - light[1]), -1.0
        jh[6], jh[7] = -jt[6], ratio
        point_normal[i] += w * jp * jp
        point_side[i] += w * jp * r
        cross[i, t : t + UNKNOWNS] += w * jp * jt
        cross[i, h : h + UNKNOWNS] += w * jp * jh
        _add(jt, jh, w, r, t, h, normal, side)
    return 0.5 * total + OUT_COST * (len(ray) - seen), seen


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
