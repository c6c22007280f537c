"""Grey images and depth at four resolutions."""

from __future__ import annotations

from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

LEVELS = 4
MIDDLE = np.float32(128.0)  # what an evened image is about
_EVEN_PX = 31  # of each level
_NEAREST_M, _FARTHEST_M = 0.1, 40.0
_AGREE = 0.05  # of the depth: neighbours that differ by more are of two surfaces, and a hole between them stays one


def gray_pyramid(gray: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """The image (H x W) and three coarser ones, each smoothed and every second pixel of the one before."""
    made = [np.ascontiguousarray(gray)]
    for _ in range(LEVELS - 1):
        made.append(np.asarray(cv2.pyrDown(made[-1])))
    return tuple(made)


def evened(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without its slow changes, about MIDDLE: what lamps and exposure change goes out of it."""
    mean = cv2.blur(gray, (_EVEN_PX, _EVEN_PX))
    return np.asarray(cv2.addWeighted(gray, 1.0, mean, -1.0, float(MIDDLE)))


def depth_pyramid(depth_m: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Depth (H x W, metres; 0, NaN, infinite or out of 0.1 to 40 m = a hole, made 0) and three coarser images.

    A pixel has the depth of the pixel below it; only where that is a hole, the mean of what lies around it, if that is
    one surface.
    """
    made = [_cleaned(np.ascontiguousarray(depth_m, np.float32))]
    for _ in range(LEVELS - 1):
        made.append(_halved(made[-1]))
    return tuple(made)


@numba.njit(cache=True, nogil=True)
def _cleaned(depth: Any) -> Any:
    out = np.zeros_like(depth)
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            if _NEAREST_M <= depth[y, x] <= _FARTHEST_M:  # false for NaN
                out[y, x] = depth[y, x]
    return out


@numba.njit(cache=True, nogil=True)
def _halved(depth: Any) -> Any:
    height, width = (depth.shape[0] + 1) // 2, (depth.shape[1] + 1) // 2
    out = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            middle = depth[2 * y, 2 * x]
            out[y, x] = middle if middle > 0 else _around(depth, 2 * x, 2 * y)
    return out


@numba.njit(cache=True, nogil=True)
def _around(depth: Any, x: int, y: int) -> float:
    total, count, low, high = 0.0, 0, np.inf, 0.0
    for v in range(max(y - 1, 0), min(y + 2, depth.shape[0])):
        for u in range(max(x - 1, 0), min(x + 2, depth.shape[1])):
            d = depth[v, u]
            if d > 0:
                total, count = total + d, count + 1
                low, high = min(low, d), max(high, d)
    return total / count if count > 0 and high - low <= _AGREE * low else 0.0
