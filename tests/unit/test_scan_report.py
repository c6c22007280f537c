"""What is measured of a scan whose surface is known, and the page that tells it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foveate.errors import RecordingError
from foveate.messages import Stamp
from foveate_calibration.document import Calibration, RigCalibration
from foveate_calibration.rigid import rotation_from, transform
from foveate_calibration.steered_laser import LaserPlane
from foveate_drivers.world.base import Part
from foveate_nodes.reconstruction import cloud_picture, measuring, ply, scan_report, scan_result
from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.messages import PointCloud

TURN = rotation_from(np.array([0.1, -0.08, 0.05]))
PLATE = Part("plate", "plane", 0, np.array([0.1, 0.0, 2.0]), TURN, np.array([0.15, 0.18, 0.008]))
BLOCK = Part("block", "block", 1, np.array([0.1, 0.0, 2.0]), TURN, np.array([0.06, 0.06, 0.02]), 0.02, plate=0)
OTHER = Part("other", "plane", 2, np.array([-0.2, 0.1, 2.2]), np.eye(3), np.array([0.15, 0.18, 0.008]))
BALL = Part(
    "ball", "sphere", 3, np.array([-0.2, 0.1, 2.17]), np.eye(3), np.full(3, 0.06), radius_m=0.03, plate=2
)  # fmt: skip
FORM = Part("form", "free_form", 4, np.array([0.0, -0.3, 1.8]), np.eye(3), np.full(3, 0.2))


def box(points: np.ndarray, center: np.ndarray, turn: np.ndarray, half: np.ndarray) -> np.ndarray:
    apart = np.abs((points - center) @ turn) - half
    return np.linalg.norm(np.maximum(apart, 0), axis=1) + np.minimum(apart.max(axis=1), 0)


class Bench:
    """Two plates, a block, a ball and a larger ball as free form, with exact distances."""

    parts = (PLATE, BLOCK, OTHER, BALL, FORM)

    def distance_of(self, index: int, points: np.ndarray) -> np.ndarray:
        part = self.parts[index]
        if part.kind == "sphere":
            return np.linalg.norm(points - part.center_m, axis=1) - part.radius_m
        if part.kind == "free_form":
            return np.linalg.norm(points - part.center_m, axis=1) - 0.08
        half = part.size_m / 2
        away = part.rotation[:, 2] * (half[2] if part.kind == "plane" else -half[2])
        return box(points, part.center_m + away, part.rotation, half)

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.min([self.distance_of(part.index, points) for part in self.parts], axis=0)


def seen(count: int = 60_000, noise_m: float = 1e-4, seed: int = 1) -> np.ndarray:
    """Points of the faces that turn to the rig, by marching along z; noise along z."""
    rng = np.random.default_rng(seed)
    start = np.column_stack([rng.uniform(-0.32, 0.22, count), rng.uniform(-0.4, 0.22, count), np.full(count, 1.6)])
    bench = Bench()
    for _ in range(80):
        step = bench.distance(start)
        start[:, 2] += np.minimum(step, 0.05)
    hit = (np.abs(bench.distance(start)) < 1e-6) & (start[:, 2] < 2.4)
    return start[hit] + rng.normal(size=(int(hit.sum()), 1)) * [0, 0, noise_m]


POINTS = seen()


def test_parts_measure_what_they_are() -> None:
    found, missed = measuring.measure(POINTS, Bench())
    by_name = {m.part: m for m in found}
    assert not missed and set(by_name) == {"plate", "block", "other", "ball", "form"}
    assert by_name["block"].measured_m == pytest.approx(0.02, abs=5 * by_name["block"].sigma_m)
    assert by_name["ball"].measured_m == pytest.approx(0.03, abs=5 * by_name["ball"].sigma_m)
    assert all(m.sigma_m < 4e-5 and 6e-5 < m.spread_m < 1.1e-4 for m in found)
    assert by_name["plate"].error_m is None and by_name["form"].measured_m == pytest.approx(0, abs=2e-5)


def test_a_wrong_height_is_told_and_not_hidden() -> None:
    """The top is 1 mm too high, a sphere 0.5 mm too large: regions follow the parts' places, not the truth."""
    points = POINTS.copy()
    top = np.abs(Bench().distance_of(1, points)) < 6e-4
    points[top] -= TURN[:, 2] * 1e-3
    ball = np.abs(Bench().distance_of(3, points)) < 6e-4
    points[ball] += (points[ball] - BALL.center_m) / 0.03 * 5e-4
    by_name = {m.part: m for m in measuring.measure(points, Bench())[0]}
    assert by_name["block"].error_m == pytest.approx(1e-3, abs=3e-5)
    assert by_name["ball"].error_m == pytest.approx(5e-4, abs=3e-5)


def test_a_part_that_was_not_scanned_is_named() -> None:
    away = POINTS[POINTS[:, 0] < 0]
    found, missed = measuring.measure(away, Bench())
    assert {m.part for m in found} == {"other", "ball", "form"}
    assert [text.split(":")[0] for text in missed] == ["plate", "block"] and "30 are needed" in missed[0]


def test_a_shift_of_the_whole_frame_is_no_error_of_shape() -> None:
    moved = POINTS @ rotation_from(np.array([1e-3, -2e-3, 1e-3])).T + [0.002, -0.001, 0.003]
    pose, distance = measuring.laid_on(moved, Bench())
    laid = moved @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(laid - POINTS).max() < 1e-4
    assert np.median(np.abs(distance)) < 1e-4
    with pytest.raises(SurfaceError):
        measuring.laid_on(np.zeros((3, 3)), Bench())


# --- the page


class Log:
    """A recording that is not on disk."""

    path = Path("run.mcap")
    graph_text = (
        "rig: {world: {uri: 'sim:bench', scene: bench}}\nnodes: {map: {use: cloud_map, params: {voxel: 0.002}}}\n"
    )
    end: dict[str, Any] = {"ledger": [{"dropped": {"full": 3}}]}  # noqa: RUF012

    def __init__(self, streams: dict[str, list[Any]]) -> None:
        self._streams = streams

    def streams(self) -> list[Any]:
        return [
            SimpleNamespace(name=name, type=type(items[0]).__name__ if items else "PointCloud", messages=len(items))
            for name, items in self._streams.items()
        ]

    def messages(self, name: str, kind: type) -> Any:
        return iter((0, item) for item in self._streams[name])

    def last(self, name: str, kind: type) -> Any:
        return self._streams[name][-1]

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def profiles(points: np.ndarray, count: int = 20) -> list[PointCloud]:
    made = []
    for k, part in enumerate(np.array_split(points[np.argsort(points[:, 0])], count)):
        covariance = np.tile(np.float32([1e-10, 0, 0, 1e-10, 0, 1e-8]), (len(part), 1))
        light = np.full(len(part), 100, np.float32)
        made.append(
            PointCloud(Stamp(k * 50_000_000), part.astype(np.float32), covariance, light, np.zeros(3, np.float32))
        )
    return made


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the report asks of the simulated world."""
    asked: list[dict[str, Any]] = []

    def made(**options: Any) -> Any:
        asked.append(options)
        return SimpleNamespace(surface=lambda t_ns: Bench())

    monkeypatch.setattr(scan_result.catalog, "load", lambda group, name: made)
    return asked


def test_the_page_tells_errors_parts_and_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: list[dict[str, Any]]
) -> None:
    known = Calibration(
        {"laser": LaserPlane(np.array([1.0, 0, 0, 0.1]))}, {"points, m": {"rms": 2.5e-4}}, weak=("the place <of> all",)
    )
    shifted = transform(np.eye(3), np.array([0.0, 0.0, 0.0015]))
    clouds = profiles(POINTS + shifted[:3, 3])
    log = Log({"points.points": clouds, "calibrate.calibration": [RigCalibration(Stamp(0), known.text())]})
    monkeypatch.setattr(scan_report, "Recording", lambda path: log)
    lines = scan_report.write({"run": Path("run.mcap")}, tmp_path / "report.html")
    assert world == [{"address": "bench", "scene": "bench"}]
    assert lines[0].startswith(f"scan: 20 profiles, {len(POINTS):,} points, ")
    assert "after a shift of 1.5" in lines[1] and lines[2].startswith("step height of 1 parts: mean error ")
    written = [line for line in lines if line.endswith(".ply") and "note: " not in line]
    assert written[:2] == [str(tmp_path / "cloud.ply"), str(tmp_path / "mesh.ply")]  # and tsdf.ply with open3d
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6 and "http" not in page
    checksum = re.search(r"checksum: (sha256:\w+)", known.text())
    assert checksum is not None and checksum[1] in page
    assert f"No point is farther than {5:g} mm" in page and "<h2>The mesh</h2>" in page
    assert "the place &lt;of&gt; all" in page and "rms 0.00025" in page and "<td>3</td>" in page
    for name in ("plate", "block", "other", "ball", "form"):
        assert f"<td>{name}</td>" in page
    cloud, mesh = ply.read(tmp_path / "cloud.ply"), ply.read(tmp_path / "mesh.ply")
    assert {"intensity", "sigma", "count", "error"} <= set(cloud.scalar) and np.median(
        np.abs(cloud.scalar["error"])
    ) < 1e-4
    assert mesh.triangle is not None and len(mesh.triangle) > 5000
    inner = np.abs(Bench().distance(mesh.point_m.astype(np.float64) - shifted[:3, 3]))
    assert np.median(inner) < 1e-4 and np.quantile(inner, 0.9) < 4e-4


def test_points_on_no_surface_are_counted_and_do_not_spoil_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: list[dict[str, Any]]
) -> None:
    spot = np.array([0.05, 0.0, 1.7]) + 0.0021 * np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
    log = Log({"points.cloud": profiles(np.concatenate([POINTS, spot]))})
    monkeypatch.setattr(scan_report, "Recording", lambda path: log)
    scan_report.write({"run": Path("run.mcap")}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    told = re.search(r"<p>4 of [\d,]+ points lie on no surface: over 5 mm .* 4 of these were measured once only", page)
    assert told is not None and "is at +0.05, +0.00, +1.70 m." in page
    table = page[page.index("Error by place") :]
    numbers = [float(cell) for cell in re.findall(r"<td>(-?\d+\.\d{3})</td>", table[: table.index("</table>")])]
    assert len(numbers) > 20 and max(numbers) < 2.0


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log({"other.cloud": profiles(POINTS[::20], 3)})
    log.graph_text = "nodes: {}\n"  # type: ignore[misc]
    monkeypatch.setattr(scan_report, "Recording", lambda path: log)
    lines = scan_report.write({"run": Path("run.mcap")}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("the calibration was not recorded", "the rig is not simulated", "points are sparse", "no mesh"):
        assert text in page and any(text in line for line in lines)
    assert "Parts</h2>" not in page and lines[-1] == str(tmp_path / "cloud.ply")


@pytest.mark.parametrize(
    ("streams", "said"),
    [({}, "needs a stream of points"), ({"points.cloud": profiles(POINTS[:0], 1)}, "not one point")],
)
def test_a_recording_without_points_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: dict[str, list[Any]], said: str
) -> None:
    monkeypatch.setattr(scan_report, "Recording", lambda path: Log(streams))
    with pytest.raises(RecordingError, match=said):
        scan_report.write({"run": Path("run.mcap")}, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_the_nearer_point_hides_the_farther() -> None:
    points = np.array([[0, 0, 1.0], [0, 0, 2.0], [1.0, 1.0, 2.0], [-1.0, -1.0, 2.0]])
    color = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 255]], np.uint8)
    view = cloud_picture.viewpoint(np.array([0.0, 0, -1]), np.array([0.0, -1, 0]))
    np.testing.assert_allclose(view.right, [1, 0, 0], atol=1e-12)  # as the rig's camera sees it
    image = cloud_picture.picture(points, np.tile([0.0, 0, -1], (4, 1)), color, view, 0.01, 100, 100)
    assert image[50, 50].tolist() == [255, 0, 0] and image[5, 95].tolist() == [255, 255, 255]
    assert image[12, 12].tolist() == [0, 0, 255]
    back = cloud_picture.viewpoint(np.array([0.0, 0, 1]), np.array([0.0, -1, 0]))
    assert cloud_picture.picture(points, np.tile([0.0, 0, 1], (4, 1)), color, back, 0.01, 100, 100)[
        50, 50
    ].tolist() == [0, 255, 0]
