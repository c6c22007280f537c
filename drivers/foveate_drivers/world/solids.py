"""Solids with exact distances and exact hits of rays, compiled by numba: planes, boxes, spheres, one blend of capsules.

A row of `table` is one solid: kind, albedo, centre and radius of a sphere around it (infinite for a plane), its place,
its axes as the rows of rig-from-solid, its half sizes. A plane lies across its own z and is solid behind it. The blend
is a smooth union: each step changes it by at most the step's length, so walking by its value never passes the surface
(Hart, "Sphere tracing", 1996), and a smooth minimum of such functions is one again.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

PLANE, BOX, SPHERE, BLEND = range(4)
KIND, ALBEDO, CENTER, REACH, PLACE, TURN, HALF = 0, 1, 2, 5, 6, 9, 18
COLUMNS = 21
FAR_M = 1e6
_BLEND_M = 0.03  # over how much the capsules melt into each other
_CLOSE_M = 1e-7
_STEPS = 256


def row(
    kind: int, albedo: float, place_m: NDArray[np.float64], turn: NDArray[np.float64], half_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One row of a table; `turn` (3 x 3) is the rotation from the solid's axes to the rig's."""
    made = np.zeros(COLUMNS)
    reach = {PLANE: FAR_M, SPHERE: half_m[0], BLEND: half_m[0]}.get(kind, float(np.linalg.norm(half_m)))
    made[KIND], made[ALBEDO], made[REACH] = kind, albedo, reach
    made[CENTER : CENTER + 3] = made[PLACE : PLACE + 3] = place_m
    made[TURN : TURN + 9], made[HALF : HALF + 3] = turn.ravel(), half_m
    return made


@numba.njit(cache=True, nogil=True, inline="always")
def _inward(one: Any, x: float, y: float, z: float) -> Any:
    """A direction of the rig in the solid's axes."""
    return (
        one[TURN] * x + one[TURN + 3] * y + one[TURN + 6] * z,
        one[TURN + 1] * x + one[TURN + 4] * y + one[TURN + 7] * z,
        one[TURN + 2] * x + one[TURN + 5] * y + one[TURN + 8] * z,
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _outward(one: Any, x: float, y: float, z: float) -> Any:
    """A direction of the solid's axes in the rig."""
    return (
        one[TURN] * x + one[TURN + 1] * y + one[TURN + 2] * z,
        one[TURN + 3] * x + one[TURN + 4] * y + one[TURN + 5] * z,
        one[TURN + 6] * x + one[TURN + 7] * y + one[TURN + 8] * z,
    )


@numba.njit(cache=True, nogil=True)
def _blend(capsules: Any, x: float, y: float, z: float) -> Any:
    """Value and gradient of the smooth union of capsules (ends, radius) at a point of its own frame."""
    value, gx, gy, gz = 1e9, 0.0, 0.0, 1.0
    for k in range(len(capsules)):
        c = capsules[k]
        ax, ay, az = c[3] - c[0], c[4] - c[1], c[5] - c[2]
        length2 = ax * ax + ay * ay + az * az
        along = 0.0
        if length2 > 0:
            along = ((x - c[0]) * ax + (y - c[1]) * ay + (z - c[2]) * az) / length2
            along = min(max(along, 0.0), 1.0)
        dx, dy, dz = x - c[0] - along * ax, y - c[1] - along * ay, z - c[2] - along * az
        length = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-30
        one = length - c[6]
        dx, dy, dz = dx / length, dy / length, dz / length
        gap = one - value
        if gap <= -_BLEND_M:
            value, gx, gy, gz = one, dx, dy, dz
        elif gap < _BLEND_M:
            share = 0.5 * (1.0 - gap / _BLEND_M)  # of the newcomer
            value = value + share * gap - _BLEND_M * share * (1.0 - share)
            gx, gy, gz = gx + share * (dx - gx), gy + share * (dy - gy), gz + share * (dz - gz)
    return value, gx, gy, gz


@numba.njit(cache=True, nogil=True)
def hit(one: Any, capsules: Any, o: Any, d: Any) -> float:
    """How far along a ray (origin, unit direction) a solid begins; FAR_M where it does not."""
    kind = int(one[KIND])
    if kind in (SPHERE, BLEND):
        rx, ry, rz = o[0] - one[PLACE], o[1] - one[PLACE + 1], o[2] - one[PLACE + 2]
        along = rx * d[0] + ry * d[1] + rz * d[2]
        px, py, pz = rx - along * d[0], ry - along * d[1], rz - along * d[2]
        inside = one[HALF] * one[HALF] - (px * px + py * py + pz * pz)
        if inside <= 0:
            return FAR_M
        half = np.sqrt(inside)
        if -along + half <= 0:
            return FAR_M
        if kind == SPHERE:
            return -along - half if -along - half > 0 else FAR_M
        return _walk(one, capsules, (rx, ry, rz), d, max(-along - half, 0.0), -along + half)
    x, y, z = _inward(one, o[0] - one[PLACE], o[1] - one[PLACE + 1], o[2] - one[PLACE + 2])
    u, v, w = _inward(one, d[0], d[1], d[2])
    if kind == PLANE:
        t = -z / w if w != 0.0 else FAR_M
        return t if t > 0 else FAR_M
    near, far = -FAR_M, FAR_M
    for p, q, h in ((x, u, one[HALF]), (y, v, one[HALF + 1]), (z, w, one[HALF + 2])):
        if abs(q) < 1e-15:
            if abs(p) > h:
                return FAR_M
            continue
        a, b = (-h - p) / q, (h - p) / q
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near if 0 < near <= far else FAR_M


@numba.njit(cache=True, nogil=True)
def _walk(one: Any, capsules: Any, r: Any, d: Any, t: float, end: float) -> float:
    x, y, z = _inward(one, r[0], r[1], r[2])
    u, v, w = _inward(one, d[0], d[1], d[2])
    for _ in range(_STEPS):
        value, gx, gy, gz = _blend(capsules, x + t * u, y + t * v, z + t * w)
        if value < 1e-4:  # close: Newton's method along the ray where it does not graze
            slope = gx * u + gy * v + gz * w
            if slope < -0.2:
                for _ in range(5):
                    value, gx, gy, gz = _blend(capsules, x + t * u, y + t * v, z + t * w)
                    slope = gx * u + gy * v + gz * w
                    t -= value / slope
                return t
        if value < _CLOSE_M:
            return t
        t += value
        if t > end:
            return FAR_M
    return FAR_M


@numba.njit(cache=True, nogil=True)
def normal(one: Any, capsules: Any, x: float, y: float, z: float) -> Any:
    """The outward unit normal at a point of a solid's surface."""
    kind = int(one[KIND])
    px, py, pz = x - one[PLACE], y - one[PLACE + 1], z - one[PLACE + 2]
    if kind == SPHERE:
        length = np.sqrt(px * px + py * py + pz * pz)
        return px / length, py / length, pz / length
    if kind == PLANE:
        return _outward(one, 0.0, 0.0, -1.0)
    px, py, pz = _inward(one, px, py, pz)
    if kind == BLEND:
        _, gx, gy, gz = _blend(capsules, px, py, pz)
        length = np.sqrt(gx * gx + gy * gy + gz * gz)
        return _outward(one, gx / length, gy / length, gz / length)
    a, b, c = abs(px) - one[HALF], abs(py) - one[HALF + 1], abs(pz) - one[HALF + 2]
    if a >= b and a >= c:
        return _outward(one, np.sign(px), 0.0, 0.0)
    if b >= c:
        return _outward(one, 0.0, np.sign(py), 0.0)
    return _outward(one, 0.0, 0.0, np.sign(pz))


@numba.njit(cache=True, nogil=True)
def distance(one: Any, capsules: Any, x: float, y: float, z: float) -> float:
    """Signed metres from a point to a solid's surface, outside positive; the blend's exact within 20 mm of it."""
    kind = int(one[KIND])
    px, py, pz = x - one[PLACE], y - one[PLACE + 1], z - one[PLACE + 2]
    if kind == SPHERE:
        return float(np.sqrt(px * px + py * py + pz * pz) - one[HALF])
    px, py, pz = _inward(one, px, py, pz)
    if kind == PLANE:
        return -pz
    if kind == BLEND:
        return _blend_distance(capsules, px, py, pz)
    a, b, c = abs(px) - one[HALF], abs(py) - one[HALF + 1], abs(pz) - one[HALF + 2]
    outside = np.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2 + max(c, 0.0) ** 2)
    return float(outside + min(max(a, max(b, c)), 0.0))


@numba.njit(cache=True, nogil=True)
def _blend_distance(capsules: Any, px: float, py: float, pz: float) -> float:
    """To the foot of the perpendicular: again and again onto the tangent plane of where it is thought to be."""
    value, gx, gy, gz = _blend(capsules, px, py, pz)
    if abs(value) > 0.02:
        return value
    sign = 1.0 if value > 0 else -1.0
    x, y, z = px, py, pz
    for _ in range(16):
        length2 = gx * gx + gy * gy + gz * gz
        off = ((px - x) * gx + (py - y) * gy + (pz - z) * gz + value) / length2
        x, y, z = px - off * gx, py - off * gy, pz - off * gz
        value, gx, gy, gz = _blend(capsules, x, y, z)
    return float(sign * np.sqrt((px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2))


@numba.njit(cache=True, nogil=True)
def nearest(table: Any, capsules: Any, some: Any, o: Any, d: Any) -> Any:
    """(index, metres) of the first of `some` solids on a ray; (-1, FAR_M) where there is none."""
    first, found = FAR_M, -1
    for k in some:
        t = hit(table[k], capsules, o, d)
        if t < first:
            first, found = t, k
    return found, first


@numba.njit(cache=True, nogil=True)
def distances(table: Any, capsules: Any, points: Any, out: Any, index: int) -> None:
    """Signed metres (N,) of points (N x 3) to the nearest solid, or to one (`index` >= 0)."""
    for i in range(len(points)):
        least = 1e9
        for k in range(len(table)):
            if index < 0 or index == k:
                least = min(least, distance(table[k], capsules, points[i, 0], points[i, 1], points[i, 2]))
        out[i] = least


@numba.njit(cache=True, nogil=True)
def hits(table: Any, capsules: Any, origins: Any, rays: Any, found: Any, far: Any) -> None:
    """Index and metres of the first solid on each ray (N x 3 both, unit)."""
    some = np.arange(len(table))
    for i in range(len(rays)):
        o = (origins[i, 0], origins[i, 1], origins[i, 2])
        found[i], far[i] = nearest(table, capsules, some, o, (rays[i, 0], rays[i, 1], rays[i, 2]))
