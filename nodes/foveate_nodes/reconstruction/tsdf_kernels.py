"""The loops of the TSDF over pixels and voxels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
_HALF = 2**20  # block numbers along an axis are within this


@njit(cache=True, nogil=True)
def touched(
    depth: NDArray[np.float32], inverse: Array, world_from_camera: Array, along_m: Array, side_m: float
) -> NDArray[np.int64]:
    """Keys of the blocks of `side_m` that the points of an image (H x W, metres, 0 = none) lie in, moved `along_m` (K,)
    along their rays; of each run of equal ones the first. `inverse`: of the camera's matrix. [-1]: too far away."""
    height, width = depth.shape
    found = np.empty(len(along_m) * height * width, np.int64)
    count = 0
    for k in range(len(along_m)):
        last = np.int64(-1)
        for row in range(height):
            for column in range(width):
                z = depth[row, column]
                if not z > 0:
                    continue
                x = inverse[0, 0] * column + inverse[0, 1] * row + inverse[0, 2]
                y = inverse[1, 0] * column + inverse[1, 1] * row + inverse[1, 2]
                reach = z + along_m[k] / np.sqrt(x * x + y * y + 1.0)
                key = np.int64(0)
                for axis in range(3):
                    turn = world_from_camera[axis]
                    at = np.floor(((turn[0] * x + turn[1] * y + turn[2]) * reach + turn[3]) / side_m)
                    if not (-_HALF < at < _HALF):
                        return np.full(1, -1, np.int64)
                    key = key << 21 | (np.int64(at) + _HALF)
                if key != last:
                    found[count] = key
                    last = key
                    count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True)
def sampled(depth: NDArray[np.float32], x: float, y: float, step_m: float) -> float:
    """The depth at a place in an image, 0 = not known: between four pixels that differ by less than `step_m` linear in
    its inverse, else the nearest pixel's."""
    height, width = depth.shape
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        return 0.0
    column, row = int(np.rint(x)), int(np.rint(y))
    if column < 0 or row < 0 or column >= width or row >= height:
        return 0.0
    nearest = np.float64(depth[row, column])
    left, top = int(np.floor(x)), int(np.floor(y))
    if nearest <= 0 or left < 0 or top < 0 or left >= width - 1 or top >= height - 1:
        return nearest
    a, b = np.float64(depth[top, left]), np.float64(depth[top, left + 1])
    c, d = np.float64(depth[top + 1, left]), np.float64(depth[top + 1, left + 1])
    low, high = min(a, b, c, d), max(a, b, c, d)
    if low <= 0 or high - low >= step_m:
        return nearest
    u, v = x - left, y - top
    return 1.0 / ((1.0 / a * (1 - u) + 1.0 / b * u) * (1 - v) + (1.0 / c * (1 - u) + 1.0 / d * u) * v)


@njit(cache=True, nogil=True)
def fold(
    place: NDArray[np.float32], index: NDArray[np.int64], value: NDArray[np.float32], weight: NDArray[np.float32],
    depth: NDArray[np.float32], matrix: Array, camera_from_world: Array, truncation_m: float,
) -> None:  # fmt: skip
    """Take an image into the running means `value` and `weight` of the voxels `index` (V,) at `place` (V x 3, m)."""
    for k in range(len(index)):
        x, y, z = np.float64(place[k, 0]), np.float64(place[k, 1]), np.float64(place[k, 2])
        turn = camera_from_world
        ahead = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + turn[2, 3]
        if ahead <= 0:
            continue
        right = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z + turn[0, 3]
        down = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z + turn[1, 3]
        column = (matrix[0, 0] * right + matrix[0, 1] * down) / ahead + matrix[0, 2]
        row = (matrix[1, 0] * right + matrix[1, 1] * down) / ahead + matrix[1, 2]
        seen_m = sampled(depth, column, row, truncation_m)
        share = (seen_m - ahead) / truncation_m
        if seen_m <= 0 or share <= -1:
            continue
        at = index[k]
        value[at] = (value[at] * weight[at] + min(share, 1.0)) / (weight[at] + 1)
        weight[at] += 1


@njit(cache=True, nogil=True)
def tint(
    point: Array, camera_from_world: Array, matrix: Array, depth: NDArray[np.uint16], scale_m: float,
    image: NDArray[np.uint8], near_m: float, total: NDArray[np.float32], count: NDArray[np.int32],
) -> None:  # fmt: skip
    """Add to `total` (N x C) and `count` (N,) the colour (image: H x W x C) of each point (N x 3) that the camera sees:
    whose depth, in units of `scale_m`, is within `near_m` of what the image's has there."""
    height, width = depth.shape
    for k in range(len(point)):
        x, y, z = point[k, 0], point[k, 1], point[k, 2]
        turn = camera_from_world
        ahead = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + turn[2, 3]
        if ahead <= near_m:
            continue
        right = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z + turn[0, 3]
        down = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z + turn[1, 3]
        at_x = (matrix[0, 0] * right + matrix[0, 1] * down) / ahead + matrix[0, 2]
        at_y = (matrix[1, 0] * right + matrix[1, 1] * down) / ahead + matrix[1, 2]
        if not (-0.5 < at_x < width - 0.5 and -0.5 < at_y < height - 0.5):
            continue
        column, row = int(np.rint(at_x)), int(np.rint(at_y))
        if abs(depth[row, column] * scale_m - ahead) < near_m:
            for channel in range(image.shape[2]):
                total[k, channel] += image[row, column, channel]
            count[k] += 1
