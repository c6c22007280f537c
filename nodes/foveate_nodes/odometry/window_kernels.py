"""The loops of the local window: brightness of points with unknown inverse depth, eliminated point by point."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from foveate_nodes.odometry.kernels import _sample

UNKNOWNS = 8  # of a keyframe: turn, shift, logarithm of gain, offset
_FREEDOM = 5.0
_HIDDEN = 0.08
_OUT_COST = 0.5 * (_FREEDOM + 1) * np.log(1 + 1 / _FREEDOM)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pair_terms(
    image: Any,
    depth: Any,
    ray: Any,
    inverse_depth: Any,
    value: Any,
    pose: Any,
    adjoint: Any,
    camera: Any,
    light: Any,
    sigma: float,
    host: int,
    target: int,
    normal: Any,
    side: Any,
    point_normal: Any,
    point_side: Any,
    cross: Any,
) -> Any:
    """Add what points of one keyframe (`ray` N x 3 with z = 1) say in the image of another.

    `pose`: target_from_host (4 x 4), `adjoint`: its 6 x 6; `light`: log gain and offset of the host, then the target.
    Adds to `normal` (8K x 8K, upper triangle of blocks is not used: it is full) and `side`, and for each point to
    `point_normal`, `point_side` (N) and `cross` (N x 8K). Returns (cost, points in view).
    """
    height, width = image.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    ratio = np.exp(light[2] - light[0])
    h, t = host * UNKNOWNS, target * UNKNOWNS
    cost, seen = 0.0, 0
    j, jh, jt = np.zeros(6), np.zeros(UNKNOWNS), np.zeros(UNKNOWNS)
    for i in range(len(ray)):
        z0 = 1.0 / inverse_depth[i]
        ax = pose[0, 0] * ray[i, 0] + pose[0, 1] * ray[i, 1] + pose[0, 2] * ray[i, 2]
        ay = pose[1, 0] * ray[i, 0] + pose[1, 1] * ray[i, 1] + pose[1, 2] * ray[i, 2]
        az = pose[2, 0] * ray[i, 0] + pose[2, 1] * ray[i, 1] + pose[2, 2] * ray[i, 2]
        x, y, z = ax * z0 + pose[0, 3], ay * z0 + pose[1, 3], az * z0 + pose[2, 3]
        if z < 0.05:
            cost += _OUT_COST
            continue
        iz = 1.0 / z
        u, v = fx * x * iz + cx, fy * y * iz + cy
        if not (u >= 1 and v >= 1 and u < width - 2 and v < height - 2):
            cost += _OUT_COST
            continue
        there = depth[int(v + 0.5), int(u + 0.5)]
        if 0 < there < z * (1 - _HIDDEN):
            cost += _OUT_COST
            continue
        now, gx, gy = _sample(image, u, v)
        r = now - light[3] - ratio * (value[i] - light[1])
        scaled = r * r / (sigma * sigma)
        cost += 0.5 * (_FREEDOM + 1) * np.log(1 + scaled / _FREEDOM)
        w = (_FREEDOM + 1) / (_FREEDOM + scaled) / (sigma * sigma)
        seen += 1
        gx *= fx
        gy *= fy
        along = (x * gx + y * gy) * iz
        j[0], j[1], j[2] = -gy - y * iz * along, gx + x * iz * along, (x * gy - y * gx) * iz
        j[3], j[4], j[5] = gx * iz, gy * iz, -along * iz
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
            for b in range(size):
                normal[a, b] -= ca * cross[i, b]
