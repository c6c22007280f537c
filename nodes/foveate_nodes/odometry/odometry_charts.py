"""Pictures of a run of odometry as SVG text: the map and the way from above and from the side, quality over time."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.report_charts import Axes

Array = NDArray[np.float64]
_MOST_DRAWN = 3000  # points of a line
_CELLS = 700  # along the longer side of the picture of the points
_GLOW = 8.0  # points in a cell that are drawn in full
LEAST_EDGE = 0.28  # agreement's; that file needs numba, which whoever reads a recording may not have
_LEAST_M = 0.5  # along each side: a camera that stood still is not enlarged without end
ONLINE, CLOSED, LOOP, LOST = "#1f6fb4", "#2e8b45", "#b04f86", "#c8322b"


def map_picture(
    point: Array, ways: Sequence[tuple[Array, NDArray[np.bool_], str]], loops: Array, names: tuple[str, str], what: str
) -> str:
    """Points (N x 2) as a density, ways (N x 2 each, whether joined to the one before, colour), loops (L x 2 x 2)."""
    inner = np.quantile(point, [0.005, 0.995], axis=0) if len(point) else np.zeros((0, 2))
    every = np.concatenate([inner, *(way for way, _, _ in ways)])
    middle = (every.max(axis=0) + every.min(axis=0)) / 2
    half = np.maximum(np.ptp(every, axis=0) * 0.52, _LEAST_M / 2)
    half = np.maximum(half, 0.25 * half.max())
    low, high = middle - half, middle + half
    axes = Axes((low[0], high[0]), (low[1], high[1]), names[0], names[1], equal=True, what=what)
    axes.parts.append(_density(axes, point, low, high))
    for way, joined, color in ways:
        axes.parts += _lines(axes, way, joined, color)
        x, y = axes.px(way[0, 0]), axes.py(way[0, 1])
        axes.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{color}" stroke-width="1.5"/>')
    for (x0, y0), (x1, y1) in loops:
        axes.parts.append(f'<path d="M{axes.px(x0):.1f} {axes.py(y0):.1f}L{axes.px(x1):.1f} {axes.py(y1):.1f}" '
                          f'stroke="{LOOP}"/>')  # fmt: skip
    return axes.done()


def _density(axes: Axes, point: Array, low: Array, high: Array) -> str:
    """How many points lie where, as an image inside the axes."""
    if not len(point):
        return ""
    cells = np.maximum(np.ceil(_CELLS * (high - low) / (high - low).max()), 1).astype(int)
    count = np.histogram2d(point[:, 1], point[:, 0], cells[::-1], ((low[1], high[1]), (low[0], high[0])))[0][::-1]
    image = np.zeros((*count.shape, 4), np.uint8)
    image[..., :3] = (70, 56, 40)
    image[..., 3] = (235 * np.minimum(np.log1p(count) / np.log1p(_GLOW), 1.0)).astype(np.uint8)
    text = base64.b64encode(np.ravel(cv2.imencode(".png", image)[1]).tobytes()).decode()
    left, top = axes.px(low[0]), axes.py(high[1])
    return (
        f'<image x="{left:.1f}" y="{top:.1f}" width="{axes.px(high[0]) - left:.1f}" '
        f'height="{axes.py(low[1]) - top:.1f}" preserveAspectRatio="none" href="data:image/png;base64,{text}"/>'
    )


def over_time(
    time_s: Array, values: Sequence[tuple[Array, str]], label: str, spans: Sequence[tuple[float, float, str]],
    top: float | None = None, limit: float | None = None,
) -> str:  # fmt: skip
    """Values (N,) of frames with their colours; spans in which it was lost are red, what is not finite is left out;
    `limit`: a dashed line."""
    begin, end = float(time_s[0]), max(float(time_s[-1]), float(time_s[0]) + 1e-3)
    finite = np.concatenate([value[np.isfinite(value)] for value, _ in values])
    most = top if top is not None else max(1.08 * float(np.quantile(finite, 0.995)) if len(finite) else 1.0, 1e-9)
    axes = Axes((begin, end), (0, most), "time, s", label, what=f"{label} over time")
    for first, last, _ in spans:
        left, right = axes.px(first), max(axes.px(last), axes.px(first) + 1.5)
        axes.parts.append(f'<rect x="{left:.1f}" y="{axes.py(most):.1f}" width="{right - left:.1f}" '
                          f'height="{axes.py(0) - axes.py(most):.1f}" fill="{LOST}" fill-opacity="0.25"/>')  # fmt: skip
    for value, color in values:
        good = np.isfinite(value)
        shown = np.column_stack([time_s, np.minimum(value, most)])[good]
        axes.parts += _lines(axes, shown, np.diff(np.flatnonzero(good), prepend=-2) == 1, color)
    if limit is not None:
        axes.parts.append(f'<path d="M{axes.px(begin):.1f} {axes.py(limit):.1f}H{axes.px(end):.1f}" stroke="{LOST}" '
                          'stroke-dasharray="5 4"/>')  # fmt: skip
    return axes.done()


def _lines(axes: Axes, at: Array, joined: NDArray[np.bool_], color: str) -> list[str]:
    """Polylines through points (N x 2), each begun anew where a point is not joined to the one before."""
    found = []
    cuts = [0, *(np.flatnonzero(~joined[1:]) + 1).tolist(), len(at)]
    for begin, end in pairwise(cuts):
        if end > begin:
            some = np.unique(np.linspace(begin, end - 1, min(end - begin, _MOST_DRAWN)).round().astype(int))
            points = " ".join(f"{axes.px(x):.1f},{axes.py(y):.1f}" for x, y in at[some])
            found.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.4"/>')
    return found
