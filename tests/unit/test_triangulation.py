"""From a stripe to points: against ray tracing, finite differences and Monte Carlo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.messages import Frame, MirrorState, Stamp
from foveate_calibration.document import Calibration, RigCalibration, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.lens import Lens
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane, SteeredLaser
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.reconstruction.messages import PointCloud, Stripe
from foveate_nodes.reconstruction.mirror_reading import MirrorReading
from foveate_nodes.reconstruction.triangulate import Triangulate
from foveate_nodes.reconstruction.triangulation import (
    Sigmas,
    derivatives,
    points,
    points_with_errors,
    sheet_of,
    view_of,
)

WIDTH, HEIGHT = 1280, 1024
SIN = np.sqrt(0.5)
TILTED = np.array([0.03, -0.004])  # of the sensor
ERRORS = np.array([2e-3, -1e-3, 4e-4, -3e-4, 1e-3, 2e-4, 4e-3, 0.02, 1e-3])


def camera(seed: int = 0) -> SteeredCamera:
    """A camera as made, not as drawn: distortion, a tilted sensor, mirrors with errors."""
    drawn = TwoMirror()
    values = np.zeros(18)
    values[:4] = 10_000.0, 10_010.0, WIDTH / 2 + 3, HEIGHT / 2 - 5
    values[4:9] = -0.2, 0.1, 1e-3, -5e-4, 0.0
    values[16:] = TILTED
    turns = np.random.default_rng(seed).choice([-1, 1], (2, 9))
    mirrors = tuple(m.stepped(ERRORS * t) for m, t in zip(drawn.galvanometers(), turns, strict=True))
    return SteeredCamera(Lens(WIDTH, HEIGHT, values), drawn.rig_from_bare_camera, mirrors)


def laser() -> SteeredLaser:
    mirror = Galvanometer(np.array([0.0, 1.0, 0.0]), np.array([0.8, 0.0, 0.0]), np.array([-SIN, 0.0, SIN]))
    return SteeredLaser(np.array([0.0, 0.0, 1.0, 0.0]), mirror.stepped(ERRORS))


def laser_angle(x: float, z: float) -> float:
    """That puts the light on (x, z), as drawn: at rest it leaves along +z, and turns by twice the angle."""
    return 0.5 * np.arctan2(x - 0.8, z)


def traced(at: np.ndarray, pixels: np.ndarray, beam: float) -> np.ndarray:
    """Points where the rays meet the light, traced from mirror to mirror with nothing but the law of reflection."""
    built, source = camera(), laser()
    found = []
    for ray in built.lens.rays(pixels) @ built.rig_from_camera[:3, :3].T:
        origin, direction = built.rig_from_camera[:3, 3], ray
        for mirror, angle in zip(built.mirrors, at, strict=True):
            n, d = np.split(mirror.plane(float(angle)), [3])
            origin = origin + direction * (d - origin @ n) / (direction @ n)
            direction = direction - 2 * (direction @ n) * n
        lit = []  # three points of the sheet, each ray of light reflected where it meets the mirror
        n, d = np.split(source.mirror.plane(beam), [3])
        for side in (-0.1, 0.0, 0.1):
            start, along = np.array([2.0, side, 0.0]), np.array([-1.0, 0.2 * side, 0.0])
            hit = start + along * (d - start @ n) / (along @ n)
            lit += [hit, hit + along - 2 * (along @ n) * n]
        normal = np.cross(lit[1] - lit[0], lit[4] - lit[0])
        found.append(origin + direction * ((lit[0] - origin) @ normal) / (direction @ normal))
    return np.array(found)


places = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.6, 0.6), st.floats(1.7, 2.3))
pixels_in = st.tuples(st.floats(100, WIDTH - 100), st.floats(20, HEIGHT - 20))


def aimed(place: tuple[float, float, float]) -> tuple[np.ndarray, float]:
    return TwoMirror().aim(*place), laser_angle(place[0], place[2])


@settings(max_examples=25, deadline=None)
@given(places, st.lists(pixels_in, min_size=1, max_size=4))
def test_points_are_where_rays_and_light_meet(place: tuple[float, float, float], at: list[tuple[float, float]]) -> None:
    angle, beam = aimed(place)
    pixels = np.array(at)
    found = points(view_of(camera(), angle), sheet_of(laser(), np.array([beam])), pixels)
    assert np.allclose(found, traced(angle, pixels, beam), atol=1e-9)
    assert np.abs(found - np.array(place)).max() < 0.8  # the side of the image is 0.1 m off and 0.3 m in depth


@settings(max_examples=15, deadline=None)
@given(places, pixels_in, st.floats(-1.0, 1.0))
def test_derivatives_are_those_of_differences(
    place: tuple[float, float, float], pixel: tuple[float, float], lean: float
) -> None:
    angle, beam = aimed(place)
    pixels, normal = np.array([pixel]), np.array([[np.cos(lean), np.sin(lean)]])
    built, light = camera(), laser()
    found, by_pixel, by_camera, by_laser = derivatives(
        view_of(built, angle), sheet_of(light, np.array([beam])), pixels, normal
    )

    def at(shift_px: float = 0.0, turn: np.ndarray | None = None, swing: float = 0.0) -> np.ndarray:
        turned = angle if turn is None else angle + turn
        return points(view_of(built, turned), sheet_of(light, np.array([beam + swing])), pixels + shift_px * normal)

    step = 1e-6
    assert np.allclose(found, at(), atol=1e-12)
    assert np.allclose(by_pixel, (at(0.01) - at(-0.01)) / 0.02, rtol=1e-5, atol=1e-9)
    for k in range(2):
        turn = step * np.eye(2)[k]
        assert np.allclose(by_camera[k], (at(turn=turn) - at(turn=-turn)) / (2 * step), rtol=1e-5, atol=1e-6)
    assert np.allclose(by_laser, (at(swing=step) - at(swing=-step)) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_covariances_are_those_of_many_noisy_measurements() -> None:
    angle, beam = aimed((0.3, -0.4, 2.1))
    pixels = np.column_stack([np.linspace(400, 800, 5), np.linspace(100, 900, 5)])
    normal = np.tile([np.cos(0.2), np.sin(0.2)], (5, 1))
    sigma_px, sigmas = np.linspace(0.05, 0.3, 5), Sigmas(10e-6, 12e-6)
    _, covariance = points_with_errors(
        view_of(camera(), angle), sheet_of(laser(), np.array([beam])), pixels, normal, sigma_px, sigmas
    )
    random = np.random.default_rng(3)
    drawn = []
    for _ in range(3000):
        turned = angle + random.normal(0, sigmas.camera_rad, 2)
        sheet = sheet_of(laser(), np.array([beam + random.normal(0, sigmas.laser_rad)]))
        drawn.append(points(view_of(camera(), turned), sheet, pixels + (random.normal(0, sigma_px))[:, None] * normal))
    cloud = np.array(drawn)
    for k in range(5):
        found = np.cov(cloud[:, k].T)
        said = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
        expected = covariance[k][said]
        # 3000 draws give each element to 2.6 % of the product of its deviations, so 10 % is 4 sigma
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert np.abs(found - expected).max() < 0.1 * scale.max()


def stripe_of(angle: np.ndarray, t_ns: int = 7, moved: bool = False, count: int = 50) -> Stripe:
    rows = np.linspace(50, 950, count)
    point = np.column_stack([np.full(count, WIDTH / 2), rows])
    normal = np.tile(np.float32([1, 0]), (count, 1))
    return Stripe(
        Stamp(t_ns), point, np.full(count, 0.1, np.float32), normal, np.full(count, 90, np.float32),
        np.zeros(count, np.uint8), WIDTH, HEIGHT, 3, MirrorState(Stamp(t_ns), angle, moved, "readback"),
    )  # fmt: skip


def light_of(beam: float, t_ns: int = 7, moved: bool = False) -> MirrorState:
    return MirrorState(Stamp(t_ns), np.array([beam]), moved, "readback")


def message(**models: object) -> RigCalibration:
    return RigCalibration(Stamp(0), Calibration({"camera": camera(), "laser": laser()} | models).text())  # type: ignore[arg-type]


def test_a_profile_becomes_points_on_the_light() -> None:
    angle, beam = aimed((0.1, 0.2, 2.0))
    cloud = Triangulate().step(stripe_of(angle), light_of(beam), message())
    assert cloud is not None and cloud.point_m.shape == (50, 3) and cloud.covariance_m2.shape == (50, 6)
    plane = laser().plane(np.array([beam]))
    assert np.abs(cloud.point_m @ plane[:3] - plane[3]).max() < 1e-6
    assert np.allclose(cloud.view_m, camera().rig_from_virtual(angle)[:3, 3], atol=1e-6)
    assert cloud.seq == 3 and cloud.stamp.t_ns == 7


def test_what_cannot_be_placed_is_dropped_and_counted() -> None:
    angle, beam = aimed((0.1, 0.2, 2.0))
    node, known = Triangulate(), message()
    assert node.step(stripe_of(angle), light_of(beam), None) is None
    assert node.step(stripe_of(angle, moved=True), light_of(beam), known) is None
    assert node.step(stripe_of(angle), light_of(beam, moved=True), known) is None
    assert node.step(stripe_of(angle), light_of(beam, t_ns=6), known) is None
    assert node.step(stripe_of(angle), None, known) is None
    assert node.step(replace(stripe_of(angle), mirror=None), light_of(beam), known) is None
    assert node.dropped == {
        "no calibration": 1, "the camera's mirror moved": 1, "the laser's mirror moved": 1,
        "no reading of the laser's mirror": 2, "no reading of the camera's mirror": 1,
    }  # fmt: skip


def test_points_outside_the_volume_or_too_uncertain_go() -> None:
    angle, beam = aimed((0.1, 0.2, 2.0))
    everything = Triangulate().step(stripe_of(angle), light_of(beam), message())
    assert isinstance(everything, PointCloud)
    half = float(np.median(everything.point_m[:, 1]))
    node = Triangulate(volume=(-1.0, 1.0, -1.0, half, 1.0, 3.0))
    part = node.step(stripe_of(angle), light_of(beam), message())
    assert part is not None and np.array_equal(part.point_m, everything.point_m[everything.point_m[:, 1] <= half])
    assert node.dropped == {"outside the volume": 50 - len(part.point_m)}
    strict = Triangulate(most_sigma=1e-5)
    nothing = strict.step(stripe_of(angle), light_of(beam), message())
    assert nothing is not None and len(nothing.point_m) == 0 and strict.dropped == {"too uncertain": 50}
    assert [p.parameter for p in Triangulate.check(volume=(0.0, 1.0, 1.0, 0.0, 0.0, 1.0))] == ["volume"]
    assert [p.parameter for p in Triangulate.check(volume=(0.0, 1.0))] == ["volume"]


def test_light_behind_the_camera_gives_no_points() -> None:
    view = view_of(camera(), aimed((0.1, 0.2, 2.0))[0])
    forward = np.array([0.0, 0.0, 1.0, -1.0])
    found = points(view, sheet_of(LaserPlane(forward), None), np.array([[640.0, 512.0]]))
    assert np.isnan(found).all()


@pytest.mark.parametrize("smooth", [True, False])
def test_readings_at_one_place_are_averaged(smooth: bool) -> None:
    angle, beam = aimed((0.1, 0.2, 2.0))
    random, node, known = np.random.default_rng(1), Triangulate(smooth=smooth, laser_angle_sigma=0.0), message()
    truth = Triangulate(smooth=False).step(stripe_of(angle), light_of(beam), known)
    assert truth is not None
    offs, sigmas = [], []
    for _ in range(40):
        cloud = node.step(stripe_of(angle + random.normal(0, 10e-6, 2)), light_of(beam), known)
        assert cloud is not None
        offs.append(float((cloud.point_m - truth.point_m)[:, 2].mean()))
        sigmas.append(float(np.sqrt(cloud.covariance_m2[:, 5].mean())))
    early, late = np.std(offs), np.std(offs[20:])
    assert (late < early / 2 and sigmas[-1] < sigmas[0]) if smooth else sigmas[-1] == pytest.approx(sigmas[0], rel=1e-3)
    far = node.step(stripe_of(angle + 1e-3), light_of(beam), known)  # another place: nothing of before is left
    fresh = Triangulate(smooth=smooth, laser_angle_sigma=0.0).step(stripe_of(angle + 1e-3), light_of(beam), known)
    assert far is not None and fresh is not None
    assert np.array_equal(far.point_m, fresh.point_m) and np.array_equal(far.covariance_m2, fresh.covariance_m2)


def test_a_restarted_node_goes_on_with_the_mean() -> None:
    angle, beam = aimed((0.1, 0.2, 2.0))
    first, second, known = Triangulate(), Triangulate(), message()
    first.step(stripe_of(angle), light_of(beam), known)
    second.load_state_dict(first.state_dict())
    again = [node.step(stripe_of(angle + 5e-6), light_of(beam), known) for node in (first, second)]
    assert again[0] is not None and again[1] is not None and np.array_equal(again[0].point_m, again[1].point_m)


def test_a_camera_and_a_laser_that_do_not_move() -> None:
    pose = np.eye(4)
    pose[:3, 3] = 0.1, 0.0, 0.0
    lens = Lens.from_matrix(np.diag([1000.0, 1000.0, 1.0]), np.zeros(0), WIDTH, HEIGHT)
    sheet = LaserPlane(np.array([0.0, 0.0, 1.0, 2.0]))  # z = 2
    known = message(camera=lens, laser=sheet, rig_from_camera=Transform(pose))
    cloud = Triangulate().step(replace(stripe_of(np.zeros(2)), mirror=None), None, known)
    assert cloud is not None and np.allclose(cloud.point_m[:, 2], 2.0)
    assert np.allclose(cloud.point_m[:, 0], 0.1 + 2 * (WIDTH / 2) / 1000)
    expected = (2 / 1000 * 0.1) ** 2  # a pixel is 2 mm there
    assert np.allclose(cloud.covariance_m2[:, 0], expected, rtol=1e-4)


def test_a_calibration_without_the_models_is_named() -> None:
    angle, beam = aimed((0.1, 0.2, 2.0))
    with pytest.raises(CalibrationError, match="no steered_laser named 'beam'"):
        Triangulate(laser="beam").step(stripe_of(angle), light_of(beam), message())


class Shaft(Mirror):
    """A mirror of which only the reading counts."""

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        return MirrorState(Stamp(t_ns + 3), np.array([t_ns / 1e9]), exposure_ns > 10, "readback")


def test_a_reading_has_the_stamp_of_its_frame() -> None:
    frame = Frame(Stamp(5_000_000, 20), np.zeros((2, 2), np.uint8), "Mono8", 0)
    state = MirrorReading(device=Shaft()).step(frame)
    assert state.stamp == frame.stamp and state.angle_rad[0] == 0.005 and state.moved
