"""What a compression did, as one HTML page that opens offline (extra compress)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from foveate_compression.compressing import Made
from foveate_compression.latency import Latency
from foveate_compression.network import Layer

_WIDTH, _ROW = 420, 18  # pixels of a chart


def write(made: Made, took: Latency | None, path: Path) -> None:
    """The page: sizes, scores and times, then layer by layer."""
    work = made.work
    before, after = made.sizes
    rows = [
        ("score", str(made.whole), str(made.small)),
        (
            "file",
            f"{before / 1e6:.3f} MB",
            f"{after / 1e6:.3f} MB ({before / after:.1f}x)",
        ),
        ("bits a weight", "32", f"{made.bits:.2f} ({32 / made.bits:.1f}x, packed)"),
        ("layers in integers", "0", f"{made.integer_layers} of {len(work.network.layers)}"),
    ]
    if took is not None:
        rows.append(("a run, one thread", f"{took.whole_ms:.2f} ms", f"{took.small_ms:.2f} ms ({took.ratio:.2f}x)"))
    body = ["<h1>", html.escape(path.stem), "</h1>", _table(("", "whole", "compressed"), rows)]
    body.append(f"<p>The file gives what was simulated: {html.escape(str(made.likeness))}.</p>")
    errors = [(layer.name, made.weight_errors[layer.name]) for layer in work.network.layers]
    body += ["<h2>Error of weights by layer</h2>", "<p>Sum of squares, relative to the weight's.</p>", _bars(errors)]
    if work.gains:
        gains = [(gain.block, f"{gain.before:.2e}", f"{gain.after:.2e}") for gain in work.gains]
        body += ["<h2>Blocks that were learnt</h2>", "<p>Mean squared error, relative to the outputs' mean square.</p>",
                 _table(("block", "before", "after"), gains)]  # fmt: skip
    body += ["<h2>Layers</h2>", _layers(made)]
    style = ("body{font:15px sans-serif;margin:2em auto;max-width:60em}td,th{padding:2px 12px;text-align:left}"
             "td+td{font-variant-numeric:tabular-nums}text{font:11px sans-serif}")  # fmt: skip
    page = f"<!doctype html><meta charset='utf-8'><title>{html.escape(path.stem)}</title><style>{style}</style>"
    path.write_text(page + "".join(body), encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{html.escape(each)}</th>" for each in head)
    rest = "".join("<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{rest}</table>"


def _bars(values: Sequence[tuple[str, float]]) -> str:
    top = max((value for _, value in values), default=0.0) or 1.0
    parts = []
    for i, (name, value) in enumerate(values):
        y = i * _ROW
        parts.append(f"<text x='0' y='{y + 13}'>{html.escape(_short(name))}</text>"
                     f"<rect x='260' y='{y + 3}' width='{_WIDTH * value / top:.1f}' height='12' fill='#4878a8'/>"
                     f"<text x='{264 + _WIDTH * value / top:.1f}' y='{y + 13}'>{value:.2e}</text>")  # fmt: skip
    return f"<svg width='{320 + _WIDTH}' height='{_ROW * len(values) + 6}'>{''.join(parts)}</svg>"


def _short(name: str, most: int = 40) -> str:
    return name if len(name) <= most else "..." + name[3 - most :]


def _layers(made: Made) -> str:
    work = made.work

    def row(layer: Layer) -> tuple[str, ...]:
        form, count = work.forms.get(layer.weight), work.network.weight(layer).numel()
        kind = "float" if form is None else type(form).__name__.lower()
        bits = 32.0 if form is None else form.bits() / count
        level = "levels" if layer.input in work.levels else "float"
        return _short(layer.name), layer.kind, f"{count:,}", kind, f"{bits:.2f}", level

    return _table(
        ("layer", "kind", "weights", "form", "bits a weight", "input"), [row(each) for each in work.network.layers]
    )
