"""The loops over points: residuals, their analytic derivatives, and the normal equations, compiled by numba.

A step (6,) turns and then shifts in the target's frame: T <- exp(step) T. Two more unknowns, gain and offset, are those
of the brightness. Costs bend as Geman and McClure's do, s / (2 + 2 BEND s) of the squared residual s in sigmas: what
moves by itself says little.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

SIZE = 8  # unknowns: turn, shift, gain, offset
BEND = 1.0 / 6
_NEAR_M = 0.05
_APART_M, _APART = 0.1, 0.1  # metres, and of the depth: points farther apart are not of one surface
HIDDEN = 0.08  # of the depth: a point so far behind what the target sees there is hidden
OUT_COST = 0.5 / (1 + BEND)  # what a point out of view adds: that of one sigma


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def sample(image: Any, u: float, v: float) -> Any:
    """Value and gradient at a place (1 <= u < width - 2): bilinear of the pixels, and of their central differences."""
    x, y = int(u), int(v)
    a, b = np.float32(u - x), np.float32(v - y)
    c, d = np.float32(1.0) - a, np.float32(1.0) - b
    half = np.float32(0.5)
    f = np.float32
    t0, t1 = f(image[y - 1, x]), f(image[y - 1, x + 1])
    l0, m0, n0, r0 = f(image[y, x - 1]), f(image[y, x]), f(image[y, x + 1]), f(image[y, x + 2])
    l1, m1, n1, r1 = f(image[y + 1, x - 1]), f(image[y + 1, x]), f(image[y + 1, x + 1]), f(image[y + 1, x + 2])
    b0, b1 = f(image[y + 2, x]), f(image[y + 2, x + 1])
    value = d * (c * m0 + a * n0) + b * (c * m1 + a * n1)
    gx = half * (d * (c * (n0 - l0) + a * (r0 - m0)) + b * (c * (n1 - l1) + a * (r1 - m1)))
    gy = half * (d * (c * (m1 - t0) + a * (n1 - t1)) + b * (c * (b0 - m0) + a * (b1 - n0)))
    return value, gx, gy


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def placed(pose: Any, x: float, y: float, z: float) -> Any:
    """A point of the reference in the target's axes."""
    return (
        pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3],
        pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3],
        pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def row(x: float, y: float, iz: float, gx: float, gy: float, j: Any) -> None:
    """How a value changes with a step: gx, gy are its slopes times fx, fy at a point (x, y, 1 / iz)."""
    along = (x * gx + y * gy) * iz
    j[0] = -gy - y * iz * along
    j[1] = gx + x * iz * along
    j[2] = (x * gy - y * gx) * iz
    j[3] = gx * iz
    j[4] = gy * iz
    j[5] = -along * iz


@numba.njit(cache=True, nogil=True, error_model="numpy")
def image_terms(
    field: Any, depth: Any, point: Any, value: Any, pose: Any, camera: Any, brightness: Any, sigma: float,
    weight: float, lit: float, normal: Any, side: Any, residual: Any
) -> Any:  # fmt: skip
    """Add what the points (N x 3, values N) say in a target `field` (H x W) to the normal equations (8 x 8, 8).

    The field is an image (`lit` 1), or a distance transform (0), which has no brightness, and values 0. Writes the
    residuals (N,), NaN where a point is out of view or hidden. Returns (cost, points in view).
    """
    height, width = field.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    seen, total, inverse = 0, 0.0, 1.0 / (sigma * sigma)
    j, right, full = np.empty(SIZE), np.zeros(SIZE), np.zeros((SIZE, SIZE))
    for i in range(len(point)):
        residual[i] = np.nan
        x, y, z = placed(pose, point[i, 0], point[i, 1], point[i, 2])
        iz = 1.0 / z
        u, v = fx * x * iz + cx, fy * y * iz + cy
        if not (z > _NEAR_M and u >= 1 and v >= 1 and u < width - 2 and v < height - 2):
            continue
        if 0 < depth[int(v + 0.5), int(u + 0.5)] < z * (1 - HIDDEN):
            continue
        now, gx, gy = sample(field, u, v)
        r = now - lit * (brightness[0] * value[i] + brightness[1])
        residual[i] = r
        seen += 1
        scaled = r * r * inverse
        share = 1.0 / (1.0 + scaled * BEND)
        total += scaled * share
        w = weight * inverse * share * share
        row(x, y, iz, gx * fx, gy * fy, j)
        j[6], j[7] = -lit * value[i], -lit
        for a in range(SIZE):
            wa = w * j[a]
            right[a] += wa * r
            for b in range(SIZE):  # all of the row: so it is vectorised
                full[a, b] += wa * j[b]
    normal += full
    side += right
    return weight * (0.5 * total + OUT_COST * (len(point) - seen)), seen


@numba.njit(cache=True, nogil=True, error_model="numpy")
def plane_terms(
    depth: Any, point: Any, pose: Any, camera: Any, scale: float, weight: float, normal: Any, side: Any, residual: Any
) -> Any:
    """Add the distances of the target's depth from the planes at points (N x 6: place, unit normal) of the reference.

    The target's point is the one that a reference point falls on (projective association). Writes the residuals (N,) in
    units of their sigma; NaN where not in view, infinite where another surface is seen. Returns (cost, points in view).
    """
    height, width = depth.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    seen, total = 0, 0.0
    j, right, full = np.empty(6), np.zeros(6), np.zeros((6, 6))
    for i in range(len(point)):
        residual[i] = np.nan
        x, y, z = placed(pose, point[i, 0], point[i, 1], point[i, 2])
        if z < _NEAR_M:
            continue
        column, row = int(np.floor(fx * x / z + cx + 0.5)), int(np.floor(fy * y / z + cy + 0.5))
        if column < 0 or row < 0 or column >= width or row >= height:
            continue
        qz = depth[row, column]
        if qz <= 0 or abs(qz - z) > _APART_M + _APART * z:
            residual[i] = np.nan if qz <= 0 else np.inf  # the latter disagrees, or hides it: it counts, and pulls not
            continue
        qx, qy, a, b, c = (column - cx) / fx * qz, (row - cy) / fy * qz, point[i, 3], point[i, 4], point[i, 5]
        nx = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c
        ny = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c
        nz = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c
        inverse = 1.0 / (scale * depth_sigma(z))
        r = (nx * (x - qx) + ny * (y - qy) + nz * (z - qz)) * inverse
        residual[i] = r
        seen += 1
        share = 1.0 / (1.0 + r * r * BEND)
        total += r * r * share
        w = weight * share * share
        j[0] = (qy * nz - qz * ny) * inverse
        j[1] = (qz * nx - qx * nz) * inverse
        j[2] = (qx * ny - qy * nx) * inverse
        j[3], j[4], j[5] = nx * inverse, ny * inverse, nz * inverse
        for k in range(6):
            wk = w * j[k]
            right[k] += wk * r
            for m in range(6):
                full[k, m] += wk * j[m]
    normal[:6, :6] += full
    side[:6] += right
    return weight * (0.5 * total + OUT_COST * (len(point) - seen)), seen


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def depth_sigma(z: Any) -> Any:
    """Standard deviation (m) of a structured-light camera's depth (Nguyen, Izadi and Lovell 2012, axial, facing)."""
    return 0.0012 + 0.0019 * (z - 0.4) * (z - 0.4)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def spread_of(residual: Any, unit: float, least: float) -> float:
    """The standard deviation by the median of |r|; `least` where it is smaller, or too few are known."""
    size = np.abs(residual[np.isfinite(residual)])
    return max(least, 1.4826 * unit * np.median(size)) if len(size) > 20 else least


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(normal: Any, side: Any, damping: float, step: Any) -> bool:
    """Solve (N + damping diag N) step = -side by Cholesky's factors; False where N is not positive."""
    size = len(side)
    low = np.zeros((size, size))
    for i in range(size):
        for k in range(i + 1):
            total = normal[k, i] * (1 + damping) if i == k else normal[k, i]
            for m in range(k):
                total -= low[i, m] * low[k, m]
            if i == k:
                if not total > 1e-12 * normal[i, i]:
                    return False
                low[i, i] = np.sqrt(total)
            else:
                low[i, k] = total / low[k, k]
    for i in range(size):
        total = -side[i]
        for k in range(i):
            total -= low[i, k] * step[k]
        step[i] = total / low[i, i]
    for i in range(size - 1, -1, -1):
        total = step[i]
        for k in range(i + 1, size):
            total -= low[k, i] * step[k]
        step[i] = total / low[i, i]
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def moved(pose: Any, step: Any, out: Any) -> None:
    """out = exp(step) pose, for the turn and shift (first six of `step`)."""
    wx, wy, wz = step[0], step[1], step[2]
    square = wx * wx + wy * wy + wz * wz
    angle = np.sqrt(square)
    if angle < 1e-2:  # by series: the differences below cancel
        s, c, d = 1 - square / 6, 0.5 - square / 24, 1.0 / 6 - square / 120
    else:
        s, c, d = np.sin(angle) / angle, (1 - np.cos(angle)) / square, (angle - np.sin(angle)) / (square * angle)
    cross = np.array([[0.0, -wz, wy], [wz, 0.0, -wx], [-wy, wx, 0.0]])
    for i in range(3):
        for k in range(4):
            total = pose[i, k]
            if k == 3:
                total += step[3 + i]
            for m in range(3):
                twice = cross[i, 0] * cross[0, m] + cross[i, 1] * cross[1, m] + cross[i, 2] * cross[2, m]
                total += (s * cross[i, m] + c * twice) * pose[m, k]
                if k == 3:
                    total += (c * cross[i, m] + d * twice) * step[3 + m]
            out[i, k] = total
