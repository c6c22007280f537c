"""Draws a simulated street as a pinhole sees it, in compiled loops: grey levels and a class for every pixel.

Each pixel is four rays. What is finer than a ray's footprint fades into its mean, so that nothing flickers where
nothing moves: an event camera would see it.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from foveate_drivers.world.street_layout import (
    BARS,
    BOARDS,
    BODY,
    BUILDING,
    BUSH,
    CABIN,
    HOUSE,
    LENGTH_M,
    PLATE,
    POLE,
    ROAD,
    SIDEWALK,
    SKY,
    TREE,
    VEGETATION,
    WALKER,
)  # fmt: skip

_BACK_M = 25.0  # what is farther behind the camera is drawn ahead of it
_NEAR_M, _FAR_M, _NOTHING_M = 0.4, 140.0, 1e9
_jit = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"})


@_jit
def _hash(a: int, b: int, seed: int) -> float:
    """0 to 1, of two whole numbers."""
    h = np.uint32(a * 374761393 + b * 668265263 + seed * 974634321)
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1274126177))
    return np.float64(h ^ (h >> np.uint32(16))) / 4294967296.0


@_jit
def _noise(x: float, y: float, seed: int) -> float:
    """Smooth, 0 to 1, a grain a unit."""
    left, top = math.floor(x), math.floor(y)
    i, j, u, v = int(left), int(top), x - left, y - top
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    above = _hash(i, j, seed) * (1 - u) + _hash(i + 1, j, seed) * u
    below = _hash(i, j + 1, seed) * (1 - u) + _hash(i + 1, j + 1, seed) * u
    return above * (1 - v) + below * v


@_jit
def _fade(grain: float, footprint: float) -> float:
    """How much of a pattern of this grain is left (both in metres)."""
    return min(max(1.5 - footprint / grain, 0.0), 1.0)


@_jit
def _line(distance: float, half: float, footprint: float) -> float:
    """The share that a line of this half width has of a ray's footprint, this far from its middle."""
    low, high = max(distance - footprint / 2, -half), min(distance + footprint / 2, half)
    return max(high - low, 0.0) / max(footprint, 1e-6)


@_jit
def _ground(x: float, z: float, wide: float, deep: float, street: Any) -> tuple[float, int]:
    """Grey and class of the ground; `wide`, `deep`: the ray's footprint across and along the street."""
    road, walk, crossing = street[0], street[1], street[2]
    off, most = abs(x), max(wide, deep)
    if off < road:
        grey = 78 + 26 * (_noise(0.35 * x, 0.2 * z, 3) - 0.5) + 34 * (_noise(7 * x, 7 * z, 5) - 0.5) * _fade(0.14, most)
        dash = 1.0 if z % 9.0 < 4.0 else 0.0
        dash = dash * _fade(9.0, deep) + 0.45 * (1 - _fade(9.0, deep))
        paint = _line(x, 0.07, wide) * dash + _line(off - road + 0.35, 0.06, wide)
        if z % crossing < 3.2:
            striped = 1.0 if x % 1.0 < 0.5 else 0.0
            paint = max(paint, striped * _fade(1.0, wide) + 0.5 * (1 - _fade(1.0, wide)))
        return grey + (205 - grey) * min(paint, 1.0), ROAD
    if off < road + walk:
        if off < road + 0.15:
            return 165.0, SIDEWALK
        joint = _fade(0.5, most) * max(_line((x % 0.6) - 0.3, 0.02, wide), _line((z % 0.6) - 0.3, 0.02, deep))
        return 128 + 30 * (_noise(0.8 * x, 0.8 * z, 7) - 0.5) - 55 * min(joint, 1.0), SIDEWALK
    grain = 0.6 * (_noise(9 * x, 9 * z, 11) - 0.5) * _fade(0.11, most) + (_noise(1.3 * x, 1.3 * z, 13) - 0.5) * _fade(
        0.8, most
    )
    return 82 + 60 * grain, VEGETATION


@_jit
def _sky(right: float, down: float, forward: float, street: Any) -> tuple[float, int]:
    """Clouds, and far houses and trees along the horizon."""
    azimuth, up = math.atan2(right, forward), -down / math.hypot(right, forward)
    skyline = (
        0.015
        + 0.05 * _noise(14 * azimuth, 0.0, 17)
        + 0.02 * (1.0 if _hash(math.floor(40 * azimuth), 3, 19) > 0.6 else 0.0)
    )
    if up < skyline:
        green = _noise(9 * azimuth, 5.0, 23) > 0.62
        return (88.0 if green else 118.0) + 25 * _noise(60 * azimuth, 60 * up, 29), VEGETATION if green else BUILDING
    return 190 + 45 * _noise(3 * azimuth / (up + 0.3), 2 / (up + 0.2), 31), SKY


@_jit
def _solid(paint: int, seed: int, shade: float, face: int, along: float, high: float, size: Any, mark: float) -> float:
    """Grey of a box: `along` its face from the middle and `high` above its foot, metres; face 0 side, 1 top, 2 end."""
    light = 1.0 if face == 0 else (1.15 if face == 1 else 0.8)
    grey = shade
    if paint == HOUSE:
        across, floor = along % 2.8, high % 3.1
        inside = 0.8 < across < 2.0 and 0.9 < floor < 2.5
        window = 35 + 150 * _hash(math.floor(along / 2.8), math.floor(high / 3.1), seed) ** 3
        share = _fade(2.0, mark)
        grey = shade + ((window if inside else shade) - shade) * share
        grey += 34 * (_noise(1.1 * along, 3.3 * high, seed) - 0.5) * _fade(0.6, mark)
    elif paint == BARS:
        bar = 1.0 if along % 0.3 < 0.12 or high > size[1] - 0.15 else 0.0
        grey = shade * (0.35 + 0.65 * (bar * _fade(0.4, mark) + 0.4 * (1 - _fade(0.4, mark))))
    elif paint == BODY:
        half = (size[2] if face == 0 else size[0]) / 2
        if face == 0 and high < 0.45 and abs(abs(along) - 0.62 * half) < 0.34:
            grey = 18.0
        elif face == 2 and 0.35 < high < 0.55 and abs(along) > 0.6 * half:
            grey = 225.0
        elif high < 0.15:
            grey = 0.5 * shade
    elif paint == CABIN:
        half = (size[2] if face == 0 else size[0]) / 2
        if face != 1 and 0.08 < high < size[1] - 0.1 and abs(along) < 0.9 * half and abs(along) > 0.03:
            grey = 30 + 40 * (high / size[1])
    else:
        grey = shade + 40 * (_noise(2.5 * along, 5 * high, seed) - 0.5) * _fade(0.3, mark)
    return grey * light


@_jit
def _picture(
    paint: int, seed: int, shade: float, label: int, u: float, v: float, step: float, mark: float
) -> tuple[float, int]:
    """Grey and class of a board at u (-1 to 1 across) and v (0 foot to 1 top); -1: nothing there. `step`: of a walk."""
    if paint in (TREE, BUSH):
        middle, half = (0.66, 0.34) if paint == TREE else (0.45, 0.55)
        leaf = _noise(3.3 * u + 7, 5 * v, seed) + 0.5 * _noise(9 * u, 13 * v, seed + 1)
        if u * u + ((v - middle) / half) ** 2 < 0.55 + 0.45 * leaf:
            return shade * (0.55 + 0.9 * _noise(7 * u, 11 * v, seed + 2) * _fade(0.4, mark) + 0.2 * v), label
        return (42.0, label) if paint == TREE and abs(u) < 0.07 and v < 0.5 else (0.0, -1)
    if paint == WALKER:
        if (u / 0.26) ** 2 + ((v - 0.92) / 0.075) ** 2 < 1:
            return 150.0, label
        if 0.48 < v < 0.84 and abs(u) < 0.42 + 0.25 * (v - 0.48):
            return shade, label
        swing = 0.42 * math.sin(step) * (0.5 - v) / 0.5
        if v <= 0.48 and (abs(u - swing) < 0.2 or abs(u + swing) < 0.2):
            return 25 + 0.35 * (255 - shade), label
        if 0.5 < v < 0.8 and abs(abs(u) - 0.55 - 0.12 * math.sin(step)) < 0.1:
            return 0.8 * shade, label
        return 0.0, -1
    if paint == PLATE:
        if v < 0.72:
            return (95.0, POLE) if abs(u) < 0.09 else (0.0, -1)
        high = (v - 0.86) / 0.14
        r = max(abs(u), abs(high)) if seed % 2 else math.hypot(u, high)
        return (0.0, -1) if r > 1 else (shade if r < 0.75 else 255 - shade, label)
    return shade, label


@_jit
def _bounds(
    item: Any, x: float, z: float, eye: Any, turn: Any, focal: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """Columns and rows (ends excluded) that an item may cover; none where it is behind."""
    reach = item.width / 2 if item.paint >= BOARDS else math.hypot(item.width, item.depth) / 2
    left, right, top, bottom, near = width, 0, height, 0, 0
    for corner in range(8):
        dx = x + (reach if corner & 1 else -reach) - eye[0]
        dy = -(item.foot + (item.height if corner & 2 else 0.0)) - eye[1]
        dz = z + (reach if corner & 4 else -reach)
        cz = turn[0, 2] * dx + turn[1, 2] * dy + turn[2, 2] * dz
        if cz < _NEAR_M:
            near += 1
            continue
        u = (turn[0, 0] * dx + turn[1, 0] * dy + turn[2, 0] * dz) / cz * focal + (width - 1) / 2
        v = (turn[0, 1] * dx + turn[1, 1] * dy + turn[2, 1] * dz) / cz * focal + (height - 1) / 2
        left, right = min(left, int(u)), max(right, int(u) + 2)
        top, bottom = min(top, int(v)), max(bottom, int(v) + 2)
    if near == 8:
        return 0, 0, 0, 0
    if near:  # it goes past the camera: up to the border on its side
        side = turn[0, 0] * (x - eye[0]) + turn[2, 0] * z
        left, right = (0, right if side < -reach else width) if side < reach else (left, width)
        top, bottom = 0, height
    return max(left, 0), min(right, width), max(top, 0), min(bottom, height)


@_jit
def _box_hit(
    item: Any, dx: float, dz: float, cosine: float, sine: float, eye_up: float, ray: Any
) -> tuple[float, int, float, float]:
    """(depth, face, along, high) where a ray meets a box; depth 0: nowhere. dx, dz: from the eye to its middle."""
    ox, oz = -(cosine * dx - sine * dz), -(sine * dx + cosine * dz)
    rx, rz = cosine * ray[0] - sine * ray[2], sine * ray[0] + cosine * ray[2]
    oy, ry = eye_up - item.foot, -ray[1]
    near, far, face = -1e9, 1e9, 0
    for axis in range(3):
        o, r = (ox, rx) if axis == 0 else ((oy, ry) if axis == 1 else (oz, rz))
        low = 0.0 if axis == 1 else (-item.width / 2 if axis == 0 else -item.depth / 2)
        high = item.height if axis == 1 else -low
        if abs(r) < 1e-9:
            if o < low or o > high:
                return 0.0, 0, 0.0, 0.0
            continue
        a, b = (low - o) / r, (high - o) / r
        if a > b:
            a, b = b, a
        if a > near:
            near, face = a, axis
        far = min(far, b)
    if near > far or near < _NEAR_M:
        return 0.0, 0, 0.0, 0.0
    along = oz + near * rz if face == 0 else ox + near * rx
    return near, face, along, oy + near * ry


@_jit
def _ahead(item: Any, t_s: float, eye: Any) -> float:
    """Metres along the street from the eye to an item's middle."""
    return (item.z + item.speed * t_s - eye[2] + _BACK_M) % LENGTH_M - _BACK_M


@_jit
def _draw_item(
    item: Any, z: float, t_s: float, eye: Any, turn: Any, focal: float, depth: Any, grey: Any, label: Any
) -> None:
    """One item over what is drawn, where it is nearer."""
    height, width = depth.shape
    phase = (t_s * item.sway_hz + item.seed * 0.61803) % 1.0
    x = item.x + item.sway * (4 * abs(phase - 0.5) - 1)
    left, right, top, bottom = _bounds(item, x, z, eye, turn, focal, width, height)
    dx, eye_up = x - eye[0], -eye[1]
    cosine, sine = math.cos(item.yaw), math.sin(item.yaw)
    away = max(math.hypot(dx, z), 1e-3)
    step = 6.0 * t_s + item.seed
    size = (item.width, item.height, item.depth)
    for row in range(top, bottom):
        for column in range(left, right):
            a, b = (column - (width - 1) / 2) / focal, (row - (height - 1) / 2) / focal
            ray = (turn[0, 0] * a + turn[0, 1] * b + turn[0, 2], turn[1, 0] * a + turn[1, 1] * b + turn[1, 2],
                   turn[2, 0] * a + turn[2, 1] * b + turn[2, 2])  # fmt: skip
            if item.paint < BOARDS:
                at, face, along, high = _box_hit(item, dx, z, cosine, sine, eye_up, ray)
                if 0 < at < depth[row, column]:
                    depth[row, column] = at
                    grey[row, column] = _solid(item.paint, item.seed, item.shade, face, along, high, size, at / focal)
                    label[row, column] = item.label
                continue
            toward = (ray[0] * dx + ray[2] * z) / away
            at = away / toward if toward > 1e-6 else 0.0
            if not _NEAR_M < at < depth[row, column]:
                continue
            u = (at * (ray[0] * z - ray[2] * dx) / away) / (item.width / 2)
            v = (eye_up - at * ray[1] - item.foot) / item.height
            if abs(u) > 1 or v < 0 or v > 1:
                continue
            value, kind = _picture(item.paint, item.seed, item.shade, item.label, u, v, step, at / focal)
            if kind >= 0:
                depth[row, column], grey[row, column], label[row, column] = at, value, kind


@_jit
def draw(
    items: Any, street: Any, eye: Any, turn: Any, t_s: float, focal: float, depth: Any, grey: Any, label: Any
) -> None:
    """Fill depth (metres along the optical axis), grey and label (all H x W, one ray each).

    `street`: half the road, sidewalk, crossings' distance; `eye`: (3,) world; `turn`: 3 x 3 world_from_camera.
    """
    height, width = depth.shape
    depth[:] = _NOTHING_M
    ahead = np.empty(len(items))
    for i in range(len(items)):
        ahead[i] = _ahead(items[i], t_s, eye)
    for i in np.argsort(ahead):  # what is near first: what it hides is not painted
        if ahead[i] < _FAR_M:
            _draw_item(items[i], ahead[i], t_s, eye, turn, focal, depth, grey, label)
    for row in range(height):
        for column in range(width):
            a, b = (column - (width - 1) / 2) / focal, (row - (height - 1) / 2) / focal
            down = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2]
            at = -eye[1] / down if down > 1e-6 else _NOTHING_M
            if depth[row, column] < min(at, _NOTHING_M):
                continue
            right = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2]
            forward = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2]
            if at < _FAR_M:
                wide, deep = at / focal, at * at / (focal * -eye[1])
                value, kind = _ground(eye[0] + at * right, eye[2] + at * forward, wide, deep, street)
                depth[row, column] = at
            else:
                value, kind = _sky(right, down, forward, street)
            grey[row, column], label[row, column] = value, kind
