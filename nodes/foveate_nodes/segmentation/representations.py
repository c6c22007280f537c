"""What a network takes of a slice of events: sums by pixel and by time, in compiled loops.

Times are nanoseconds, polarities 1 (brighter) and 0 (darker). Events off the sensor, and those whose place is NaN, are
left out; each function returns them counted beside the array. `out` is an array to write into, whatever it holds: it is
overwritten, and returned. Memory that the system has just given costs several times what most slices do. A wrong `out`,
or columns of different lengths, raise ValueError.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_BLOCK = 256  # cells summed in single precision before they are added to a double: exact to 1e-8, and twice as fast


def voxel_grid(
    t_ns: NDArray[np.int64], x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], shape: tuple[int, int, int],
    normalise: bool = True, *, out: Grid | None = None,
) -> tuple[Grid, int]:  # fmt: skip
    """bins x H x W (Zhu et al. 2019): each event's sign is shared by the two bins around its time, the first event
    being at the first bin and the last at the last; times before or after those two count as theirs. With floating `x`
    or `y` (rectified) it is shared by four pixels too.

    `normalise`: less the mean and by the standard deviation of the cells that are not 0, as SLTNet's networks want it.
    """
    _hold(len(t_ns), x=x, y=y, polarity=polarity)
    grid = _cleared(out, shape, np.float32)
    if not len(t_ns) or not grid.size:
        return grid, len(t_ns)
    between = np.issubdtype(x.dtype, np.floating) or np.issubdtype(y.dtype, np.floating)
    outside = (_share_pixels if between else _share_bins)(t_ns, x, y, polarity, grid)
    if normalise:
        _normalise(grid.reshape(-1))
    return grid, int(outside)


def _hold(count: int, **columns: NDArray[Any]) -> None:
    """Raise ValueError where columns of one slice differ in length: the loops would read beyond the shorter."""
    for name, column in columns.items():
        if column.shape != (count,):
            raise ValueError(f"{name} is {column.shape}, and the slice has {count} events: give one value an event")


def _fits(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> None:
    if array.shape != tuple(shape) or array.dtype != dtype or not array.flags.carray:
        raise ValueError(f"{name} is {array.dtype} {array.shape}; give a writable array in C order, "
                         f"{np.dtype(dtype)} {tuple(shape)}")  # fmt: skip


def _cleared(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros: `out`, or new ones."""
    if out is None:
        return np.zeros(shape, dtype)
    _fits("out", out, shape, dtype)
    out.fill(0)
    return out


@numba.njit(cache=True, nogil=True, inline="always")
def _is_off(x: Any, y: Any, width: int, height: int) -> bool:
    return not (x >= 0 and y >= 0 and x < width and y < height)  # so that NaN is off


@numba.njit(cache=True, nogil=True, inline="always")
def _add(cells: Any, cell: Any, area: Any, share: Any, after: Any) -> None:
    cells[cell] += share * (_ONE - after)
    cells[cell + area] += share * after


@numba.njit(cache=True, nogil=True)
def _share_bins(t_ns: Any, x: Any, y: Any, polarity: Any, grid: Any) -> int:
    """No branch but the sensor's edge: the last event lies in the last but one bin, and its share there is 0."""
    bins, height, width = grid.shape
    cells, area = grid.reshape(-1), np.uintp(height * width if bins > 1 else 0)
    first, span = t_ns[0], max(t_ns[-1] - t_ns[0], 1)
    rate, end, outside = (bins - 1) / span, float(max(bins - 2, 0)), 0
    for i in range(len(t_ns)):
        if _is_off(x[i], y[i], width, height):
            outside += 1
            continue
        at = max((t_ns[i] - first) * rate, 0.0)
        low = np.int64(min(at, end))
        share = np.float32(min(at - low, 1.0))
        sign = np.float32(2 * np.int32(polarity[i] != 0) - 1)
        cell = np.uintp((low * height + np.int64(y[i])) * width + np.int64(x[i]))
        cells[cell] += sign * (_ONE - share)
        cells[cell + area] += sign * share
    return outside


@numba.njit(cache=True, nogil=True)
def _share_pixels(t_ns: Any, x: Any, y: Any, polarity: Any, grid: Any) -> int:
    """As `_share_bins`; a pixel off the sensor gets a share of 0 of the one beside it."""
    bins, height, width = grid.shape
    cells, area = grid.reshape(-1), np.uintp(height * width if bins > 1 else 0)
    first, span = t_ns[0], max(t_ns[-1] - t_ns[0], 1)
    rate, end, outside = (bins - 1) / span, float(max(bins - 2, 0)), 0
    for i in range(len(t_ns)):
        if not (x[i] > -1 and y[i] > -1 and x[i] < width and y[i] < height):
            outside += 1
            continue
        at = max((t_ns[i] - first) * rate, 0.0)
        low, left, top = np.int64(min(at, end)), np.int64(np.floor(x[i])), np.int64(np.floor(y[i]))
        after, right, down = np.float32(min(at - low, 1.0)), np.float32(x[i] - left), np.float32(y[i] - top)
        sign = np.float32(2 * np.int32(polarity[i] != 0) - 1)
        upper = sign * (_ONE - down) if top >= 0 else _ZERO
        lower = sign * down if top + 1 < height else _ZERO
        west = _ONE - right if left >= 0 else _ZERO
        east = right if left + 1 < width else _ZERO
        start = low * height * width + max(left, 0)
        cell, step = np.uintp(start + max(top, 0) * width), np.uintp(left >= 0 and left + 1 < width)
        below = np.uintp(start + min(top + 1, height - 1) * width)
        _add(cells, cell, area, upper * west, after)
        _add(cells, cell + step, area, upper * east, after)
        _add(cells, below, area, lower * west, after)
        _add(cells, below + step, area, lower * east, after)
    return outside


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp"})
def _normalise(cells: Any) -> None:
    """Less the mean and by the deviation (N - 1) of the cells that are not 0; they alone change."""
    count, total, square = 0, 0.0, 0.0
    for start in range(0, len(cells), _BLOCK):
        some, sum_, squares = _ZERO, _ZERO, _ZERO
        for i in range(start, min(start + _BLOCK, len(cells))):  # no branches: zeros add nothing, and it is vectorised
            some += _ONE if cells[i] != 0 else _ZERO
            sum_ += cells[i]
            squares += cells[i] * cells[i]
        count += int(some)
        total += float(sum_)
        square += float(squares)
    mean = total / max(count, 1)
    variance = (square - count * mean * mean) / max(count - 1, 1)
    if variance < 0.01 * mean * mean:  # what is left of large sums that cancel is worth nothing
        mean, variance = _deviation(cells, count)
    middle, scale = np.float32(mean), np.float32(1.0 / np.sqrt(variance) if variance > 0 else 1.0)
    rest = np.float32((mean - middle) * scale)  # what a single leaves of the mean, of large cells much
    for i in range(len(cells)):
        cells[i] = _ZERO if cells[i] == 0 else (cells[i] - middle) * scale - rest


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _deviation(cells: Any, count: int) -> tuple[float, float]:
    """Mean and variance of the `count` cells that are not 0, in two passes of double precision."""
    total, square = 0.0, 0.0
    for value in cells:
        total += np.float64(value)
    mean = total / count
    for value in cells:
        apart = np.float64(value) - mean if value != 0 else 0.0
        square += apart * apart
    return mean, square / max(count - 1, 1)


def event_count(
    x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], shape: tuple[int, int], *, out: Grid | None = None
) -> tuple[Grid, int]:
    """2 x H x W: darker and brighter events of each pixel; places that are not whole are rounded down."""
    _hold(len(x), y=y, polarity=polarity)
    grid = _cleared(out, (2, *shape), np.float32)
    return grid, int(_count(x, y, polarity, grid))


@numba.njit(cache=True, nogil=True)
def _count(x: Any, y: Any, polarity: Any, grid: Any) -> int:
    _, height, width = grid.shape
    cells, outside = grid.reshape(-1), 0
    for i in range(len(x)):
        if _is_off(x[i], y[i], width, height):
            outside += 1
            continue
        row = np.int64(polarity[i] != 0) * height + np.int64(y[i])
        cells[np.uintp(row * width + np.int64(x[i]))] += _ONE
    return outside


NEVER = np.iinfo(np.int64).min  # of `last_times`: no event yet


def last_times(
    t_ns: NDArray[np.int64], x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], last_ns: NDArray[np.int64]
) -> int:
    """Write when each pixel had its last event of each polarity (2 x H x W, int64); returns events off the sensor."""
    _hold(len(t_ns), x=x, y=y, polarity=polarity)
    _fits("last_ns", last_ns, (2, *last_ns.shape[1:]), np.int64)
    return int(_last(t_ns, x, y, polarity, last_ns))


@numba.njit(cache=True, nogil=True)
def _last(t_ns: Any, x: Any, y: Any, polarity: Any, last_ns: Any) -> int:
    _, height, width = last_ns.shape
    cells, outside = last_ns.reshape(-1), 0
    for i in range(len(t_ns)):
        if _is_off(x[i], y[i], width, height):
            outside += 1
            continue
        row = np.int64(polarity[i] != 0) * height + np.int64(y[i])
        cells[np.uintp(row * width + np.int64(x[i]))] = t_ns[i]
    return outside


def time_surface(last_ns: NDArray[np.int64], now_ns: int, decay_ns: float, *, out: Grid | None = None) -> Grid:
    """2 x H x W of exp(-age / decay), 0 where there was no event (Lagorce et al. 2017), to 3e-7. Events after `now_ns`
    have age 0; ages above 52 days count as 52 days."""
    if not decay_ns > 0:
        raise ValueError(f"decay_ns is {decay_ns}; give a time above 0")
    surface = np.empty(last_ns.shape, np.float32) if out is None else out
    _fits("out", surface, last_ns.shape, np.float32)
    _decay(np.ascontiguousarray(last_ns).reshape(-1), now_ns, 1.0 / (decay_ns * np.log(2.0)), surface.reshape(-1))
    return surface


# 2^f for |f| <= 1/2, terms of the series up to f^6: 2e-7 is left
_SERIES = tuple(np.float32(np.log(2.0) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(7))
_LONGEST = np.int64(2**52 - 1)  # ns; ages up to it become doubles by their bits, which is vectorised on any processor
_TWO_TO_52 = np.int64(0x4330000000000000)  # as the bits of a double


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _decay(last_ns: Any, now_ns: int, rate: float, surface: Any) -> None:
    """2^(-age rate) as 2^part 2^-whole, the second written into the exponent's bits: four times as fast as exp."""
    for i in range(len(last_ns)):
        age_ns = np.int64(min(max(now_ns - last_ns[i], np.int64(0)), _LONGEST) | _TWO_TO_52)
        power = np.float32((age_ns.view(np.float64) - 2.0**52) * rate)
        power = min(power, np.float32(127.0)) if last_ns[i] != NEVER else np.float32(127.0)  # 2^-127 is written as 0
        whole = np.int32(power + np.float32(0.5))
        part = np.float32(whole) - power
        value = _SERIES[6]
        value = value * part + _SERIES[5]
        value = value * part + _SERIES[4]
        value = value * part + _SERIES[3]
        value = value * part + _SERIES[2]
        value = value * part + _SERIES[1]
        value = value * part + _SERIES[0]
        surface[i] = value * np.int32((np.int32(127) - whole) << np.int32(23)).view(np.float32)


def event_frame(
    x: NDArray[Any], y: NDArray[Any], polarity: NDArray[np.uint8], shape: tuple[int, int], contrast: int = 3, *,
    out: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], int]:  # fmt: skip
    """H x W to look at: grey, brighter and darker by the sum of signs; `contrast` events of one sign are white."""
    _hold(len(x), y=y, polarity=polarity)
    frame = np.empty(shape, np.uint8) if out is None else out
    _fits("out", frame, shape, np.uint8)
    return frame, int(_frame(x, y, polarity, np.float32(127 / contrast), frame))


@numba.njit(cache=True, nogil=True)
def _frame(x: Any, y: Any, polarity: Any, step: Any, frame: Any) -> int:
    height, width = frame.shape
    sums, outside = np.zeros(height * width, np.int32), 0
    for i in range(len(x)):
        if _is_off(x[i], y[i], width, height):
            outside += 1
            continue
        sums[np.uintp(np.int64(y[i]) * width + np.int64(x[i]))] += 2 * np.int32(polarity[i] != 0) - 1
    pixels = frame.reshape(-1)
    for i in range(len(pixels)):
        grey = np.float32(128.0) + np.float32(sums[i]) * step
        pixels[i] = np.uint8(min(max(grey, _ZERO), np.float32(255.0)))
    return outside
