"""The benchmark of odometry: what counts as kept, how trackers are driven, and that baselines find a known motion."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from foveate.messages import DepthFrame, Frame, Stamp
from foveate_calibration.rigid import invert, rotation_from, transform

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MATRIX = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1.0]])
WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("odometry")
    sys.path.remove(str(BENCHMARKS))


def wall(world_from_camera: Any, texture: Any) -> tuple[Any, Any]:
    """Image and depth (metres) of a wall 2 m away with a texture of 4 mm a pixel."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    ray = np.stack([(u - 159.5) / 300, (v - 119.5) / 300, np.ones(u.shape)], -1) @ world_from_camera[:3, :3].T
    depth = (2.0 - world_from_camera[2, 3]) / ray[..., 2]
    place = world_from_camera[:3, 3] + depth[..., None] * ray
    at = (place[..., :2] / 0.004 + 500).astype(np.float32)
    return cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR), depth.astype(np.float32)


def walk(count: int) -> list[Any]:
    """Poses (world_from_camera) of a camera that shifts and turns, without a jump at the start."""
    return [
        transform(rotation_from(np.array([0.002, -0.004, 0.006]) * n), np.array([0.004, -0.002, 0.006]) * n)
        for n in (np.arange(count) ** 2 / count).tolist()
    ]


@pytest.fixture(scope="module")
def texture() -> Any:
    random = np.random.default_rng(3)
    coarse = cv2.resize(random.uniform(0, 255, (80, 80)), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(random.uniform(0, 255, (330, 330)), (1000, 1000), interpolation=cv2.INTER_NEAREST)
    gray = np.clip(0.6 * coarse + 0.4 * cv2.GaussianBlur(fine, (0, 0), 1.0), 0, 255).astype(np.uint8)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)


def unpacked(folder: Path, poses: list[Any], texture: Any) -> None:
    """A sequence as a tracker's process takes it."""
    from odometry_sequences import Sequence

    frames = []
    for number, pose in enumerate(poses):
        image, depth = wall(pose, texture)
        units = np.rint(depth * 5000).astype(np.uint16)
        frames.append((Frame(Stamp(0), image, "BGR8", number), DepthFrame(Stamp(0), units, 1 / 5000, number)))
    times = np.arange(len(poses)) / 30
    Sequence("wall", MATRIX, times, np.array(poses), frames).unpack(folder)


@pytest.mark.parametrize(
    ("lost", "ate_m", "turn_deg", "kept"),
    [
        ((), 0.05, 1.0, True), (range(20, 30), 0.05, 1.0, True), (range(20, 31), 0.05, 1.0, False),
        (range(89, 100), 0.05, 1.0, False), ((), 0.21, 1.0, False), ((), 0.05, 6.0, False),
    ],
)  # fmt: skip
def test_kept_is_never_long_lost_and_near(
    benchmark: ModuleType, lost: Any, ate_m: float, turn_deg: float, kept: bool
) -> None:
    tracked = np.ones(100, bool)
    tracked[list(lost)] = False
    assert benchmark.is_kept({"ate_m": ate_m, "rpe_deg": turn_deg, "path_m": 2.0}, tracked) is kept


def test_a_lost_frame_counts_with_the_last_pose(benchmark: ModuleType) -> None:
    first, second = walk(3)[1:]
    answers = [{"pose": first.ravel().tolist(), "tracked": True}, {"pose": second.ravel().tolist(), "tracked": False}]
    poses, tracked = benchmark.held(answers, 4)
    assert tracked.tolist() == [True, False, False, False]
    np.testing.assert_allclose(poses, np.array([first] * 4))


def test_errors_are_none_in_another_world_and_grow_with_drift(benchmark: ModuleType) -> None:
    truth = np.array(walk(40))
    elsewhere = transform(rotation_from(np.array([0.3, 1.0, -0.2])), np.array([4.0, 0.0, 1.0]))
    found = benchmark.errors(elsewhere @ truth, truth)
    assert found["ate_m"] < 1e-9 and found["rpe_m"] < 1e-9 and found["rpe_deg"] < 1e-5
    drifted = truth.copy()
    drifted[:, 0, 3] += 0.01 * np.arange(40)
    truth[5] = np.nan  # not known there
    assert benchmark.errors(drifted, truth)["rpe_m"] == pytest.approx(0.13, rel=0.05)  # 13 frames


def test_a_tracker_that_cannot_be_made_says_why(benchmark: ModuleType, tmp_path: Path, texture: Any) -> None:
    unpacked(tmp_path, walk(3), texture)
    process = benchmark.Process("open3d_hybrid", "false", tmp_path, 0)
    process.line(20.0)
    process.track(0)
    process.end()
    assert "ended with 1" in process.fault and not process.answers
    assert "fault" in benchmark.score(process, SimpleNamespace(time_s=np.arange(3)))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "limit"),
    [("dense_direct", 0.004), ("dense_direct_far", 0.004), ("canny_edge_direct", 0.004), ("orb_pnp", 0.004),
     ("opencv_rgb", 0.03)],  # OpenCV starts at rest, and the last frames move by 7 pixels
)  # fmt: skip
def test_a_baseline_finds_a_known_motion(
    benchmark: ModuleType, tmp_path: Path, texture: Any, name: str, limit: float
) -> None:
    """20 frames before a wall: exact depth to 0.1 mm, so that a wrong sign, an inverse or a half pixel shows."""
    truth = walk(20)
    unpacked(tmp_path, truth, texture)
    process = benchmark.Process(name, sys.executable, tmp_path, min(os.sched_getaffinity(0)))
    process.line(120.0)
    for number in range(len(truth)):
        process.track(number)
    process.end()
    assert not process.fault and all(answer["tracked"] for answer in process.answers)
    poses, _ = benchmark.held(process.answers, len(truth))
    off = invert(truth[-1]) @ poses[-1]
    assert np.linalg.norm(off[:3, 3]) < limit and np.linalg.norm(off[:3, :3] - np.eye(3)) < limit
    assert np.linalg.norm(truth[-1][:3, 3]) > 0.1


@pytest.mark.heavy
def test_orb_says_that_it_is_lost_and_finds_the_way_back(benchmark: ModuleType, texture: Any) -> None:
    tracker = importlib.import_module("odometry_peers.orb_pnp").OrbPnp(MATRIX, WIDTH, HEIGHT)
    truth = walk(8)
    for number, pose in enumerate(truth):
        image, depth = wall(pose, texture)
        if number in (4, 5):
            image = np.full_like(image, 128)
        found, tracked = tracker.track(image, depth, number / 30)
        assert tracked is (number not in (4, 5))
        assert (found is None) is not tracked
    assert np.linalg.norm((invert(truth[-1]) @ found)[:3, 3]) < 0.01
