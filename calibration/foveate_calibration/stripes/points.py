"""What a detector of stripes found in an image, before it becomes a message; and who does not belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CLIPPED_FROM = 2  # pixels at the sensor's limit across the stripe: one alone may be a hot pixel
_AROUND = 5  # rows either side where a point needs neighbours
_ALONG = 8  # points either side whose light is taken together to see whether a stripe is lopsided
_TO_SIGMA, _SURE = 1.4826 * 0.5**0.5, 3.0  # from the median of a difference to one's deviation; deviations
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


def runs(points: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last point (N each, indices) of the unbroken run that each point is in."""
    row, x = points.row, points.point_px[:, 0]
    if not row.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    gap = np.diff(row)
    broken = np.concatenate([[True], (gap > 2) | (np.abs(np.diff(x)) > 1.0 + _SLOPE * gap), [True]])
    ends = np.flatnonzero(broken)
    run = np.searchsorted(ends, np.arange(row.size), side="right")
    return ends[run - 1], ends[run] - 1


def rows_to_end(points: Points, height: int, border: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points (N) between each point and the nearer end of its run, and the points of that run (N); many where it ends
    at the image's edge.

    A run that reaches within `border` rows of the top or bottom of an image of `height` rows goes on beyond it.
    """
    row, index = points.row, np.arange(points.row.size)
    first, last = runs(points)
    above, below = row[first] <= border, row[last] >= height - 1 - border
    end = np.minimum(np.where(above, height, index - first), np.where(below, height, last - index))
    return end, np.where(above | below, height, last - first + 1)


def lopsided(points: Points, derivative: Array, least: float) -> NDArray[np.bool_]:
    """Where the light around a point (N) is skewed by at least `least`, and by more than speckle skews it.

    Skewed: third by second derivative (N x 2) across the stripe, of their sums over the points around in the same run.
    How much of it is speckle's is told by its change from one sum to the next that has no point in common.
    """
    first, last = runs(points)
    index, apart = np.arange(points.row.size), 2 * _ALONG + 1
    begin, end = np.maximum(index - _ALONG, first), np.minimum(index + _ALONG, last) + 1
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(derivative, axis=0)])
    second, third = (total[end] - total[begin]).T
    skew = third / np.minimum(second, -1e-9)
    change = np.abs(skew[apart:] - skew[:-apart])[first[apart:] == first[:-apart]]
    noise = float(np.median(change)) * _TO_SIGMA if change.size else 0.0
    return np.abs(skew) >= max(least, _SURE * noise)
