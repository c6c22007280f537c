"""What is made of odometry's messages: the top view, the report with its files, the mesh of keyframes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import Node, catalog, load_graph
from foveate.errors import EndOfStream, RecordingError
from foveate.messages import Frame, Message, Pose, Stamp
from foveate.run import Run
from foveate_calibration.poses import read_poses
from foveate_calibration.rigid import invert, rotation_from, transform
from foveate_nodes.odometry import odometry_result, top_view_places
from foveate_nodes.odometry.corrected import Corrected
from foveate_nodes.odometry.messages import EdgeMap, Keyframe, PoseEstimate, PoseGraph, Tracking
from foveate_nodes.odometry.odometry_report import write
from foveate_nodes.odometry.se3 import orientation_of
from foveate_nodes.odometry.top_view import TopView
from foveate_nodes.odometry.top_view_places import Grid, Places
from foveate_nodes.reconstruction import ply
from tests.unit import test_replay

Array = np.ndarray
PERIOD_NS = 33_000_000
START_NS = 1_700_000_000_123_456_789
MATRIX = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
WALL_M = 2.0  # z of a wall in the world that all cameras look at
KEYS, FRAMES, LOST = 10, 60, range(22, 27)  # a keyframe in ten frames, some of which are lost


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> Array:
    return transform(rotation_from(np.array([0.0, yaw, 0.0])), np.array([x, y, z]))


def estimate(t_ns: int, pose: Array, seq: int, key: Array, device_ns: int = 0) -> PoseEstimate:
    return PoseEstimate(
        Stamp(t_ns), pose[:3, 3].copy(), orientation_of(pose[:3, :3]), "odom", "camera", np.eye(6) * 1e-6, seq,
        key[:3, 3].copy(), orientation_of(key[:3, :3]), device_ns,
    )  # fmt: skip


def tracking(t_ns: int, seq: int, state: str = "tracking", key: int = 0) -> Tracking:
    lost = state == "lost"
    reason = "too few edges <agree>" if lost else ""
    return Tracking(Stamp(t_ns), state, reason, seq, key, 100, 0.9, 1.0, 0.95, 3.0, 2.0, np.inf if lost else 2e-3,
                    np.inf if lost else 1e-3, 12, 1)  # fmt: skip


def graph_of(poses: dict[int, Array], loops: list[tuple[int, int]]) -> PoseGraph:
    return PoseGraph(
        Stamp(0), np.array(list(poses), np.int64), np.array([pose[:3, 3] for pose in poses.values()]),
        np.array([orientation_of(pose[:3, :3]) for pose in poses.values()]),
        np.array(loops, np.int64).reshape(-1, 2),
    )  # fmt: skip


def true(k: int) -> Array:
    """Along x and back, the whole wall in view."""
    return moved(x=0.9 * np.sin(np.pi * k / FRAMES), z=0.1 * np.sin(2 * np.pi * k / FRAMES))


def told(k: int) -> Array:
    """As odometry has it: 1 mm of drift along z a frame."""
    return moved(z=1e-3 * k) @ true(k)


def keyframe(k: int, pose: Array) -> Keyframe:
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 2] = 200  # red
    depth = np.full((48, 64), round(1000 * (WALL_M - true(k)[2, 3])), np.uint16)
    return Keyframe(Stamp(k * PERIOD_NS), image, depth, 1e-3, MATRIX, pose[:3, 3].copy(), orientation_of(pose[:3, :3]),
                    np.eye(6) * 1e-6, k, k - KEYS if k else -1)  # fmt: skip


def wall(k: int, pose: Array) -> EdgeMap:
    """Points of the wall as this keyframe places them."""
    grid = np.array([[x, y, WALL_M] for x in np.linspace(-0.5, 0.5, 20) for y in (-0.2, 0.3)])
    back = pose @ invert(true(k))
    return EdgeMap(Stamp(k * PERIOD_NS), (grid @ back[:3, :3].T + back[:3, 3]).astype(np.float32),
                   np.full(len(grid), 90, np.uint8), k)  # fmt: skip


def said(k: int) -> dict[str, Message]:
    """The messages of one frame."""
    t_ns, key = k * PERIOD_NS, k - k % KEYS
    if k in LOST:
        return {"tracking": tracking(t_ns, k, "lost")}
    out: dict[str, Message] = {
        "tracking": tracking(t_ns, k, key=key),
        "pose": estimate(t_ns, told(k), key, told(key), START_NS + t_ns),
        "truth": Pose(Stamp(t_ns), *_parts(moved(x=3.0, yaw=1.0) @ true(k))),
    }
    if k == key:
        out |= {"keyframe": keyframe(k, told(k)), "edge_map": wall(k, told(k))}
    if k == FRAMES - 1:
        keys = {j: true(j) for j in range(0, FRAMES, KEYS)}
        out["graph"] = graph_of(keys, [(0, 50)])
    return out


def _parts(pose: Array) -> tuple[Array, Array]:
    return pose[:3, 3].copy(), orientation_of(pose[:3, :3])


class Told(Node):
    """Says what odometry would."""

    class Outputs:
        pose: PoseEstimate
        tracking: Tracking
        keyframe: Keyframe
        edge_map: EdgeMap
        graph: PoseGraph
        truth: Pose

    def __init__(self) -> None:
        self._k = 0

    def due_ns(self) -> int:
        if self._k == FRAMES:
            raise EndOfStream
        return self._k * PERIOD_NS

    def step(self) -> dict[str, Message]:
        self._k += 1
        return said(self._k - 1)


# --- keyframes after loops


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.integers(0, 20))
def test_a_graph_that_moves_everything_alike_moves_every_camera_so(step: list[float], last: int) -> None:
    move = transform(rotation_from(np.array(step[:3])), np.array(step[3:]))
    book = Corrected()
    poses = [estimate(k, told(k), k - k % 3, told(k - k % 3)) for k in range(30)]
    for pose in poses:
        book.saw(pose)
    for pose, k in zip(poses, range(30), strict=True):
        np.testing.assert_allclose(book.camera(pose), told(k), atol=1e-9)
    last -= last % 3
    book.closed(graph_of({k: move @ told(k) for k in range(0, last + 1, 3)}, [(0, last)]))
    for pose, k in zip(poses, range(30), strict=True):  # those newer than the graph too
        np.testing.assert_allclose(book.camera(pose), move @ told(k), atol=1e-8)


def test_a_camera_follows_its_own_keyframe() -> None:
    book = Corrected()
    pose = estimate(0, moved(x=1.2), 1, moved(x=1.0))
    book.saw(estimate(0, moved(), 0, moved()))
    book.saw(pose)
    book.closed(graph_of({0: moved(), 1: moved(z=5.0)}, [(0, 1)]))
    np.testing.assert_allclose(book.camera(pose), moved(x=0.2, z=5.0), atol=1e-12)


# --- the top view


points = st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=30)
@given(st.lists(points, min_size=1, max_size=5))
def test_no_point_of_the_inner_ones_is_lost_when_the_map_grows(batches: list[list[tuple[float, float]]]) -> None:
    grid = Grid()
    for batch in batches:
        grid.add(np.repeat(np.array(batch), 200, axis=0))  # each often: none is beyond the 1 % that may be
    every = np.concatenate([np.array(batch) for batch in batches])
    assert max(grid.count.shape) <= top_view_places._MOST_CELLS + 2
    assert grid.count.sum() == pytest.approx(200 * len(every), rel=0.02)
    cell = np.floor((every - grid.low_m) / grid.cell_m).astype(int)
    near = [grid.count[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].sum() for x, y in cell]
    assert min(near) > 0


def shown(view: TopView, frames: range) -> list[Frame]:
    found = []
    edges: Any = None
    graph: Any = None
    pose: Any = None
    for k in frames:
        out = said(k)
        edges, graph, pose = out.get("edge_map", edges), out.get("graph", graph), out.get("pose", pose)
        found.append(view.step(out["tracking"], pose, edges, graph))  # type: ignore[arg-type]
    return [frame for frame in found if frame is not None]


def opened(**options: Any) -> TopView:
    view = TopView(**options)
    view.open()
    return view


def test_pictures_come_at_their_rate() -> None:
    frames = shown(opened(rate=5.0), range(FRAMES))  # 1.95 s
    assert len(frames) == 10 and [frame.seq for frame in frames] == list(range(1, 11))
    gaps = np.diff([frame.stamp.t_ns for frame in frames])
    assert (gaps >= 165_000_000).all() and gaps.mean() == pytest.approx(200e6, rel=0.1)
    assert frames[0].image.shape == (600, 800, 3) and frames[0].encoding == "BGR8"
    assert len(shown(opened(rate=60.0), range(FRAMES))) == FRAMES


def test_the_picture_shows_points_before_the_camera_and_the_lost_state_in_red() -> None:
    view = opened(rate=60.0, width=400, height=300)
    frames = shown(view, range(LOST.stop))
    good, lost = frames[15].image.astype(int), frames[LOST.start].image.astype(int)
    green = (good[..., 1] > good[..., 2] + 60) & (good[..., 1] > good[..., 0] + 60) & (np.arange(300)[:, None] > 60)
    wall_px = np.nonzero((good[60:200] > 60).all(axis=2))
    assert len(wall_px[0]) > 20 and np.ptp(wall_px[0]) <= 3  # above: the wall lies before the camera
    assert green.sum() > 100 and np.nonzero(green)[0].min() > 200
    red = (lost[..., 2] > 200) & (lost[..., 1] < 100)
    assert red[2, 10:390].all() and not ((good[..., 2] > 200) & (good[..., 1] < 100))[2].any()
    assert np.isfinite(view._places.path_m) and view._places.path_m > 0.3


def test_a_closed_loop_moves_points_and_way() -> None:
    view = opened(rate=60.0)
    shown(view, range(FRAMES - 1))
    drifted = view._places.grid.low_m[1] + view._places.grid.count.shape[0] * view._places.grid.cell_m
    shown(view, range(FRAMES - 1, FRAMES))
    places = view._places
    rows = np.nonzero(places.grid.count.sum(axis=1))[0]
    far = places.grid.low_m[1] + (rows + 0.5) * places.grid.cell_m
    assert drifted > WALL_M + 0.045  # the last keyframe was 50 mm off
    assert np.abs(far - WALL_M).max() < 0.015
    way, joined = places.way()
    assert len(way) == FRAMES - len(LOST) and (~joined).sum() == 2  # the beginning, and after the loss
    np.testing.assert_allclose(way[50], [true(55)[0, 3], true(55)[2, 3] + 5e-3], atol=1e-9)  # drift since keyframe 50


def test_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_view_places, "_MOST_WAY", 64)
    monkeypatch.setattr(top_view_places, "_MOST_KEYFRAMES", 10)
    places = Places()
    for k in range(500):
        pose = moved(x=0.01 * k)
        key = moved(x=0.01 * (k - k % KEYS))
        edges = EdgeMap(Stamp(k), np.full((4000, 3), 0.01 * k, np.float32), np.zeros(4000, np.uint8), k - k % KEYS)
        places.take(tracking(k, k), estimate(k, pose, k - k % KEYS, key), edges, None)
    way, joined = places.way()
    assert len(way) <= 64 and joined[1:].all()
    assert way[0, 0] == 0 and way[-1, 0] > 4.5 and (np.diff(way[:, 0]) > 0).all()
    assert len(places._points) <= 10 and all(len(each) <= 1000 for each in places._points.values())
    assert places.path_m == pytest.approx(4.99)


def test_before_anything_is_known_there_is_a_picture_all_the_same() -> None:
    view = opened()
    frame = view.step(tracking(0, 1, "lost"), None, None, None)
    assert frame is not None and frame.image.shape == (600, 800, 3)
    broken = EdgeMap(Stamp(1), np.full((5, 3), np.nan, np.float32), np.zeros(5, np.uint8), 0)
    assert view.step(tracking(10**9, 2), estimate(10**9, moved(), 0, moved()), broken, None) is not None


# --- the report


GRAPH = """\
foveate: 1
rig: {{screen: {{uri: "sim:nobody"}}}}
nodes:
  odometry: {{use: told}}
  top_view:
    use: top_view
    params: {{width: 320, height: 240}}
    inputs: {{tracking: {{from: odometry.tracking, queue: fifo(64)}}, pose: odometry.pose, edge_map: odometry.edge_map}}
  screen: {{use: screen, device: "${{rig.screen}}", inputs: {{frame: top_view.frame}}}}
record: {{streams: [{streams}]}}
"""
ALL = "odometry.pose, odometry.tracking, odometry.keyframe, odometry.edge_map, odometry.graph, odometry.truth"


@pytest.fixture(autouse=True)
def our_nodes() -> Iterator[None]:
    listing, load = catalog.listing, catalog.load
    point = EntryPoint("told", f"{__name__}:Told", "foveate.nodes")
    with (
        patch.object(catalog, "listing", lambda g: {**listing(g), "told": point} if g == "nodes" else listing(g)),
        patch.object(catalog, "load", lambda g, n: Told if (g, n) == ("nodes", "told") else load(g, n)),
    ):
        yield


def recorded(folder: Path, streams: str = ALL) -> Path:
    return test_replay.record(folder, GRAPH.format(streams=streams))[0]


def test_the_report_tells_poses_losses_drift_and_truth(tmp_path: Path) -> None:
    lines = write({"run": recorded(tmp_path)}, tmp_path / "report.html")
    text = "\n".join(lines)
    assert f"odometry: {FRAMES - len(LOST)} of {FRAMES} frames have a pose (91.7%), 6 keyframes" in text
    assert "lost 1 times, at most for 0.17 s, at 0.73 s: too few edges <agree>" in text  # until the next is tracked
    assert "drift at 1 loops: median 5.0 cm" in text
    online, closed = (float(found) for found in re.findall(r"ATE rmse ([\d.]+) cm", text))
    assert closed < 0.5 < online < 5
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "too few edges &lt;agree&gt;" in page and "<agree>" not in page
    assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", page)  # it opens offline
    assert page.count("data:image/jpeg") == 6 and page.count("<svg") == 8
    assert page.count("stroke-dasharray") == 1 and "edges that lie on edges, beyond what chance gives" in page
    assert {path.name for path in tmp_path.iterdir()} >= {"trajectory.txt", "trajectory_closed.txt", "map.ply"}


def test_the_files_hold_what_was_followed(tmp_path: Path) -> None:
    write({"run": recorded(tmp_path)}, tmp_path / "report.html")
    frames = [k for k in range(FRAMES) if k not in LOST]
    for name, pose in (("trajectory.txt", told), ("trajectory_closed.txt", None)):
        found = read_poses(str(tmp_path / name))
        expected = [
            pose(k) if pose else true(k - k % KEYS) @ invert(told(k - k % KEYS)) @ told(k) for k in frames
        ]  # fmt: skip
        np.testing.assert_allclose(found.matrices, expected, atol=1e-8)
    first = (tmp_path / "trajectory.txt").read_text(encoding="utf-8").splitlines()[2]
    assert first.split()[0] == "1700000000.123456789"  # the device's own time, to the nanosecond
    cloud = ply.read(tmp_path / "map.ply")
    assert len(cloud.point_m) == 6 * 40 and np.abs(cloud.point_m[:, 2] - WALL_M).max() < 1e-5  # laid where loops say


def test_of_less_the_report_tells_less(tmp_path: Path) -> None:
    lines = write({"run": recorded(tmp_path, "odometry.pose")}, tmp_path / "report.html")
    text = "\n".join(lines)
    assert "'odometry.tracking' was not recorded" in text and "'odometry.edge_map' was not recorded" in text
    assert "truth" not in text and not (tmp_path / "trajectory_closed.txt").exists()
    assert not (tmp_path / "map.ply").exists()


def missed(executor: str, notes: list[str], **dropped: dict[str, int]) -> list[str]:
    """What is told of 300 messages of each output, of which some were dropped and 3 wait."""
    ledger = [
        {"wire": f"camera.{port} -> follow.{port}", "produced": 300, "delivered": 297 - sum(counts.values()),
         "dropped": counts, "in_flight": 3}
        for port, counts in dropped.items()
    ]  # fmt: skip
    log = SimpleNamespace(end={"ledger": ledger, "notes": notes}, seal={"executor": executor})
    return odometry_result._missed(log, "follow")  # type: ignore[arg-type]


def test_frames_that_never_came_are_told() -> None:
    (line,) = missed("live", [], frame={"full": 160}, depth={"full": 160}, info={"full": 160})
    assert line == (
        "163 of 300 messages of 'camera.frame' and of 'camera.depth' never came to 'follow': 160 dropped, for they "
        "came faster than it works, 3 still waiting when the run ended; --executor virtual waits for each frame of a "
        "log"
    )
    off = "camera.frame off by 22.8 ms > window 20 ms, 1 times"
    frame, depth = missed("virtual", [f"follow: {off}", "other: x"], frame={}, depth={"unmatched": 1})
    assert frame.endswith(
        "3 of 300 messages of 'camera.frame' never came to 'follow': 3 still waiting when the run ended"
    )
    assert (
        f"4 of 300 messages of 'camera.depth' never came to 'follow': 1 without a partner in time ({off}), 3" in depth
    )
    assert odometry_result._missed(SimpleNamespace(end={}, seal={}), "follow") == []  # type: ignore[arg-type]


def test_without_poses_there_is_no_report_and_no_file(tmp_path: Path) -> None:
    log = recorded(tmp_path, "odometry.tracking")
    with pytest.raises(RecordingError, match=r"'odometry\.pose'"):
        write({"run": log}, tmp_path / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"graph.yaml", "run.mcap"}


def test_where_no_loop_closed_the_poses_are_those_told_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Told.step
    monkeypatch.setattr(Told, "step", lambda self: {name: m for name, m in step(self).items() if name != "graph"})
    lines = write({"run": recorded(tmp_path)}, tmp_path / "report.html")
    assert str(tmp_path / "trajectory_closed.txt") in lines and "0 loops" in lines[0]
    live, closed = ((tmp_path / f"trajectory{end}.txt").read_text().splitlines() for end in ("", "_closed"))
    assert closed[1:] == live[1:] and len(closed) == FRAMES - len(LOST) + 2 and "no loop was closed" in closed[0]
    assert "No loop was closed" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "after loops" not in "\n".join(lines)


def test_a_node_that_cannot_be_opened_is_not_said_to_have_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Node) -> None:
        raise ValueError("no")

    monkeypatch.setattr(TopView, "open", fails)
    (tmp_path / "graph.yaml").write_text(GRAPH.format(streams=ALL), encoding="utf-8")
    result = Run(load_graph(tmp_path / "graph.yaml"), "virtual").execute()
    assert result.failure is not None and "'top_view' failed in open" in str(result.failure) and result.notes == []


# --- the mesh of keyframes


@pytest.mark.heavy
def test_the_mesh_is_of_the_wall_and_follows_a_loop() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    from foveate_nodes.reconstruction.tsdf_map import TsdfMap

    node = TsdfMap(voxel=0.02, truncation=0.08, every=3, images=2)
    node.open()
    keys = list(range(0, FRAMES, KEYS))
    found = [node.step(keyframe(k, told(k)), None) for k in keys[:3]]
    assert found[:2] == [None, None] and found[2] is not None and found[2].keyframes == 3 and found[2].rebuilt == 0
    assert np.abs(found[2].point_m[:, 2] - WALL_M - 0.01).max() < 0.015  # 0, 10 and 20 mm of drift
    graph = graph_of({k: true(k) for k in keys}, [(0, 50)])
    found = [node.step(keyframe(k, told(k)), graph) for k in keys[3:]]
    mesh = found[-1]
    assert mesh is not None and mesh.keyframes == 6 and mesh.rebuilt == 1 and mesh.left_out == 0
    assert np.abs(mesh.point_m[:, 2] - WALL_M).max() < 2e-3  # depth is in whole millimetres
    assert (mesh.normal[:, 2] < -0.9).mean() > 0.9 and (mesh.color[:, 0] == 200).mean() > 0.99
    assert mesh.triangle.max() < len(mesh.point_m)


@pytest.mark.heavy
def test_a_map_that_is_full_says_so() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    from foveate_nodes.reconstruction.keyframe_mesh import KeyframeMesh, given_pose

    grown = KeyframeMesh(0.02, 0.08, 4.0, most=2)
    for k in (0, 10, 10, 20, 30):
        grown.add(keyframe(k, true(k)), given_pose(keyframe(k, true(k))))
    assert len(grown) == 2 and grown.left_out == 2
    assert not grown.move(true) and grown.move(lambda k: moved(x=0.03) @ true(k)) and grown.rebuilt == 1
    near = KeyframeMesh(0.02, 0.08, far_m=1.0, most=2)
    near.add(keyframe(0, true(0)), true(0))
    assert len(near.mesh(1)[0].triangle) == 0  # the wall is beyond


def test_without_open3d_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from foveate.errors import BackendMissing
    from foveate_nodes.reconstruction.tsdf_map import TsdfMap

    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(BackendMissing, match=r"foveate\[recon\]"):
        TsdfMap().open()
