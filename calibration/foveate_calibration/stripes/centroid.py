"""The centre of gravity of a stripe in each row; compiled by numba. Less exact than Steger's detector, and simpler."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# Columns of what `centers` writes for each row.
X, PEAK, BACKGROUND, SECOND, CLIPPED, RIDGE, BY_NOISE, BY_LIGHT, BY_SPECKLE = range(9)


@numba.njit(cache=True, nogil=True)
def centers(image: Any, columns: Any, reach: int, window: int, share: float, least: float, out: Any) -> None:
    """Write the best candidate's centre of gravity for each row (H x 9, NaN = none); `columns`: H x K, -1 = no more.

    What lies within `reach` of a candidate and above `share` of its peak over the background counts, less that share
    (speckle leaves gaps, so gaps do not end it). The background is the mean of what is beside: `reach` to twice that
    away. The last three columns are what a deviation of one grey level a pixel does to the centre, one of the root of
    the grey levels, and one in proportion to the light: px^2, for pixels that know nothing of each other.
    """
    height, width = image.shape
    for y in range(height):
        out[y] = np.nan
        out[y, PEAK] = out[y, SECOND] = 0.0
        for k in range(columns.shape[1]):
            x = columns[y, k]
            if x < 0:
                break
            if x >= 2 * reach and x < width - 2 * reach:
                _center(image[y], x, reach, window, share, least, out[y])


@numba.njit(cache=True, nogil=True)
def _center(row: Any, x: int, reach: int, window: int, share: float, least: float, best: Any) -> None:
    """Take over into `best` (9,) a centre whose peak is higher than what is there."""
    beside = np.int32(0)
    for k in range(reach, 2 * reach + 1):
        beside += np.int32(row[x - k]) + np.int32(row[x + k])
    background = beside / (2.0 * (reach + 1))
    top = x
    for column in range(x - reach // 2, x + reach // 2 + 1):
        if row[column] > row[top]:
            top = column
    peak = row[top] - background
    if peak < least:
        return
    if peak <= best[PEAK]:
        best[SECOND] = max(best[SECOND], peak)
        return
    floor = background + share * peak
    weight = moment = 0.0
    for column in range(x - reach, x + reach + 1):
        value = max(row[column] - floor, 0.0)
        weight += value
        moment += value * (column - x)
    center = moment / weight
    noise = light = speckle = 0.0
    for column in range(x - reach, x + reach + 1):
        if row[column] > floor:
            arm = ((column - x - center) / weight) ** 2
            noise += arm
            light += arm * row[column]
            speckle += arm * (row[column] - background) ** 2
    clipped = 0
    for column in range(x - window, x + window + 1):
        clipped += row[column] == 255
    best[X], best[BACKGROUND], best[CLIPPED], best[RIDGE] = x + center, background, clipped, row[top]
    best[SECOND], best[PEAK] = best[PEAK], peak
    best[BY_NOISE], best[BY_LIGHT], best[BY_SPECKLE] = noise, light, speckle
