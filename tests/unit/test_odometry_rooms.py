"""Odometry in simulated rooms: loops that close, none that are wrong, and recordings that replay bit for bit."""

from __future__ import annotations

import copy
import json
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="odometry's loops are compiled by numba (extra odometry)")
pytest.importorskip("gtsam", reason="loops are closed with gtsam (extra slam)")

from foveate.checking import load_graph
from foveate.cli import main
from foveate.commands.run import execute, exit_code
from foveate.messages import Stamp
from foveate.recording import Recording
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert
from foveate_drivers.world.room_sensor import RgbdSensor
from foveate_drivers.world.room_sequences import RATE_HZ
from foveate_drivers.world.room_stage import Stage, named
from foveate_nodes.odometry import se3
from foveate_nodes.odometry.closing import Closing
from foveate_nodes.odometry.corrected import matrix
from foveate_nodes.odometry.messages import Keyframe, PoseEstimate, Tracking
from foveate_nodes.odometry.pose_graph import PoseGraph
from foveate_nodes.odometry.rgbd import gray_of
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.tracker import Tracker
from foveate_nodes.odometry.view import View
from tests.odometry_views import off

Array = np.ndarray
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]  # rooms are baked and loops compiled when they are first run
LENS = Pinhole(320, 240, 262.5)
UNIT_M = 0.001
Shot = tuple[Array, Array, Array]  # image, depth in units, world_from_camera


@cache
def shots(name: str, every: int, count: int) -> list[Shot]:
    """Frames of a sequence as its camera measures them."""
    sequence = named(name)
    stage, sensor = Stage(sequence), RgbdSensor(LENS, sequence.seed, sequence.color, sequence.depth)
    made: list[Shot] = []
    for k in range(0, every * count, every):
        t_s = k / RATE_HZ
        pose, sight = stage.world_from_rig(t_s), stage.sight(LENS, t_s, sequence.exposure_s)
        depth = sensor.measured(sight, pose, stage.room.returns, k)
        made.append((sensor.image(sight.light, k), np.rint(depth / UNIT_M).astype(np.uint16), pose))
    return made


def keyframe(shot: Shot, pose: Array, seq: int, before: int, covariance: Array) -> Keyframe:
    return Keyframe(
        Stamp(seq * 100_000_000), shot[0].copy(), shot[1].copy(), UNIT_M, LENS.matrix, pose[:3, 3].copy(),
        se3.orientation_of(pose[:3, :3]), covariance, seq, before,
    )  # fmt: skip


def loop_errors(graph: PoseGraph, way: list[Shot]) -> list[float]:
    """Metres, of every loop."""
    return [off(tie.pose, invert(way[tie.one][2]) @ way[tie.other][2])[0] for tie in graph.ties if tie.loop]


def rms_m(poses: dict[int, Array], way: list[Shot]) -> float:
    """Of the places, where the first pose is as it is in truth."""
    first = min(poses)
    moved = way[first][2] @ invert(poses[first])
    return float(np.sqrt(np.mean([off(moved @ pose, way[k][2])[0] ** 2 for k, pose in poses.items()])))


def test_a_way_round_a_table_with_drift_is_closed() -> None:
    """50 keyframes of a circle and a quarter, whose steps err in heading and height by a quarter of what their
    covariance says, always the same way: what errs by chance, no loop takes out of the middle."""
    way, random = shots("orbit", 5, 50), np.random.default_rng(0)
    sigma = np.array([0.0015] * 3 + [0.004] * 3)
    closing, given = Closing(canny_edges, 0.5, 500), np.eye(4)
    drifted, said = {}, None
    for k, shot in enumerate(way):
        if k:
            miss = sigma * (0.15 * random.normal(size=6) + [0, 0.25, 0, 0, 0.25, 0])
            given = given @ invert(way[k - 1][2]) @ shot[2] @ se3.exponential(miss)
        drifted[k] = given
        if k == 40:  # loops are waiting or closed: a restarted node takes over
            state = copy.deepcopy(closing.state())
            closing = Closing(canny_edges, 0.5, 500)
            closing.resume(state)
        said = closing.step(keyframe(shot, given, k, k - 1, np.diag(sigma**2))) or said
    before, after = rms_m(drifted, way), rms_m(closing.graph.poses, way)
    errors = loop_errors(closing.graph, way)
    assert said is not None and len(said.seq) > 40 and len(errors) >= 3
    assert max(errors) < 0.05 and after < before / 3


@pytest.mark.parametrize(("name", "count"), [("orbit", 80), ("lighting", 44), ("corridor", 60)])
def test_no_loop_is_wrong(name: str, count: int) -> None:
    """Light that is switched, a room seen twice, shelves that look alike: each third frame, 10 a second."""
    way = shots(name, 3, count)
    tracker, closing = Tracker(planes=0.5), Closing(canny_edges, 0.5, 500)
    poses: dict[int, Array] = {}
    for k, (image, units, _) in enumerate(way):
        view = View(gray_of(image), units * np.float32(UNIT_M), LENS.matrix, canny_edges)
        found = tracker.track(view, k, 3 * k / RATE_HZ)
        if found.world_from_camera is not None:
            poses[k] = found.world_from_camera
        if found.ready is not None:
            key = found.ready
            closing.step(keyframe(way[key.seq], key.world_from_camera, key.seq, key.before, key.covariance))
    errors = loop_errors(closing.graph, way)
    assert len(poses) == count and rms_m(poses, way) < 0.1
    assert all(error < 0.05 for error in errors)
    assert rms_m(closing.graph.poses, way) < 1.2 * rms_m(poses, way) + 0.005


LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def recorded(folder: Path) -> Path:
    """The graph `slam` as it is shipped."""
    folder.mkdir()
    log = folder / "run.mcap"
    graph = load_graph(LAUNCH / "graphs/slam.yaml", [f"rig={LAUNCH / 'rigs/sim_room.yaml'}", "odometry.window=4"])
    result = execute(graph, "virtual", 1_500_000_000, log, threading.Event(), False)
    assert exit_code(result) == 0 and result.balanced, result.failure
    return log


def raw(log: Path, topic: str) -> list[bytes]:
    with Recording(log) as opened:
        return [bytes(message.data) for message in opened.raw(topic)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 frames of the room rig, in virtual time."""
    return recorded(tmp_path_factory.mktemp("rooms") / "one")


def test_the_way_of_a_recorded_run_is_the_true_one(log: Path) -> None:
    with Recording(log) as opened:
        found = [message for _, message in opened.messages("odometry.pose", PoseEstimate)]
        states = [message.state for _, message in opened.messages("odometry.tracking", Tracking)]
    assert states == ["started"] + ["tracking"] * 44 and len(found) == 45
    path = named("desk").path
    misses = [
        off(path.pose(found[0].stamp.t_ns / 1e9) @ matrix(one.position_m, one.orientation),
            path.pose(one.stamp.t_ns / 1e9))[0]
        for one in found
    ]  # fmt: skip
    assert max(misses) < 0.02


def test_a_run_gives_the_same_bytes_again_and_its_replay_too(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = recorded(tmp_path / "two")
    for topic in ("pose", "tracking", "keyframe", "edge_map"):
        first = raw(log, f"/odometry.{topic}")
        assert len(first) >= 2 and first == raw(again, f"/odometry.{topic}")
    capsys.readouterr()
    code = main(["replay", str(log), "--json", "--verify", "--output", str(tmp_path / "replayed")])
    out, err = capsys.readouterr()
    assert code == 0, err
    told = json.loads(out)
    assert told["verified"]["good"] and "odometry.pose      45 equal" in told["report"]
    for topic in ("odometry.pose", "odometry.keyframe", "top_view.frame", "camera.depth"):
        assert raw(log, f"/{topic}") == raw(next((tmp_path / "replayed").rglob("*.mcap")), f"/{topic}")
