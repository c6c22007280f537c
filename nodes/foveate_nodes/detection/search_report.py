"""The report of a wide-area search: one HTML page that opens offline, made from recordings alone."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate import yaml_source
from foveate.errors import RecordingError
from foveate.messages import Frame, Gaze, Message, Objects, ProbabilityMap
from foveate.recording import Recording
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.two_mirror import TwoMirror
from foveate_nodes.detection import scoring
from foveate_nodes.detection.svg_chart import Line, chart

_COLORS = ("#1565c0", "#ef6c00", "#757575", "#2e7d32", "#8e24aa")
_NEEDED = {"track.objects", "truth.objects"}


@dataclass(slots=True)
class _Run:
    """What the page tells of one recording."""

    name: str
    score: scoring.Score
    looks: int
    end_s: float
    nodes: Mapping[str, Mapping[str, float]]
    ledger: list[Mapping[str, Any]]
    executor: str


def write(logs: Mapping[str, Path], out: Path) -> list[str]:
    """Search report: panorama with probability and scan path, objects found and missed, recall over time
    against other strategies, latency per node. `logs["run"]` is the run; the rest are comparisons.

    Returns the summary as lines. Raises RecordingError for a stream that is missing.
    """
    runs = []
    for name, path in logs.items():
        with Recording(path) as log:
            runs.append(_read(name, log))
    with Recording(logs["run"]) as log:
        panorama = _panorama(log, runs[0])
    out.write_text(_page(runs, panorama), encoding="utf-8")
    return _lines(runs)


def _stream(log: Recording, name: str, kind: type[Message]) -> list[Any]:
    return [message for _, message in log.messages(name, kind)]


def _read(name: str, log: Recording) -> _Run:
    there = {stream.topic.lstrip("/") for stream in log.streams() if stream.messages}
    missing = sorted(_NEEDED - there)
    if missing:
        raise RecordingError(f"{log.path}: the search report needs the stream '{missing[0]}', which is not recorded")
    found = _stream(log, "track.objects", Objects)
    truth = _stream(log, "truth.objects", Objects)
    end = log.end
    return _Run(
        "search" if name == "run" else name, scoring.score(found, truth), len(found), log.time_range_ns[1] / 1e9,
        end.get("nodes", {}), end.get("ledger", []), str(log.seal.get("executor", "")),
    )  # fmt: skip


def _lines(runs: list[_Run]) -> list[str]:
    first = runs[0]
    lines = []
    for run in runs:
        s = run.score
        t90 = s.time_to(0.9)
        lines.append(
            f"{run.name:<8} found {len(s.found_s)} of {s.total} objects "
            f"(recall {s.recall:.0%}, precision {s.precision:.0%}), "
            f"90 % after {f'{t90:.2f} s' if t90 is not None else 'never'}, position error {s.error_mrad():.2f} mrad"
        )
    for other in runs[1:]:
        mine, theirs = first.score.time_to(0.9), other.score.time_to(0.9)
        if mine and theirs:
            lines.append(f"90 % of the objects {theirs / mine:.1f}x sooner than {other.name}")
        elif mine:
            lines.append(f"{other.name} never found 90 % in {other.end_s:.3g} s")
    return lines


class _Projection:
    """Directions of the rig to pixels of the wide image."""

    def __init__(self, log: Recording, width: int, height: int) -> None:
        graph = yaml_source.read_text(log.graph_text, "graph in the recording").plain()
        rig, nodes = graph.get("rig", {}), graph.get("nodes", {})
        wide = rig.get(str(nodes.get("wide", {}).get("device", ""))[6:-1], {})
        mirror = rig.get(str(nodes.get("mirror", {}).get("device", ""))[6:-1], {})
        self.focal_px = Pinhole.from_field(width, height, float(wide.get("field", 0.9))).focal_px
        self.range_m = float(nodes.get("aim", {}).get("params", {}).get("range", 150.0))
        self.mirror = TwoMirror(float(mirror.get("spacing", 0.045)), float(mirror.get("camera_distance", 0.08)))
        self.shift_m = float(wide.get("offset", 0.0))
        self.center = np.array([(width - 1) / 2, (height - 1) / 2])

    def pixels(self, direction_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        points = np.tan(direction_rad) * self.range_m - [self.shift_m, 0.0]
        return self.center + points / self.range_m * self.focal_px

    def gaze(self, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arctan(self.mirror.hit(angle_rad, self.range_m) / self.range_m)


def _panorama(log: Recording, run: _Run) -> str:
    """The wide image as SVG with layers that can be switched."""
    frame = log.last("wide.frame", Frame)
    if not isinstance(frame, Frame):
        return "<p>The wide image was not recorded.</p>"
    image = frame.image
    height, width = image.shape[:2]
    projection = _Projection(log, width, height)
    parts = [f'<svg id="panorama" viewBox="0 0 {width} {height}">', _picture(image, ".jpg", width, height)]
    for layer, stream in (("prior", "prior.prior"), ("belief", "belief.map")):
        shown = log.last(stream, ProbabilityMap)
        if isinstance(shown, ProbabilityMap):
            parts.append(f'<g class="{layer}">{_heat(shown, projection, width, height)}</g>')
    gazes = _stream(log, "aim.target", Gaze)
    if gazes:
        places = projection.pixels(np.array([projection.gaze(gaze.angle_rad) for gaze in gazes]))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<g class="path"><polyline points="{path}" class="track"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="#ff0"/>' for x, y in places]
        parts.append("</g>")
    parts.append(_objects(log, run, projection))
    return "".join(parts) + "</svg>"


def _objects(log: Recording, run: _Run, projection: _Projection) -> str:
    """The truth at the end, found or missed, and the last reports that match nothing."""
    truth = _stream(log, "truth.objects", Objects)[-1]
    last = _stream(log, "track.objects", Objects)[-1]
    matched = {i for i, _ in scoring.match(last, truth)}
    parts = ['<g class="objects">']
    centers = projection.pixels(truth.direction_rad)
    sizes = np.maximum(truth.extent_rad * projection.focal_px, 7.0)
    for (x, y), (w, h), identity, label in zip(centers, sizes, truth.id.tolist(), truth.label.tolist(), strict=True):
        when = run.score.found_s.get(identity)
        kind = "found" if when is not None else "missed"
        said = f"{truth.names[label]} {identity}: " + (f"found after {when:.2f} s" if when is not None else "missed")
        parts.append(
            f'<rect class="{kind}" x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}">'
            f"<title>{html.escape(said)}</title></rect>"
        )
    for i in scoring.judged(last, truth):
        if int(i) not in matched:
            x, y = projection.pixels(last.direction_rad[i])
            name = last.names[int(last.label[i])]
            parts.append(
                f'<path class="false" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10">'
                f"<title>reported {html.escape(name)}, nothing there</title></path>"
            )
    return "".join(parts) + "</g>"


def _picture(image: NDArray[np.uint8], suffix: str, width: float, height: float, x: float = 0, y: float = 0) -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, 82] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, image, options)
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    text = base64.b64encode(data.tobytes()).decode()
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<image {place} preserveAspectRatio="none" href="data:image/{kind};base64,{text}"/>'


def _heat(message: ProbabilityMap, projection: _Projection, width: int, height: int) -> str:
    """A map over the image: red where objects are expected, clear where not."""
    rows, columns = message.expected.shape
    corners = np.array([
        [message.left_rad, message.top_rad],
        [message.left_rad + columns * message.cell_rad, message.top_rad + rows * message.cell_rad],
    ])  # fmt: skip
    (x0, y0), (x1, y1) = projection.pixels(corners)
    level = np.clip(message.expected / max(float(np.quantile(message.expected, 0.99)), 1e-6), 0, 1) ** 0.5
    image = np.zeros((rows, columns, 4), np.uint8)
    image[..., 2] = 255
    image[..., 1] = (160 * (1 - level)).astype(np.uint8)
    image[..., 3] = (165 * level).astype(np.uint8)
    return _picture(image, ".png", x1 - x0, y1 - y0, x0, y0)


def _page(runs: list[_Run], panorama: str) -> str:
    end_s = max(run.end_s for run in runs)
    curves = [Line(run.name, *run.score.curve(run.end_s), _COLORS[i % len(_COLORS)]) for i, run in enumerate(runs)]
    recall = chart(curves, "seconds since the object appeared", "share of objects found", 1.0)
    rows = "".join(_score_row(run) for run in runs)
    headline = html.escape(" · ".join(_lines(runs)[len(runs) :]) or _lines(runs)[0])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Wide-area search</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Wide-area search</h1>
<p class="headline">{headline}</p>
<table><thead><tr><th>strategy</th><th>looks</th><th>found</th><th>recall</th><th>precision</th><th>50 %</th>
<th>90 %</th><th>position error, median</th><th>95 %</th></tr></thead><tbody>{rows}</tbody></table>
<h2>Panorama</h2>
<p class="switches">
<label><input type="checkbox" checked data-layer="belief"> where undiscovered objects may be, at the end</label>
<label><input type="checkbox" data-layer="prior"> prior from the regions</label>
<label><input type="checkbox" checked data-layer="path"> looks</label>
<label><input type="checkbox" checked data-layer="objects"> objects
(<span class="k found">found</span>, <span class="k missed">missed</span>,
<span class="k false">reported, nothing there</span>)</label></p>
{panorama}
<h2>Recall over time</h2>{recall}
<p class="note">Comparisons run in simulated time on the same world for {end_s:.3g} s.</p>
<h2>Nodes</h2>{_node_table(runs[0])}
<h2>Where every message went</h2>{_ledger_table(runs[0])}
<script>for(const box of document.querySelectorAll("[data-layer]")){{
const layers=document.querySelectorAll("#panorama ."+box.dataset.layer);
const set=()=>layers.forEach(e=>e.style.display=box.checked?"":"none");
box.onchange=set;set()}}</script>
</body></html>
"""


def _score_row(run: _Run) -> str:
    s = run.score

    def when(share: float) -> str:
        t = s.time_to(share)
        return f"{t:.2f} s" if t is not None else "never"

    cells = [
        run.name, str(run.looks), f"{len(s.found_s)} of {s.total}", f"{s.recall:.0%}", f"{s.precision:.0%}",
        when(0.5), when(0.9), f"{s.error_mrad():.2f} mrad", f"{s.error_mrad(0.95):.2f} mrad",
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _node_table(run: _Run) -> str:
    """Latency per node with bars (median dark, 99th percentile light)."""
    if not run.nodes:
        return "<p>The run wrote no statistics.</p>"
    longest = max((n["latency_p99_ns"] for n in run.nodes.values()), default=1.0) or 1.0
    rows = []
    for name, n in run.nodes.items():
        p50, p99 = n["latency_p50_ns"], n["latency_p99_ns"]
        bar = (
            f'<svg viewBox="0 0 200 12" class="bar"><rect width="{200 * p99 / longest:.1f}" height="12" class="p99"/>'
            f'<rect width="{200 * p50 / longest:.1f}" height="12" class="p50"/></svg>'
        )
        rows.append(
            f"<tr><td>{html.escape(name)}</td><td>{n['steps']:.0f}</td><td>{n['rate_hz']:.1f}</td>"
            f"<td>{p50 / 1e6:.2f}</td>"
            f"<td>{p99 / 1e6:.2f}</td><td>{n['step_p50_ns'] / 1e6:.2f}</td><td>{bar}</td></tr>"
        )
    return (
        "<table><thead><tr><th>node</th><th>steps</th><th>rate, Hz</th><th>latency p50, ms</th><th>p99, ms</th>"
        f"<th>step p50, ms</th><th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _ledger_table(run: _Run) -> str:
    rows = []
    for wire in run.ledger:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(wire["dropped"].items())) or "0"
        cells = [wire["wire"], wire["policy"], wire["produced"], wire["delivered"], dropped, wire["in_flight"]]
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return (
        "<table><thead><tr><th>wire</th><th>queue</th><th>produced</th><th>delivered</th><th>dropped</th>"
        f"<th>in flight</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#223}
h1{margin-bottom:4px} h2{margin:28px 0 8px} .headline{font-size:18px;color:#1565c0;margin:0 0 16px}
table{border-collapse:collapse;font-size:14px} th,td{padding:4px 10px;text-align:right;border-bottom:1px solid #dde}
th:first-child,td:first-child{text-align:left} thead th{background:#f2f4f8}
polyline.track{fill:none;stroke:#fff;stroke-opacity:.45;stroke-width:.7}
#panorama{width:100%;background:#111;border-radius:6px} .switches label{margin-right:18px;font-size:14px}
rect.found{fill:none;stroke:#2ee65a;stroke-width:1.6} rect.missed{fill:none;stroke:#ff2d2d;stroke-width:2.2}
path.false{stroke:#ff9d00;stroke-width:2;fill:none} .k{font-weight:600} .k.found{color:#1a9c3c} .k.missed{color:#d21}
.k.false{color:#d17800} .chart{max-width:720px;font-size:12px} .grid{stroke:#e3e6ee}
.bar{width:200px;height:12px} .p99{fill:#bcd4f0} .p50{fill:#1565c0} .note{color:#667;font-size:13px}
"""
