"""Where a pose cannot be known, none is given; where it can, one is: walls, dim light, clocks that jump."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="odometry's loops are compiled by numba (extra odometry)")

from foveate.messages import CameraInfo, DepthFrame, Frame, Stamp
from foveate_nodes.odometry.corrected import matrix
from foveate_nodes.odometry.errors import OdometryError
from foveate_nodes.odometry.following import Following
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.tracker import Tracked, Tracker
from foveate_nodes.odometry.view import View
from tests.odometry_views import MATRIX, BoxRoom, off, posed, walk, wall

Array = np.ndarray
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]  # numba compiles when it is first run
RATE_HZ = 30.0
SIDE = 1000  # pixels of a wall's texture


def stripes() -> Array:
    """Vertical, of 10 to 28 cm."""
    random, paint = np.random.default_rng(3), np.full((SIDE, SIDE), 110, np.float32)
    for column in np.cumsum(random.integers(25, 70, 60)):
        paint[:, column:] = random.uniform(40, 210)
    return np.asarray(cv2.GaussianBlur(paint, (0, 0), 1.5))


def post() -> Array:
    paint = np.full((SIDE, SIDE), 110, np.float32)
    paint[:, 480:520] = 190
    return np.asarray(cv2.GaussianBlur(paint, (0, 0), 1.5))


def carpet(grain: float, seed: int = 1) -> Array:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), (0, 0), grain)
    return np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.float32)


def followed(shots: list[tuple[Array, Array]], **options: Any) -> list[Tracked]:
    tracker = Tracker(planes=0.5, **options)
    views = (View(gray, depth, MATRIX, canny_edges) for gray, depth in shots)
    return [tracker.track(view, k, k / RATE_HZ) for k, view in enumerate(views)]


@pytest.mark.parametrize("residual", ["photometric", "distance", "both"])
@pytest.mark.parametrize("paint", [stripes(), post()], ids=["stripes", "a post"])
def test_along_edges_that_all_run_one_way_no_pose_is_given(paint: Array, residual: str) -> None:
    """Noise has gradients along the stripes too; without the check poses were 13 to 40 cm off, with 4 mm said."""
    found = followed([wall(paint, posed(0, 0, 0, 0, 0.01 * k, 0), k) for k in range(8)], residual=residual)
    assert [one.state for one in found] == ["started"] + ["lost"] * 7
    assert re.search("all edges in view run one way|pose is not determined", found[1].reason)
    assert np.isinf(found[1].covariance).all()


def test_stripes_that_are_crossed_by_a_few_lines_are_followed() -> None:
    """Three lines across are enough: what is asked for is not much."""
    paint = stripes()
    for row in (330, 500, 640):
        paint[row : row + 6] = 20
    way = [posed(0, 0, 0, 0, 0.01 * k, 0) for k in range(12)]
    found = followed([wall(cv2.GaussianBlur(paint, (0, 0), 1.0), pose, k) for k, pose in enumerate(way)])
    assert all(one.world_from_camera is not None for one in found)
    assert max(off(one.world_from_camera, pose)[0] for one, pose in zip(found, way, strict=True)) < 0.005


def test_depth_tells_how_far_along_the_edges_it_went() -> None:
    """Vertical stripes again, over a floor: its surface is across them."""
    way, shots = [posed(0, 0, 0, 0, -0.004 * k, 0) for k in range(10)], []
    rows = (np.mgrid[:240, :320][0] - MATRIX[1, 2]) / MATRIX[1, 1]
    for k, pose in enumerate(way):
        gray, depth = wall(stripes(), pose, k)
        floor = (0.25 - pose[1, 3]) / np.maximum(rows, 1e-6)
        shots.append((np.where(floor < depth, 110, gray).astype(np.uint8), np.minimum(depth, floor).astype(np.float32)))
    found = followed(shots)
    known = [(one, pose) for one, pose in zip(found, way, strict=True) if one.world_from_camera is not None]
    assert len(known) == len(way) and max(off(one.world_from_camera, pose)[0] for one, pose in known) < 0.01


@pytest.mark.parametrize("grain", [1.5, 2.5, 5.0])
def test_where_edges_are_everywhere_they_are_held_against_each_other_more_strictly(grain: float) -> None:
    """Carpet, gravel, grass: nearly all pixels are within two of an edge, and on edges or not is what still tells."""
    way = [posed(0.05 * np.sin(k / 15), 0.1 * np.sin(k / 20), 0, 0.1 * np.sin(k / 20), 0, 0) for k in range(10)]
    found = followed([wall(carpet(grain), pose, k) for k, pose in enumerate(way)])
    assert [one.state for one in found] == ["started"] + ["tracking"] * 9
    assert max(off(one.world_from_camera, pose)[0] for one, pose in zip(found, way, strict=True)) < 0.004


@pytest.mark.parametrize("grain", [1.5, 2.5, 5.0])
def test_another_carpet_is_lost(grain: float) -> None:
    paints = carpet(grain), carpet(grain, 2), carpet(grain, 2)
    found = followed([wall(paint, np.eye(4), k) for k, paint in enumerate(paints)])
    assert [one.state for one in found] == ["started", "lost", "lost"]


def test_one_bad_frame_in_dim_light_is_one_lost_frame() -> None:
    """No feature is found in such images: what was tracked is looked for where it was."""
    room, random = BoxRoom(), np.random.default_rng(2)
    way, shots = walk(16), []
    for pose in way:
        gray, depth = room.seen(pose)
        shots.append((np.clip(gray / 12 + random.normal(0, 0.5, gray.shape), 0, 255).astype(np.uint8), depth))
    shots[8] = np.full_like(shots[8][0], 9), shots[8][1]
    found = followed(shots)
    assert [one.state for one in found] == ["started"] + ["tracking"] * 7 + ["lost", "relocalised"] + ["tracking"] * 6
    assert "edges" in found[8].reason
    assert max(off(one.world_from_camera, pose)[0] for one, pose in zip(found[9:], way[9:], strict=True)) < 0.01


def test_a_view_without_edges_begins_nothing() -> None:
    gray, depth = BoxRoom().seen(np.eye(4))
    blurred = np.asarray(cv2.GaussianBlur(gray, (0, 0), 8.0))
    found = followed([(blurred, depth)] * 3 + [(gray, depth)] * 2)
    assert [one.state for one in found] == ["lost"] * 3 + ["started", "tracking"]
    assert "on edges with depth, 50 are needed to begin" in found[0].reason


# --- the node's work


def message(k: int, pose: Array, *, time_s: float | None = None, seq: int | None = None) -> tuple[Any, Any, Any]:
    gray, depth = BoxRoom().seen(pose)
    stamp = Stamp(round((k / RATE_HZ if time_s is None else time_s) * 1e9))
    number = k if seq is None else seq
    info = CameraInfo(stamp, 320, 240, "plumb_bob", MATRIX, np.zeros(5))
    units = np.rint(depth * 2000).astype(np.uint16)
    return Frame(stamp, gray, "Mono8", number), DepthFrame(stamp, units, 5e-4, number), info


def misses(outs: list[Any], way: list[Array]) -> list[float]:
    return [off(matrix(out["pose"].position_m, out["pose"].orientation), pose)[0] if "pose" in out else np.inf
            for out, pose in zip(outs, way, strict=True)]  # fmt: skip


def test_a_stamp_from_the_future_costs_the_patience_and_no_more() -> None:
    node, way = Following({"patience_s": 0.2}), walk(20)
    times = [1e9 if k == 5 else k / RATE_HZ for k in range(20)]
    outs: list[Any] = [node.step(*message(k, pose, time_s=times[k])) for k, pose in enumerate(way)]
    states = [out["tracking"].state for out in outs]
    assert states[:6] == ["started"] + ["tracking"] * 5 and states[6:12] == ["lost"] * 6
    assert states[12] in ("tracking", "relocalised") and states[13:] == ["tracking"] * 7
    assert max(misses(outs[12:], way[12:])) < 0.005


def test_a_camera_that_counts_anew_keeps_its_way() -> None:
    node, way = Following({}), walk(50)
    outs: list[Any] = [node.step(*message(k, pose, seq=k if k < 23 else k - 23)) for k, pose in enumerate(way)]
    keys = [out["keyframe"].seq for out in outs if "keyframe" in out]
    assert max(misses(outs, way)) < 0.006
    assert keys == sorted(set(keys)) and keys[-1] >= 23
    assert [out["tracking"].seq for out in outs[22:25]] == [22, 0, 1]


def test_a_first_pair_that_does_not_fit_binds_nothing() -> None:
    node, way = Following({}), walk(3)
    frame, depth, info = message(0, way[0])
    wide = CameraInfo(info.stamp, 640, 480, "plumb_bob", MATRIX, np.zeros(5))
    with pytest.raises(OdometryError, match="the matrix is for 640 x 480"):
        node.step(frame, depth, wide)
    outs: list[Any] = [node.step(*message(k, pose)) for k, pose in enumerate(way)]
    assert max(misses(outs, way)) < 0.005
