"""The two-mirror geometry: ray tracing against the closed form, virtual camera against ray tracing."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert, reflection, rotation, transform
from foveate_calibration.two_mirror import TwoMirror

angles = st.floats(-0.2, 0.2)
mirrors = st.builds(TwoMirror, st.floats(0.005, 0.1), st.floats(0.02, 0.3))
ranges_m = st.floats(0.5, 500.0)


@given(mirrors, angles, angles, ranges_m)
def test_the_closed_form_aims_the_traced_ray(mirror: TwoMirror, right: float, down: float, z: float) -> None:
    x, y = math.tan(right) * z, math.tan(down) * z
    hit = mirror.hit(mirror.aim(x, y, z), z)
    assert np.allclose(hit, [x, y], atol=1e-9 * z)


@given(mirrors, angles, angles)
def test_the_virtual_camera_looks_along_the_traced_ray(mirror: TwoMirror, a: float, b: float) -> None:
    pose = mirror.rig_from_camera(np.array([a, b]))
    origin, direction = mirror.ray(np.array([a, b]))
    assert np.isclose(np.linalg.det(pose[:3, :3]), 1.0), "two reflections keep the handedness"
    assert np.allclose(pose[:3, 2], direction)
    along = (origin - pose[:3, 3]) @ direction
    assert np.allclose(pose[:3, 3] + along * direction, origin, atol=1e-12)
    assert np.isclose(along, mirror.camera_distance_m + np.linalg.norm(_path(mirror, a)), atol=1e-9)


def _path(mirror: TwoMirror, a: float) -> np.ndarray:
    """From the first mirror to the second along the axis."""
    return np.array([mirror.spacing_m * math.tan(2 * a), mirror.spacing_m, 0.0])


def test_the_exit_point_slides_so_that_there_is_no_single_centre() -> None:
    mirror = TwoMirror(spacing_m=0.010)
    slide = mirror.ray(np.array([math.radians(10), 0.0]))[0]
    assert np.isclose(abs(slide[0]), 0.010 * math.tan(math.radians(20)))
    centers = np.array([mirror.rig_from_camera(np.array([a, b]))[:3, 3] for a in (-0.1, 0.1) for b in (-0.1, 0.1)])
    assert np.ptp(centers, axis=0).max() > 1e-3


@given(mirrors, angles, angles, st.floats(0, 255), st.floats(0, 255), ranges_m)
def test_the_homography_sees_what_the_rays_hit(
    mirror: TwoMirror, a: float, b: float, u: float, v: float, z: float
) -> None:
    camera = Pinhole.from_field(256, 256, 0.05)
    pose = mirror.rig_from_camera(np.array([a, b]))
    ray = pose[:3, :3] @ camera.rays(np.array([[u, v]]))[0]
    point = pose[:3, 3] + ray * (z - pose[2, 3]) / ray[2]
    pixel = camera.image_from_plane(invert(pose), z) @ [point[0], point[1], 1.0]
    assert np.allclose(pixel[:2] / pixel[2], [u, v], atol=1e-6)


@given(st.floats(0.01, 2.5), st.integers(16, 4000), st.integers(16, 4000))
def test_a_camera_from_its_field_spans_it(field: float, width: int, height: int) -> None:
    assert math.isclose(2 * Pinhole.from_field(width, height, field).half_field_rad[0], field, rel_tol=1e-9)


@given(angles, st.tuples(angles, angles, angles))
def test_rigid_transforms_invert_and_reflections_are_their_own_inverse(angle: float, shift: tuple[float, ...]) -> None:
    axis = np.array([0.6, 0.0, 0.8])
    pose = transform(rotation(axis, angle), np.array(shift))
    assert np.allclose(pose @ invert(pose), np.eye(4))
    mirror = reflection(axis, np.array(shift))
    assert np.allclose(mirror @ mirror, np.eye(4))
