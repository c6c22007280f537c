"""What colour a room's surfaces have where rays meet them, compiled by numba: texture, light, lamps that move nowhere.

Textures are sampled through the exact footprint of a pixel (Igehy, "Tracing ray differentials", 1999): up to four times
along its longer side, each between the two nearest of the texture's half-size levels.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from foveate_drivers.world.room_trace import (
    CELLS_U,
    CELLS_V,
    CENTER,
    FAR_M,
    GLOSS,
    GLOW,
    HALF,
    KIND,
    LIGHTMAP,
    SPHERE,
    SU,
    SV,
    TEXTURE,
    TINT,
    TURN,
    U0,
    V0,
    hit,
    inward,
)  # fmt: skip

SIDE = 512  # texels of a texture's finest level, each way
LEVELS = 10
_MOST_TAPS = 4.0
_SHADOW_SOFT = 0.35  # a mover's shadow fades over this share of its own size


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _bilinear(texel: Any, which: int, begin: int, side: int, u: float, v: float) -> Any:
    x, y = u * side - 0.5, v * side - 0.5
    left, top = np.floor(x), np.floor(y)
    a, b = x - left, y - top
    mask = side - 1
    x0, y0 = int(left) & mask, int(top) & mask
    x1, y1 = (x0 + 1) & mask, (y0 + 1) & mask
    w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    i, j, k, m = begin + y0 * side + x0, begin + y0 * side + x1, begin + y1 * side + x0, begin + y1 * side + x1
    return (
        w00 * texel[which, i, 0] + w01 * texel[which, j, 0] + w10 * texel[which, k, 0] + w11 * texel[which, m, 0],
        w00 * texel[which, i, 1] + w01 * texel[which, j, 1] + w10 * texel[which, k, 1] + w11 * texel[which, m, 1],
        w00 * texel[which, i, 2] + w01 * texel[which, j, 2] + w10 * texel[which, k, 2] + w11 * texel[which, m, 2],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sampled(texel: Any, which: int, start: Any, u: float, v: float, ux: float, vx: float, uy: float, vy: float) -> Any:
    """B, G, R (0 to 1, root of albedo) at (u, v) in tiles; ux .. vy: how u and v change from pixel to pixel."""
    across, down = np.sqrt(ux * ux + vx * vx) * SIDE, np.sqrt(uy * uy + vy * vy) * SIDE
    if across < down:
        ux, vx, across, down = uy, vy, down, across
    down = max(down, 1e-6)
    taps = min(max(np.ceil(across / down - 0.25), 1.0), _MOST_TAPS)
    fine = min(max(np.log2(max(across / taps, down)), 0.0), LEVELS - 1.0)
    level = int(fine)
    share = fine - level
    first, second, third = 0.0, 0.0, 0.0
    for tap in range(int(taps)):
        along = (tap + 0.5) / taps - 0.5
        s, t = u + along * ux, v + along * vx
        if share < 0.95:
            x, y, z = _bilinear(texel, which, start[level], SIDE >> level, s, t)
            first, second, third = first + (1 - share) * x, second + (1 - share) * y, third + (1 - share) * z
        if share > 0.05:
            full = share if share < 0.95 else 1.0
            x, y, z = _bilinear(texel, which, start[level + 1], SIDE >> (level + 1), s, t)
            first, second, third = first + full * x, second + full * y, third + full * z
    whole = taps * 255.0 * (1.0 if share > 0.05 else 1 - share)
    return first / whole, second / whole, third / whole


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _baked(light: Any, begin: int, wide: int, high: int, s: float, t: float) -> Any:
    """Ambient light and two lamps' from a face's map; s, t: 0 to 1 over the face."""
    x, y = min(max(s * wide - 0.5, 0.0), wide - 1.0), min(max(t * high - 0.5, 0.0), high - 1.0)
    x0, y0 = int(x), int(y)
    a, b = x - x0, y - y0
    x1, y1 = min(x0 + 1, wide - 1), min(y0 + 1, high - 1)
    i, j, k, m = begin + y0 * wide + x0, begin + y0 * wide + x1, begin + y1 * wide + x0, begin + y1 * wide + x1
    w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    return (
        w00 * light[i, 0] + w01 * light[j, 0] + w10 * light[k, 0] + w11 * light[m, 0],
        w00 * light[i, 1] + w01 * light[j, 1] + w10 * light[k, 1] + w11 * light[m, 1],
        w00 * light[i, 2] + w01 * light[j, 2] + w10 * light[k, 2] + w11 * light[m, 2],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _unmapped(lamp: Any, ambient: float, px: float, py: float, pz: float, nx: float, ny: float, nz: float) -> Any:
    """The same at a point of a sphere or a mover: without shadows, half as much from below."""
    found = (0.0, 0.0)
    for k in range(2):
        x, y, z = lamp[k, 0] - px, lamp[k, 1] - py, lamp[k, 2] - pz
        away2 = x * x + y * y + z * z
        arrived = lamp[k, 3] * max((x * nx + y * ny + z * nz) / np.sqrt(away2), 0.0) / (away2 + 0.3)
        found = (arrived, 0.0) if k == 0 else (found[0], arrived)
    return ambient * (0.75 - 0.25 * ny), found[0], found[1]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _left_by_movers(solid: Any, movers: int, lamp: Any, which: int, px: float, py: float, pz: float) -> float:
    """The share of a lamp's light that moving solids leave at a point: soft shadows of the spheres around them."""
    x, y, z = lamp[which, 0] - px, lamp[which, 1] - py, lamp[which, 2] - pz
    away2 = x * x + y * y + z * z
    left = 1.0
    for k in range(len(solid) - movers, len(solid)):
        cx, cy, cz = solid[k, CENTER] - px, solid[k, CENTER + 1] - py, solid[k, CENTER + 2] - pz
        along = (cx * x + cy * y + cz * z) / away2
        if along <= 0.0 or along >= 1.0:
            continue
        aside = np.sqrt((cx - along * x) ** 2 + (cy - along * y) ** 2 + (cz - along * z) ** 2)
        size = (solid[k, HALF] + solid[k, HALF + 1] + solid[k, HALF + 2]) / 3
        left *= min(max((aside - size * (1 - _SHADOW_SOFT)) / (2 * size * _SHADOW_SOFT), 0.0), 1.0)
    return left


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _normal(solid: Any, k: int, face: int, lx: float, ly: float, lz: float) -> Any:
    """The unit normal towards the room's inside; lx, ly, lz: the point in the solid's axes."""
    if int(solid[k, KIND]) == SPHERE:
        r = 1.0 / solid[k, HALF]
        lx, ly, lz = lx * r, ly * r, lz * r
        return (
            solid[k, TURN] * lx + solid[k, TURN + 1] * ly + solid[k, TURN + 2] * lz,
            solid[k, TURN + 3] * lx + solid[k, TURN + 4] * ly + solid[k, TURN + 5] * lz,
            solid[k, TURN + 6] * lx + solid[k, TURN + 7] * ly + solid[k, TURN + 8] * lz,
        )
    column = TURN + face % 6 // 2
    sign = 1.0 if (face % 2 == 1) == (k > 0) else -1.0
    return sign * solid[k, column], sign * solid[k, column + 3], sign * solid[k, column + 6]


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _on_face(axis: int, x: float, y: float, z: float) -> Any:
    """Along and across a face, of a direction in its solid's axes."""
    return (z if axis == 0 else x), (z if axis == 1 else y)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _arriving(
    solid: Any, faces: Any, maps: Any, lamp: Any, ambient: float, movers: int, face: int, axis: int, along: float,
    across: float, px: float, py: float, pz: float, nx: float, ny: float, nz: float,
) -> Any:  # fmt: skip
    """Ambient light and both lamps' at a point of a face."""
    if faces[face, CELLS_U] == 0:
        return _unmapped(lamp, ambient, px, py, pz, nx, ny, nz)
    k = face // 6
    half_u, half_v = _on_face(axis, solid[k, HALF], solid[k, HALF + 1], solid[k, HALF + 2])
    sky, one, two = _baked(
        maps, int(faces[face, LIGHTMAP]), int(faces[face, CELLS_U]), int(faces[face, CELLS_V]),
        0.5 + 0.5 * along / half_u, 0.5 + 0.5 * across / half_v,
    )  # fmt: skip
    if movers > 0:
        one *= _left_by_movers(solid, movers, lamp, 0, px, py, pz)
        two *= _left_by_movers(solid, movers, lamp, 1, px, py, pz)
    return sky, one, two


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _highlight(
    lamp: Any, px: float, py: float, pz: float, nx: float, ny: float, nz: float, dx: float, dy: float, dz: float
) -> float:
    """Blinn's highlight of the first lamp, to the 64th power."""
    x, y, z = lamp[0, 0] - px, lamp[0, 1] - py, lamp[0, 2] - pz
    away, length = np.sqrt(x * x + y * y + z * z), np.sqrt(dx * dx + dy * dy + dz * dz)
    x, y, z = x / away - dx / length, y / away - dy / length, z / away - dz / length
    shine = max((x * nx + y * ny + z * nz) / np.sqrt(x * x + y * y + z * z), 0.0)
    for _ in range(6):
        shine *= shine
    return shine


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _color(
    solid: Any, faces: Any, texel: Any, start: Any, maps: Any, lamp: Any, ambient: float, lit: Any, movers: int,
    face: int, t: float, pose: Any, lens: Any, column: float, row: float, out: Any,
) -> None:  # fmt: skip
    """What the ray through a place in the image meets on a face at depth t: light, albedo, normal into out (9,)."""
    k, axis = face // 6, face % 6 // 2
    if int(solid[k, KIND]) == SPHERE:
        axis = 2
    u, v = (column - lens[2]) / lens[0], (row - lens[3]) / lens[1]
    dx = pose[0, 0] * u + pose[0, 1] * v + pose[0, 2]
    dy = pose[1, 0] * u + pose[1, 1] * v + pose[1, 2]
    dz = pose[2, 0] * u + pose[2, 1] * v + pose[2, 2]
    px, py, pz = pose[0, 3] + t * dx, pose[1, 3] + t * dy, pose[2, 3] + t * dz
    lx, ly, lz = inward(solid, k, px - solid[k, CENTER], py - solid[k, CENTER + 1], pz - solid[k, CENTER + 2])
    nx, ny, nz = _normal(solid, k, face, lx, ly, lz)
    facing = dx * nx + dy * ny + dz * nz
    facing = min(facing, -1e-3) if facing < 0 else max(facing, 1e-3)
    # a pixel further along a row or column, the ray meets the face's plane this much further on (per focal length)
    a = (pose[0, 0] * nx + pose[1, 0] * ny + pose[2, 0] * nz) / facing
    b = (pose[0, 1] * nx + pose[1, 1] * ny + pose[2, 1] * nz) / facing
    s, r = t / lens[0], t / lens[1]
    x, y, z = inward(solid, k, s * (pose[0, 0] - a * dx), s * (pose[1, 0] - a * dy), s * (pose[2, 0] - a * dz))
    ux, vx = _on_face(axis, x, y, z)
    x, y, z = inward(solid, k, r * (pose[0, 1] - b * dx), r * (pose[1, 1] - b * dy), r * (pose[2, 1] - b * dz))
    uy, vy = _on_face(axis, x, y, z)
    along, across = _on_face(axis, lx, ly, lz)
    su, sv = faces[face, SU], faces[face, SV]
    blue, green, red = _sampled(
        texel, int(faces[face, TEXTURE]), start, faces[face, U0] + su * along, faces[face, V0] + sv * across,
        su * ux, sv * vx, su * uy, sv * vy,
    )  # fmt: skip
    blue, green, red = (
        faces[face, TINT] * blue * blue, faces[face, TINT + 1] * green * green, faces[face, TINT + 2] * red * red,
    )  # fmt: skip
    sky, one, two = _arriving(
        solid, faces, maps, lamp, ambient, movers, face, axis, along, across, px, py, pz, nx, ny, nz
    )  # fmt: skip
    shine, glow = 0.0, faces[face, GLOW]
    if faces[face, GLOSS] > 0:
        shine = faces[face, GLOSS] * min(8 * one, 3.0) * _highlight(lamp, px, py, pz, nx, ny, nz, dx, dy, dz)
    out[0] = blue * (sky * lit[0, 0] + one * lit[1, 0] + two * lit[2, 0] + glow) + shine * lit[1, 0]
    out[1] = green * (sky * lit[0, 1] + one * lit[1, 1] + two * lit[2, 1] + glow) + shine * lit[1, 1]
    out[2] = red * (sky * lit[0, 2] + one * lit[1, 2] + two * lit[2, 2] + glow) + shine * lit[1, 2]
    out[3], out[4], out[5] = blue, green, red
    out[6], out[7], out[8] = nx, ny, nz


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _around(face: Any, row: int, column: int, some: Any) -> int:
    """Put the solids that the pixel and its eight neighbours see into `some`; how many."""
    count = 0
    for y in range(max(row - 1, 0), min(row + 2, face.shape[0])):
        for x in range(max(column - 1, 0), min(column + 2, face.shape[1])):
            k = face[y, x] // 6
            known = False
            for i in range(count):
                known = known or some[i] == k
            if not known:
                some[count] = k
                count += 1
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _seen_at(face: Any, on: int, row: int, column: int, x: float, y: float) -> Any:
    """(row, column) of the pixel among nine that sees a face and is nearest to a place; row -1 where none does."""
    best, best_row, best_column = 1e9, -1, -1
    for j in range(max(row - 1, 0), min(row + 2, face.shape[0])):
        for i in range(max(column - 1, 0), min(column + 2, face.shape[1])):
            away = (i - x) ** 2 + (j - y) ** 2
            if face[j, i] == on and away < best:
                best, best_row, best_column = away, j, i
    return best_row, best_column


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _borders(face: Any, row: int, column: int) -> bool:
    """Whether one of the four neighbours sees another face."""
    here = face[row, column]
    return (
        (column > 0 and face[row, column - 1] != here)
        or (column + 1 < face.shape[1] and face[row, column + 1] != here)
        or (row > 0 and face[row - 1, column] != here)
        or (row + 1 < face.shape[0] and face[row + 1, column] != here)
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shade(
    model: Any,
    movers: int,
    lit: Any,
    pose: Any,
    lens: Any,
    depth: Any,
    face: Any,
    light: Any,
    albedo: Any,
    normals: Any,
) -> None:
    """Fill light, albedo (H x W x 3, B, G, R, linear) and normals (H x W x 3, world) of what `cover` found.

    `lit`: 3 x 3, the colours of ambient light and both lamps.
    """
    solid, faces, texel, start, maps, lamp, ambient = model
    out = np.empty(9)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            _color(
                solid, faces, texel, start, maps, lamp, ambient, lit, movers, face[row, column], depth[row, column],
                pose, lens, column, row, out,
            )  # fmt: skip
            for c in range(3):
                light[row, column, c], albedo[row, column, c], normals[row, column, c] = out[c], out[3 + c], out[6 + c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def soften(
    model: Any, movers: int, lit: Any, pose: Any, lens: Any, depth: Any, face: Any, sharp: Any, light: Any
) -> None:
    """Make the light of each pixel that borders on another face the mean of four rays; `sharp`: what `shade` gave.

    A ray has the colour of the nearest of the nine pixels around that sees what it meets, where there is one.
    """
    solid, faces, texel, start, maps, lamp, ambient = model
    some, out = np.empty(9, np.int64), np.empty(9)
    columns, rows = np.array([0.125, -0.375, 0.375, -0.125]), np.array([-0.375, -0.125, 0.125, 0.375])
    o = (pose[0, 3], pose[1, 3], pose[2, 3])
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if not _borders(face, row, column):
                continue
            count = _around(face, row, column, some)
            blue, green, red = 0.0, 0.0, 0.0
            for i in range(4):  # a turned square: four different columns and rows
                x, y = column + columns[i], row + rows[i]
                u, v = (x - lens[2]) / lens[0], (y - lens[3]) / lens[1]
                d = (
                    pose[0, 0] * u + pose[0, 1] * v + pose[0, 2], pose[1, 0] * u + pose[1, 1] * v + pose[1, 2],
                    pose[2, 0] * u + pose[2, 1] * v + pose[2, 2],
                )  # fmt: skip
                nearest, on = FAR_M, face[row, column]
                for j in range(count):
                    found_m, found = hit(solid, some[j], o, d)
                    if found_m < nearest:
                        nearest, on = found_m, found
                from_row, from_column = _seen_at(face, on, row, column, x, y)
                if from_row >= 0:
                    for c in range(3):
                        out[c] = sharp[from_row, from_column, c]
                else:
                    _color(
                        solid, faces, texel, start, maps, lamp, ambient, lit, movers, on, nearest, pose, lens, x, y, out
                    )  # fmt: skip
                blue, green, red = blue + 0.25 * out[0], green + 0.25 * out[1], red + 0.25 * out[2]
            light[row, column, 0], light[row, column, 1], light[row, column, 2] = blue, green, red
