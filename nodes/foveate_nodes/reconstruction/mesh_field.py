"""The signed distance to a cloud at many places: what is summed over the points around each."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]


@njit(cache=True, nogil=True)
def sums(
    corner: NDArray[np.int64], place: Array, key: NDArray[np.int64], columns: NDArray[np.int64], along: int,
    point: Array, normal: Array, trust: Array, sigma_m: float, total: Array, weight: Array,
) -> None:  # fmt: skip
    """Add w n (x - p) to `total` (C,) and w to `weight` (C,), over the points in the voxels around each corner.

    `corner` (C,) and `key` (V,) are voxel numbers, `key` sorted; `columns` what to add to a corner's number for the
    first voxel of each column around it, and `along` how many follow; w = trust exp(-(x - p)^2 / 2 sigma^2).
    """
    for i in range(len(corner)):
        for column in columns:
            first = corner[i] + column
            at = np.searchsorted(key, first)
            while at < len(key) and key[at] < first + along:
                x = place[i, 0] - point[at, 0]
                y = place[i, 1] - point[at, 1]
                z = place[i, 2] - point[at, 2]
                w = trust[at] * np.exp(-0.5 * (x * x + y * y + z * z) / (sigma_m * sigma_m))
                total[i] += w * (x * normal[at, 0] + y * normal[at, 1] + z * normal[at, 2])
                weight[i] += w
                at += 1
