"""The light that arrives at the faces of a room that stand still, computed once, compiled by numba.

A face is cut into cells of some centimetres. Each cell gets ambient light, less of it where something is near (ambient
occlusion), and the light of two lamps with soft shadows; what is between cells is interpolated.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.room_trace import (
    CELLS_U,
    CELLS_V,
    CENTER,
    FAR_M,
    HALF,
    KIND,
    LIGHTMAP,
    REACH,
    SHELL,
    SPHERE,
    TURN,
    hit_box,
    inward,
)  # fmt: skip

_CELL_M = 0.05
_MOST_CELLS = 320
_NEAR_M = 0.7  # what is nearer than this takes ambient light away
_LAMP_M = 0.16  # radius of a lamp
_LIFT_M = 2e-3  # rays begin so far before the surface
_RAYS = 20  # of ambient light, spread like it arrives (denser around the normal)
_SAMPLES = 7  # of a lamp
_PATCH = 12  # cells, each way, that share a list of what may stand in their light


def lay_out(solid: NDArray[np.float64], face: NDArray[np.float64], still: int) -> int:
    """Give the faces of the first `still` solids their cells, in place; how many cells there are. Spheres have none."""
    count = 0
    for k in range(still):
        if solid[k, KIND] == SPHERE:
            continue
        half = solid[k, HALF : HALF + 3]
        for f in range(6):
            axis = f // 2
            size = (half[2 if axis == 0 else 0], half[2 if axis == 1 else 1])
            cells = [int(min(max(np.ceil(2 * s / _CELL_M), 2), _MOST_CELLS)) for s in size]
            face[6 * k + f, [LIGHTMAP, CELLS_U, CELLS_V]] = count, *cells
            count += cells[0] * cells[1]
    return count


def directions() -> NDArray[np.float64]:
    """`_RAYS` directions around z, as dense as the cosine, then `_SAMPLES` places on a lamp (z = 0): N x 3, both by the
    golden angle."""
    i = np.arange(_RAYS)
    r, turn = np.sqrt((i + 0.5) / _RAYS), i * np.pi * (3 - np.sqrt(5))
    hemisphere = np.column_stack([r * np.cos(turn), r * np.sin(turn), np.sqrt(1 - r * r)])
    j = np.arange(_SAMPLES)
    r, turn = np.sqrt((j + 0.5) / _SAMPLES) * _LAMP_M, j * np.pi * (3 - np.sqrt(5))
    return np.concatenate([hemisphere, np.column_stack([r * np.cos(turn), r * np.sin(turn), np.zeros(_SAMPLES)])])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _blocked(solid: Any, k: int, x: float, y: float, z: float, qx: float, qy: float, qz: float) -> float:
    """How far along a ray (in lengths of q) a solid stands; 0 inside of it, FAR_M where it does not."""
    cx, cy, cz = x - solid[k, CENTER], y - solid[k, CENTER + 1], z - solid[k, CENTER + 2]
    if int(solid[k, KIND]) == SPHERE:
        along = -(cx * qx + cy * qy + cz * qz)
        length2 = qx * qx + qy * qy + qz * qz
        inside = along * along - length2 * (cx * cx + cy * cy + cz * cz - solid[k, HALF] ** 2)
        if inside <= 0 or along + np.sqrt(inside) <= 0:
            return FAR_M
        return max((along - np.sqrt(inside)) / length2, 0.0)
    px, py, pz = inward(solid, k, cx, cy, cz)
    ax, ay, az = inward(solid, k, qx, qy, qz)
    near, far, _, _ = hit_box(px, py, pz, ax, ay, az, solid[k, HALF], solid[k, HALF + 1], solid[k, HALF + 2])
    return max(near, 0.0) if near <= far and far > 0 else FAR_M


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gathered(
    solid: Any, still: int, shadowless: Any, middle: Any, reach: float, end: Any, end_reach: float, some: Any
) -> int:
    """Put the solids into `some` that reach into a tube between two places; how many."""
    x, y, z = end[0] - middle[0], end[1] - middle[1], end[2] - middle[2]
    length2 = max(x * x + y * y + z * z, 1e-12)
    count = 0
    for k in range(1, still):
        cx, cy, cz = solid[k, CENTER] - middle[0], solid[k, CENTER + 1] - middle[1], solid[k, CENTER + 2] - middle[2]
        along = min(max((cx * x + cy * y + cz * z) / length2, 0.0), 1.0)
        aside2 = (cx - along * x) ** 2 + (cy - along * y) ** 2 + (cz - along * z) ** 2
        if not shadowless[k] and aside2 < (solid[k, REACH] + max(reach, end_reach)) ** 2:
            some[count] = k
            count += 1
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ambient(solid: Any, some: Any, count: int, p: Any, n: Any, spread: Any) -> float:
    """1 where nothing is near, less in corners and beside other solids."""
    a = (0.0, 0.0, 1.0) if abs(n[2]) < 0.8 else (1.0, 0.0, 0.0)  # a tangent, and its partner
    ux, uy, uz = a[1] * n[2] - a[2] * n[1], a[2] * n[0] - a[0] * n[2], a[0] * n[1] - a[1] * n[0]
    length = np.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / length, uy / length, uz / length
    vx, vy, vz = n[1] * uz - n[2] * uy, n[2] * ux - n[0] * uz, n[0] * uy - n[1] * ux
    total = 0.0
    for i in range(_RAYS):
        s, t, w = spread[i, 0], spread[i, 1], spread[i, 2]
        qx, qy, qz = s * ux + t * vx + w * n[0], s * uy + t * vy + w * n[1], s * uz + t * vz + w * n[2]
        x, y, z = p[0] - solid[0, CENTER], p[1] - solid[0, CENTER + 1], p[2] - solid[0, CENTER + 2]
        _, first, _, _ = hit_box(x, y, z, qx, qy, qz, solid[0, HALF], solid[0, HALF + 1], solid[0, HALF + 2])
        for j in range(count):
            if first <= 0.0:
                break
            first = min(first, _blocked(solid, some[j], p[0], p[1], p[2], qx, qy, qz))
        total += min(max(first, 0.0) / _NEAR_M, 1.0)
    return 0.25 + 0.75 * total / _RAYS  # walls send back a part of what they take


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lamp(solid: Any, some: Any, count: int, lamp: Any, p: Any, n: Any, spread: Any) -> float:
    """What arrives of a lamp's light, with the share of the lamp that is in view."""
    x, y, z = lamp[0] - p[0], lamp[1] - p[1], lamp[2] - p[2]
    away2 = x * x + y * y + z * z
    facing = (x * n[0] + y * n[1] + z * n[2]) / np.sqrt(away2)
    if facing <= 0:
        return 0.0
    seen, first = 0, 0
    for i in range(_RAYS, _RAYS + _SAMPLES):
        qx, qy, qz = x + spread[i, 0], y, z + spread[i, 1]
        free = True
        for j in range(count):
            k = some[(first + j) % count]
            if _blocked(solid, k, p[0], p[1], p[2], qx, qy, qz) < 0.98:
                free, first = False, (first + j) % count  # what stands in one ray's way most often does in the next's
                break
        seen += free
    return lamp[3] * facing / (away2 + 0.3) * seen / _SAMPLES


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bake(solid: Any, face: Any, still: int, shadowless: Any, lamps: Any, spread: Any, out: Any) -> None:
    """Fill out (cells x 3): ambient light and both lamps'. `shadowless` (N): solids that light goes through."""
    near, before = np.empty(still, np.int64), np.empty((2, still), np.int64)
    counts = np.zeros(2, np.int64)
    local, middle = np.zeros(3), np.zeros(3)
    for f in range(6 * still):
        wide, high, begin = int(face[f, CELLS_U]), int(face[f, CELLS_V]), int(face[f, LIGHTMAP])
        if wide == 0:
            continue
        k, axis = f // 6, f % 6 // 2
        sign = 1.0 if f % 2 else -1.0
        in_u, in_v = (2 if axis == 0 else 0), (2 if axis == 1 else 1)
        facing = -sign if int(solid[k, KIND]) == SHELL else sign
        n = (facing * solid[k, TURN + axis], facing * solid[k, TURN + 3 + axis], facing * solid[k, TURN + 6 + axis])
        for patch_v in range(0, high, _PATCH):
            for patch_u in range(0, wide, _PATCH):
                end_u, end_v = min(patch_u + _PATCH, wide), min(patch_v + _PATCH, high)
                size_u = solid[k, HALF + in_u] * (end_u - patch_u) / wide
                size_v = solid[k, HALF + in_v] * (end_v - patch_v) / high
                reach = np.sqrt(size_u * size_u + size_v * size_v)
                _place(solid, k, axis, sign, in_u, in_v, (patch_u + end_u) / wide - 1, (patch_v + end_v) / high - 1,
                       n, local, middle)  # fmt: skip
                count = _gathered(solid, still, shadowless, middle, reach + _NEAR_M, middle, 0.0, near)
                for i in range(2):
                    counts[i] = _gathered(solid, still, shadowless, middle, reach, lamps[i], _LAMP_M, before[i])
                for v in range(patch_v, end_v):
                    for u in range(patch_u, end_u):
                        _place(solid, k, axis, sign, in_u, in_v, (2 * u + 1) / wide - 1, (2 * v + 1) / high - 1,
                               n, local, middle)  # fmt: skip
                        p = (middle[0], middle[1], middle[2])
                        at = begin + v * wide + u
                        out[at, 0] = _ambient(solid, near, count, p, n, spread)
                        for i in range(2):
                            out[at, 1 + i] = _lamp(solid, before[i], counts[i], lamps[i], p, n, spread)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(
    solid: Any, k: int, axis: int, sign: float, in_u: int, in_v: int, u: float, v: float, n: Any, local: Any, out: Any
) -> None:
    """The place of (u, v), -1 to 1 both, on a face of a solid, lifted a little off it."""
    local[axis], local[in_u], local[in_v] = (
        sign * solid[k, HALF + axis], solid[k, HALF + in_u] * u, solid[k, HALF + in_v] * v,
    )  # fmt: skip
    for a in range(3):
        out[a] = solid[k, CENTER + a] + _LIFT_M * n[a]
        for b in range(3):
            out[a] += solid[k, TURN + 3 * a + b] * local[b]
