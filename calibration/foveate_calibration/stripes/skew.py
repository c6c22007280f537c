"""How lopsided the light across a stripe is; compiled by numba.

Where an edge cuts a stripe lengthwise (half of it is in shadow, or on another surface) its centre is that of the rest,
up to a third of its width off. What tells is the third derivative of the smoothed row, which a whole stripe lacks.
"""

from __future__ import annotations

import math
from typing import Any

import numba


@numba.njit(cache=True, nogil=True)
def derivatives(image: Any, row: Any, column: Any, sigma_px: Any, out: Any) -> None:
    """Write the second and the third derivative (N x 2, times sigma^2 and sigma^3) of rows of an image (H x W) after a
    Gaussian of `sigma_px` (N), at columns (N, fractions of a pixel); the image's edge is repeated."""
    width = image.shape[1]
    for i in range(row.shape[0]):
        line = image[row[i]]
        reach = math.ceil(4.0 * sigma_px[i])
        middle = math.floor(column[i] + 0.5)
        second, third = 0.0, 0.0
        for x in range(middle - reach, middle + reach + 1):
            u = (x - column[i]) / sigma_px[i]
            value = math.exp(-0.5 * u * u) * line[min(max(x, 0), width - 1)]
            second += (u * u - 1.0) * value
            third += (u * u - 3.0) * u * value
        out[i, 0], out[i, 1] = second, third
