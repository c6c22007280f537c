"""Stripe points that can be trusted: those on plain white of a board, away from edges that pull the centre line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.boards import Board
from foveate_calibration.errors import CalibrationError
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_MARGIN_PX = 11.0  # to the nearest edge: the reach of the detector's filters for a stripe of 6 px
_FEWEST = 12
_CLEAR_PX = 14.0  # corners nearer to the stripe than this are pulled by its light
_MOST_SATURATED = 0.5
_LEAST_SPREAD = 0.05  # of points across their longest direction, by that along it
_OFF_LINE_PX = 1.5  # speckle and the bend of a real board stay below
_PAIRS = 60  # with half of the points astray, one pair in four is good


def scanner_view(
    board: Board,
    image: NDArray[np.uint8],
    stripe_px: Array,
    clipped: NDArray[np.bool_],
    margin_px: float = _MARGIN_PX,
) -> BoardView | None:
    """What an image shows of a board with a stripe (N x 2 points, N flags) across it; None without a board.

    Corners near the stripe are left out, and clipped points of it. Raises CalibrationError where most of it is clipped.
    """
    found = board.detect(image)
    if found is None:
        return None
    ids, pixels = found
    clear = _clear_of(pixels, stripe_px)
    view = BoardView(board.points_m[ids[clear]], pixels[clear])
    if len(view.pixel) < 6 or _on_a_row(view.board_m):
        return None
    if len(stripe_px):
        on_board, _ = board_points(view, stripe_px)
        over = board.uniform(on_board)
        if over.sum() > 20 and clipped[over].mean() > _MOST_SATURATED:
            raise CalibrationError(
                f"{clipped[over].mean():.0%} of the stripe on the board is clipped: its middle is lost; "
                "lower the laser's power or the exposure"
            )
    return with_stripe_on_board(view, board, stripe_px[~clipped], margin_px)


def _on_a_row(board_m: Array) -> bool:
    """Whether points (N x 3) of a board lie (nearly) in one row: they say nothing of how it is tilted."""
    spreads = np.linalg.svd(board_m[:, :2] - board_m[:, :2].mean(axis=0), compute_uv=False)
    return bool(spreads[1] < _LEAST_SPREAD * spreads[0])


def with_stripe_on_board(view: BoardView, board: Board, stripe_px: Array, margin_px: float = _MARGIN_PX) -> BoardView:
    """The view with the stripe's points (N x 2) that lie on plain white; without a stripe where they are few."""
    if len(stripe_px) < _FEWEST or len(view.pixel) < 4:
        return replace(view, stripe_px=None)
    on_board, px_per_m = board_points(view, stripe_px)
    low, high = board.points_m[:, :2].min(axis=0), board.points_m[:, :2].max(axis=0)  # beyond, the sheet may have ended
    good = board.uniform(on_board, margin_px / px_per_m) & ((on_board > low) & (on_board < high)).all(axis=1)
    if good.sum() >= _FEWEST:
        good[good] = _on_line(on_board[good], px_per_m)
    return replace(view, stripe_px=stripe_px[good] if good.sum() >= _FEWEST else None)


def _on_line(points: Array, px_per_m: float) -> NDArray[np.bool_]:
    """Which points (N x 2) are on the one straight line that a plane of light leaves on a flat board.

    The line through two points that most others are near (RANSAC, Fischler and Bolles 1981), from a fixed seed.
    """
    rng, best = np.random.default_rng(0), np.zeros(len(points), np.bool_)
    for _ in range(_PAIRS):
        a, b = points[rng.choice(len(points), 2, replace=False)]
        along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-12)
        off = np.abs((points - a) @ np.array([-along[1], along[0]])) * px_per_m
        if (off < _OFF_LINE_PX).sum() > best.sum():
            best = off < _OFF_LINE_PX
    return best


def board_points(view: BoardView, pixels: Array) -> tuple[Array, float]:
    """Board coordinates (N x 2, metres) of pixels by the homography of the view's points, and pixels a metre there.

    Distortion within one view is left out: it moves a point by less than the margin to an edge.
    """
    homography = _homography(view.board_m[:, :2], view.pixel)
    raised = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(homography).T
    spreads = [float(np.linalg.norm(np.cov(points.T))) for points in (view.pixel, view.board_m[:, :2])]
    return raised[:, :2] / raised[:, 2:], float(np.sqrt(spreads[0] / max(spreads[1], 1e-12)))


def _homography(source: Array, target: Array) -> Array:
    """3 x 3 from points (N x 2) to points, by the normalised direct linear transform (Hartley and Zisserman, 4.4)."""
    scales = []
    for points in (source, target):
        middle = points.mean(axis=0)
        factor = np.sqrt(2) / max(float(np.linalg.norm(points - middle, axis=1).mean()), 1e-12)
        scales.append(np.array([[factor, 0, -factor * middle[0]], [0, factor, -factor * middle[1]], [0, 0, 1]]))
    ones = np.ones(len(source))
    x, y, _ = np.column_stack([source, ones]).dot(scales[0].T).T
    u, v, _ = np.column_stack([target, ones]).dot(scales[1].T).T
    zero = np.zeros_like(x)
    rows = np.concatenate(
        [
            np.column_stack([x, y, ones, zero, zero, zero, -u * x, -u * y, -u]),
            np.column_stack([zero, zero, zero, x, y, ones, -v * x, -v * y, -v]),
        ]
    )
    found = np.linalg.svd(rows.T @ rows)[2][-1].reshape(3, 3)
    return np.linalg.inv(scales[1]) @ found @ scales[0]


def _clear_of(pixels: Array, stripe_px: Array) -> NDArray[np.bool_]:
    """Which points (N x 2) are far enough from a stripe that runs from top to bottom."""
    if not len(stripe_px):
        return np.ones(len(pixels), np.bool_)
    order = np.argsort(stripe_px[:, 1])
    column = np.interp(pixels[:, 1], stripe_px[order, 1], stripe_px[order, 0])
    return np.abs(pixels[:, 0] - column) > _CLEAR_PX
