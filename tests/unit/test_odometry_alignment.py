"""Odometry's derivatives against finite differences, and exact recovery on drawn pairs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="odometry's loops are compiled by numba (extra odometry)")

from foveate_calibration.rigid import invert
from foveate_nodes.odometry import kernels, se3, window_kernels
from foveate_nodes.odometry.agreement import agreement
from foveate_nodes.odometry.alignment import PLAIN, Alignment, align
from foveate_nodes.odometry.pyramid import MIDDLE
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.view import Reference, View
from foveate_nodes.odometry.window import Window
from tests.odometry_views import MATRIX, BoxRoom, off, posed

Array = np.ndarray
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]  # numba compiles when it is first run
H, W = 120, 160
CAMERA = np.array([130.0, 131.0, 79.5, 59.5])
STEP = 1e-3
SEEDS = range(6)


def ramp(random: Any) -> Array:
    """A field (H x W, float32) with one slope: value and gradient by bilinear interpolation are exact."""
    v, u = np.mgrid[:H, :W]
    a, b = random.uniform(-0.3, 0.3, 2).tolist()
    return np.asarray(a * (u - 80) + b * (v - 60), np.float32)


def spread_points(random: Any, count: int, nearest: float = 1.2, farthest: float = 2.5) -> Array:
    """Points (N x 3) that fall well inside the image."""
    z = random.uniform(nearest, farthest, count)
    pixel = random.uniform([30, 25], [130, 95], (count, 2))
    return np.column_stack([(pixel - CAMERA[2:]) / CAMERA[:2] * z[:, None], z])


def differences(function: Any, count: int, size: float = STEP) -> Array:
    """Central differences (... x count) of a function of a step (count,)."""
    return np.stack(
        [(function(size * e) - function(-size * e)) / (2 * size) for e in np.eye(count)], axis=-1
    )  # fmt: skip


def bent(residual: Array, sigma: float = 1.0) -> Array:
    """The weights of bent costs: (1 + BEND s)^-2 of the squared residual in sigmas, over sigma squared."""
    return (1 + kernels.BEND * (residual / sigma) ** 2) ** -2 / sigma**2


@pytest.mark.parametrize("lit", [1.0, 0.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_image_terms_are_the_derivatives_of_cost_and_residuals(seed: int, lit: float) -> None:
    random = np.random.default_rng(seed)
    field, point = ramp(random), spread_points(random, 60)
    value = random.uniform(-20, 20, 60).astype(np.float32) if lit else np.zeros(60, np.float32)
    pose, light = se3.exponential(random.uniform(-0.05, 0.05, 6)), np.array([0.9, 3.0])
    sigma, weight = 4.0, 0.7

    def terms(step: Array) -> tuple[float, Array, Array, Array]:
        normal, side, residual = np.zeros((8, 8)), np.zeros(8), np.empty(60)
        cost, seen = kernels.image_terms(
            field, np.zeros((H, W), np.float32), point, value, se3.exponential(step[:6]) @ pose, CAMERA,
            light + step[6:], sigma, weight, lit, normal, side, residual,
        )  # fmt: skip
        assert seen == 60
        return cost, normal, side, residual

    _, normal, side, residual = terms(np.zeros(8))
    gradient = differences(lambda s: terms(s)[0], 8)
    slope = differences(lambda s: terms(s)[3], 8)
    assert np.allclose(side, gradient, rtol=2e-3, atol=2e-3 * np.abs(gradient).max())
    expected = slope.T * (weight * bent(residual, sigma)) @ slope
    assert np.allclose(normal, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    assert lit or not (normal[6:].any() or side[6:].any())


def test_what_is_hidden_or_out_of_view_says_nothing() -> None:
    random = np.random.default_rng(1)
    point = np.array([[0.0, 0, 2.0], [0.1, 0, 2.0], [9.0, 0, 2.0], [0, 0, -1.0], [0, 0, 0.0], [np.nan, 0, 1.0]])
    depth = np.zeros((H, W), np.float32)
    depth[:, :83] = 1.0  # hides the first
    normal, side, residual = np.zeros((8, 8)), np.zeros(8), np.empty(6)
    _, seen = kernels.image_terms(ramp(random), depth, point, np.zeros(6, np.float32), np.eye(4), CAMERA, PLAIN, 1.0,
                                  1.0, 1.0, normal, side, residual)  # fmt: skip
    assert seen == 1 and np.isfinite(residual).tolist() == [False, True, False, False, False, False]
    assert np.isfinite(normal).all() and np.isfinite(side).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_plane_terms_are_the_derivatives_of_the_distances(seed: int) -> None:
    """Points fall near the middles of pixels, so that a small step leaves them where they are, and planes are 2 mm off:
    what the kernel leaves out, the change of sigma with distance, is below 1 % there."""
    random = np.random.default_rng(seed)
    pose = se3.exponential(random.uniform(-0.04, 0.04, 6))
    pixel = random.integers([20, 20], [140, 100], (80, 2))
    z = random.uniform(1.0, 2.2, 80).astype(np.float32)
    there = np.column_stack([(pixel - CAMERA[2:]) / CAMERA[:2] * z[:, None], z.astype(np.float64)])
    normals = random.normal(size=(80, 3)) * 0.4 - [0, 0, 1]
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    place = there + normals * random.uniform(-0.002, 0.002, (80, 1))
    back = invert(pose)
    point = np.hstack([place @ back[:3, :3].T + back[:3, 3], normals @ back[:3, :3].T])
    depth = np.zeros((H, W), np.float32)
    depth[pixel[:, 1], pixel[:, 0]] = z
    z[:] = depth[pixel[:, 1], pixel[:, 0]]

    def terms(step: Array) -> tuple[float, Array, Array, Array]:
        normal, side, residual = np.zeros((8, 8)), np.zeros(8), np.empty(80)
        cost, _ = kernels.plane_terms(depth, point, se3.exponential(step) @ pose, CAMERA, 1.0, 0.6, normal, side,
                                      residual)  # fmt: skip
        return cost, normal, side, np.where(np.isinf(residual), np.nan, residual)  # another surface: no slope

    _, normal, side, residual = terms(np.zeros(6))
    known = np.isfinite(residual)
    assert known.sum() > 70
    gradient = differences(lambda s: terms(s)[0], 6, 1e-5)
    slope = differences(lambda s: terms(s)[3], 6, 1e-5)[known]
    expected = slope.T * (0.6 * bent(residual[known])) @ slope
    assert np.allclose(normal[:6, :6], expected, rtol=0.02, atol=0.01 * np.abs(expected).max())
    assert np.allclose(side[:6], gradient, rtol=0.02, atol=0.02 * np.abs(gradient).max())
    assert not normal[6:].any() and not side[6:].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_pair_terms_are_the_derivatives_for_both_keyframes_and_each_point(seed: int) -> None:
    random = np.random.default_rng(seed)
    image, count = ramp(random), 40
    point = spread_points(random, count)
    ray, inverse = point / point[:, 2:], 1 / point[:, 2]
    value = random.uniform(-20, 20, count).astype(np.float32)
    poses = [se3.exponential(random.uniform(-0.05, 0.05, 6)) for _ in range(3)]
    light = random.uniform([-0.1, -3], [0.1, 3], (3, 2))
    host, target = 2, 0  # of three: the one between is not touched
    light[target, 1] -= MIDDLE  # small numbers: brightness is interpolated in float32

    def terms(step: Array, deeper: Array) -> tuple[Any, ...]:
        moved = [se3.exponential(step[8 * k : 8 * k + 6]) @ pose for k, pose in enumerate(poses)]
        lit = light + step.reshape(3, 8)[:, 6:]
        normal, side = np.zeros((24, 24)), np.zeros(24)
        own, own_side, cross, residual = np.zeros(count), np.zeros(count), np.zeros((count, 24)), np.empty(count)
        relative = moved[target] @ invert(moved[host])
        cost, seen = window_kernels.pair_terms(
            image, np.zeros((H, W), np.float32), ray, inverse + deeper, value, relative, se3.adjoint(relative), CAMERA,
            np.concatenate([lit[host], lit[target]]), 5.0, host, target, normal, side, own, own_side, cross, residual,
        )  # fmt: skip
        assert seen == count
        return cost, normal, side, own, own_side, cross, residual

    none = np.zeros(count)
    _, normal, side, own, own_side, cross, residual = terms(np.zeros(24), none)
    slope = differences(lambda s: terms(s, none)[6], 24)
    more = 10 * STEP  # inverse metres: the change in the image is then far above float32
    deeper = (terms(np.zeros(24), none + more)[6] - terms(np.zeros(24), none - more)[6]) / (2 * more)
    weight = bent(residual, 5.0)
    expected = slope.T * weight @ slope
    assert np.allclose(normal, expected, rtol=3e-3, atol=3e-3 * np.abs(expected).max())
    gradient = differences(lambda s: terms(s, none)[0], 24)
    assert np.allclose(side, gradient, rtol=3e-3, atol=3e-3 * np.abs(gradient).max())
    assert np.allclose(own, weight * deeper**2, rtol=1e-2, atol=1e-3 * own.max())
    assert np.allclose(own_side, weight * deeper * residual, rtol=1e-2, atol=1e-3 * np.abs(own_side).max())
    assert np.allclose(cross, (weight * deeper)[:, None] * slope, rtol=1e-2, atol=3e-3 * np.abs(cross).max())


def test_eliminated_points_give_the_step_of_the_whole_system() -> None:
    random = np.random.default_rng(4)
    slope = random.normal(size=(90, 16 + 30))
    slope[:, 16:] *= np.repeat(np.eye(30), 3, axis=0)  # each point is in three residuals
    whole, right = slope.T @ slope, slope.T @ random.normal(size=90)
    normal, side = whole[:16, :16].copy(), right[:16].copy()
    window_kernels.eliminate(np.diag(whole)[16:].copy(), right[16:].copy(), whole[16:, :16].copy(), normal, side)
    assert np.allclose(np.linalg.solve(normal, -side), np.linalg.solve(whole, -right)[:16])


@pytest.mark.parametrize("seed", SEEDS)
def test_small_systems_are_solved_and_steps_taken_as_numpy_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    root = random.normal(size=(8, 8)) * 10.0 ** random.integers(-2, 3, 8)
    normal, side, step = root.T @ root, random.normal(size=8), np.zeros(8)
    assert kernels.solve(normal, side, 0.3, step)
    assert np.allclose(step, np.linalg.solve(normal + 0.3 * np.diag(np.diag(normal)), -side), rtol=1e-6)
    flat = normal.copy()
    flat[3] = flat[:, 3] = 0
    assert not kernels.solve(flat, side, 0.0, np.zeros(8))
    pose, out = se3.exponential(random.uniform(-1, 1, 6)), np.eye(4)
    for size in (1.0, 1e-3, 1e-8):
        kernels.moved(pose, size * step / np.abs(step).max(), out)
        assert np.allclose(out, se3.exponential(size * step[:6] / np.abs(step).max()) @ pose, atol=1e-12)


def near(found: Array, true: Array, most_m: float, most_rad: float) -> bool:
    miss_m, miss_rad = off(found, true)
    return miss_m < most_m and miss_rad < most_rad


TRUE = posed(0.03, -0.05, 0.02, 0.06, -0.02, 0.05)  # world_from_camera of the second view
HOW = [("photometric", 0.0), ("photometric", 0.5), ("distance", 0.0), ("distance", 0.5), ("both", 0.5)]


@cache
def room() -> BoxRoom:
    return BoxRoom()


@cache
def drawn(second: bool) -> tuple[Array, Array]:
    gray, depth = room().seen(TRUE if second else np.eye(4))
    return gray, depth


def view(gray: Array, depth: Array, matrix: Array = MATRIX) -> View:
    return View(np.ascontiguousarray(gray), np.ascontiguousarray(depth), matrix, canny_edges)


@cache
def reference() -> Reference:
    return Reference.of(view(*drawn(False)))


def aligned(target: View, source: Reference | None = None, start: Array | None = None, residual: Any = "photometric",
            planes: float = 0.5) -> Alignment:  # fmt: skip
    return align(source or reference(), target, np.eye(4) if start is None else start, PLAIN, residual, planes)


@pytest.mark.parametrize(("residual", "planes"), HOW)
def test_a_view_lies_on_itself(residual: str, planes: float) -> None:
    found = aligned(view(*drawn(False)), residual=residual, planes=planes)
    assert near(found.pose, np.eye(4), 1e-4, 1e-4)
    said = agreement(reference(), view(*drawn(False)), found)
    assert said.reason == "" and said.edge > 0.99 and said.flow_px < 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("residual", "planes"), HOW)
def test_a_motion_is_found_from_starts_that_are_off(residual: str, planes: float, seed: int) -> None:
    """Measured: brightness alone 0.7 mm and 0.013 degrees (what is hidden biases it), with planes 0.2 mm and 0.007;
    distances alone 3 to 7 mm and 0.18, for their valley is flat, with planes 0.4 mm and 0.016."""
    random = np.random.default_rng(seed)
    start = se3.exponential(random.uniform(-1, 1, 6) * ([0.02] * 3 + [0.03] * 3)) @ invert(TRUE)
    target = view(*drawn(True))
    found = aligned(target, start=start, residual=residual, planes=planes)
    if planes > 0:
        assert near(found.pose, invert(TRUE), 6e-4, 4e-4)
    elif residual == "photometric":
        assert near(found.pose, invert(TRUE), 1.2e-3, 4e-4)
    else:
        assert near(found.pose, invert(TRUE), 1.2e-2, 5e-3)
    assert agreement(reference(), target, found).reason == ""


@pytest.mark.parametrize(("gain", "offset"), [(0.75, 0.0), (1.0, 40.0), (0.6, 60.0), (1.15, -30.0)])
def test_other_light_changes_little(gain: float, offset: float) -> None:
    gray, depth = drawn(True)
    lit = np.clip(np.rint(gray * gain + offset), 0, 255).astype(np.uint8)
    found = aligned(view(lit, depth))
    assert near(found.pose, invert(TRUE), 1e-3, 1e-3)
    assert abs(found.brightness[0] - gain) < 0.1


def test_a_smaller_world_gives_the_same_way_but_smaller() -> None:
    """Image and turn do not tell how large the world is; only without planes, whose noise knows metres."""
    plain = aligned(view(*drawn(True)), planes=0.0)
    for scale in (0.5, 2.0):
        source = Reference.of(view(drawn(False)[0], drawn(False)[1] * np.float32(scale)))
        found = aligned(view(drawn(True)[0], drawn(True)[1] * np.float32(scale)), source, planes=0.0)
        expected = plain.pose.copy()
        expected[:3, 3] *= scale
        assert near(found.pose, expected, 3e-4 * scale, 3e-4)


def test_mirrored_images_give_the_mirrored_way() -> None:
    flip = np.diag([-1.0, 1, 1, 1])  # the principal point is in the middle
    one, other = ([np.ascontiguousarray(a[:, ::-1]) for a in drawn(second)] for second in (False, True))
    found = aligned(view(other[0], other[1]), Reference.of(view(one[0], one[1])))
    assert near(found.pose, flip @ invert(TRUE) @ flip, 6e-4, 6e-4)


def test_half_the_resolution_finds_nearly_the_same() -> None:
    small = np.diag([0.5, 0.5, 1.0]) @ MATRIX
    seen = [view(*room().seen(pose, small, (160, 120)), small) for pose in (np.eye(4), TRUE)]
    found = aligned(seen[1], Reference.of(seen[0]))
    assert near(found.pose, invert(TRUE), 2e-3, 2e-3)


def test_other_views_are_not_explained() -> None:
    """Of another room, noise, blank, black: a reason, whatever the alignment finds."""
    random = np.random.default_rng(0)
    depth = drawn(True)[1]
    others = [
        BoxRoom(9).seen(TRUE), (random.integers(0, 256, depth.shape).astype(np.uint8), depth),
        (np.full(depth.shape, 255, np.uint8), depth), (np.zeros(depth.shape, np.uint8), depth * 0),
    ]  # fmt: skip
    for gray, there in others:
        target = view(gray, there)
        found = aligned(target)
        assert np.isfinite(found.pose).all()
        assert agreement(reference(), target, found).reason


@pytest.mark.parametrize(("sigma", "before"), [(np.inf, None), (1e-6, 90)])
def test_the_window_finds_poses_that_were_off(sigma: float, before: int | None) -> None:
    """Four keyframes, the later three misplaced by centimetres; the first stays where it is. Also where their steps
    are said to be sure, but from a keyframe that the window has not."""
    true = [posed(0, 0, 0, 0, 0, 0), posed(0.01, -0.02, 0.01, 0.03, -0.01, 0.02), TRUE,
            posed(0.02, -0.09, 0.0, 0.1, 0.02, 0.08)]  # fmt: skip
    random = np.random.default_rng(3)
    window = Window(4, 0.05)
    wrong = []
    for k, pose in enumerate(true):
        seen = view(*room().seen(pose))
        guess = pose if k == 0 else pose @ se3.exponential(random.uniform(-1, 1, 6) * ([0.006] * 3 + [0.012] * 3))
        wrong.append(off(guess, pose)[0])
        window.add(k, seen, Reference.of(seen), guess, PLAIN, (10.0, 1.0), np.eye(6) * sigma**2 if before
                   else np.full((6, 6), np.inf), before or k - 1)  # fmt: skip
    for _ in range(4):
        window.optimise()
    found = [off(invert(member.pose), pose)[0] for member, pose in zip(window.members, true, strict=True)]
    assert found[0] < 1e-5 and max(found) < 0.2 * max(wrong)  # measured: 1.7 of 12.6 mm


def test_a_keyframe_that_leaves_the_window_moves_nothing() -> None:
    """What it knew stays as a prior: the optimum of the others is where it was."""
    window = Window(2, 0.05)
    for k, pose in enumerate([np.eye(4), posed(0.01, -0.02, 0.01, 0.03, -0.01, 0.02), TRUE]):
        seen = view(*room().seen(pose))
        window.add(k, seen, Reference.of(seen), pose, PLAIN, (10.0, 1.0), np.full((6, 6), np.inf), k - 1)
    window.optimise()
    before = {member.seq: invert(member.pose) for member in window.members}
    gone = window.shrink()
    assert [member.seq for member in gone] == [0] and len(window.members) == 2
    window.optimise()
    for member in window.members:
        assert near(invert(member.pose), before[member.seq], 1e-3, 1e-3)


def test_points_of_a_reference_have_depth_and_lie_apart() -> None:
    gray, depth = drawn(False)
    holed = depth.copy()
    holed[60:180, 100:220] = np.nan
    seen = view(gray, holed)
    made = Reference.of(seen)
    camera, point = seen.camera[0], made.point_m[0]
    pixel = np.rint(point[:, :2] / point[:, 2:] * camera.numbers[:2] + camera.numbers[2:]).astype(int)
    column, row = pixel.T
    assert np.isfinite(made.point_m[0]).all() and np.isfinite(holed[row, column]).all()
    assert len(np.unique(pixel, axis=0)) == len(pixel) > 500
    assert replace(made).measured.all()
