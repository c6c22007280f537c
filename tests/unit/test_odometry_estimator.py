"""What odometry is made of and needs no compiler: small motions, cameras, frames that do not fit, graph, ferns."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="odometry's loops are compiled by numba (extra odometry)")

from foveate import load_graph
from foveate.errors import BackendMissing, GraphError
from foveate.messages import CameraInfo, DepthFrame, Frame, Stamp
from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import invert
from foveate_nodes.odometry import ferns, se3
from foveate_nodes.odometry.camera import PinholeLevel
from foveate_nodes.odometry.errors import OdometryError
from foveate_nodes.odometry.loop_closure import LoopClosure
from foveate_nodes.odometry.pose_graph import PoseGraph, Tie
from foveate_nodes.odometry.rgbd import Rgbd
from foveate_nodes.odometry.selection import canny_edges, halved
from tests.odometry_views import MATRIX, off, posed

Array = np.ndarray
ROOT = Path(__file__).resolve().parents[2]
NO_LENS = np.zeros(5)


def steps(most_rad: float) -> st.SearchStrategy[Array]:
    """Twists (6,) that turn by at most so much."""
    turn = st.tuples(*[st.floats(-1, 1)] * 3).map(lambda v: np.array(v) * most_rad / np.sqrt(3))
    shift = st.tuples(*[st.floats(-3, 3)] * 3).map(np.array)
    return st.tuples(turn, shift).map(np.concatenate)


def info(
    width: int = 320, height: int = 240, matrix: Array = MATRIX, lens: Array = NO_LENS, model: str = "plumb_bob"
) -> CameraInfo:
    return CameraInfo(Stamp(0), width, height, model, matrix, lens)


@settings(max_examples=80)
@given(steps(3.0))
def test_the_logarithm_is_the_inverse_of_the_exponential(step: Array) -> None:
    motion = se3.exponential(step)
    assert np.allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.allclose(se3.logarithm(motion), step, atol=1e-7)
    assert np.allclose(se3.exponential(-step) @ motion, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.9e-6, 1.1e-6, 1e-4])
def test_tiny_turns_lose_nothing(angle: float) -> None:
    """On both sides of where the series takes over."""
    step = np.array([angle, 0.0, 0.0, 0.3, -0.2, 0.5])
    halves = se3.exponential(step / 2)
    assert np.allclose(halves @ halves, se3.exponential(step), atol=1e-12)


@pytest.mark.parametrize(
    "angle",
    [
        0.0, 0.9e-6, 1.1e-6, 1e-3, 0.99e-2, 1.01e-2,
    ],
)  # fmt: skip
def test_logarithms_of_tiny_turns_are_exact(angle: float) -> None:
    step = np.array([angle, 0.0, 0.0, 0.3, -0.2, 0.5])
    assert np.allclose(se3.logarithm(se3.exponential(step)), step, rtol=0, atol=1e-9)


@settings(max_examples=60)
@given(steps(3.0), steps(1.0))
def test_the_adjoint_takes_a_step_to_the_outer_frame(pose: Array, step: Array) -> None:
    motion = se3.exponential(pose)
    moved = se3.exponential(se3.adjoint(motion) @ step) @ motion
    assert np.allclose(moved, motion @ se3.exponential(step), atol=1e-8)


@settings(max_examples=60)
@given(steps(3.1))
def test_a_quaternion_is_of_its_rotation(step: Array) -> None:
    rotation = se3.exponential(step)[:3, :3]
    found = se3.orientation_of(rotation)
    assert found[3] >= 0 and abs(float(np.linalg.norm(found)) - 1) < 1e-12
    assert np.allclose(quaternion(found), rotation, atol=1e-9)


@given(st.integers(64, 700), st.integers(48, 500))
def test_a_coarser_camera_sees_a_point_at_half_the_pixel(width: int, height: int) -> None:
    fine = PinholeLevel.of(MATRIX, width, height)
    coarse = fine.coarser()
    blank = np.zeros((height, width), np.uint8)
    assert np.asarray(cv2.pyrDown(blank)).shape == (coarse.height, coarse.width)
    point = np.array([0.3, -0.2, 1.7])
    assert np.allclose((fine.matrix @ point / 1.7)[:2], 2 * (coarse.matrix @ point / 1.7)[:2])
    assert np.array_equal(coarse.numbers, coarse.matrix[[0, 1, 0, 1], [0, 1, 2, 2]])


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_blank_image_has_no_edges(value: int) -> None:
    blank = np.full((48, 64), value, np.uint8)
    assert not canny_edges(blank).any()


def test_halved_masks_keep_thin_lines() -> None:
    """A line of one pixel on odd rows is not lost at the coarser level."""
    mask = np.zeros((49, 65), np.uint8)
    mask[21] = 255
    coarse = halved(mask)
    assert coarse.shape == (25, 33) and coarse[10:12].all() and not coarse[:10].any() and not coarse[12:].any()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"matrix": np.diag([0.0, 200.0, 1.0])}, "fx = 0 and fy = 200"),
        ({"matrix": np.full((3, 3), np.nan)}, "fx = nan"),
        ({"width": 32}, "32 x 240 pixels are too small; the least is 128 x 96"),
        ({"lens": np.full(4, 0.1), "model": "equidistant"}, "'equidistant' is not known"),
    ],
)
def test_a_camera_that_is_none_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(OdometryError, match=said) as caught:
        Rgbd(info(**changed))
    assert "\n" not in str(caught.value)


def test_frames_that_do_not_fit_the_camera_are_refused_with_both_sizes() -> None:
    rgbd = Rgbd(info())
    with pytest.raises(OdometryError, match="the image has 160 x 120 pixels, the matrix is for 320 x 240"):
        rgbd.image(Frame(Stamp(0), np.zeros((120, 160), np.uint8), "Mono8", 0))
    with pytest.raises(OdometryError, match="the depth has 240 x 320 pixels, the matrix is for 320 x 240"):
        rgbd.depth(DepthFrame(Stamp(0), np.zeros((320, 240), np.uint16), 0.001, 0))


@pytest.mark.parametrize("scale_m", [0.0, -0.001, 1.0, 1000.0, float("nan"), float("inf")])
def test_a_wrong_unit_of_depth_is_refused(scale_m: float) -> None:
    with pytest.raises(OdometryError, match=r"a unit of depth is .* m; it must be above 0 and below 1"):
        Rgbd(info()).depth(DepthFrame(Stamp(0), np.ones((240, 320), np.uint16), scale_m, 0))


@pytest.mark.parametrize(("encoding", "shape"), [("Mono8", (3,)), ("BGR8", ()), ("BayerRG8", ())])
def test_an_image_of_another_kind_is_refused(encoding: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(OdometryError, match=f"images are {encoding}"):
        Rgbd(info()).image(Frame(Stamp(0), np.zeros((240, 320, *shape), np.uint8), encoding, 0))


def test_red_first_becomes_blue_first() -> None:
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    made = Rgbd(info()).image(Frame(Stamp(0), image, "RGB8", 0))
    assert np.array_equal(made, image[:, :, ::-1])


def test_a_changed_camera_is_seen() -> None:
    rgbd, other = Rgbd(info()), MATRIX.copy()
    other[0, 0] += 0.5
    assert rgbd.fits(info()) and not rgbd.fits(info(matrix=other)) and not rgbd.fits(info(width=322))


def test_distortion_is_taken_out_of_image_and_depth() -> None:
    """A ring of the distorted image lies where the ideal camera has it; depth is moved the same way, unblended."""
    lens = np.array([-0.25, 0.08, 0.001, -0.001, 0.0])
    rgbd = Rgbd(info(lens=lens))
    point = np.array([[0.42, -0.3, 1.0]])
    bent = cv2.projectPoints(point, np.zeros(3), np.zeros(3), MATRIX, lens)[0].ravel()
    straight = (MATRIX @ point[0])[:2]
    v, u = np.mgrid[:240, :320]
    away = (u - bent[0]) ** 2 + (v - bent[1]) ** 2
    image = np.rint(255 * np.exp(-away / 8)).astype(np.uint8)
    found = rgbd.image(Frame(Stamp(0), image, "Mono8", 0)).astype(float)
    middle = np.array([(u * found).sum(), (v * found).sum()]) / found.sum()
    assert np.linalg.norm(bent - straight) > 4 and np.linalg.norm(middle - straight) < 0.2
    depth = np.where(away < 64, 900, 2000).astype(np.uint16)
    made = rgbd.depth(DepthFrame(Stamp(0), depth, 0.001, 0))
    assert set(np.unique(made)) <= {0, 900, 2000} and made[int(straight[1]), int(straight[0])] == 900


def test_ferns_count_what_differs() -> None:
    random = np.random.default_rng(2)
    one = random.integers(0, 8, 500).astype(np.uint8)
    other = one.copy()
    other[:100] ^= 1
    assert np.allclose(ferns.dissimilarity(np.stack([one, other]), one), [0.0, 0.2])


def test_the_graph_of_odometry_loads_and_names_what_is_wrong() -> None:
    path = ROOT / "launch" / "graphs" / "odometry.yaml"
    graph = load_graph(path)
    assert {"odometry.pose", "odometry.tracking", "odometry.keyframe"} <= {
        ".".join(stream[:2]) for stream in graph.record.streams
    }
    with pytest.raises(GraphError, match=r"residual.*photometric") as caught:
        load_graph(path, ["residual=colour"])
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(GraphError, match="window"):
        load_graph(path, ["window=13"])


def circle(count: int, radius_m: float) -> list[Array]:
    return [posed(0, a, 0, radius_m * np.sin(a), 0, radius_m * (1 - np.cos(a)))
            for a in np.linspace(0, 2 * np.pi, count).tolist()]  # fmt: skip


def drifting(poses: list[Array], drift: Array) -> list[Array]:
    """As odometry would have them that errs by `drift` (4 x 4) in every step."""
    made = [poses[0]]
    for before, after in itertools.pairwise(poses):
        made.append(made[-1] @ invert(before) @ after @ drift)
    return made


@pytest.mark.skipif(importlib.util.find_spec("gtsam") is None, reason="needs gtsam (extra slam)")
@pytest.mark.parametrize("drift", [0.15, 0.5])
def test_right_loops_take_the_drift_out_and_a_wrong_one_is_forgotten(drift: float) -> None:
    """`drift`: of each step, in its standard deviations, always the same way, as a wrong focal length gives it."""
    true = circle(40, 1.0)
    sigma = np.array([0.002] * 3 + [0.004] * 3)
    given = drifting(true, posed(*(sigma * drift * np.array([1, 1, -1, 1, 1, -1])).tolist()))
    graph = PoseGraph()
    for k, pose in enumerate(given):
        graph.add(k, pose, k - 1, np.diag(sigma**2))
    for one, other in ((0, 39), (2, 38)):
        graph.ties.append(Tie(one, other, invert(true[one]) @ true[other], np.diag(sigma**2), loop=True))
    graph.ties.append(Tie(10, 30, posed(0, 0, 0, 1.0, 0, 0), np.diag(sigma**2), loop=True))  # wrong
    graph.optimise()
    before = np.mean([off(given[k], true[k])[0] for k in range(40)])
    after = np.mean([off(graph.poses[k], true[k])[0] for k in range(40)])
    assert graph.loops == [(0, 39), (2, 38)]
    assert after < before / 2
    assert np.allclose(graph.poses[0], true[0], atol=1e-5)


def test_a_step_that_nobody_saw_is_joined_to_the_one_before() -> None:
    graph = PoseGraph()
    for k, before in ((3, -1), (9, 3), (12, -1), (15, 99)):
        graph.add(k, posed(0, 0, 0.1, k, 0, 0), before, np.eye(6) * 1e-4)
    assert [(tie.one, tie.other) for tie in graph.ties] == [(3, 9), (9, 12), (12, 15)]
    assert [float(tie.covariance[3, 3]) for tie in graph.ties] == pytest.approx([1e-4, 1.0, 1.0])
    assert np.allclose(graph.poses[15], posed(0, 0, 0.1, 15, 0, 0))


def test_without_gtsam_loop_closure_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gtsam", None)  # as if it were not installed
    with pytest.raises(BackendMissing, match="slam") as caught:
        LoopClosure().open()
    assert "loop closure" in str(caught.value) and "\n" not in str(caught.value)
