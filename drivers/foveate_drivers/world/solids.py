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
_NEAR_M = 2e-3  # from here Newton's method finds the surface
_STEPS = 256
_EXACT_M = 0.006  # further away a hollow has more than one foot of a perpendicular


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


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _inward(table: Any, k: int, x: float, y: float, z: float) -> Any:
    """A direction of the rig in the solid's axes."""
    return (
        table[k, TURN] * x + table[k, TURN + 3] * y + table[k, TURN + 6] * z,
        table[k, TURN + 1] * x + table[k, TURN + 4] * y + table[k, TURN + 7] * z,
        table[k, TURN + 2] * x + table[k, TURN + 5] * y + table[k, TURN + 8] * z,
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _outward(table: Any, k: int, x: float, y: float, z: float) -> Any:
    """A direction of the solid's axes in the rig."""
    return (
        table[k, TURN] * x + table[k, TURN + 1] * y + table[k, TURN + 2] * z,
        table[k, TURN + 3] * x + table[k, TURN + 4] * y + table[k, TURN + 5] * z,
        table[k, TURN + 6] * x + table[k, TURN + 7] * y + table[k, TURN + 8] * z,
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _from_capsule(c: Any, k: int, x: float, y: float, z: float) -> Any:
    """The shortest way from a capsule's middle line to a point."""
    ax, ay, az = c[k, 3] - c[k, 0], c[k, 4] - c[k, 1], c[k, 5] - c[k, 2]
    dx, dy, dz = x - c[k, 0], y - c[k, 1], z - c[k, 2]
    along = (dx * ax + dy * ay + dz * az) / max(ax * ax + ay * ay + az * az, 1e-30)
    along = min(max(along, 0.0), 1.0)
    return dx - along * ax, dy - along * ay, dz - along * az


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _blend_value(capsules: Any, x: float, y: float, z: float) -> float:
    """The smooth union of capsules (rows of both ends and the radius) at a point of its own frame."""
    value = 1e9
    for k in range(len(capsules)):
        dx, dy, dz = _from_capsule(capsules, k, x, y, z)
        gap = np.sqrt(dx * dx + dy * dy + dz * dz) - capsules[k, 6] - value
        if gap <= -_BLEND_M:
            value += gap
        elif gap < _BLEND_M:
            share = 0.5 * (1.0 - gap / _BLEND_M)  # of the newcomer
            value += share * gap - _BLEND_M * share * (1.0 - share)
    return value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _blend(capsules: Any, x: float, y: float, z: float) -> Any:
    """Value and gradient of the same."""
    value, gx, gy, gz = 1e9, 0.0, 0.0, 1.0
    for k in range(len(capsules)):
        dx, dy, dz = _from_capsule(capsules, k, x, y, z)
        length = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-30
        gap = length - capsules[k, 6] - value
        dx, dy, dz = dx / length, dy / length, dz / length
        if gap <= -_BLEND_M:
            value, gx, gy, gz = value + gap, dx, dy, dz
        elif gap < _BLEND_M:
            share = 0.5 * (1.0 - gap / _BLEND_M)
            value += share * gap - _BLEND_M * share * (1.0 - share)
            gx, gy, gz = gx + share * (dx - gx), gy + share * (dy - gy), gz + share * (dz - gz)
    return value, gx, gy, gz


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _slab(p: float, q: float, half: float, near: float, far: float) -> Any:
    """Where a ray (place p, speed q) is between -half and half, and between `near` and `far`."""
    if abs(q) < 1e-15:
        return (near, far) if abs(p) <= half else (FAR_M, -FAR_M)
    inverse = 1.0 / q
    a, b = (-half - p) * inverse, (half - p) * inverse
    return max(near, min(a, b)), min(far, max(a, b))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def hit(table: Any, k: int, capsules: Any, o: Any, d: Any) -> float:
    """How far along a ray (origin, unit direction) a solid begins; FAR_M where it does not."""
    kind = int(table[k, KIND])
    if kind != PLANE:
        rx, ry, rz = o[0] - table[k, CENTER], o[1] - table[k, CENTER + 1], o[2] - table[k, CENTER + 2]
        along = rx * d[0] + ry * d[1] + rz * d[2]
        inside = table[k, REACH] * table[k, REACH] + along * along - (rx * rx + ry * ry + rz * rz)
        if inside <= 0:
            return FAR_M
        half = np.sqrt(inside)
        if half <= along:
            return FAR_M
        if kind == SPHERE:
            return -along - half if -along - half > 0 else FAR_M
        if kind == BLEND:
            return _walk(table, k, capsules, (rx, ry, rz), d, max(-along - half, 0.0), -along + half)
    x, y, z = _inward(table, k, o[0] - table[k, PLACE], o[1] - table[k, PLACE + 1], o[2] - table[k, PLACE + 2])
    u, v, w = _inward(table, k, d[0], d[1], d[2])
    if kind == PLANE:
        t = -z / w if w != 0.0 else FAR_M
        return t if t > 0 else FAR_M
    near, far = _slab(x, u, table[k, HALF], -FAR_M, FAR_M)
    near, far = _slab(y, v, table[k, HALF + 1], near, far)
    near, far = _slab(z, w, table[k, HALF + 2], near, far)
    return near if 0 < near <= far else FAR_M


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _walk(table: Any, k: int, capsules: Any, r: Any, d: Any, t: float, end: float) -> float:
    x, y, z = _inward(table, k, r[0], r[1], r[2])
    u, v, w = _inward(table, k, d[0], d[1], d[2])
    for _ in range(_STEPS):
        value = _blend_value(capsules, x + t * u, y + t * v, z + t * w)
        if value < _NEAR_M:
            there = _newton(capsules, (x, y, z), (u, v, w), t)
            if there > 0:
                return there
        if value < _CLOSE_M:
            return t
        t += value
        if t > end:
            return FAR_M
    return FAR_M


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _newton(capsules: Any, o: Any, d: Any, t: float) -> float:
    """The blend's surface just ahead on a ray; -1 where the ray grazes, or leaves."""
    for _ in range(6):
        value, gx, gy, gz = _blend(capsules, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
        slope = gx * d[0] + gy * d[1] + gz * d[2]
        if slope > -0.2:
            return -1.0
        t -= value / slope
        if abs(value) < 1e-9:
            return t
    return -1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def normal(table: Any, k: int, capsules: Any, x: float, y: float, z: float) -> Any:
    """The outward unit normal at a point of a solid's surface."""
    kind = int(table[k, KIND])
    px, py, pz = x - table[k, PLACE], y - table[k, PLACE + 1], z - table[k, PLACE + 2]
    if kind == SPHERE:
        length = np.sqrt(px * px + py * py + pz * pz)
        return px / length, py / length, pz / length
    if kind == PLANE:
        return _outward(table, k, 0.0, 0.0, -1.0)
    px, py, pz = _inward(table, k, px, py, pz)
    if kind == BLEND:
        _, gx, gy, gz = _blend(capsules, px, py, pz)
        length = np.sqrt(gx * gx + gy * gy + gz * gz)
        return _outward(table, k, gx / length, gy / length, gz / length)
    a, b, c = abs(px) - table[k, HALF], abs(py) - table[k, HALF + 1], abs(pz) - table[k, HALF + 2]
    if a >= b and a >= c:
        return _outward(table, k, np.sign(px), 0.0, 0.0)
    if b >= c:
        return _outward(table, k, 0.0, np.sign(py), 0.0)
    return _outward(table, k, 0.0, 0.0, np.sign(pz))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def distance(table: Any, k: int, capsules: Any, x: float, y: float, z: float) -> float:
    """Signed metres from a point to a solid's surface, outside positive; to the blend exact within 5 mm, further away
    a lower bound."""
    kind = int(table[k, KIND])
    px, py, pz = x - table[k, PLACE], y - table[k, PLACE + 1], z - table[k, PLACE + 2]
    if kind == SPHERE:
        return float(np.sqrt(px * px + py * py + pz * pz) - table[k, HALF])
    px, py, pz = _inward(table, k, px, py, pz)
    if kind == PLANE:
        return -pz
    if kind == BLEND:
        return _blend_distance(capsules, px, py, pz)
    a, b, c = abs(px) - table[k, HALF], abs(py) - table[k, HALF + 1], abs(pz) - table[k, HALF + 2]
    outside = np.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2 + max(c, 0.0) ** 2)
    return float(outside + min(max(a, max(b, c)), 0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _blend_distance(capsules: Any, px: float, py: float, pz: float) -> float:
    """To the foot of the perpendicular: again and again onto the tangent plane of where it is thought to be."""
    value, gx, gy, gz = _blend(capsules, px, py, pz)
    if abs(value) > _EXACT_M:
        return value
    sign = 1.0 if value > 0 else -1.0
    x, y, z = px, py, pz
    for _ in range(16):
        length2 = gx * gx + gy * gy + gz * gz
        off = ((px - x) * gx + (py - y) * gy + (pz - z) * gz + value) / length2
        x, y, z = px - off * gx, py - off * gy, pz - off * gz
        value, gx, gy, gz = _blend(capsules, x, y, z)
    return float(sign * np.sqrt((px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def nearest(table: Any, capsules: Any, some: Any, o: Any, d: Any) -> Any:
    """(index, metres) of the first of `some` solids on a ray; (-1, FAR_M) where there is none."""
    first, found = FAR_M, -1
    for k in some:
        t = hit(table, k, capsules, o, d)
        if t < first:
            first, found = t, k
    return found, first


@numba.njit(cache=True, nogil=True, error_model="numpy")
def distances(table: Any, capsules: Any, points: Any, out: Any, index: int) -> None:
    """Signed metres (N,) of points (N x 3) to the nearest solid, or to one (`index` >= 0)."""
    for i in range(len(points)):
        least = 1e9
        for k in range(len(table)):
            if index < 0 or index == k:
                least = min(least, distance(table, k, capsules, points[i, 0], points[i, 1], points[i, 2]))
        out[i] = least


@numba.njit(cache=True, nogil=True, error_model="numpy")
def hits(table: Any, capsules: Any, origins: Any, rays: Any, found: Any, far: Any) -> None:
    """Index and metres of the first solid on each ray (N x 3 both, unit)."""
    some = np.arange(len(table))
    for i in range(len(rays)):
        o = (origins[i, 0], origins[i, 1], origins[i, 2])
        found[i], far[i] = nearest(table, capsules, some, o, (rays[i, 0], rays[i, 1], rays[i, 2]))
