"""The report of a 3-D scan: one HTML page that opens offline, with the cloud and its mesh as files beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.recording import Recording
from foveate_calibration.rigid import vector_from
from foveate_nodes.reconstruction import cloud_picture, ply, scan_result
from foveate_nodes.reconstruction.measuring import Measured
from foveate_nodes.reconstruction.merging import beside_mean
from foveate_nodes.reconstruction.scan_result import Scan

Array = NDArray[np.float64]
_SIDES_RAD = ((0.0, 0.0), (-0.9, 0.25), (0.9, 0.25))  # of the pictures: as seen from the camera, from left and right
_SIDE_NAMES = ("as the camera saw it", "from the left", "from the right")
_BINS = 3  # along each axis of the volume
_STRAY_M = 5e-3  # from every surface: no noise or edge puts a point there
_CLOSE_M = 0.24  # the width of what a picture of a large mesh shows from nearby
_TRIANGLE = ((2 / 3, 1 / 6, 1 / 6), (1 / 6, 2 / 3, 1 / 6), (1 / 6, 1 / 6, 2 / 3), (1 / 3, 1 / 3, 1 / 3))


def write(logs: Mapping[str, Path], out: Path) -> list[str]:
    """Scan report: pictures of the cloud, its error against a simulated world, a table of parts, statistics, the
    calibration used; `cloud.ply`, `mesh.ply` and, with open3d, `tsdf.ply` beside the page. `logs["run"]` is the run;
    others are compared.

    Returns the summary as lines. Raises RecordingError for a recording without points.
    """
    scans = []
    for name, path in logs.items():
        with Recording(path) as log:
            scans.append(scan_result.read(log, name))
    first = scans[0]
    files = _files(first, out.parent)
    out.write_text(_page(scans), encoding="utf-8")
    return [line for scan in scans for line in _lines(scan)] + [str(path) for path in files]


def _files(scan: Scan, folder: Path) -> list[Path]:
    """cloud.ply with what is known of each point; mesh.ply and tsdf.ply where there are such meshes."""
    merged = scan.merged
    assert merged is not None
    variance = merged.covariance_m2[:, [0, 3, 5]].sum(axis=1)
    scalar = {"intensity": merged.intensity, "sigma": np.sqrt(variance), "count": merged.count}
    if scan.truth is not None:
        scalar["error"] = scan.truth.distance_m
    grey = np.repeat(np.clip(merged.intensity, 0, 255).astype(np.uint8)[:, None], 3, axis=1)
    cloud = folder / "cloud.ply"
    ply.write(cloud, ply.Ply(merged.point_m, scan.normal, grey, {k: v.astype(np.float32) for k, v in scalar.items()}))
    files = [cloud]
    for name, mesh in (("mesh.ply", scan.mesh), ("tsdf.ply", scan.tsdf)):
        if mesh is not None and len(mesh.triangle):
            files.append(folder / name)
            ply.write(files[-1], ply.Ply(mesh.point_m, mesh.normal, triangle=mesh.triangle))
    return files


def _lines(scan: Scan) -> list[str]:
    assert scan.merged is not None
    name = "scan" if scan.name == "run" else scan.name
    rate = f", {scan.points / scan.seconds:,.0f} points/s" if scan.seconds > 0 else ""
    lines = [f"{name}: {scan.profiles} profiles, {scan.points:,} points{rate}, {len(scan.merged):,} after merging "
             f"to {scan.voxel_m * 1e3:g} mm"]  # fmt: skip
    if scan.truth is not None:
        error = scan.truth.distance_m
        lines.append(f"against the truth: median {_mm(np.median(np.abs(error)))} mm off, rms of the nearer 99 % "
                     f"{_mm(_rms(error))} mm, after a shift of {_mm(_shift(scan))} mm")  # fmt: skip
        for quantity in ("step height", "radius"):
            errors = np.array([m.error_m for m in scan.truth.parts if m.quantity == quantity and m.error_m is not None])
            if len(errors):
                lines.append(
                    f"{quantity} of {len(errors)} parts: mean error {_mm(errors.mean())} mm, mean size of the error "
                    f"{_mm(np.abs(errors).mean())} mm, largest {_mm(np.abs(errors).max())} mm"
                )
    return lines + [f"note: {note}" for note in scan.notes]


def _mm(value_m: float | np.floating) -> str:
    return f"{float(value_m) * 1e3:.3f}"


def _rms(error: Array) -> float:
    near = np.abs(error) <= np.quantile(np.abs(error), 0.99)
    return float(np.sqrt((error[near] ** 2).mean()))


def _shift(scan: Scan) -> float:
    """How far the middle of the cloud was moved."""
    assert scan.truth is not None and scan.merged is not None
    pose, middle = scan.truth.surface_from_cloud, scan.merged.point_m.mean(axis=0)
    return float(np.linalg.norm(pose[:3, :3] @ middle + pose[:3, 3] - middle))


def _views(scan: Scan) -> list[cloud_picture.Viewpoint]:
    assert scan.merged is not None
    toward = scan.merged.view.mean(axis=0)
    turntable = scan.calibration is not None and scan.calibration.origin.get("procedure") == "turntable"
    up = np.array([0.0, 0.0, 1.0] if turntable else [0.0, -1.0, 0.0])  # z of a table, against y of a rig
    return [cloud_picture.viewpoint(toward, up, turn, rise) for turn, rise in _SIDES_RAD]


def _pictures(scan: Scan) -> str:
    """The cloud from three sides, coloured by depth as the camera sees it."""
    assert scan.merged is not None
    views = _views(scan)
    points, depth = scan.merged.point_m, -scan.merged.point_m @ views[0].toward
    depth = depth - depth.min()
    low, high = (float(v) for v in np.quantile(depth, [0.005, 0.995]))
    shown = _row(scan, cloud_picture.color_of(depth, low, high), views, points)
    return shown + cloud_picture.scale_bar(low * 1e3, high * 1e3, "mm deeper than the nearest point")


def _error_map(scan: Scan) -> str:
    """Signed distance to the truth on the cloud."""
    if scan.truth is None or scan.merged is None:
        return ""
    # of points side by side the nearer hides the farther, which would show the noise as a bias: colours are local means
    error = beside_mean(scan.merged, scan.truth.distance_m)
    most = max(float(np.quantile(np.abs(error), 0.95)), 1e-5)
    shown = _row(scan, cloud_picture.color_of(error, -most, most), _views(scan)[:1], scan.merged.point_m, 1040, 780)
    bar = cloud_picture.scale_bar(
        -most * 1e3,
        most * 1e3,
        "mm outside the true surface, means over each voxel and those beside it (5 % lie beyond)",
    )
    return f"<h2>Distance to the true surface</h2>{shown}{bar}{_place_table(scan)}"


def _row(scan: Scan, color: NDArray[np.uint8], views: Sequence[cloud_picture.Viewpoint], points: Array,
         width: int = 520, height: int = 520) -> str:  # fmt: skip
    parts = []
    for name, view in zip(_SIDE_NAMES, views, strict=False):
        image = cloud_picture.picture(points, scan.normal, color, view, scan.voxel_m, width, height)
        parts.append(_figure(name, image))
    return f'<div class="pictures">{"".join(parts)}</div>'


def _place_table(scan: Scan) -> str:
    """Mean, sigma and largest error by place in the volume: thirds along each axis; strays are counted beside them."""
    assert scan.truth is not None and scan.merged is not None
    rows = []
    for axis, name in enumerate("xyz"):
        at = scan.merged.point_m[:, axis]
        edges = np.linspace(at.min(), at.max() + 1e-9, _BINS + 1)
        for low, high in pairwise(edges):
            error = scan.truth.distance_m[(at >= low) & (at < high)]
            if len(error):
                size = np.abs(error)
                near = error[size <= np.quantile(size, 0.99)]
                rows.append([
                    f"{name} {low:+.2f} to {high:+.2f} m", f"{len(error):,}", _mm(near.mean()), _mm(near.std()),
                    _mm(np.abs(near).max()), f"{(size > 1e-3).sum():,}", f"{(size > _STRAY_M).sum():,}",
                ])  # fmt: skip
    head = ["place", "points", "mean, mm", "sigma, mm", "largest of 99 %, mm", "over 1 mm off",
            f"strays, over {_STRAY_M * 1e3:g} mm"]  # fmt: skip
    return "<h2>Error by place in the volume</h2>" + _table(head, rows) + _strays(scan)


def _strays(scan: Scan) -> str:
    """How many points lie on no surface at all, and what is known of them."""
    assert scan.truth is not None and scan.merged is not None
    size = np.abs(scan.truth.distance_m)
    stray = size > _STRAY_M
    if not stray.any():
        return f"<p>No point is farther than {_STRAY_M * 1e3:g} mm from the true surface.</p>"
    once = int((scan.merged.count[stray] == 1).sum())
    worst = int(np.argmax(size))
    place = ", ".join(f"{value:+.2f}" for value in scan.merged.point_m[worst])
    return (
        f"<p>{int(stray.sum()):,} of {len(size):,} points lie on no surface: over {_STRAY_M * 1e3:g} mm from all of "
        f"them. {once:,} of these were measured once only. They are spots of an image, taken for the stripe; the one "
        f"that is farthest off, {float(size[worst]) * 1e3:.0f} mm, is at {place} m.</p>"
    )


def _mesh_pictures(scan: Scan) -> str:
    """The mesh as a whole and, where it is large, its middle from nearby."""
    if scan.mesh is None or not len(scan.mesh.triangle):
        return ""
    point, normal = (np.tensordot(np.array(_TRIANGLE), value[scan.mesh.triangle], axes=(1, 1)).reshape(-1, 3)
                     for value in (scan.mesh.point_m, scan.mesh.normal))  # fmt: skip
    middle = point[np.argmin(np.abs(point - np.median(point, axis=0)).sum(axis=1))]
    close = (np.abs(point - middle) < _CLOSE_M / 2).all(axis=1)
    shown = [("the mesh, from the left", slice(None))]
    if np.ptp(point, axis=0).max() > 2 * _CLOSE_M:
        shown.append((f"its middle {_CLOSE_M * 1e3:g} mm", close))  # type: ignore[arg-type]
    figures = []
    for name, which in shown:
        some, light = point[which], normal[which]
        gray = np.full((len(some), 3), 225, np.uint8)
        image = cloud_picture.picture(some, light, gray, _views(scan)[1], scan.cell_m / 2, 520, 520)
        figures.append(_figure(name, image))
    return f'<h2>The mesh</h2><div class="pictures">{"".join(figures)}</div>'


def _figure(name: str, image: NDArray[np.uint8]) -> str:
    text = base64.b64encode(cloud_picture.png(image)).decode()
    return f'<figure><img src="data:image/png;base64,{text}" alt="{name}"><figcaption>{name}</figcaption></figure>'


def _parts_table(scan: Scan) -> str:
    if scan.truth is None:
        return ""

    def shown(value: float | None) -> str:
        return "" if value is None else _mm(value)

    def row(m: Measured) -> list[str]:
        place = ", ".join(f"{value:+.2f}" for value in m.center_m)
        return [m.part, m.quantity, place, shown(m.true_m), shown(m.measured_m), shown(m.error_m), _mm(m.sigma_m),
                _mm(m.spread_m), _mm(m.most_m), f"{m.points:,}", f"{m.strays:,}"]  # fmt: skip

    head = ["part", "quantity", "at x, y, z, m", "true, mm", "measured", "error", "sigma of the fit", "points: sigma",
            "largest", "points", "strays"]  # fmt: skip
    missed = "".join(f"<li>{html.escape(text)}</li>" for text in scan.truth.missed)
    listing = f"<p>Not measured:</p><ul>{missed}</ul>" if missed else ""
    return "<h2>Parts</h2>" + _table(head, [row(m) for m in scan.truth.parts]) + listing


def _statistics(scan: Scan) -> str:
    assert scan.merged is not None
    dropped = 0
    for wire in scan.end.get("ledger", []):
        dropped += sum(wire["dropped"].values())
    rows = [
        ["profiles", f"{scan.profiles:,} ({scan.stream})"],
        ["points", f"{scan.points:,}"],
        ["time from the first to the last", f"{scan.seconds:.2f} s"],
        ["points a second", f"{scan.points / scan.seconds:,.0f}" if scan.seconds > 0 else "unknown"],
        ["messages dropped on all wires", f"{dropped:,}" if scan.end else "unknown: the run did not end"],
        ["voxel", f"{scan.voxel_m * 1e3:g} mm"],
        ["points after merging", f"{len(scan.merged):,}"],
        ["voxels left out for want of neighbours", f"{scan.lone:,}"],
        ["sigma of a merged point, median", _mm(np.sqrt(np.median(scan.merged.covariance_m2[:, [0, 3, 5]].sum(axis=1))))
         + " mm, of noise alone"],
    ]  # fmt: skip
    if scan.mesh is not None:
        rows.append(["mesh", f"{len(scan.mesh.triangle):,} triangles, cubes of {scan.cell_m * 1e3:g} mm"])
    if scan.tsdf is not None:
        rows.append(["TSDF mesh (tsdf.ply)", f"{len(scan.tsdf.triangle):,} triangles, as large"])
    if scan.truth is not None:
        pose = scan.truth.surface_from_cloud
        turn = float(np.linalg.norm(vector_from(pose[:3, :3])))
        rows.append(["laid on the truth by", f"{_mm(_shift(scan))} mm and {turn * 1e3:.3f} mrad (of the whole frame)"])
    return "<h2>The scan</h2>" + _table(["", ""], rows)


def _calibration(scan: Scan) -> str:
    if scan.calibration is None:
        return ""
    known = scan.calibration
    rows = [["checksum", scan.checksum or "none"]]
    rows += [[key, value] for key, value in known.origin.items()]
    rows += [
        [name, ", ".join(f"{key} {value:.4g}" for key, value in values.items())]
        for name, values in known.residuals.items()
    ]
    weak = "".join(f"<li>{html.escape(text)}</li>" for text in known.weak)
    doubts = f"<p>What the data leave in doubt:</p><ul>{weak}</ul>" if weak else "<p>No direction is left in doubt.</p>"
    models = ", ".join(known.models)
    return f"<h2>The calibration used</h2><p>Models: {html.escape(models)}.</p>" + _table(["", ""], rows) + doubts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) + "</tr>"

    top = f"<thead>{cells(head, 'th')}</thead>" if any(head) else ""
    return f"<table>{top}<tbody>{''.join(cells(row, 'td') for row in rows)}</tbody></table>"


def _page(scans: Sequence[Scan]) -> str:
    first = scans[0]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in first.notes)
    headline = "<br>".join(html.escape(line) for line in _lines(first) if not line.startswith("note:"))
    others = ""
    if len(scans) > 1:
        others = "<h2>Compared</h2><ul>" + "".join(
            f"<li>{html.escape(line)}</li>" for scan in scans[1:] for line in _lines(scan)
        ) + "</ul>"  # fmt: skip
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>3-D scan</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>3-D scan</h1>
<p class="headline">{headline}</p>
{f"<ul>{notes}</ul>" if notes else ""}
<h2>The cloud</h2>{_pictures(first)}
{_mesh_pictures(first)}
{_error_map(first)}
{_parts_table(first)}
{others}
{_statistics(first)}
{_calibration(first)}
<p class="note">cloud.ply (metres; normals, intensity, sigma{", error" if first.truth else ""}) and mesh.ply lie beside
this page.</p>
</body></html>
"""


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#223}
h1{margin-bottom:4px} h2{margin:28px 0 8px} .headline{font-size:17px;color:#1565c0;margin:0 0 16px}
table{border-collapse:collapse;font-size:13px} th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #dde}
th:first-child,td:first-child{text-align:left} thead th{background:#f2f4f8}
.pictures{display:flex;gap:8px;flex-wrap:wrap} figure{margin:0;flex:1 1 300px} img{width:100%;border:1px solid #dde}
figcaption{color:#667;font-size:13px;text-align:center} .scale{max-width:520px;font-size:13px;color:#445;margin:8px 0}
.scale div{height:12px;border-radius:3px} .scale p{display:flex;justify-content:space-between;margin:2px 0}
.note{color:#667;font-size:13px}
"""
