"""Pictures of residuals as SVG text, for pages that open offline."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_W, _H, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 330, 56, 14, 14, 44
_MOST_DRAWN = 4000  # points in a picture; a page of more than a few MB opens slowly
_MOST_BARS = 120


class Axes:
    """A frame with ticks; x and y are mapped to it."""

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], x_label: str, y_label: str, *, equal: bool = False,
        down: bool = False, what: str = "", x_ticks: bool = True,
    ) -> None:  # fmt: skip
        """`equal`: a unit is as long in both directions; `down`: y grows downwards, as in an image; `x_ticks`: numbers
        along x, which pictures of kinds go without."""
        self.width, self.height = float(_W - _LEFT - _RIGHT), float(_H - _TOP - _BOTTOM)
        if equal:
            scale = min(self.width / (x[1] - x[0]), self.height / (y[1] - y[0]))
            self.width, self.height = scale * (x[1] - x[0]), scale * (y[1] - y[0])
        self._x, self._y, self._down = x, y, down
        total = self.height + _TOP + _BOTTOM
        label = html.escape(what or y_label)
        self.parts = [f'<svg viewBox="0 0 {_W} {total:.0f}" role="img" aria-label="{label}">']
        self._ticks(x_ticks)
        self.text(_LEFT + self.width / 2, _TOP + self.height + 36, x_label)
        self.parts.append(f'<text transform="translate(13,{_TOP + self.height / 2:.0f}) rotate(-90)" '
                          f'text-anchor="middle">{html.escape(y_label)}</text>')  # fmt: skip

    def px(self, x: float) -> float:
        return _LEFT + self.width * (x - self._x[0]) / (self._x[1] - self._x[0])

    def py(self, y: float) -> float:
        share = (y - self._y[0]) / (self._y[1] - self._y[0])
        return _TOP + self.height * (share if self._down else 1 - share)

    def _ticks(self, x_ticks: bool) -> None:
        left, right, top, bottom = _LEFT, _LEFT + self.width, _TOP, _TOP + self.height
        for value in ticks(*self._y):
            y = self.py(value)
            self.parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right:.1f}"/>')
            self.text(left - 5, y + 4, f"{value:g}", "end")
        for value in ticks(*self._x) if x_ticks else ():
            x = self.px(value)
            self.parts.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom:.1f}"/>')
            self.text(x, bottom + 16, f"{value:g}")
        self.parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{self.width:.1f}" '
                          f'height="{self.height:.1f}"/>')  # fmt: skip

    def text(self, x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> None:
        kind = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{html.escape(words)}</text>')

    def done(self) -> str:
        return "".join(self.parts) + "</svg>"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two."""
    span = max(high - low, 1e-12)
    step = 10.0 ** np.floor(np.log10(span / about))
    step *= next((m for m in (1, 2, 5, 10) if span / (step * m) <= about), 10)
    first = int(np.ceil(low / step - 1e-9))
    return [round(k * step, 12) for k in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _some(count: int) -> NDArray[np.int64]:
    chosen = np.arange(count)
    return chosen if count <= _MOST_DRAWN else np.random.default_rng(0).permutation(count)[:_MOST_DRAWN]


def scatter(values: Array, sigma: float, unit: str) -> str:
    """Residuals (N x 2) with circles of one, two and three sigmas; what lies beyond the frame is put on its edge."""
    reach = float(max(4 * sigma, np.quantile(np.abs(values), 0.999) * 1.05, 1e-12))
    axes = Axes((-reach, reach), (-reach, reach), f"x, {unit}", f"y, {unit}", equal=True, down=True,
                 what="scatter of residuals")  # fmt: skip
    for x, y in values[_some(len(values))].clip(-reach, reach):
        bad = np.hypot(x, y) > 4 * sigma
        axes.parts.append(f'<circle class="{"bad" if bad else "dot"}" cx="{axes.px(x):.1f}" cy="{axes.py(y):.1f}" '
                          f'r="{2.5 if bad else 1.6}"/>')  # fmt: skip
    for times in (1, 2, 3):
        radius = axes.px(times * sigma) - axes.px(0)
        axes.parts.append(f'<circle class="sigma" cx="{axes.px(0):.1f}" cy="{axes.py(0):.1f}" r="{radius:.1f}"/>')
        if times == 1 or radius < axes.height / 2:
            axes.text(axes.px(0), axes.py(0) - radius - 2, f"{times} sigma", kind="note")
    return axes.done()


def field(at_px: Array, values: Array, size: tuple[int, int], unit: str) -> tuple[str, float]:
    """(Residuals as arrows where they are in the image, how many times they are enlarged)."""
    lengths = np.linalg.norm(values, axis=1)
    factor = 0.03 * size[0] / max(float(np.quantile(lengths, 0.9)), 1e-12)
    factor = float(f"{factor:.1g}")
    limit = 4 * np.median(lengths) / 1.1774
    axes = Axes((0, size[0]), (0, size[1]), "column, px", "row, px", equal=True, down=True,
                 what="residuals over the image")  # fmt: skip
    for k in _some(len(values)):
        (x, y), (dx, dy) = at_px[k], values[k] * factor
        kind = "bad" if lengths[k] > limit else "arrow"
        axes.parts.append(f'<path class="{kind}" d="M{axes.px(x):.1f} {axes.py(y):.1f}L{axes.px(x + dx):.1f} '
                          f'{axes.py(y + dy):.1f}"/>')  # fmt: skip
        axes.parts.append(f'<circle class="dot" cx="{axes.px(x):.1f}" cy="{axes.py(y):.1f}" r="1"/>')
    return axes.done(), factor


def bars(names: Sequence[str], heights: Array, unit: str, off: float = 2.0) -> str:
    """A bar for each view; those beyond `off` times the median stand out and are named."""
    if len(names) > _MOST_BARS:
        chosen = np.sort(np.argsort(-heights)[:_MOST_BARS])
        names, heights = [names[k] for k in chosen], heights[chosen]
    middle = float(np.median(heights))
    axes = Axes((0, len(names)), (0, 1.15 * float(heights.max()) or 1.0), "view", f"rms, {unit}", what="per view")
    worst = int(np.argmax(heights))
    for k, (name, height) in enumerate(zip(names, heights.tolist(), strict=True)):
        far = height > off * middle
        y = axes.py(height)
        axes.parts.append(
            f'<rect class="{"bad" if far else "bar"}" x="{axes.px(k + 0.1):.1f}" y="{y:.1f}" '
            f'width="{0.8 * axes.width / len(names):.1f}" height="{axes.py(0) - y:.1f}">'
            f"<title>{html.escape(name)}: {height:.3g} {unit}</title></rect>"
        )
        if far or k == worst:
            anchor = "start" if k < len(names) / 2 else "end"
            axes.text(axes.px(k + (0.1 if anchor == "start" else 0.9)), y - 4, name[-24:], anchor, "note")
    axes.parts.append(f'<path class="sigma" d="M{_LEFT} {axes.py(middle):.1f}H{_LEFT + axes.width:.1f}"/>')
    axes.text(_LEFT + axes.width - 3, axes.py(middle) - 4, "median", "end", "note")
    return axes.done()


def histogram(values: Array, sigma: float, unit: str) -> str:
    """Residuals (N,) of each axis, against the normal distribution of `sigma`."""
    reach = 4 * max(sigma, 1e-12)
    edges = np.linspace(-reach, reach, 41)
    counts = np.histogram(values.clip(-reach, reach), edges)[0] / max(len(values), 1) / (edges[1] - edges[0])
    x = np.linspace(-reach, reach, 161)
    normal = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    axes = Axes((-reach, reach), (0, 1.1 * float(max(counts.max(), normal.max()))), f"residual, {unit}",
                 f"density, 1/{unit}", what="histogram")  # fmt: skip
    for a, b, height in zip(edges[:-1], edges[1:], counts, strict=True):
        y = axes.py(height)
        axes.parts.append(f'<rect class="bar" x="{axes.px(a) + 0.5:.1f}" y="{y:.1f}" '
                          f'width="{axes.px(b) - axes.px(a) - 1:.1f}" height="{axes.py(0) - y:.1f}"/>')  # fmt: skip
    points = " ".join(f"{axes.px(a):.1f},{axes.py(b):.1f}" for a, b in zip(x, normal, strict=True))
    axes.parts.append(f'<polyline class="curve" points="{points}"/>')
    return axes.done()


def coverage(at_px: Array, size: tuple[int, int], cells: tuple[int, int] = (16, 12)) -> str:
    """How many points were seen in each part of the image."""
    counts = np.histogram2d(at_px[:, 1], at_px[:, 0], bins=cells[::-1], range=((0, size[1]), (0, size[0])))[0]
    return heat(counts, size, "points", digits=0)


def heat(values: Array, size: tuple[int, int], unit: str, digits: int = 2) -> str:
    """A number (rows x columns) for each part of the image, darker where it is larger."""
    axes = Axes((0, size[0]), (0, size[1]), "column, px", "row, px", equal=True, down=True, what=unit)
    rows, columns = values.shape
    top = float(np.quantile(values, 0.98)) or 1.0
    wide, high = axes.width / columns, axes.height / rows
    for (row, column), value in np.ndenumerate(values):
        share = min(value / top, 1.0)
        left, upper = _LEFT + column * wide, _TOP + row * high
        axes.parts.append(f'<rect x="{left:.1f}" y="{upper:.1f}" width="{wide:.1f}" height="{high:.1f}" '
                          f'fill="#1f6fb4" fill-opacity="{0.85 * share:.2f}"/>')  # fmt: skip
        words = f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"
        kind = "pale" if share > 0.6 else "note"
        axes.text(left + wide / 2, upper + high / 2 + 3, words, kind=f"{kind} small")
    return axes.done()
