"""Which face of a room each pixel sees, and how far away, compiled by numba: the inside of a box, boxes, spheres.

Each solid is drawn into the rectangle of the image that it can reach; every pixel keeps the nearest one, by an exact
hit of the ray through its middle. Rays have length 1 along the camera's z, so that a hit's parameter is its depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

SHELL, BOX, SPHERE = range(3)  # the shell is seen from within
KIND, CENTER, TURN, HALF, REACH = 0, 1, 4, 13, 16  # columns of a solid; TURN: rows of world-from-solid
COLUMNS = 17
TEXTURE, U0, V0, SU, SV, TINT, GLOSS, GLOW, RETURN, LIGHTMAP, CELLS_U, CELLS_V = 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13
FACE_COLUMNS = 14  # of a face: a solid has six, numbered 2 * axis + (1 on the positive side)
FAR_M = 1e6
NEAR_M = 0.02


class Model(NamedTuple):
    """A room as numba sees it."""

    solid: NDArray[np.float64]  # N x COLUMNS; the first is the shell, the last `movers` have no light map
    face: NDArray[np.float64]  # 6 N x FACE_COLUMNS
    texel: NDArray[np.uint8]  # K x texels of all levels x 3, B, G, R: the square root of the albedo
    start: NDArray[np.int64]  # where each level begins in a texture
    light: NDArray[np.float32]  # cells x 3: ambient light and that of two lamps, arriving at a cell of a face
    lamp: NDArray[np.float64]  # 2 x 4: place and power
    ambient: float  # what reaches a surface without a light map


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def inward(solid: Any, k: int, x: float, y: float, z: float) -> Any:
    """A direction of the world in a solid's axes."""
    return (
        solid[k, TURN] * x + solid[k, TURN + 3] * y + solid[k, TURN + 6] * z,
        solid[k, TURN + 1] * x + solid[k, TURN + 4] * y + solid[k, TURN + 7] * z,
        solid[k, TURN + 2] * x + solid[k, TURN + 5] * y + solid[k, TURN + 8] * z,
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _slab(p: float, q: float, half: float) -> Any:
    """Where a ray (place p, speed q) enters and leaves -half .. half."""
    if abs(q) < 1e-12:
        return (-FAR_M, FAR_M) if abs(p) <= half else (FAR_M, -FAR_M)
    inverse = 1.0 / q
    middle, span = -p * inverse, half * abs(inverse)
    return middle - span, middle + span


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def hit_box(px: float, py: float, pz: float, qx: float, qy: float, qz: float, hx: float, hy: float, hz: float) -> Any:
    """(near, far, axis of near, axis of far) of a ray in a box's axes; near > far where it passes by."""
    near, far = _slab(px, qx, hx)
    near_y, far_y = _slab(py, qy, hy)
    near_z, far_z = _slab(pz, qz, hz)
    first, last = 0, 0
    if near_y > near:
        near, first = near_y, 1
    if near_z > near:
        near, first = near_z, 2
    if far_y < far:
        far, last = far_y, 1
    if far_z < far:
        far, last = far_z, 2
    return near, far, first, last


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def hit_sphere(px: float, py: float, pz: float, qx: float, qy: float, qz: float, radius: float) -> float:
    """Where a ray enters a sphere around the origin; FAR_M where it does not, or begins inside."""
    length2 = qx * qx + qy * qy + qz * qz
    along = (px * qx + py * qy + pz * qz) / length2
    inside = along * along - (px * px + py * py + pz * pz - radius * radius) / length2
    if inside <= 0:
        return FAR_M
    t = -along - np.sqrt(inside)
    return t if t > 0 else FAR_M


@numba.njit(cache=True, nogil=True, error_model="numpy")
def hit(solid: Any, k: int, o: Any, d: Any) -> Any:
    """(distance in lengths of d, face) of one solid on a ray; (FAR_M, -1) where it is not on it."""
    px, py, pz = inward(solid, k, o[0] - solid[k, CENTER], o[1] - solid[k, CENTER + 1], o[2] - solid[k, CENTER + 2])
    qx, qy, qz = inward(solid, k, d[0], d[1], d[2])
    kind = int(solid[k, KIND])
    if kind == SPHERE:
        t = hit_sphere(px, py, pz, qx, qy, qz, solid[k, HALF])
        return t, (6 * k if t < FAR_M else -1)
    near, far, first, last = hit_box(px, py, pz, qx, qy, qz, solid[k, HALF], solid[k, HALF + 1], solid[k, HALF + 2])
    if kind == SHELL:
        ahead = qx if last == 0 else (qy if last == 1 else qz)
        return far, 6 * k + 2 * last + (1 if ahead > 0 else 0)
    if near > far or near <= 0:
        return FAR_M, -1
    ahead = qx if first == 0 else (qy if first == 1 else qz)
    return near, 6 * k + 2 * first + (0 if ahead > 0 else 1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _corners(solid: Any, k: int, pose: Any, out: Any) -> None:
    """Eight corners (8 x 3, camera frame) of a box that holds the solid; a sphere's is along the camera's axes."""
    x, y, z = solid[k, CENTER] - pose[0, 3], solid[k, CENTER + 1] - pose[1, 3], solid[k, CENTER + 2] - pose[2, 3]
    for a in range(3):
        place = pose[0, a] * x + pose[1, a] * y + pose[2, a] * z
        for corner in range(8):
            out[corner, a] = place
        for b in range(3):
            if int(solid[k, KIND]) == SPHERE:
                step = solid[k, HALF] if a == b else 0.0
            else:
                turned = 0.0
                for c in range(3):
                    turned += pose[c, a] * solid[k, TURN + 3 * c + b]
                step = turned * solid[k, HALF + b]
            for corner in range(8):
                out[corner, a] += step if (corner >> b) & 1 else -step


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _window(corners: Any, lens: Any, width: int, height: int) -> Any:
    """(first column, last column, first row, last row, least depth) that a box may cover; empty where it is behind."""
    left, right, top, bottom, near = 1e9, -1e9, 1e9, -1e9, 1e9
    for i in range(8):
        near = min(near, corners[i, 2])
        for b in range(3):
            j = i | (1 << b)
            if j == i:
                continue
            for end in range(2):  # both ends of an edge, cut off at NEAR_M before the camera
                p, q = (i, j) if end == 0 else (j, i)
                x, y, z = corners[p, 0], corners[p, 1], corners[p, 2]
                if z < NEAR_M:
                    if corners[q, 2] <= NEAR_M:
                        continue
                    share = (NEAR_M - z) / (corners[q, 2] - z)
                    x, y, z = x + share * (corners[q, 0] - x), y + share * (corners[q, 1] - y), NEAR_M
                u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
                left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    if right < left:
        return 0, -1, 0, -1, near
    return (
        int(max(np.floor(left), 0.0)), int(min(np.ceil(right), width - 1.0)),
        int(max(np.floor(top), 0.0)), int(min(np.ceil(bottom), height - 1.0)), max(near, 0.0),
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def cover(solid: Any, order: Any, pose: Any, lens: Any, depth: Any, face: Any) -> None:
    """Fill depth (H x W, metres along z) and face (H x W); `order`: which solids, the nearest best first; `pose`:
    world-from-camera; `lens`: fx, fy, cx, cy."""
    height, width = depth.shape
    corners = np.empty((8, 3))
    m = np.empty((3, 3))
    o = (pose[0, 3], pose[1, 3], pose[2, 3])
    depth[:] = FAR_M
    face[:] = -1
    for k in order:
        kind = int(solid[k, KIND])
        first, last, top, bottom, near_m = 0, width - 1, 0, height - 1, 0.0
        if kind != SHELL:
            _corners(solid, k, pose, corners)
            first, last, top, bottom, near_m = _window(corners, lens, width, height)
        px, py, pz = inward(solid, k, o[0] - solid[k, CENTER], o[1] - solid[k, CENTER + 1], o[2] - solid[k, CENTER + 2])
        for a in range(3):
            m[0, a], m[1, a], m[2, a] = inward(solid, k, pose[0, a], pose[1, a], pose[2, a])
        hx, hy, hz = solid[k, HALF], solid[k, HALF + 1], solid[k, HALF + 2]
        for row in range(top, bottom + 1):
            v = (row - lens[3]) / lens[1]
            ax, ay, az = m[0, 1] * v + m[0, 2], m[1, 1] * v + m[1, 2], m[2, 1] * v + m[2, 2]
            for column in range(first, last + 1):
                if near_m >= depth[row, column]:
                    continue
                u = (column - lens[2]) / lens[0]
                qx, qy, qz = m[0, 0] * u + ax, m[1, 0] * u + ay, m[2, 0] * u + az
                if kind == SPHERE:
                    t = hit_sphere(px, py, pz, qx, qy, qz, hx)
                    if t < depth[row, column]:
                        depth[row, column], face[row, column] = t, 6 * k
                    continue
                near, far, entry, leave = hit_box(px, py, pz, qx, qy, qz, hx, hy, hz)
                if kind == SHELL:
                    ahead = qx if leave == 0 else (qy if leave == 1 else qz)
                    depth[row, column], face[row, column] = far, 6 * k + 2 * leave + (1 if ahead > 0 else 0)
                elif 0 < near <= far and near < depth[row, column]:
                    ahead = qx if entry == 0 else (qy if entry == 1 else qz)
                    depth[row, column], face[row, column] = near, 6 * k + 2 * entry + (0 if ahead > 0 else 1)
