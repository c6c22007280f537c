"""The report of event segmentation: one HTML page that opens offline, made from recordings alone."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.errors import RecordingError
from foveate.messages import Events
from foveate.recording import Recording
from foveate.recording.recording import Stream
from foveate_nodes.segmentation.classes import palette, seen_as
from foveate_nodes.segmentation.label_picture import legend
from foveate_nodes.segmentation.messages import LabelImage, SliceEnergy
from foveate_nodes.segmentation.scores import Confusion

_PICTURES = 6
_NEAR_NS = 10_000_000  # a truth within this time is that of a label image


@dataclass(slots=True)
class _Run:
    """What the page tells of one recording."""

    name: str
    path: Path
    names: tuple[str, ...]
    images: int = 0
    slices: int = 0
    skipped: int = 0
    share: NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))  # of the pixels, by label
    seconds: float = 0.0
    confusion: Confusion | None = None  # None: no truth was recorded, or none that can be compared
    pairs: list[tuple[LabelImage, LabelImage | None]] = field(default_factory=list)  # to show
    events: int | None = None
    lost: int = 0  # events that the camera is known to have lost
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    simulated: bool = False  # its times are what nodes declare, not what they took
    energy: SliceEnergy | None = None
    notes: list[str] = field(default_factory=list)


def write(logs: Mapping[str, Path], out: Path) -> list[str]:
    """Segmentation report: label images beside the truth, IoU by class, energy as the model's training measured it,
    time per slice. `logs["run"]` is the run; others are compared.

    Returns the summary as lines. Raises RecordingError for a recording without label images.
    """
    runs = []
    for name, path in logs.items():
        with Recording(path) as log:
            runs.append(_read("segmentation" if name == "run" else name, log))
    try:
        out.write_text(_page(runs), encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"{out}: cannot write: {error.strerror}") from None
    return [line for run in runs for line in _lines(run)]


class _Truth:
    """What was there, read from a recording as it is asked for: an hour of label images fills the memory."""

    def __init__(self, log: Recording, stream: str) -> None:
        self._log, self._stream = log, stream
        self._t_ns = np.array([label.stamp.t_ns for label in _labels(log, stream)], np.int64)
        self.names = next(_labels(log, stream)).names
        self._restart()

    def _restart(self) -> None:
        self._ahead = _labels(self._log, self._stream)
        self._at, self._image = 0, next(self._ahead)

    def of(self, label: LabelImage) -> LabelImage | None:
        """The truth at the time of a label image, if there is one of its size."""
        nearest = int(np.abs(self._t_ns - label.stamp.t_ns).argmin())
        if abs(int(self._t_ns[nearest]) - label.stamp.t_ns) > _NEAR_NS:
            return None
        if nearest < self._at:
            self._restart()
        while self._at < nearest:
            self._at, self._image = self._at + 1, next(self._ahead)
        return self._image if self._image.label.shape == label.label.shape else None


def _labels(log: Recording, stream: str) -> Iterator[LabelImage]:
    return (message for _, message in log.messages(stream, LabelImage) if isinstance(message, LabelImage))


def _read(name: str, log: Recording) -> _Run:
    given, truth = None, None
    for stream in log.streams():
        if stream.type == LabelImage.__name__ and stream.messages:
            if next(_labels(log, stream.name)).slices:
                given = given or stream
            else:
                truth = truth or _Truth(log, stream.name)
    if given is None:
        why = "the run ended before a slice did, or 'segment.labels' is not in the graph's record"
        raise RecordingError(f"{log.path}: the segmentation report needs label images, and there are none: {why}")
    run = _Run(name, log.path, next(_labels(log, given.name)).names, nodes=log.end.get("nodes", {}))
    run.simulated = log.seal.get("executor") == "virtual"
    _scored(run, log, given, truth)
    for stream in log.streams():
        if stream.type == Events.__name__ and stream.messages:
            run.events = 0
            for _, events in log.messages(stream.name, Events):
                if isinstance(events, Events):
                    run.events, run.lost = run.events + len(events.t_ns), run.lost + events.lost_before
        if stream.type == SliceEnergy.__name__:
            run.energy = log.last(stream.name, SliceEnergy) or run.energy  # type: ignore[assignment]
    return run


def _scored(run: _Run, log: Recording, given: Stream, truth: _Truth | None) -> None:
    """Fill in what label images say, and how well they agree with the truth."""
    chosen = set(np.linspace(0, given.messages - 1, min(_PICTURES, given.messages)).astype(int).tolist())
    table = None if truth is None else seen_as(truth.names, run.names)
    confusion = Confusion(len(run.names))
    begin_ns = None
    for label in _labels(log, given.name):
        found = None
        if truth is not None and table is not None and (found := truth.of(label)) is not None:
            confusion.add(table[found.label], label.label)
            run.confusion = confusion
        if run.images in chosen:
            run.pairs.append((label, found))
        run.images, run.slices, run.skipped = run.images + 1, run.slices + label.slices, run.skipped + label.skipped
        run.share += np.bincount(label.label.ravel(), minlength=256) / label.label.size
        begin_ns = label.stamp.t_ns - label.stamp.exposure_ns if begin_ns is None else begin_ns
        run.seconds = max((label.stamp.t_ns - begin_ns) / 1e9, 0.0)
    if truth is not None and table is None:
        run.notes.append(f"the truth has classes that the model has not: {', '.join(truth.names)}")
    elif truth is not None and run.confusion is None:
        run.notes.append("no label image has a truth of its size within 10 ms")


def _lines(run: _Run) -> list[str]:
    lines = [f"{run.name}: {run.images} label images of {run.slices} slices in {run.seconds:.2f} s"
             + (f", {run.skipped} slices skipped" if run.skipped else "")]  # fmt: skip
    if run.confusion is not None:
        iou = run.confusion.iou
        said = ", ".join(f"{name} {value:.0%}" for name, value in zip(run.names, iou, strict=True) if value == value)
        lines.append(
            f"{run.name}: mIoU {run.confusion.miou:.1%} ({said}); {run.confusion.accuracy:.1%} of the pixels right"
        )
    if run.lost:
        lines.append(f"{run.name}: the camera lost {run.lost:,} events beside the {run.events or 0:,} that it gave")
    step = run.nodes.get("segment", {}).get("step_p50_ns")
    if step:
        how = "as declared: the run was in simulated time" if run.simulated else "median"
        lines.append(f"{run.name}: {step / 1e6:.1f} ms a step ({how})")
    return lines + [f"note: {note}" for note in run.notes]


def _page(runs: list[_Run]) -> str:
    head = "".join(f"<p class=headline>{html.escape(line)}</p>" for line in _lines(runs[0]))
    body = "".join(
        f"<h2>{html.escape(run.name)}</h2><p class=note>{html.escape(run.path.name)}</p>"
        f"{_classes(run)}{_pictures(run)}{_energy(run)}{_times(run)}"
        for run in runs
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Event segmentation</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Event segmentation</h1>{head}{body}</body></html>
"""


def _classes(run: _Run) -> str:
    colors = palette(run.names)
    rows = []
    for i, name in enumerate(run.names):
        b, g, r = colors[i]
        cells = [f"<td><span class=key style='background:rgb({r},{g},{b})'></span> {html.escape(name)}</td>"]
        cells.append(f"<td>{run.share[i] / run.images:.1%}</td>")
        if run.confusion is not None:
            pixels, iou = run.confusion.pixels, run.confusion.iou[i]
            true = pixels[i].sum() / max(pixels.sum(), 1)
            cells += [
                f"<td>{true:.1%}</td>",
                f"<td>{'not there' if iou != iou else f'{iou:.1%}'}</td>",
                _mistaken(run, i),
            ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    truth = "<th>in the truth</th><th>IoU</th><th>most often taken for</th>" if run.confusion is not None else ""
    without = ""
    if run.confusion is None:
        why = "; ".join(run.notes) or "no truth was recorded"
        without = f"<p class=note>There is nothing to score against: {html.escape(why)}.</p>"
    return f"<table><tr><th>class</th><th>pixels</th>{truth}</tr>{''.join(rows)}</table>{without}"


def _mistaken(run: _Run, i: int) -> str:
    assert run.confusion is not None
    row = run.confusion.pixels[i].astype(float).copy()
    total = row.sum()
    row[i] = 0
    if not total or not row.any():
        return "<td></td>"
    other = int(row.argmax())
    return f"<td>{html.escape(run.names[other])} ({row[other] / total:.0%})</td>"


def _pictures(run: _Run) -> str:
    colors = palette(run.names)
    parts = []
    for label, truth in run.pairs:
        table = None if truth is None else seen_as(truth.names, label.names)
        given = _image(colors[label.label])
        right = "" if truth is None or table is None else _image(colors[table[truth.label]])
        parts.append(
            f"<figure><div>{given}{right}</div><figcaption>{label.stamp.t_ns / 1e9:.2f} s, {label.events:,} events"
            f"{'; right: the truth' if right else ''}</figcaption></figure>"
        )
    key = _image(legend(run.names, 560), 1)
    return f"<div class=pictures>{''.join(parts)}</div><p>{key}</p>"


def _image(image: np.ndarray, zoom: int = 0) -> str:
    zoom = zoom or max(round(300 / image.shape[1]), 1)
    large = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    _, data = cv2.imencode(".png", large)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _energy(run: _Run) -> str:
    energy = run.energy
    if energy is None:
        return "<p class=note>Energy: it was not recorded (segment.energy), or the manifest does not say it.</p>"
    rows = [
        ("as a network without spikes: every multiply-add at 4.6 pJ", energy.dense_mj),
        (
            "the literature's way: multiply-adds of the first layer, 0.9 pJ for each accumulate elsewhere",
            energy.literature_mj,
        ),
        (
            "the honest way: what is no spike is a multiply-add, and leaks, norms, gates and resizing count",
            energy.honest_mj,
        ),
    ]
    body = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td></tr>" for name, value in rows)
    return (
        f"<h3>Energy a slice, mJ</h3><table>{body}</table><p class=note>Counted on validation slices when the model "
        f"was made, where {energy.firing_rate:.1%} of the neurons fired; a processor does not skip the zeros.</p>"
    )


def _times(run: _Run) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{n['steps']:.0f}</td><td>{n['step_p50_ns'] / 1e6:.2f}</td>"
        f"<td>{n['latency_p50_ns'] / 1e6:.2f}</td><td>{n['latency_p99_ns'] / 1e6:.2f}</td></tr>"
        for name, n in run.nodes.items()
    )
    if not rows:
        return ""
    rate = (
        ""
        if not run.events or not run.seconds
        else f"<p class=note>{run.events:,} events, {run.events / run.seconds:,.0f} a second.</p>"
    )
    return (
        f"<h3>Time{', as declared: the run was simulated' if run.simulated else ''}</h3>"
        "<table><tr><th>node</th><th>steps</th><th>step p50, ms</th><th>latency p50, ms</th>"
        f"<th>p99, ms</th></tr>{rows}</table>{rate}"
    )


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#223}
h1{margin-bottom:4px} h2{margin:28px 0 8px} .headline{font-size:17px;color:#1565c0;margin:0 0 6px}
table{border-collapse:collapse;font-size:14px} th,td{padding:4px 10px;text-align:right;border-bottom:1px solid #dde}
th:first-child,td:first-child{text-align:left} .note{color:#667;font-size:13px}
.key{display:inline-block;width:12px;height:12px;border-radius:2px;vertical-align:-1px}
.pictures{display:flex;flex-wrap:wrap;gap:14px;margin-top:14px} figure{margin:0} figure div{display:flex;gap:3px}
figure img{width:255px;image-rendering:pixelated} figcaption{font-size:13px;color:#556}
"""
