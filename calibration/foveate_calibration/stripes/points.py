"""What a detector of stripes found in an image, before it becomes a message; and who does not belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CLIPPED_FROM = 2  # pixels at the sensor's limit across the stripe: one alone may be a hot pixel
_AROUND = 5  # rows either side where a point needs neighbours
_SLOPE = 1.75  # columns a row that a stripe may lean: 60 degrees from upright


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """One point a row, rows growing."""

    row: NDArray[np.int64]  # N
    point_px: Array  # N x 2: column, row
    normal_px: Array  # N x 2
    sigma_px: Array  # N
    peak: Array  # N, grey levels
    second: Array  # N, the next best candidate's strength by that of the best, 0 to 1
    saturated: NDArray[np.bool_]  # N

    def kept(self, which: NDArray[np.bool_]) -> Points:
        """The points at which `which` (N) is true."""
        return Points(
            self.row[which], self.point_px[which], self.normal_px[which], self.sigma_px[which], self.peak[which],
            self.second[which], self.saturated[which],
        )  # fmt: skip


class Detector(Protocol):
    """Finds a stripe that runs from top to bottom."""

    def find(self, image: NDArray[np.uint8]) -> Points:
        """Of an image (H x W)."""


@dataclass(frozen=True, slots=True)
class Light:
    """What makes a stripe uncertain: the sensor's noise, and speckle, None where the image is to tell."""

    read_levels: float  # deviation of a dark pixel, grey levels
    electrons: float  # a grey level
    contrast: float | None = None  # of speckle
    grain_px: float | None = None


def joined(points: Points, neighbours: int) -> NDArray[np.bool_]:
    """Which points (N) have at least `neighbours` others in the rows around where a stripe could come from."""
    row, x = points.row, points.point_px[:, 0]
    if not row.size:
        return np.zeros(0, bool)
    line = np.full(int(row[-1] - row[0]) + 1 + 2 * _AROUND, np.nan)
    place = row - row[0] + _AROUND
    line[place] = x
    count = np.zeros(row.size, np.int64)
    for step in range(1, _AROUND + 1):
        for side in (-step, step):
            count += np.abs(line[place + side] - x) <= 1.0 + _SLOPE * step  # nan is never near
    return count >= neighbours


def rows_to_end(points: Points, height: int, border: int) -> NDArray[np.int64]:
    """Points (N) between each point and the nearer end of its unbroken run; many where that is the image's edge.

    A run that reaches within `border` rows of the top or bottom of an image of `height` rows goes on beyond it.
    """
    row, x = points.row, points.point_px[:, 0]
    count = row.size
    if not count:
        return np.zeros(0, np.int64)
    gap = np.diff(row)
    broken = np.concatenate([[True], (gap > 2) | (np.abs(np.diff(x)) > 1.0 + _SLOPE * gap), [True]])
    ends = np.flatnonzero(broken)
    index = np.arange(count)
    run = np.searchsorted(ends, index, side="right")
    first, last = ends[run - 1], ends[run] - 1
    before = np.where(row[first] <= border, height, index - first)
    after = np.where(row[last] >= height - 1 - border, height, last - index)
    return np.minimum(before, after)
