"""Every geometric model: projecting and looking back agree, files give back what was saved, slopes are slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate_calibration.depth_camera import DepthCamera
from foveate_calibration.document import Calibration, TimeOffset, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.lens import Lens
from foveate_calibration.residual_map import ResidualMap
from foveate_calibration.rigid import reflection, rotation_from, stepped, transform, vector_from
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane, SteeredLaser
from foveate_calibration.two_mirror import TwoMirror
from tests.scanner_rig import aim_camera, aim_laser, drawn, made, triangulate

seeds = st.integers(0, 10_000)
DISTORTION = np.array([0.1, -0.05, 1e-3, -2e-3, 0.01, 0.02, 0.01, 3e-3, 1e-3, 5e-4, -1e-3, 2e-4, 0.05, -0.03])


def lens() -> Lens:
    return Lens.from_matrix(np.array([[600, 0, 320], [0, 590, 241.0], [0, 0, 1]]), DISTORTION, 640, 480)


def slopes(f: Callable[[np.ndarray], np.ndarray], count: int, step: float = 1e-6) -> np.ndarray:
    return np.stack([(f(step * e) - f(-step * e)) / (2 * step) for e in np.eye(count)], axis=-1)


@given(seeds)
def test_a_lens_looks_back_along_what_it_projects(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-1, 1, (20, 3)) * [0.5, 0.4, 0.3] + [0, 0, 1.5]
    rays = lens().rays(lens().project(points))
    assert np.abs(rays - points / np.linalg.norm(points, axis=1, keepdims=True)).max() < 1e-11


def test_pixels_beyond_the_fold_of_a_lens_have_finite_rays_and_spoil_no_others() -> None:
    lens = Lens.from_matrix(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), np.array([-0.4]), 640, 480)
    turning = 320 + 500 * np.sqrt(1 / 1.2) * (1 - 0.4 / 1.2)  # where the model's radius is greatest
    pixels = np.array([[400.0, 300.0], [turning, 240.0], [turning + 60, 240.0], [3000.0, -3000.0]])
    rays = lens.rays(pixels)
    assert np.isfinite(rays).all()
    assert np.abs(lens.project(rays[:1]) - pixels[:1]).max() < 1e-9
    assert lens.rays(pixels[:0]).shape == (0, 3)


def test_a_lens_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)) * [0.5, 0.4, 0.3] + [0, 0, 1.5]
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), lens().matrix, DISTORTION)[0].reshape(-1, 2)
    assert np.abs(lens().project(points) - theirs).max() < 1e-9


def test_the_slopes_of_a_lens() -> None:
    point = np.array([[0.3, -0.2, 1.4], [-0.4, 0.3, 1.7]])
    _, by_point, by_value = lens().linearize(point)
    assert np.allclose(slopes(lambda d: lens().stepped(d).project(point), 18), by_value, atol=2e-6)
    assert np.allclose(slopes(lambda d: lens().project(point + d), 3), by_point, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([1, 2]))
def test_a_steered_camera_is_what_tracing_its_rays_gives(seed: int, mirrors: int) -> None:
    """Reflecting the ray at each mirror in turn: the closed form of the virtual camera agrees to 1e-9 m."""
    camera, _ = made(seed, mirrors)
    angle = np.random.default_rng(seed).uniform(-0.1, 0.1, mirrors)
    pixels = np.random.default_rng(seed).uniform(0, 1000, (10, 2))
    origin = np.tile(camera.rig_from_camera[:3, 3], (10, 1))
    rays = camera.lens.rays(pixels) @ camera.rig_from_camera[:3, :3].T
    for mirror, command in zip(camera.mirrors, angle, strict=True):
        plane = mirror.plane(float(command))
        origin = origin + rays * ((plane[3] - origin @ plane[:3]) / (rays @ plane[:3]))[:, None]
        rays = rays - 2 * (rays @ plane[:3])[:, None] * plane[:3]
    center, directions = camera.rays(pixels, angle)
    assert np.abs(rays - directions).max() < 1e-9
    off = (origin - center) - ((origin - center) * directions).sum(axis=1, keepdims=True) * directions
    assert np.abs(off).max() < 1e-9


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([1, 2]))
def test_a_steered_camera_looks_back_along_what_it_projects(seed: int, mirrors: int) -> None:
    camera, _ = made(seed, mirrors)
    angle = np.random.default_rng(seed).uniform(-0.1, 0.1, mirrors)
    origin, rays = camera.rays(np.random.default_rng(seed + 1).uniform(0, 1000, (10, 2)), angle)
    points = origin + rays * np.linspace(1.7, 2.3, 10)[:, None]
    again = camera.rays(camera.project(points, angle), angle)[1]
    assert np.abs(again - rays).max() < 1e-11
    handed = np.sign(np.linalg.det(camera.rig_from_virtual(angle)[:3, :3]))
    assert handed == (1 if mirrors == 2 else -1), "one mirror shows a mirror image"


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from([1, 2]))
def test_the_slopes_of_a_steered_camera(seed: int, mirrors: int) -> None:
    camera, _ = made(seed, mirrors)
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-0.1, 0.1, mirrors)
    origin, rays = camera.rays(rng.uniform(0, 1000, (4, 2)), angle)
    points = origin + rays * 2.0
    _, by_point, by_mirror, by_lens, by_angle = camera.linearize(points, angle)
    count = 9 * mirrors
    for slope, f, n in (
        (by_point, lambda d: camera.project(points + d, angle), 3),
        (by_mirror, lambda d: camera.stepped(d).project(points, angle), count),
        (by_lens, lambda d: camera.stepped(np.zeros(count), d).project(points, angle), 18),
        (by_angle, lambda d: camera.project(points, angle + d), mirrors),
    ):
        measured = slopes(f, n)
        assert np.allclose(measured, slope, atol=1e-6 * max(np.abs(slope).max(), 1)), f


@given(seeds)
def test_a_laser_plane_is_that_of_reflected_points(seed: int) -> None:
    _, laser = made(seed)
    command = np.random.default_rng(seed).uniform(-0.1, 0.1, 1)
    mirror = laser.mirror.plane(float(command[0]))
    side = np.random.default_rng(seed).normal(size=(5, 3))
    on_sheet = side - (side @ laser.sheet[:3] - laser.sheet[3])[:, None] * laser.sheet[:3]
    seen = np.column_stack([on_sheet, np.ones(5)]) @ reflection(mirror[:3], mirror[:3] * mirror[3]).T
    plane = laser.plane(command)
    assert np.abs(seen[:, :3] @ plane[:3] - plane[3]).max() < 1e-12
    assert np.isclose(np.linalg.norm(plane[:3]), 1)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_slopes_of_a_steered_laser(seed: int) -> None:
    _, laser = made(seed)
    command = np.random.default_rng(seed).uniform(-0.1, 0.1, 1)
    _, by_step, by_angle = laser.linearize(command)
    assert np.allclose(slopes(lambda d: laser.stepped(d).plane(command), 12), by_step.T, atol=1e-8)
    assert np.allclose(slopes(lambda d: laser.plane(command + d), 1)[:, 0], by_angle, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_ray_and_plane_meet_where_the_point_was(seed: int) -> None:
    camera, laser = made(seed)
    point = np.random.default_rng(seed).uniform([-0.5, -0.6, 1.7], [0.5, 0.6, 2.3])
    angle, light = aim_camera(camera, point), np.array([aim_laser(laser, point)])
    found = triangulate(camera, laser, camera.project(point[None], angle)[0], angle, light)
    assert np.abs(found - point).max() < 1e-9


def test_the_general_mirrors_are_the_ideal_two() -> None:
    camera, _ = drawn()
    angle = np.array([0.05, -0.03])
    assert np.abs(camera.rig_from_virtual(angle) - TwoMirror().rig_from_camera(angle)).max() < 1e-15


@given(seeds)
def test_a_depth_camera_sees_its_points_where_they_were(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = transform(rotation_from(rng.normal(0, 0.3, 3)), rng.normal(0, 0.1, 3))
    small = Lens.from_matrix(np.array([[60, 0, 19.5], [0, 60, 14.5], [0, 0, 1.0]]), np.zeros(5), 40, 30)
    camera = DepthCamera(small, pose, 0.001, 1.01, 0.004)
    depth = rng.integers(500, 4000, (30, 40)).astype(np.uint16)
    points, measured = camera.points(depth)
    pixels, units = camera.project(points)
    columns, rows = np.meshgrid(np.arange(40), np.arange(30))
    assert measured.all() and np.allclose(pixels, np.column_stack([columns.ravel(), rows.ravel()]), atol=1e-9)
    assert np.allclose(units, depth.ravel(), atol=1e-6)


@given(st.floats(-3.1, 3.1), seeds)
def test_rotation_vectors_come_back(angle: float, seed: int) -> None:
    axis = np.random.default_rng(seed).normal(size=3)
    vector = axis / np.linalg.norm(axis) * angle
    assert np.allclose(rotation_from(vector_from(rotation_from(vector))), rotation_from(vector), atol=1e-9)
    pose = transform(rotation_from(vector), axis)
    assert np.allclose(stepped(pose, np.zeros(6)), pose)


def everything() -> Calibration:
    camera, laser = made(3)
    rng = np.random.default_rng(0)
    pixels, angles, off = rng.uniform(0, 1000, (90, 2)), rng.uniform(-0.1, 0.1, (90, 2)), rng.normal(0, 0.1, (90, 2))
    return Calibration(
        {
            "lens": lens(), "camera": replace(camera, residual=ResidualMap.polynomial(pixels, angles, off)),
            "other": replace(camera, residual=ResidualMap.gaussian_process(pixels, angles, off, 0.05)),
            "sheet": LaserPlane(laser.sheet), "laser": laser, "depth": DepthCamera(lens(), np.eye(4)),
            "world_from_rig": Transform(transform(rotation_from(np.array([0.1, 0.2, 0.3])), np.ones(3))),
            "time": TimeOffset(0.0123, 1e-6, 5),
        },
        {"corner_px": {"rms": 0.1}}, {"camera.mirror_1.gain": 1e-5}, ("none",), {"procedure": "test"},
    )  # fmt: skip


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    everything().save(path)
    back = Calibration.load(path)
    assert back.text() == everything().text(), "every number survives, and the file is the same again"
    camera, other = everything().model("camera", SteeredCamera), back.model("camera", SteeredCamera)
    point, angle = np.array([[0.1, 0.2, 2.0]]), np.array([0.02, 0.03])
    assert np.array_equal(camera.project(point, angle), other.project(point, angle))
    assert [p.name for p in tmp_path.iterdir()] == ["rig.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "said", "check"),
    [
        ("offset_s: 0.0123", "offset_s: 0.0124", "not that of its checksum", True),
        ("offset_s: 0.0123", "offset_s: 1.0e+999", "not finite", True),
        ("offset_s: 0.0123", "offset_s: soon", "could not convert", False),
        ("offset_s: 0.0123", "offset: 0.0123", "'offset_s' is missing", False),
        ("foveate_calibration: 1", "foveate_calibration: 9", "not a calibration", False),
        ("length: m", "length: mm", "units are", False),
        ("model: lens", "model: lense", "needs 'model'", False),
        ("kind: polynomial", "kind: spline", "unknown kind", False),
    ],
)
def test_a_file_that_was_changed_is_refused(old: str, new: str, said: str, check: bool) -> None:
    text = everything().text()
    assert text.count(old) >= 1
    with pytest.raises(CalibrationError, match=said):
        Calibration.parse(text.replace(old, new, 1), "rig.yaml", check=check)


def test_a_model_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(CalibrationError, match=r"no steered_laser named 'light'.*laser \(steered_laser\)"):
        everything().model("light", SteeredLaser)


def test_a_residual_map_learns_what_is_smooth_and_not_the_noise() -> None:
    rng = np.random.default_rng(1)
    pixels, angles = rng.uniform(0, 1000, (3000, 2)), rng.uniform(-0.1, 0.1, (3000, 2))

    def truth(p: np.ndarray, a: np.ndarray) -> np.ndarray:
        return np.column_stack([0.5 * np.sin(15 * a[:, 0]) + 2e-4 * p[:, 1], 3 * a[:, 0] * a[:, 1] * 10])

    noisy = truth(pixels, angles) + rng.normal(0, 0.1, (3000, 2))
    new_pixels, new_angles = rng.uniform(50, 950, (500, 2)), rng.uniform(-0.09, 0.09, (500, 2))
    for found in (
        ResidualMap.polynomial(pixels, angles, noisy),
        ResidualMap.gaussian_process(pixels, angles, noisy, 0.1),
    ):
        off = found.offset_px(new_pixels, new_angles) - truth(new_pixels, new_angles)
        assert np.sqrt(np.mean(off**2)) < 0.03, found.kind
        assert np.abs(found.removed(new_pixels, new_angles) + found.offset_px(
            found.removed(new_pixels, new_angles), new_angles) - new_pixels).max() < 1e-6  # fmt: skip


def test_a_galvanometer_keeps_its_normal_at_its_angle_to_the_axis() -> None:
    camera, _ = made(5)
    for mirror in camera.mirrors:
        leans = [mirror.plane(float(c))[:3] @ mirror.axis for c in np.linspace(-0.2, 0.2, 5)]
        assert np.ptp(leans) < 1e-12
    assert isinstance(camera.mirrors[0], Galvanometer)


def _first(mirror: str) -> tuple[object, ...]:
    return ("camera", "mirrors", 0, mirror)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("camera", "lens", "fx"), 0.0, "fx and fy must be above 0"),
        (("camera", "lens", "width"), 0, "must be above 0"),
        (("camera", "rig_from_camera"), [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0]], "not a rotation"),
        (_first("axis"), [0, 0, 0], "need a length of 1"),
        (_first("normal"), [0, 0, 1], "would not turn"),
        (("camera", "residual", "degree"), 2, "not those of a polynomial of degree 2"),
        (("camera", "residual", "half"), [1, 1, 1, 0], "number above 0"),
        (("camera", "residual", "half"), [1, 1], "number above 0"),
        (("depth", "gain"), 0.0, "gain must be above 0"),
    ],
)
def test_a_model_that_cannot_be_is_refused(path: tuple, value: object, said: str) -> None:  # type: ignore[type-arg]
    two = TwoMirror()
    lens = Lens.from_matrix(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), np.zeros(5), 640, 480)
    rng = np.random.default_rng(0)
    ripple = ResidualMap.polynomial(rng.uniform(0, 9, (99, 2)), rng.uniform(0, 1, (99, 2)), rng.normal(size=(99, 2)))
    camera = SteeredCamera(lens, two.rig_from_bare_camera, two.galvanometers(), ripple)
    plain = yaml.safe_load(Calibration({"camera": camera, "depth": DepthCamera(lens, np.eye(4))}).text())
    part = plain["models"]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(CalibrationError, match=said) as caught:
        Calibration.parse(yaml.safe_dump(plain), "file.yaml", check=False)
    assert "\n" not in str(caught.value)
