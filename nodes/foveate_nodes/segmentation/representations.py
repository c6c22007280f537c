"""What a network takes of a slice of events: sums by pixel and by time, in compiled loops.

Times are nanoseconds, polarities 1 (brighter) and 0 (darker). Events off the sensor are left out; each function returns
them counted beside the array.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]


def voxel_grid(
    t_ns: NDArray[np.int64], x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], shape: tuple[int, int, int],
    normalise: bool = True,
) -> tuple[Grid, int]:  # fmt: skip
    """bins x H x W (Zhu et al. 2019): each event's sign is shared by the two bins around its time, the first event
    being at the first bin and the last at the last. With floating `x`, `y` (rectified) it is shared by four pixels too.

    `normalise`: less the mean and by the standard deviation of the cells that are not 0, as SLTNet's networks want it.
    """
    grid = np.zeros(shape, np.float32)
    if not len(t_ns):
        return grid, 0
    between = np.issubdtype(x.dtype, np.floating)
    outside = (_share_pixels if between else _share_bins)(t_ns, x, y, polarity, grid)
    if normalise:
        _normalise(grid)
    return grid, int(outside)


@numba.njit(cache=True, nogil=True, inline="always")
def _is_off(column: int, row: int, width: int, height: int) -> bool:
    return column < 0 or row < 0 or column >= width or row >= height


@numba.njit(cache=True, nogil=True)
def _share_bins(t_ns: Any, x: Any, y: Any, polarity: Any, grid: Any) -> int:
    bins, height, width = grid.shape
    first, span = t_ns[0], max(t_ns[-1] - t_ns[0], 1)
    rate, outside = (bins - 1) / span, 0
    for i in range(len(t_ns)):
        column, row = int(x[i]), int(y[i])
        if _is_off(column, row, width, height):
            outside += 1
            continue
        at = (t_ns[i] - first) * rate
        low = int(at)
        share = np.float32(at - low)
        sign = np.float32(1.0) if polarity[i] else np.float32(-1.0)
        grid[low, row, column] += sign * (np.float32(1.0) - share)
        if low + 1 < bins:
            grid[low + 1, row, column] += sign * share
    return outside


@numba.njit(cache=True, nogil=True)
def _share_pixels(t_ns: Any, x: Any, y: Any, polarity: Any, grid: Any) -> int:
    bins, height, width = grid.shape
    first, span = t_ns[0], max(t_ns[-1] - t_ns[0], 1)
    rate, outside = (bins - 1) / span, 0
    for i in range(len(t_ns)):
        if not (x[i] > -1 and y[i] > -1 and x[i] < width and y[i] < height):
            outside += 1
            continue
        at, left, top = (t_ns[i] - first) * rate, int(np.floor(x[i])), int(np.floor(y[i]))
        low = int(at)
        after, right, down = np.float32(at - low), np.float32(x[i] - left), np.float32(y[i] - top)
        sign = np.float32(1.0) if polarity[i] else np.float32(-1.0)
        one = np.float32(1.0)
        for row in range(2):
            if top + row < 0 or top + row >= height:
                continue
            of_row = sign * (down if row else one - down)
            for column in range(2):
                if left + column < 0 or left + column >= width:
                    continue
                share = of_row * (right if column else one - right)
                grid[low, top + row, left + column] += share * (one - after)
                if low + 1 < bins:
                    grid[low + 1, top + row, left + column] += share * after
    return outside


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp"})
def _normalise(grid: Any) -> None:
    flat = grid.reshape(-1)
    count, total, square = 0, 0.0, 0.0
    for i in range(len(flat)):  # no branches: zeros add nothing, and it is vectorised
        value = np.float64(flat[i])
        count += flat[i] != 0
        total += value
        square += value * value
    mean = total / max(count, 1)
    variance = (square - count * mean * mean) / max(count - 1, 1)
    scale = np.float32(1.0 / np.sqrt(variance) if variance > 0 else 1.0)
    middle = np.float32(mean)
    for i in range(len(flat)):
        flat[i] = np.float32(0.0) if flat[i] == 0 else (flat[i] - middle) * scale


def event_count(
    x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], shape: tuple[int, int]
) -> tuple[Grid, int]:
    """2 x H x W: darker and brighter events of each pixel."""
    grid = np.zeros((2, *shape), np.float32)
    return grid, int(_count(x, y, polarity, grid))


@numba.njit(cache=True, nogil=True)
def _count(x: Any, y: Any, polarity: Any, grid: Any) -> int:
    _, height, width = grid.shape
    outside = 0
    for i in range(len(x)):
        column, row = int(x[i]), int(y[i])
        if _is_off(column, row, width, height):
            outside += 1
            continue
        grid[1 if polarity[i] else 0, row, column] += np.float32(1.0)
    return outside


@numba.njit(cache=True, nogil=True)
def last_times(t_ns: Any, x: Any, y: Any, polarity: Any, last_ns: Any) -> int:
    """Write when each pixel had its last event of each polarity (2 x H x W, int64); returns events off the sensor."""
    _, height, width = last_ns.shape
    outside = 0
    for i in range(len(t_ns)):
        column, row = int(x[i]), int(y[i])
        if _is_off(column, row, width, height):
            outside += 1
            continue
        last_ns[1 if polarity[i] else 0, row, column] = t_ns[i]
    return outside


NEVER = np.iinfo(np.int64).min  # of `last_times`: no event yet


@numba.njit(cache=True, nogil=True)
def time_surface(last_ns: Any, now_ns: int, decay_ns: float) -> Any:
    """2 x H x W of exp(-age / decay), 0 where there was no event (Lagorce et al. 2017)."""
    out = np.zeros(last_ns.shape, np.float32)
    for k in range(2):
        for row in range(last_ns.shape[1]):
            for column in range(last_ns.shape[2]):
                t = last_ns[k, row, column]
                if t != NEVER:
                    out[k, row, column] = np.exp((t - now_ns) / decay_ns)
    return out


def event_frame(x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], shape: tuple[int, int], contrast: int = 3
                ) -> tuple[NDArray[np.uint8], int]:  # fmt: skip
    """H x W to look at: grey, brighter and darker by the sum of signs; `contrast` events of one sign are white."""
    count, outside = event_count(x, y, polarity, shape)
    return np.clip(128 + (count[1] - count[0]) * (127 / contrast), 0, 255).astype(np.uint8), outside
