"""Pictures of trajectories and their errors as SVG text, for a page that opens offline."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.report_charts import Axes

Array = NDArray[np.float64]
COLORS = (
    "#1f6fb4", "#c8322b", "#2e8b45", "#d08a18", "#7b4fb0", "#16919b", "#d9569b", "#6a6f2a", "#7fb2e0", "#8a4a2b",
    "#9ccf6a", "#8d99a6",
)  # fmt: skip
_TRUTH = "#1c2733"
_MOST_DRAWN = 2000  # points of a line
_THINNEST = 0.3  # height of a path's picture as a share of its width, so that a flat path has room for its labels


def color_of(number: int) -> str:
    return COLORS[number % len(COLORS)]


def path_picture(truth_m: Array, estimates_m: Sequence[Array], across: int, up: int) -> str:
    """Trajectories (N x 3 each) seen along the third axis; the truth is black, a ring is where it begins."""
    every = np.concatenate([truth_m, *estimates_m])[:, [across, up]]
    middle, reach = (every.max(axis=0) + every.min(axis=0)) / 2, np.ptp(every, axis=0) / 2
    half = np.maximum(1.06 * reach, [1e-3, _THINNEST * max(reach[0], 1e-3)])
    low, high = middle - half, middle + half
    names = "xyz"
    axes = Axes(
        (low[0], high[0]), (low[1], high[1]), f"{names[across]}, m", f"{names[up]}, m", equal=True,
        what=f"trajectories over {names[across]} and {names[up]}",
    )  # fmt: skip
    _line(axes, truth_m[:, across], truth_m[:, up], _TRUTH, 2.2)
    for number, points in enumerate(estimates_m):
        _line(axes, points[:, across], points[:, up], color_of(number), 1.4)
    x, y = axes.px(truth_m[0, across]), axes.py(truth_m[0, up])
    axes.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{_TRUTH}" stroke-width="1.5"/>')
    return axes.done()


def error_picture(times_s: Sequence[Array], errors_m: Sequence[Array], start_s: float) -> str:
    """Distances from the truth over the time since `start_s`."""
    scale, unit = unit_of(max(float(values.max()) for values in errors_m))
    end_s = max(float(values[-1]) for values in times_s) - start_s
    top = max(1.08 * scale * float(max(values.max() for values in errors_m)), 1e-9)
    axes = Axes((0, max(end_s, 1e-9)), (0, top), "time, s", f"error, {unit}", what="error over time")
    for number, (time_s, error_m) in enumerate(zip(times_s, errors_m, strict=True)):
        _line(axes, time_s - start_s, scale * error_m, color_of(number), 1.4)
    return axes.done()


def step_picture(errors_m: Sequence[Array], bins: int = 30) -> str:
    """Which share of the steps is off by how much; beyond the last bin (the 99 % quantile) is in it."""
    reach = max(float(np.quantile(values, 0.99)) for values in errors_m if len(values)) or 1e-9
    scale, unit = unit_of(reach)
    edges = np.linspace(0, scale * reach, bins + 1)
    shares = [100 * np.histogram((scale * v).clip(0, edges[-1]), edges)[0] / max(len(v), 1) for v in errors_m]
    top = 1.1 * float(max(share.max() for share in shares))
    axes = Axes((0, edges[-1]), (0, top), f"error of a step, {unit}", "steps, %", what="errors of steps")
    for number, share in enumerate(shares):
        _line(axes, np.repeat(edges, 2)[1:-1], np.repeat(share, 2), color_of(number), 1.4)
    return axes.done()


def piece_picture(pieces: Sequence[Sequence[tuple[float, Array]]]) -> str:
    """Boxes by length of a piece of the path: middle half of the errors and median, whiskers from 5 to 95 %.

    `pieces`: (share of the path, errors in metres), of each estimate.
    """
    shares = sorted({share for each in pieces for share, _ in each})
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = [{shares.index(share): np.quantile(values, levels) for share, values in each} for each in pieces]
    reach = max(float(box[-1]) for each in quantiles for box in each.values()) or 1e-9
    scale, unit = unit_of(reach)
    axes = Axes(
        (0, len(shares)), (0, 1.08 * scale * reach), "length of a piece, share of the paired path", f"error, {unit}",
        what="errors by length", x_ticks=False,
    )  # fmt: skip
    for place, share in enumerate(shares):
        axes.text(axes.px(place + 0.5), axes.py(0) + 16, f"{100 * share:.0f} %")
    wide = 0.7 / len(pieces)
    for number, each in enumerate(quantiles):
        for place, box in each.items():
            left = place + 0.15 + number * wide
            _box(axes, axes.px(left + 0.1 * wide), axes.px(left + 0.9 * wide), (scale * box).tolist(), color_of(number))
    return axes.done()


def legend(names: Sequence[str]) -> str:
    """Lines in the colours of the pictures with the names of what they show."""
    rows = [(_TRUTH, "truth"), *((color_of(number), name) for number, name in enumerate(names))]
    return "<p>" + " ".join(
        f'<span class="key"><i style="background:{color}"></i>{html.escape(name)}</span>' for color, name in rows
    ) + "</p>"  # fmt: skip


def unit_of(reach_m: float) -> tuple[float, str]:
    """(Factor, name) of the unit in which a length is easy to read."""
    return (1000.0, "mm") if reach_m < 0.02 else (100.0, "cm") if reach_m < 1 else (1.0, "m")


def _line(axes: Axes, x: Array, y: Array, color: str, width: float) -> None:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_DRAWN)).round().astype(int))
    points = " ".join(f"{axes.px(x[k]):.1f},{axes.py(y[k]):.1f}" for k in chosen)
    axes.parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}"/>')


def _box(axes: Axes, left: float, right: float, levels: list[float], color: str) -> None:
    least, low, middle, high, most = (axes.py(level) for level in levels)
    center = (left + right) / 2
    axes.parts.append(
        f'<path d="M{center:.1f} {least:.1f}V{low:.1f}M{center:.1f} {high:.1f}V{most:.1f}" stroke="{color}"/>'
        f'<rect x="{left:.1f}" y="{high:.1f}" width="{right - left:.1f}" height="{low - high:.1f}" fill="{color}" '
        f'fill-opacity="0.3" stroke="{color}"/>'
        f'<path d="M{left:.1f} {middle:.1f}H{right:.1f}" stroke="{color}" stroke-width="2"/>'
    )
