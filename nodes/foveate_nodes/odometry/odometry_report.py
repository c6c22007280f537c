"""The report of odometry: one HTML page that opens offline, with trajectories and the map as files beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.errors import FoveateError
from foveate.recording import Recording
from foveate_nodes.odometry import odometry_charts as charts
from foveate_nodes.odometry import trajectory_charts
from foveate_nodes.odometry.odometry_result import Followed, read, trajectory_text
from foveate_nodes.reconstruction import keyframe_mesh_report, ply
from foveate_nodes.reconstruction.keyframe_mesh_report import Surface

Image = NDArray[np.uint8]
_MOST_ROWS = 20


def write(logs: Mapping[str, Path], out: Path) -> list[str]:
    """Odometry report: the way and the map from above and from the side, how well each frame was tracked, drift at
    loops, errors against a recorded truth; `trajectory.txt`, `trajectory_closed.txt` where loops were looked for,
    `map.ply` and, of a graph with a TSDF map, `mesh.ply` beside the page. `logs["run"]` is the run; others are
    compared.

    Returns the summary as lines. Raises RecordingError for a recording without poses.
    """
    runs = []
    for name, path in logs.items():
        with Recording(path) as log:
            runs.append(read(log, name))
    first = runs[0]
    with Recording(logs["run"]) as log:
        surface, why = keyframe_mesh_report.made(log, first.corrected.pose)
    if why:
        first.notes.append(why)
    page = _page(runs, surface)
    files = _files(first, surface, out.parent)
    _written(out, page)
    return [line for run in runs for line in lines(run)] + [str(path) for path in files]


def _files(run: Followed, surface: Surface | None, folder: Path) -> list[Path]:
    about = f"odom_from_camera of {run.path.name}"
    texts = {"trajectory.txt": trajectory_text(run.time_ns, run.online, about)}
    if run.closes:
        how = "no loop was closed" if run.closed is None else "after loops were closed"
        poses = run.online if run.closed is None else run.closed
        texts["trajectory_closed.txt"] = trajectory_text(run.time_ns, poses, f"{about}, {how}")
    for name, text in texts.items():
        _written(folder / name, text)
    files = [folder / name for name in texts]
    if len(run.point_m):
        files.append(folder / "map.ply")
        ply.write(files[-1], ply.Ply(run.point_m, color=np.repeat(run.gray[:, None], 3, axis=1)))
    if surface is not None:
        mesh = surface.mesh
        files.append(folder / "mesh.ply")
        ply.write(files[-1], ply.Ply(mesh.point_m, mesh.normal, surface.color, triangle=mesh.triangle))
    return files


def _written(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FoveateError(f"{path}: cannot write: {error.strerror}") from None


def lines(run: Followed) -> list[str]:
    """The summary."""
    name = "odometry" if run.name == "run" else run.name
    frames = max(len(run.tracking), len(run.online))
    seconds = run.stamp_s[-1] - run.stamp_s[0]
    said = [
        f"{name}: {len(run.online)} of {frames} frames have a pose ({len(run.online) / frames:.1%}), "
        f"{len(run.corrected.odom)} keyframes, {run.path_m:.2f} m in {seconds:.2f} s, {len(run.loops)} loops"
    ]
    spans = run.lost()
    if spans:
        longest = max(spans, key=lambda span: span[1] - span[0])
        said.append(f"lost {len(spans)} times, at most for {longest[1] - longest[0]:.2f} s, at {longest[0]:.2f} s: "
                    f"{longest[2]}")  # fmt: skip
    if run.loops:
        off = [loop.off_m for loop in run.loops]
        said.append(f"drift at {len(off)} loops: median {np.median(off) * 100:.1f} cm, largest {max(off) * 100:.1f} cm")
    for found in run.evaluations:
        step = "" if found.rpe_m is None else f", RPE {found.rpe_m.rmse * 100:.2f} cm over 1 s"
        said.append(f"{found.name} against the truth: ATE rmse {found.ate_m.rmse * 100:.2f} cm, largest "
                    f"{found.ate_m.max * 100:.2f} cm, {found.path_m:.2f} m gone{step}")  # fmt: skip
    return said + [f"note: {note}" for note in [*run.notes, *(n for each in run.evaluations for n in each.notes)]]


def _views(run: Followed) -> str:
    """From above (x across, z up) and from the side (z across, height up)."""
    ways = [(run.online, charts.ONLINE)] + ([(run.closed, charts.CLOSED)] if run.closed is not None else [])
    keys = np.array([[run.corrected.pose(seq)[:3, 3] for seq in (loop.one, loop.other)] for loop in run.loops])
    keys = keys.reshape(-1, 2, 3)
    figures = []
    for across, up, sign, names, caption in (
        (0, 2, 1.0, ("x, m", "z, m"), "From above: y of the first keyframe points down."),
        (2, 1, -1.0, ("z, m", "height over the first keyframe, m"), "From the side."),
    ):

        def seen(at: NDArray, across: int = across, up: int = up, sign: float = sign) -> NDArray[np.float64]:
            return np.stack([at[..., across], sign * at[..., up]], axis=-1).astype(np.float64)

        shown = [(seen(way[:, :3, 3]), run.joined, color) for way, color in ways]
        figures.append(_figure(charts.map_picture(seen(run.point_m), shown, seen(keys), names, caption), caption))
    rows = [(charts.ONLINE, "as it was told live")]
    if run.closed is not None:
        rows += [(charts.CLOSED, "after loops were closed"), (charts.LOOP, "loops")]
    return f'<h2>The way and the map</h2>{_legend(rows)}<div class="grid2">{"".join(figures)}</div>'


def _quality(run: Followed) -> str:
    """How well each frame was tracked, with red where it was lost."""
    if not run.tracking:
        return ""
    time_s = np.array([said.stamp.t_ns for said in run.tracking]) / 1e9
    lost = np.array([said.state == "lost" for said in run.tracking])

    def of(name: str, factor: float = 1.0) -> NDArray[np.float64]:
        value = factor * np.array([getattr(said, name) for said in run.tracking], np.float64)
        return np.where(lost, np.nan, value)

    spans = run.lost()
    blue, green = charts.ONLINE, charts.CLOSED
    kinds = [
        (charts.over_time(time_s, [(of("inlier"), blue), (of("overlap"), green)], "share", spans, 1.05,
                          charts.LEAST_EDGE),
         "Share of the edges that lie on edges, beyond what chance gives (blue; under the dashed line, "
         f"{charts.LEAST_EDGE:g}, a frame is lost), and of the keyframe's points in view (green)."),
        (charts.over_time(time_s, [(of("points"), blue)], "points", spans), "Points of the keyframe that were seen."),
        (charts.over_time(time_s, [(of("flow_px"), blue)], "flow, px", spans),
         "How far points have moved since the keyframe."),
        (charts.over_time(time_s, [(of("sigma_m", 1e3), blue)], "sigma, mm", spans),
         "Standard deviation of the position since the keyframe."),
    ]  # fmt: skip
    listing = "".join(f"<li>{a:.2f} to {b:.2f} s: {html.escape(why)}</li>" for a, b, why in spans[:_MOST_ROWS])
    more = f"<li>and {len(spans) - _MOST_ROWS} more</li>" if len(spans) > _MOST_ROWS else ""
    told = f"<p>Lost, red in the pictures:</p><ul>{listing}{more}</ul>" if spans else "<p>No frame was lost.</p>"
    figures = "".join(_figure(svg, caption) for svg, caption in kinds)
    return f'<h2>How well frames were tracked</h2>{told}<div class="grid2">{figures}</div>'


def _keyframes(run: Followed) -> str:
    if not run.thumbnails:
        return ""
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{_jpeg(image)}" alt="keyframe {seq}">'
        f"<figcaption>{seq}, {time_s:.2f} s</figcaption></figure>"
        for seq, time_s, image in run.thumbnails
    ]
    times = [time_s for _, time_s in run.keyframes]
    gap = f", one in {np.median(np.diff(times)):.2f} s (median)" if len(times) > 1 else ""
    return (
        f"<h2>Keyframes</h2><p>{len(times)} keyframes{gap}; {len(run.thumbnails)} of them, with the numbers of their "
        f'frames:</p><div class="small">{"".join(figures)}</div>'
    )


def _loops(run: Followed) -> str:
    if not run.closes:
        return ""
    if not run.loops:
        return "<h2>Loops</h2><p>No loop was closed: trajectory_closed.txt has the poses as they were told live.</p>"
    chosen = sorted(run.loops, key=lambda loop: -loop.off_m)
    rows = [
        [f"{loop.one} and {loop.other}", f"{loop.off_m * 100:.1f}", f"{np.degrees(loop.off_rad):.2f}",
         f"{loop.path_m:.2f}", f"{100 * loop.off_m / loop.path_m:.1f}" if loop.path_m > 0.1 else "-"]
        for loop in chosen[:_MOST_ROWS]
    ]  # fmt: skip
    head = ["keyframes", "off, cm", "off, degrees", "gone in between, m", "drift, %"]
    return (
        "<h2>Drift at loops</h2><p>How far odometry's step between two keyframes is from that of the graph, where both "
        f"see one place; the largest of {len(chosen)}.</p>" + _table(head, rows)
    )


def _truth(run: Followed) -> str:
    if not run.evaluations:
        return ""
    found = run.evaluations
    rows = [
        [each.name, f"{each.pairs} of {each.poses}", f"{each.ate_m.rmse * 100:.2f}", f"{each.ate_m.median * 100:.2f}",
         f"{each.ate_m.max * 100:.2f}", f"{each.ate_deg.rmse:.2f}",
         "-" if each.rpe_m is None else f"{each.rpe_m.rmse * 100:.2f}",
         "-" if each.rpe_deg is None else f"{each.rpe_deg.rmse:.2f}",
         "-" if each.drift_percent is None else f"{each.drift_percent:.2f}"]
        for each in found
    ]  # fmt: skip
    head = ["poses", "paired", "ATE rmse, cm", "median", "largest", "ATE, degrees", "RPE over 1 s, cm", "degrees",
            "drift, %"]  # fmt: skip
    aligned = [each.aligned_m for each in found]
    flat = int(np.argmin(run.truth_m.std(axis=0)))
    across, up = (axis for axis in range(3) if axis != flat)
    figures = [
        _figure(trajectory_charts.path_picture(run.truth_m, aligned, across, up),
                "Laid on the truth by a turn and a shift, seen along the axis in which it is flattest."),
        _figure(trajectory_charts.error_picture([each.time_s for each in found], [each.error_m for each in found],
                                                min(float(each.time_s[0]) for each in found)),
                "Distance from the truth over time."),
    ]  # fmt: skip
    key = trajectory_charts.legend([each.name for each in found])
    return f'<h2>Against the truth</h2>{_table(head, rows)}{key}<div class="grid2">{"".join(figures)}</div>'


def _jpeg(image: Image) -> str:
    return base64.b64encode(np.ravel(cv2.imencode(".jpg", image)[1]).tobytes()).decode()


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _legend(rows: Sequence[tuple[str, str]]) -> str:
    keys = "".join(f'<span class="key"><i style="background:{c}"></i>{html.escape(name)}</span>' for c, name in rows)
    return f"<p>{keys}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _page(runs: Sequence[Followed], surface: Surface | None) -> str:
    first = runs[0]
    poses = first.online if first.closed is None else first.closed
    mesh = "" if surface is None else keyframe_mesh_report.pictures(surface, poses)
    told = [line for line in lines(first) if not line.startswith("note: ")]
    headline = "<br>".join(html.escape(line) for line in told)
    notes = "".join(f"<li>{html.escape(line.removeprefix('note: '))}</li>" for line in lines(first) if line not in told)
    others = "".join(f"<li>{html.escape(line)}</li>" for run in runs[1:] for line in lines(run))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Odometry</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Odometry</h1>
<p class="headline">{headline}</p>
{f"<section><ul>{notes}</ul></section>" if notes else ""}
{f"<h2>Compared</h2><ul>{others}</ul>" if others else ""}
{_views(first)}
{mesh}
{_truth(first)}
{_quality(first)}
{_loops(first)}
{_keyframes(first)}
<p class="note">Beside this page: trajectory.txt{" and trajectory_closed.txt" if first.closes else ""}
(time tx ty tz qx qy qz qw; metres, and seconds of the clock that the frames carry, or else of Unix time)
{"and map.ply" if len(first.point_m) else ""}{" and mesh.ply" if surface is not None else ""}.</p>
</body></html>
"""


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:24px auto;padding:0 16px;color:#1c2733}
h1{margin-bottom:4px} h2{margin:28px 0 8px} .headline{font-size:17px;color:#1565c0;margin:0 0 16px}
section{padding:4px 16px;border-radius:6px;border-left:6px solid #d08a18;background:#fdf3e2}
.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(400px,1fr));gap:16px}
.grid2 img{width:100%;border:1px solid #dde}
.small{display:flex;flex-wrap:wrap;gap:8px} figure{margin:0} figcaption{font-size:13px;color:#556270}
svg{width:100%;height:auto} svg text{font:11px system-ui,sans-serif;fill:#33404d}
.grid{stroke:#e3e8ed;fill:none}.frame{fill:none;stroke:#aab4be}
.key{margin-right:18px}.key i{display:inline-block;width:22px;height:4px;margin-right:6px;vertical-align:middle}
.wide{overflow-x:auto;margin:8px 0} table{border-collapse:collapse;font-size:13px}
td,th{text-align:right;padding:3px 12px 3px 0;border-bottom:1px solid #e3e8ed;white-space:nowrap}
td:first-child,th:first-child{text-align:left} .note{color:#667;font-size:13px}
"""
