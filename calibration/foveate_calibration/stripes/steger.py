"""Steger's detector of lines, evaluated where a line may be; compiled by numba.

With r the image smoothed by a Gaussian, H its Hessian and n the eigenvector of H's greatest eigenvalue lambda
(negative for a bright line), the line lies t = -(r_x n_x + r_y n_y) / lambda along n from a pixel, and a pixel holds a
point of it where neither |t n_x| nor |t n_y| exceeds half a pixel (Steger, "An unbiased detector of curvilinear
structures", PAMI 1998). Sums are taken in a fixed order, so that every processor gives the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

# Columns of what `lines` writes for each row.
X, Y, NORMAL_X, NORMAL_Y, RESPONSE, SECOND, LEVEL, CLIPPED, RIDGE = range(9)
_WITHIN = 0.55  # px: a point on the border of two pixels is 0.5001 from either by rounding, and not to be lost
_STEEPEST = 0.5  # least |n_x|: lines up to 60 degrees from upright


def taps(sigma_px: float) -> NDArray[np.float32]:
    """Weights (3 x (2 R + 1)) of a Gaussian's correlation and its first two derivatives, R = 4 sigma.

    They are exact for polynomials of second degree, which sampling alone would leave 1e-3 off for a sigma of 1.
    """
    radius = math.ceil(4 * sigma_px)
    k = np.arange(-radius, radius + 1, dtype=np.float64)
    smooth = np.exp(-0.5 * (k / sigma_px) ** 2)
    smooth /= smooth.sum()
    first = k * smooth
    first /= first @ k
    second = (k * k - smooth @ (k * k)) * smooth
    second /= (second @ (k * k)) / 2
    return np.stack([smooth, first, second]).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def lines(image: Any, columns: Any, weights: Any, half: int, window: int, least: float, out: Any) -> None:
    """Write a line's point for each row (H x 9, NaN = none) near the candidates `columns` (H x K, -1 = no more).

    `half`: how far beside a candidate the line may lie; `window`: half of the columns whose clipped pixels count;
    `least`: of the response, -lambda. Of several points the one of greatest response is kept, and the response of the
    best other one that is more than `2 half` away. A row without candidates is skipped; K = 0: every column is one.
    """
    height, width = image.shape
    radius = weights.shape[1] // 2
    every = columns.shape[1] == 0
    room = width if every else 2 * half + 1
    rows = np.empty((3, room + 2 * radius), np.float32)
    found = np.empty((6, room), np.float32)
    margin = half + 1
    edge = (5 * radius) // 8  # 2.5 sigma: nearer, a sloping line is off by more than 0.007 of its slope
    for y in range(height):
        out[y] = np.nan
        out[y, RESPONSE] = out[y, SECOND] = 0.0
        if y < edge or y >= height - edge:
            continue
        for k in range(1 if every else columns.shape[1]):
            begin, end = margin, width - margin
            if not every:
                if columns[y, k] < 0:
                    break
                begin, end = max(columns[y, k] - half, begin), min(columns[y, k] + half + 1, end)
            if begin < end:
                _derivatives(image, y, begin, end, weights, rows, found)
                _best(found, y, begin, end, least, 2.0 * half, out[y])
        if out[y, RESPONSE] > 0.0:
            _look(image, y, window, out[y])


@numba.njit(cache=True, nogil=True)
def _derivatives(image: Any, y: int, begin: int, end: int, weights: Any, rows: Any, found: Any) -> None:
    """r, r_x, r_y, r_xx, r_xy, r_yy (6 x columns) in a row from `begin` to `end`; the image's edge is repeated."""
    height, width = image.shape
    radius = weights.shape[1] // 2
    count = end - begin
    left, room = begin - radius, end - begin + 2 * radius
    rows[:, :room] = 0.0
    plain, slope, bend = rows[0], rows[1], rows[2]
    for k in range(-radius, radius + 1):
        line = image[min(max(y + k, 0), height - 1)]
        a, b, c = weights[0, k + radius], weights[1, k + radius], weights[2, k + radius]
        if left >= 0 and left + room <= width:
            part = line[left : left + room]
            for j in range(room):
                value = np.float32(part[j])
                plain[j] += a * value
                slope[j] += b * value
                bend[j] += c * value
        else:
            for j in range(room):
                value = np.float32(line[min(max(left + j, 0), width - 1)])
                plain[j] += a * value
                slope[j] += b * value
                bend[j] += c * value
    found[:, :count] = 0.0
    for k in range(2 * radius + 1):
        a, b, c = weights[0, k], weights[1, k], weights[2, k]
        for j in range(count):
            found[0, j] += a * plain[j + k]
            found[1, j] += b * plain[j + k]
            found[2, j] += a * slope[j + k]
            found[3, j] += c * plain[j + k]
            found[4, j] += b * slope[j + k]
            found[5, j] += a * bend[j + k]


@numba.njit(cache=True, nogil=True)
def _best(found: Any, y: int, begin: int, end: int, least: float, apart: float, best: Any) -> None:
    """Take over into `best` (9,) a line's point that responds more than what is there."""
    for j in range(end - begin):
        xx, xy, yy = float(found[3, j]), float(found[4, j]), float(found[5, j])
        value = 0.5 * (xx + yy) - math.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)
        if -value < least:
            continue
        nx, ny = yy - value, -xy  # of the two ways to write the eigenvector the one that is sound for upright lines
        length = math.sqrt(nx * nx + ny * ny)
        if nx < _STEEPEST * length or length <= 0.0:
            continue
        nx, ny = nx / length, ny / length
        t = -(found[1, j] * nx + found[2, j] * ny) / value
        if abs(t * nx) > _WITHIN or abs(t * ny) > _WITHIN:
            continue
        x = begin + j + t * nx
        if -value > best[RESPONSE]:
            if best[RESPONSE] > 0.0 and abs(best[X] - x) > apart:
                best[SECOND] = best[RESPONSE]
            best[X], best[Y], best[NORMAL_X], best[NORMAL_Y] = x, y + t * ny, nx, ny
            best[RESPONSE], best[LEVEL] = -value, found[0, j]
        elif abs(best[X] - x) > apart and -value > best[SECOND]:
            best[SECOND] = -value


@numba.njit(cache=True, nogil=True)
def _look(image: Any, y: int, window: int, best: Any) -> None:
    """Count clipped pixels across the line, and take the one on its ridge."""
    width = image.shape[1]
    x = math.floor(best[X] + 0.5)
    clipped = 0
    for column in range(max(x - window, 0), min(x + window + 1, width)):
        clipped += image[y, column] == 255
    best[CLIPPED] = clipped
    best[RIDGE] = image[y, x]
