"""A line chart as SVG text, for reports that open offline."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_W, _H, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 300, 52, 44, 14, 150


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    color: str


def chart(lines: Sequence[Line], x_label: str, y_label: str, y_top: float) -> str:
    """Curves over a common x axis from 0; the y axis runs from 0 to `y_top`."""
    x_top = max((float(line.x[-1]) for line in lines if len(line.x)), default=1.0) or 1.0
    width, height = _W - _LEFT - _RIGHT, _H - _TOP - _BOTTOM

    def px(x: float) -> float:
        return _LEFT + width * x / x_top

    def py(y: float) -> float:
        return _TOP + height * (1 - y / y_top)

    parts = [f'<svg viewBox="0 0 {_W} {_H}" class="chart" role="img" aria-label="{html.escape(y_label)}">']
    for tick in np.linspace(0, y_top, 6):
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + width}" y1="{py(tick):.1f}" y2="{py(tick):.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in np.linspace(0, x_top, 6):
        parts.append(f'<text x="{px(tick):.1f}" y="{_TOP + height + 16}" text-anchor="middle">{tick:.3g}</text>')
    parts.append(f'<text x="{_LEFT + width / 2}" y="{_H - 8}" text-anchor="middle">{html.escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(13,{_TOP + height / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    for i, line in enumerate(lines):
        points = " ".join(
            f"{px(float(x)):.1f},{py(min(float(y), y_top)):.1f}" for x, y in zip(line.x, line.y, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="2.2"/>')
        y = _TOP + 14 + 20 * i
        parts.append(f'<path d="M{_W - _RIGHT + 12} {y}h22" stroke="{line.color}" stroke-width="3"/>')
        parts.append(f'<text x="{_W - _RIGHT + 40}" y="{y + 4}">{html.escape(line.name)}</text>')
    return "".join(parts) + "</svg>"
