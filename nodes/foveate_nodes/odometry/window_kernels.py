"""The loops of the local window: brightness of points with unknown inverse depth, eliminated point by point."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from foveate_nodes.odometry.kernels import BEND, HIDDEN, OUT_COST, row, sample
from foveate_nodes.odometry.pyramid import MIDDLE

UNKNOWNS = 8  # of a keyframe: turn, shift, logarithm of gain, offset


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pair_terms(
    image: Any, depth: Any, ray: Any, inverse_depth: Any, value: Any, pose: Any, adjoint: Any, camera: Any, light: Any,
    sigma: float, host: int, target: int, normal: Any, side: Any, point_normal: Any, point_side: Any, cross: Any,
    residual: Any
) -> Any:  # fmt: skip
    """Add what points of one keyframe (`ray` N x 3 with z = 1) say in the image of another.

    `pose`: target_from_host (4 x 4), `adjoint`: its 6 x 6; `light`: log gain and offset of the host, then the target.
    Adds to `normal` (8K x 8K, upper triangle of blocks is not used: it is full) and `side`, and for each point to
    `point_normal`, `point_side` (N) and `cross` (N x 8K), and writes `residual` (N; NaN where not in view). Returns
    (cost, points in view).
    """
    height, width = image.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    ratio = np.exp(light[2] - light[0])
    h, t = host * UNKNOWNS, target * UNKNOWNS
    cost, seen = 0.0, 0
    j, jh, jt = np.zeros(6), np.zeros(UNKNOWNS), np.zeros(UNKNOWNS)
    for i in range(len(ray)):
        residual[i] = np.nan
        z0 = 1.0 / inverse_depth[i]
        ax = pose[0, 0] * ray[i, 0] + pose[0, 1] * ray[i, 1] + pose[0, 2] * ray[i, 2]
        ay = pose[1, 0] * ray[i, 0] + pose[1, 1] * ray[i, 1] + pose[1, 2] * ray[i, 2]
        az = pose[2, 0] * ray[i, 0] + pose[2, 1] * ray[i, 1] + pose[2, 2] * ray[i, 2]
        x, y, z = ax * z0 + pose[0, 3], ay * z0 + pose[1, 3], az * z0 + pose[2, 3]
        if z < 0.05:
            cost += OUT_COST
            continue
        iz = 1.0 / z
        u, v = fx * x * iz + cx, fy * y * iz + cy
        if not (u >= 1 and v >= 1 and u < width - 2 and v < height - 2):
            cost += OUT_COST
            continue
        there = depth[int(v + 0.5), int(u + 0.5)]
        if 0 < there < z * (1 - HIDDEN):
            cost += OUT_COST
            continue
        now, gx, gy = sample(image, u, v)
        r = now - MIDDLE - light[3] - ratio * (value[i] - light[1])
        residual[i] = r
        scaled = r * r / (sigma * sigma)
        share = 1.0 / (1.0 + scaled * BEND)
        cost += 0.5 * scaled * share
        w = share * share / (sigma * sigma)
        seen += 1
        row(x, y, iz, gx * fx, gy * fy, j)
        jp = -(j[3] * ax + j[4] * ay + j[5] * az) * z0 * z0  # d point / d inverse depth = -R ray / rho^2
        for a in range(6):
            jt[a] = j[a]
            total = 0.0
            for b in range(6):
                total -= j[b] * adjoint[b, a]
            jh[a] = total
        jt[6], jt[7] = -ratio * (value[i] - light[1]), -1.0
        jh[6], jh[7] = -jt[6], ratio
        point_normal[i] += w * jp * jp
        point_side[i] += w * jp * r
        for a in range(UNKNOWNS):
            wt, wh = w * jt[a], w * jh[a]
            cross[i, t + a] += wt * jp
            cross[i, h + a] += wh * jp
            side[t + a] += wt * r
            side[h + a] += wh * r
            for b in range(UNKNOWNS):
                normal[t + a, t + b] += wt * jt[b]
                normal[h + a, h + b] += wh * jh[b]
                normal[t + a, h + b] += wt * jh[b]
                normal[h + a, t + b] += wh * jt[b]
    return cost, seen


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
