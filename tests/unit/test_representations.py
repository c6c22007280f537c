"""Representations of events against sums written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

pytest.importorskip("numba", reason="the loops are compiled by numba (extra odometry)")

from foveate_nodes.segmentation import representations as made

Array = np.ndarray
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]  # numba compiles when it is first run
H, W = 12, 17


def events(count: int, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    random = np.random.default_rng(seed)
    return (np.sort(random.integers(10**9, 10**9 + 50_000_000, count)), random.integers(0, W, count).astype(np.uint16),
            random.integers(0, H, count).astype(np.uint16), random.integers(0, 2, count).astype(np.uint8))  # fmt: skip


def by_hand(t: Array, x: Array, y: Array, p: Array, bins: int) -> Array:
    """Each event's sign times a tent of one bin, and one pixel where places are not whole."""
    at = (bins - 1) * (t - t[0]) / (t[-1] - t[0])
    grid = np.zeros((bins, H, W))
    for k in range(bins):
        for row in range(H):
            for column in range(W):
                tents = [np.maximum(1 - np.abs(of - here), 0) for of, here in ((at, k), (y, row), (x, column))]
                grid[k, row, column] = ((2.0 * p - 1) * tents[0] * tents[1] * tents[2]).sum()
    return grid


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_a_voxel_grid_shares_signs_in_time(bins: int) -> None:
    t, x, y, p = events(3000)
    grid, outside = made.voxel_grid(t, x, y, p, (bins, H, W), normalise=False)
    assert outside == 0 and grid.dtype == np.float32
    assert np.allclose(grid, by_hand(t, x.astype(float), y.astype(float), p, bins), atol=1e-4)


def test_rectified_events_are_shared_by_four_pixels() -> None:
    t, x, y, p = events(3000)
    random = np.random.default_rng(1)
    xf, yf = (column + random.uniform(-0.9, 0.9, 3000).astype(np.float32) for column in (x, y))
    grid, outside = made.voxel_grid(t, xf.astype(np.float32), yf.astype(np.float32), p, (5, H, W), normalise=False)
    assert np.allclose(grid, by_hand(t, xf, yf, p, 5), atol=1e-4)
    assert outside == int(((xf <= -1) | (yf <= -1) | (xf >= W) | (yf >= H)).sum())


def test_normalised_cells_that_are_not_0_have_mean_0_and_deviation_1() -> None:
    raw, _ = made.voxel_grid(*events(300), (5, H, W), normalise=False)
    grid, _ = made.voxel_grid(*events(300), (5, H, W))
    cells = raw != 0
    assert np.array_equal(grid != 0, cells) and not cells.all()
    expected = (raw[cells] - raw[cells].mean()) / raw[cells].std(ddof=1)
    assert np.allclose(grid[cells], expected, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_events_give_a_grid_too(count: int) -> None:
    grid, _ = made.voxel_grid(*events(count), (5, H, W), normalise=False)
    assert np.count_nonzero(grid) == count
    grid, _ = made.voxel_grid(*events(count), (5, H, W))  # one cell less its mean is 0
    assert not grid.any()


def test_counts_frames_and_surfaces() -> None:
    t, x, y, p = events(4000)
    count, _ = made.event_count(x, y, p, (H, W))
    expected = np.zeros((2, H, W))
    np.add.at(expected, (p, y, x), 1)
    assert np.array_equal(count, expected)
    frame, _ = made.event_frame(x, y, p, (H, W), contrast=50)
    assert np.array_equal(frame, np.clip(128 + (expected[1] - expected[0]) * (127 / 50), 0, 255).astype(np.uint8))
    last = np.full((2, H, W), made.NEVER)
    made.last_times(t[:2000], x[:2000], y[:2000], p[:2000], last)
    made.last_times(t[2000:], x[2000:], y[2000:], p[2000:], last)
    newest = np.full((2, H, W), made.NEVER)
    np.maximum.at(newest, (p, y, x), t)
    assert np.array_equal(last, newest)
    surface = made.time_surface(last, int(t[-1]), 1e7)
    assert np.allclose(surface, np.where(newest == made.NEVER, 0, np.exp((newest - float(t[-1])) / 1e7)), atol=1e-5)


def test_events_off_the_sensor_are_left_out_and_counted() -> None:
    t, x, y, p = events(1000)
    inside, _ = made.voxel_grid(t, x, y, p, (5, H, W), normalise=False)
    far = np.full(2, 500, np.uint16)
    middle = np.array([t[500], t[501]])
    order = np.argsort(np.concatenate([t, middle]), kind="stable")
    more = [np.concatenate([one, other])[order] for one, other in
            ((t, middle), (x, far), (y, np.zeros(2, np.uint16)), (p, np.ones(2, np.uint8)))]  # fmt: skip
    grid, outside = made.voxel_grid(*more, (5, H, W), normalise=False)
    assert outside == 2 and np.allclose(grid, inside, atol=1e-5)
    assert made.event_count(*more[1:], (H, W))[1] == 2
    assert made.last_times(*more, np.full((2, H, W), made.NEVER)) == 2


# --- arrays that are used again


def fenced(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """An array full of rubbish inside a larger one, and the cells before and behind it."""
    size = int(np.prod(shape))
    memory = np.full(size + 2000, 77, dtype)
    return memory[1000:-1000].reshape(shape), memory


def is_whole(memory: Array) -> bool:
    return bool((memory[:1000] == 77).all() and (memory[-1000:] == 77).all())


def one_of_each(t: Array, x: Array, y: Array, p: Array) -> list[tuple[tuple[int, ...], Any, Any]]:
    """Shape and type of every function's array, and the function of `out`."""
    last = np.full((2, H, W), made.NEVER)
    made.last_times(t, x, y, p, last)
    return [
        ((5, H, W), np.float32, lambda out: made.voxel_grid(t, x, y, p, (5, H, W), out=out)[0]),
        ((5, H, W), np.float32, lambda out: made.voxel_grid(t, x - 0.3, y + 0.2, p, (5, H, W), out=out)[0]),
        ((2, H, W), np.float32, lambda out: made.event_count(x, y, p, (H, W), out=out)[0]),
        ((2, H, W), np.float32, lambda out: made.time_surface(last, int(t[-1]), 1e7, out=out)),
        ((H, W), np.uint8, lambda out: made.event_frame(x, y, p, (H, W), out=out)[0]),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_given_array_is_overwritten_and_returned(seed: int) -> None:
    for shape, dtype, run in one_of_each(*events(200, seed)):
        out, memory = fenced(shape, dtype)
        assert run(out) is out and np.array_equal(out, run(None)) and is_whole(memory)


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (np.zeros((5, H, W + 1), np.float32), r"out is float32 \(5, 12, 18\); give .* float32 \(5, 12, 17\)"),
        (np.zeros((5, H, W)), "out is float64"),
        (np.zeros((5, W, H), np.float32).transpose(0, 2, 1), "writable array in C order"),
        (np.broadcast_to(np.float32(0), (5, H, W)), "writable array in C order"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(out: Array, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made.voxel_grid(*events(10), (5, H, W), out=out)


def test_what_does_not_fit_together_is_refused() -> None:
    t, x, y, p = events(10)
    with pytest.raises(ValueError, match=r"y is \(9,\), and the slice has 10 events"):
        made.voxel_grid(t, x, y[1:], p, (5, H, W))
    with pytest.raises(ValueError, match=r"polarity is \(8,\)"):
        made.event_count(x, y, p[2:], (H, W))
    with pytest.raises(ValueError, match=r"last_ns is int64 \(1, 12, 17\); give .* \(2, 12, 17\)"):
        made.last_times(t, x, y, p, np.full((1, H, W), made.NEVER))
    with pytest.raises(ValueError, match="decay_ns is 0"):
        made.time_surface(np.full((2, H, W), made.NEVER), 0, 0)


# --- against slow numpy, whatever the events are


def slow_grid(t: Array, x: Array, y: Array, p: Array, bins: int) -> tuple[Array, int]:
    """Every event by itself, in double precision; times beyond the first and last event are theirs."""
    grid, outside = np.zeros((bins + 1, H + 2, W + 2)), 0
    span = max(int(t[-1]) - int(t[0]), 1)
    whole = not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(y.dtype, np.floating))
    for time, column, row, polarity in zip(t.tolist(), x.tolist(), y.tolist(), p.tolist(), strict=True):
        low = -0.5 if whole else -1  # of places that are on the sensor
        if not (low < column < W and low < row < H):
            outside += 1
            continue
        at = min(max((time - int(t[0])) * ((bins - 1) / span), 0.0), bins - 1.0)
        sign = 1 if polarity else -1
        for k, of_time in ((int(at), 1 - at % 1), (int(at) + 1, at % 1)):
            for j, of_row in ((int(np.floor(row)), 1 - row % 1), (int(np.floor(row)) + 1, row % 1)):
                for i, of_column in ((int(np.floor(column)), 1 - column % 1), (int(np.floor(column)) + 1, column % 1)):
                    grid[k, j + 1, i + 1] += sign * of_time * of_row * of_column
    return grid[:bins, 1:-1, 1:-1], outside


def released(grid: Array) -> Array:
    """As the authors' code normalises, in double precision."""
    cells = grid != 0
    found = np.zeros(grid.shape)
    if cells.any():
        values = grid[cells].astype(np.float64)
        deviation = values.std(ddof=1) if len(values) > 1 else 0.0
        found[cells] = (values - values.mean()) / (deviation if deviation > 0 else 1.0)
    return found


WHOLE = some.tuples(
    some.integers(0, 60), some.integers(-3, W + 2), some.integers(-3, H + 2), some.integers(0, 1)
)  # fmt: skip
PLACE = some.one_of(some.floats(-2, 20, width=32), some.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, W - 1.0]))
BETWEEN = some.tuples(some.integers(0, 60), PLACE, PLACE, some.integers(0, 1))


def columns(rows: list[Any], dtype: Any) -> tuple[Array, Array, Array, Array]:
    t, x, y, p = zip(*rows, strict=True)
    return np.array(t, np.int64), np.array(x, dtype), np.array(y, dtype), np.array(p, np.uint8)


@settings(max_examples=150, deadline=None)
@given(some.lists(WHOLE, min_size=1, max_size=60), some.integers(1, 4))
def test_any_slice_is_as_slow_numpy_has_it(rows: list[Any], bins: int) -> None:
    """Times go back and forth, places lie off the sensor."""
    t, x, y, p = columns(rows, np.int32)
    out, memory = fenced((bins, H, W), np.float32)
    expected, off = slow_grid(t, x, y, p, bins)
    grid, outside = made.voxel_grid(t, x, y, p, (bins, H, W), False, out=out)
    assert outside == off and np.allclose(grid, expected, atol=1e-5)
    raw = grid.copy()
    made.voxel_grid(t, x, y, p, (bins, H, W), out=out)
    assert np.allclose(out, released(raw), rtol=1e-5, atol=1e-6) and is_whole(memory)
    on = (x >= 0) & (y >= 0) & (x < W) & (y < H)
    count, newest = np.zeros((2, H, W)), np.full((2, H, W), made.NEVER)
    np.add.at(count, (p[on], y[on], x[on]), 1)
    for time, *place in zip(t[on], p[on], y[on], x[on], strict=True):
        newest[tuple(place)] = time
    found, outside = made.event_count(x, y, p, (H, W))
    assert outside == off and np.array_equal(found, count)
    last, memory = fenced((2, H, W), np.int64)
    last[:] = made.NEVER
    assert made.last_times(t, x, y, p, last) == off and np.array_equal(last, newest) and is_whole(memory)


@settings(max_examples=150, deadline=None)
@given(some.lists(BETWEEN, min_size=1, max_size=60), some.integers(1, 4))
def test_any_rectified_slice_is_as_slow_numpy_has_it(rows: list[Any], bins: int) -> None:
    """Places are also NaN and infinite."""
    t, x, y, p = columns(rows, np.float32)
    out, memory = fenced((bins, H, W), np.float32)
    expected, off = slow_grid(t, x, y, p, bins)
    grid, outside = made.voxel_grid(t, x, y, p, (bins, H, W), False, out=out)
    assert outside == off and np.allclose(grid, expected, atol=1e-5) and is_whole(memory)
    with np.errstate(invalid="ignore"):
        on = (x >= 0) & (y >= 0) & (x < W) & (y < H)
    assert made.event_count(x, y, p, (H, W))[1] == len(t) - on.sum()
    assert made.event_frame(x, y, p, (H, W))[1] == len(t) - on.sum()


@settings(max_examples=100, deadline=None)
@given(some.lists(some.integers(-(2**62), 2**62), min_size=2, max_size=20), some.integers(1, 5))
def test_times_from_anywhere_never_write_outside(times: list[int], bins: int) -> None:
    t = np.array(times, np.int64)
    x = np.full(len(t), W - 1, np.uint16)
    y, p = np.full(len(t), H - 1, np.uint16), np.ones(len(t), np.uint8)
    for column in (x, x.astype(np.float32)):
        out, memory = fenced((bins, H, W), np.float32)
        made.voxel_grid(t, column, y, p, (bins, H, W), False, out=out)
        assert is_whole(memory) and np.isfinite(out).all() and abs(out.sum() - len(t)) < 1e-3


def test_times_that_go_back_count_at_the_ends() -> None:
    t, x, y, p = np.array([100, 50, 150, 900, 200]), np.arange(5, dtype=np.uint16), np.zeros(5, np.uint16), np.ones(5)
    grid, _ = made.voxel_grid(t, x, y, p.astype(np.uint8), (3, H, W), normalise=False)
    assert np.array_equal(grid[:, 0, :5].argmax(0), [0, 0, 1, 2, 2]) and np.array_equal(
        grid[:, 0, :5].max(0), np.ones(5)
    )


# --- few, many and odd ones


def test_no_event_on_the_sensor_is_an_array_of_zeros() -> None:
    t, x, y, p = events(50)
    for some_of in (slice(0, 0), slice(None)):
        far = x[some_of] + np.uint16(W)
        for column in (far, far.astype(np.float32), np.full(len(far), np.nan)):
            out, memory = fenced((5, H, W), np.float32)
            grid, outside = made.voxel_grid(t[some_of], column, y[some_of], p[some_of], (5, H, W), out=out)
            assert outside == len(far) and not grid.any() and is_whole(memory)
            assert made.event_count(column, y[some_of], p[some_of], (H, W))[1] == len(far)
            frame, outside = made.event_frame(column, y[some_of], p[some_of], (H, W))
            assert outside == len(far) and (frame == 128).all()


def test_cells_that_are_all_the_same_become_0() -> None:
    t, x, y, p = np.arange(40), np.arange(40) % W, np.arange(40) // W, np.ones(40, np.uint8)
    grid, _ = made.voxel_grid(t, x + 0.3, y, p, (1, H, W + 40))  # 0.7 and 0.3 where neighbours do not meet
    assert np.isfinite(grid).all()
    grid, _ = made.voxel_grid(t, x, y, p, (1, H, W))
    assert not grid.any()


def test_large_sums_that_hardly_differ_are_normalised_well() -> None:
    """A mean of a thousand deviations leaves nothing of sums of squares in single precision."""
    random = np.random.default_rng(0)
    each = random.integers(99_990, 100_010, H * W)
    place = np.repeat(np.arange(H * W, dtype=np.int64), each)
    x, y = (place % W).astype(np.uint16), (place // W).astype(np.uint16)
    grid, _ = made.voxel_grid(np.arange(len(place)), x, y, np.ones(len(place), np.uint8), (1, H, W))
    assert np.allclose(grid, released(each.reshape(1, H, W)), atol=1e-5)


def test_ten_million_events() -> None:
    count, (height, width) = 10_000_000, (480, 640)
    random = np.random.default_rng(3)
    t = np.cumsum(random.integers(0, 10, count))
    x, y = random.integers(0, width, count, np.uint16), random.integers(0, height, count, np.uint16)
    p = random.integers(0, 2, count, np.uint8)
    grid, outside = made.voxel_grid(t, x, y, p, (5, height, width), normalise=False)
    assert outside == 0 and abs(grid.sum(dtype=np.float64) - (2.0 * p - 1).sum()) < 1
    expected = released(grid)
    made.voxel_grid(t, x, y, p, (5, height, width), out=grid)
    assert np.abs(grid - expected).max() < 1e-6 * np.abs(expected).max()
    found, _ = made.event_count(x, y, p, (height, width))
    cell = (p.astype(np.int64) * height + y) * width + x
    assert np.array_equal(found.ravel(), np.bincount(cell, minlength=found.size))


@pytest.mark.parametrize("decay_ns", [1e3, 1e7, 1e12, np.inf])
def test_a_surface_is_the_exponential_of_ages(decay_ns: float) -> None:
    random = np.random.default_rng(4)
    now = 3 * 10**18
    age = np.concatenate([[0, 1], (10 ** random.uniform(0, 14, 2 * H * W - 4)).astype(np.int64), [-5, 0]])
    last = (now - age).reshape(2, H, W)
    last[1, -1, -1] = made.NEVER
    expected = np.exp(-np.maximum(age, 0) / decay_ns).reshape(2, H, W)
    expected[1, -1, -1] = 0
    assert np.abs(made.time_surface(last, now, decay_ns) - expected).max() < 3e-7
    assert not made.time_surface(np.full((2, H, W), made.NEVER), now, decay_ns).any()
    assert (made.time_surface(last, -now, decay_ns)[:, :-1] == 1).all()  # all of them are later
