"""A page that shows a calibration and what it left, so that a person can judge it; it opens offline."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration import report_charts as charts
from foveate_calibration.document import Calibration

Array = NDArray[np.float64]

_CELLS = (8, 6)  # of the image, for what residuals have in common
_FEWEST_IN_CELL = 5
_TAIL = 1.5  # rms over the robust sigma, beyond which some measurements are of another kind
_TREND = 2.0  # mean residuals of cells, in units of chance; sound fits of real boards have up to 1.8


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """What a fit left of one kind of measurement."""

    name: str
    unit: str
    values: Array  # N x D; D = 2: x and y in the image
    view: NDArray[np.int64]  # (N,) number of the view
    views: tuple[str, ...]
    at_px: Array | None = None  # N x 2, where in the image
    size: tuple[int, int] | None = None  # of the image

    @property
    def sigma(self) -> float:
        """Standard deviation of an axis, as most of the values have it."""
        return max(float(np.median(np.abs(self.values))) / 0.6745, 1e-12)

    def trend(self) -> float | None:
        """How far the means of parts of the image are from 0, in units of what chance gives; None without places."""
        if self.at_px is None or self.size is None:
            return None
        cell = (self.at_px / self.size * _CELLS).astype(int).clip(0, (_CELLS[0] - 1, _CELLS[1] - 1))
        number = cell[:, 0] * _CELLS[1] + cell[:, 1]
        found = []
        for one in np.unique(number):
            there = self.values[number == one]
            if len(there) >= _FEWEST_IN_CELL:
                found.append(there.mean(axis=0) / (self.sigma / np.sqrt(len(there))))
        return float(np.sqrt(np.mean(np.square(found)))) if found else None


@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """A further map over the image."""

    title: str
    unit: str
    values: Array  # rows x columns
    size: tuple[int, int]


def residuals_of(
    name: str, unit: str, parts: Sequence[Array], views: Sequence[str], at_px: Sequence[Array] | None = None,
    size: tuple[int, int] | None = None,
) -> Residuals:  # fmt: skip
    """Of residuals given view by view (N x D each)."""
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    where = None if at_px is None else np.concatenate(at_px)
    return Residuals(name, unit, np.concatenate(parts), number, tuple(views), where, size)


def verdict(calibration: Calibration, residuals: Sequence[Residuals], removed: Sequence[str] = ()) -> list[str]:
    """What a person should know first, in words; the first line says whether to use it."""
    found = []
    for kind in residuals:
        if not len(kind.values):
            continue
        rms = float(np.sqrt(np.mean(kind.values**2)))
        if rms > _TAIL * kind.sigma:
            found.append(
                f"{kind.name}: the rms of {rms:.3g} {kind.unit} is {rms / kind.sigma:.1f} times what most residuals "
                "say: some points are wrong; look for the red ones"
            )
        trend = kind.trend()
        if trend is not None and trend > _TREND:
            found.append(
                f"{kind.name}: in parts of the image the residuals point the same way ({trend:.1f} times chance): the "
                "model is too simple for this lens (try --rational), or the board is not flat"
            )
    if removed:
        found.append(f"{len(removed)} left out: {'; '.join(removed[:3])}{' ...' if len(removed) > 3 else ''}")
    found += calibration.weak
    first = "Nothing speaks against using it." if not found else "Read these before using it:"
    return [first, *found]


def page(
    calibration: Calibration, title: str, residuals: Sequence[Residuals], removed: Sequence[str] = (),
    extras: Sequence[Extra] = (),
) -> str:  # fmt: skip
    """The page's HTML."""
    lines = verdict(calibration, residuals, removed)
    told = "".join(f"<li>{html.escape(line)}</li>" for line in lines[1:])
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{html.escape(title)}</h1>',
        f'<section class="{"good" if not told else "mind"}"><p>{html.escape(lines[0])}</p><ul>{told}</ul></section>',
    ]
    parts += [_section(kind) for kind in residuals if len(kind.values)]
    if extras:
        parts.append('<div class="grid2">')
        parts += [_figure(charts.heat(e.values, e.size, e.unit), f"{e.title}, {e.unit}") for e in extras]
        parts.append("</div>")
    parts.append(_parameters(calibration))
    rows = [
        [name, ", ".join(f"{key} {value:.4g}" for key, value in values.items())]
        for name, values in calibration.residuals.items()
    ]
    each = [row for row in rows if row[0].startswith(("view ", "pair "))]
    parts.append(_table("What is left", ["quantity", "value"], [row for row in rows if row not in each]))
    if each:
        parts.append(f"<details><summary>each of {len(each)}</summary>{_table('', ['', ''], each)}</details>")
    parts.append(_table("Where it is from", ["", ""], [[key, value] for key, value in calibration.origin.items()]))
    return "\n".join(parts) + "</html>\n"


def _section(kind: Residuals) -> str:
    rms, sigma = float(np.sqrt(np.mean(kind.values**2))), kind.sigma
    parts = [f"<h2>{html.escape(kind.name[0].upper() + kind.name[1:])}</h2><p>{len(kind.values)} measurements in "
             f"{len(kind.views)} views; rms {rms:.3g} {kind.unit} each axis, most as of a sigma of {sigma:.3g} "
             f'{kind.unit}.</p><div class="grid2">']  # fmt: skip
    if kind.values.shape[1] == 2:
        parts.append(_figure(charts.scatter(kind.values, sigma, kind.unit),
                             "Each residual; red beyond 4 sigma. A good fit is a round cloud around 0."))  # fmt: skip
    if kind.at_px is not None and kind.size is not None and kind.values.shape[1] == 2:
        drawn, factor = charts.field(kind.at_px, kind.values, kind.size, kind.unit)
        parts.append(_figure(drawn, f"Residuals where they are in the image, {factor:g} times as long. Neighbours that "
                                    "point the same way are an error of the model."))  # fmt: skip
    squares = np.bincount(kind.view, (kind.values**2).mean(axis=1), len(kind.views))
    counts = np.bincount(kind.view, minlength=len(kind.views))
    heights = np.sqrt(squares / np.maximum(counts, 1))
    parts.append(_figure(charts.bars(kind.views, heights, kind.unit), "Root mean square of each view; red beyond twice "
                                                                      "the median."))  # fmt: skip
    parts.append(_figure(charts.histogram(kind.values.ravel(), sigma, kind.unit),
                         "All residuals, and the normal distribution of the sigma."))  # fmt: skip
    if kind.at_px is not None and kind.size is not None:
        parts.append(_figure(charts.coverage(kind.at_px, kind.size), "Points in each part of the image. Where there "
                                                                     "are none the lens is a guess."))  # fmt: skip
    return "".join(parts) + "</div>"


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _parameters(calibration: Calibration) -> str:
    rows, shown = [], set()
    for name, model in calibration.models.items():
        for key, value in numbers(model.plain()):
            full = f"{name}.{key}"
            shown.add(full)
            sigma = calibration.sigmas.get(full)
            if sigma is None and not value:
                continue  # a coefficient that was not fitted
            rows.append([full, f"{value:.8g}", "" if sigma is None else f"{sigma:.3g}",
                         "" if sigma is None or not value else f"{abs(sigma / value):.2%}"])  # fmt: skip
    rows += [[name, "", f"{sigma:.3g}", ""] for name, sigma in calibration.sigmas.items() if name not in shown]
    return _table("Parameters", ["", "value", "sigma", "share"], rows)


def numbers(plain: object, name: str = "") -> list[tuple[str, float]]:
    """Numbers of nested values, each with its path."""
    if isinstance(plain, dict):
        parts = [(str(key), value) for key, value in plain.items()]
    elif isinstance(plain, list):
        parts = [(str(key + 1), value) for key, value in enumerate(plain)]
    elif isinstance(plain, int | float):
        return [(name, float(plain))]
    else:
        return []
    return [found for key, value in parts for found in numbers(value, f"{name}.{key}" if name else key)]


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    title = f"<h2>{html.escape(title)}</h2>" if title else ""
    return f"{title}<table><tr>{head}</tr>{body}</table>"


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1040px;margin:24px auto;padding:0 16px;color:#1c2733}
h1{font-size:24px}h2{font-size:18px;margin-top:32px}
section{padding:4px 16px;border-radius:6px;border-left:6px solid}
.good{background:#eaf6ec;border-color:#2e8b45}.mind{background:#fdf3e2;border-color:#d08a18}
.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(400px,1fr));gap:16px}
figure{margin:0}figcaption{font-size:13px;color:#556270}svg{width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#33404d}svg .note{fill:#556270}
svg .note{paint-order:stroke;stroke:#fff;stroke-width:2px;stroke-opacity:.7}svg .pale{fill:#fff}
svg .small{font-size:9px;stroke:none}
.grid{stroke:#e3e8ed;fill:none}.frame{fill:none;stroke:#aab4be}
circle.dot{fill:#1f6fb4;fill-opacity:.55}path.arrow{stroke:#1f6fb4;fill:none}
circle.bad,rect.bad{fill:#c8322b}path.bad{stroke:#c8322b;stroke-width:1.6;fill:none}
.sigma{fill:none;stroke:#333;stroke-dasharray:4 3}.bar{fill:#8fb9dc}.curve{fill:none;stroke:#c8322b;stroke-width:1.6}
table{border-collapse:collapse;font-size:13px}
td,th{text-align:left;padding:3px 14px 3px 0;border-bottom:1px solid #e3e8ed;
overflow-wrap:anywhere}
"""
