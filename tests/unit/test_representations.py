"""Representations of events against sums written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest

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
