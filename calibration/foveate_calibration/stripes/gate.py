"""Where a stripe may be, row by row, before anything costly is computed; compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_BLOCK = 32  # columns whose greatest contrast is looked at together


@numba.njit(cache=True, nogil=True)
def candidates(image: Any, half: int, begin: int, flank: int, least: float, columns: Any) -> None:
    """Write columns (H x K, int32) of an image (H x W, uint8): the best in each row, best first, then -1.

    The contrast at a column is the mean over `half` columns either side less the brighter of the means over `flank`
    columns that begin `begin` away. An edge between dark and bright has none, so squares of a board do not pass.
    Peaks of contrast below `least` grey levels do not count, nor do those within `begin` of a better one, nor those
    that have less than a third of the best one's.
    """
    height, width = image.shape
    most = columns.shape[1]
    reach = begin + flank
    total = np.zeros(width + 1, np.int32)
    contrast = np.zeros(width, np.int32)
    values = np.empty(most, np.int32)
    center = 2 * half + 1
    limit = np.int32(least * center * flank)
    for y in range(height):
        columns[y] = -1
        _contrast(image[y], total, contrast, half, begin, flank)
        found = 0
        for block in range(reach, width - reach, _BLOCK):
            end = min(block + _BLOCK, width - reach)
            best = np.int32(0)
            part = contrast[block:end]
            for j in range(end - block):
                best = max(best, part[j])
            if best <= limit:
                continue
            for x in range(block, end):
                value = contrast[x]
                if value > limit and value >= contrast[x - 1] and value > contrast[x + 1]:
                    found = _insert(columns[y], values, found, x, value, begin)
        while found > 1 and 3 * values[found - 1] < values[0]:
            found -= 1
            columns[y, found] = -1


@numba.njit(cache=True, nogil=True)
def _contrast(row: Any, total: Any, contrast: Any, half: int, begin: int, flank: int) -> None:
    """Contrast times both widths, in whole numbers."""
    width = row.shape[0]
    reach = begin + flank
    center = np.int32(2 * half + 1)
    flank32 = np.int32(flank)
    running = np.int32(0)
    for x in range(width):
        running += np.int32(row[x])
        total[x + 1] = running
    # as slices: indices that count up from 0 need no test for their sign, and the loop is vectorised
    count = width - 2 * reach
    low, high = total[reach - half :], total[reach + half + 1 :]
    left, left_end = total[reach - begin + 1 - flank :], total[reach - begin + 1 :]
    right, right_end = total[reach + begin :], total[reach + begin + flank :]
    out = contrast[reach:]
    for j in range(count):
        outer = max(left_end[j] - left[j], right_end[j] - right[j])
        out[j] = (high[j] - low[j]) * flank32 - outer * center


@numba.njit(cache=True, nogil=True)
def _insert(columns: Any, values: Any, found: int, x: int, value: int, apart: int) -> int:
    """Keep the greatest, those at least `apart` from a greater one; how many there are now."""
    for k in range(found):
        if abs(x - columns[k]) < apart:
            if value <= values[k]:
                return found
            for later in range(k, found - 1):  # the lesser one goes
                columns[later], values[later] = columns[later + 1], values[later + 1]
            found -= 1
            columns[found] = -1
            break
    place = found
    while place > 0 and values[place - 1] < value:
        place -= 1
    if place >= columns.shape[0]:
        return found
    last = min(found, columns.shape[0] - 1)
    for later in range(last, place, -1):
        columns[later], values[later] = columns[later - 1], values[later - 1]
    columns[place], values[place] = x, value
    return min(found + 1, columns.shape[0])


@numba.njit(cache=True, nogil=True)
def gray(image: Any, out: Any) -> None:
    """Grey levels (H x W) of a BGR image (H x W x 3), by the weights of BT.601."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            b, g, r = np.int32(image[y, x, 0]), np.int32(image[y, x, 1]), np.int32(image[y, x, 2])
            out[y, x] = (29 * b + 150 * g + 77 * r + 128) >> 8
