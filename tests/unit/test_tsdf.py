"""Depth images of profiles, and the TSDF mesh of them where open3d is installed."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import BackendMissing
from foveate.messages import Stamp
from foveate_calibration.rigid import rotation_from, transform
from foveate_nodes.reconstruction import ply, tsdf
from foveate_nodes.reconstruction.depth_image import Pinhole, depth_image, looking_at, views
from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.mesh import Mesh
from foveate_nodes.reconstruction.messages import PointCloud
from foveate_nodes.reconstruction.tsdf_kernels import sampled as kernel

VOXEL_M = 2e-3
CENTER, RADIUS_M = np.array([0.1, -0.2, 2.0]), 0.05


def sampled(depth: np.ndarray, place: np.ndarray, step_m: float) -> np.ndarray:
    return np.array([kernel(depth, x, y, step_m) for x, y in place.tolist()])


def profile(points: np.ndarray, view: np.ndarray | None = None, sigma_m: float = 1e-4) -> PointCloud:
    covariance = np.zeros((len(points), 6), np.float32)
    covariance[:, [0, 3, 5]] = sigma_m**2
    where = np.zeros(3) if view is None else view
    return PointCloud(
        Stamp(0), points.astype(np.float32), covariance, np.full(len(points), 90, np.float32), where.astype(np.float32)
    )


def plane(spacing_m: float, tilt: tuple[float, float] = (0.0, 0.0), depth_m: float = 2.0) -> list[PointCloud]:
    """Profiles along y, 0.1 m wide and high, of z = depth + tilt x (x, y)."""
    y = np.linspace(-0.05, 0.05, 400)
    lines = [np.column_stack([np.full(400, x), y]) for x in np.arange(-0.05, 0.05, spacing_m)]
    return [profile(np.column_stack([line, depth_m + line @ tilt])) for line in lines]


def ball(noise_m: float, profiles: int = 160, seed: int = 1) -> list[PointCloud]:
    """Profiles of what the origin sees of a ball."""
    rng = np.random.default_rng(seed)
    found = []
    for x in np.linspace(-0.99, 0.99, profiles) * RADIUS_M:
        r = np.sqrt(RADIUS_M**2 - x * x)
        y = np.linspace(-r, r, 500)
        way = np.column_stack([np.full(500, x), y, -np.sqrt(np.maximum(r * r - y * y, 0))])
        ray = (CENTER + way) / np.linalg.norm(CENTER + way, axis=1, keepdims=True)
        seen = (way * ray).sum(axis=1) < -0.1 * RADIUS_M
        found.append(profile((CENTER + way + ray * rng.normal(size=(500, 1)) * noise_m)[seen]))
    return found


def image_of(clouds: list[PointCloud]) -> tuple[np.ndarray, Pinhole]:
    camera = looking_at(clouds, VOXEL_M)
    return depth_image(clouds, camera, VOXEL_M), camera


def back(depth: np.ndarray, camera: Pinhole) -> np.ndarray:
    """Points in space of the pixels whose depth is known."""
    row, column = np.nonzero(depth)
    ray = np.column_stack([column, row, np.ones(len(row))]) @ np.linalg.inv(camera.matrix).T
    local = ray * depth[row, column, None]
    return (local - camera.camera_from_world[:3, 3]) @ camera.camera_from_world[:3, :3]


# --- depth images


@settings(max_examples=20, deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
def test_a_slanted_plane_stays_a_plane(along_x: float, along_y: float) -> None:
    depth, camera = image_of(plane(1.5e-3, (along_x, along_y)))
    points = back(depth, camera)
    off = (points[:, 2] - 2.0 - points[:, :2] @ [along_x, along_y]) / np.sqrt(1 + along_x**2 + along_y**2)
    inner = np.abs(points[:, :2]).max(axis=1) < 0.045  # at the rim a pixel has its own points only
    assert inner.sum() > 5000 and np.abs(off[inner]).max() < 2e-6  # float32 at 2 m is 0.24 um


@pytest.mark.parametrize(("spacing_m", "share"), [(1.9 * VOXEL_M, 1.0), (4 * VOXEL_M, 0.125)])
def test_gaps_of_up_to_two_voxels_are_closed(spacing_m: float, share: float) -> None:
    depth, camera = image_of(plane(spacing_m))
    points = back(depth, camera)
    pixels = (0.08 * camera.matrix[0, 0] / 2.0) ** 2
    inner = np.abs(points[:, :2]).max(axis=1) < 0.04
    assert inner.sum() / pixels == pytest.approx(share, rel=0.08)


def test_nothing_is_made_between_a_thing_and_what_lies_behind_it() -> None:
    near = [cloud for cloud in plane(1.5e-3, depth_m=1.95) if cloud.point_m[0, 0] < 0]
    far = [cloud for cloud in plane(1.5e-3) if cloud.point_m[0, 0] > 0]
    points = back(*image_of(near + far))
    assert np.minimum(np.abs(points[:, 2] - 1.95), np.abs(points[:, 2] - 2.0)).max() < 1e-6
    assert (points[:, 2] < 1.97).sum() > 4000 and (points[:, 2] > 1.97).sum() > 4000


def test_of_points_behind_each_other_the_nearer_is_seen() -> None:
    points = back(*image_of(plane(1.5e-3) + plane(1.5e-3, depth_m=1.95)))
    inner = np.abs(points[:, :2]).max(axis=1) < 0.045
    np.testing.assert_allclose(points[inner, 2], 1.95, atol=1e-6)


def test_points_of_less_noise_weigh_more() -> None:
    sure, unsure = plane(1.5e-3), [profile(cloud.point_m + [0, 0, 1e-3], sigma_m=1e-3) for cloud in plane(1.5e-3)]
    points = back(*image_of(sure + unsure))
    assert np.median(points[:, 2]) < 2.00025


def test_profiles_seen_from_one_place_are_one_view() -> None:
    line = plane(0.01)[0].point_m
    creep = [profile(line, np.array([1e-6 * k, 0, 0])) for k in range(5)]
    away = [profile(line, np.array([0.008, 0, 0])) for _ in range(4)]
    empty = profile(line[:0], np.array([0.5, 0, 0]))
    assert [len(view) for view in views([*creep, empty, *away])] == [5, 4]
    assert views([empty]) == []


@pytest.mark.parametrize(("profiles", "groups"), [(1, [1]), (2, [2]), (3, [3]), (6, [3, 3, 2]), (7, [3, 3, 3])])
def test_where_the_camera_moves_all_the_time_neighbours_are_taken_together(profiles: int, groups: list[int]) -> None:
    moving = [profile(plane(0.01)[0].point_m, np.array([0.01 * k, 0, 0])) for k in range(profiles)]
    found = views(moving)
    assert [len(view) for view in found] == groups
    assert all(before[-1] is after[0] for before, after in pairwise(found))
    assert {id(cloud) for view in found for cloud in view} == {id(cloud) for cloud in moving}


def test_between_pixels_the_inverse_depth_is_linear_but_not_over_steps() -> None:
    column, row = np.meshgrid(np.arange(6), np.arange(5))
    depth = (1 / (0.5 + 0.01 * column - 0.02 * row)).astype(np.float32)
    place = np.array([[1.25, 2.5], [4.9, 0.1], [5.2, 4.4], [-0.7, 2.0], [2.0, 9.0]])
    expected = 1 / (0.5 + 0.01 * place[:2, 0] - 0.02 * place[:2, 1])
    found = sampled(depth, place, 0.5)
    np.testing.assert_allclose(found[:2], expected, rtol=1e-6)
    assert found[2] == depth[4, 5] and found[3:].tolist() == [0, 0]
    depth[:, 3:] += 1
    assert sampled(depth, np.array([[2.4, 2.0], [2.6, 2.0]]), 0.5).tolist() == [depth[2, 2], depth[2, 3]]
    depth[:, 3:] = 0
    assert sampled(depth, np.array([[2.4, 2.0], [2.6, 2.0]]), 0.5).tolist() == [depth[2, 2], 0]


def test_a_view_that_needs_too_many_pixels_is_refused() -> None:
    with pytest.raises(SurfaceError, match="take larger voxels"):
        looking_at(plane(1e-3), 1e-6)
    at_camera = profile(np.array([[-1.0, 0, 0], [1.0, 0, 0]]))
    with pytest.raises(SurfaceError, match="points at 0 m"):
        looking_at([at_camera], VOXEL_M)


# --- without open3d


def test_without_open3d_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    monkeypatch.setattr(tsdf, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match=r"open3d.*pip install 'foveate\[recon\]'"):
        tsdf.of_profiles(plane(2e-3), VOXEL_M)


def test_an_open3d_that_cannot_be_loaded_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    monkeypatch.setattr(tsdf, "find_spec", lambda name: object())
    with pytest.raises(SurfaceError, match="apt install libgl1"):
        tsdf.Tsdf(VOXEL_M, 4 * VOXEL_M)


# --- with it


def errors_m(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the vertices to the ball, and which of them are not near its rim."""
    way = mesh.point_m - CENTER
    away = np.linalg.norm(way, axis=1)
    return away - RADIUS_M, way[:, 2] < -0.5 * away


def facing(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.point_m[mesh.triangle[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


@pytest.mark.heavy
def test_a_ball_of_profiles() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    mesh = tsdf.of_profiles(ball(1e-4), 1e-3)
    error_m, inner = errors_m(mesh)
    assert inner.sum() > 8_000
    assert np.abs(error_m[inner].mean()) < 2e-5 and error_m[inner].std() < 3e-5
    assert np.abs(error_m).max() < 1e-3  # nothing sticks out at the rim
    outward = (facing(mesh) * (mesh.point_m[mesh.triangle[:, 0]] - CENTER)).sum(axis=1)
    assert (outward > 0).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normal, axis=1), 1.0, rtol=1e-5)
    assert ((mesh.normal * (mesh.point_m - CENTER)).sum(axis=1)[inner] > 0.9 * RADIUS_M).all()


@pytest.mark.heavy
def test_images_from_several_sides_make_one_surface() -> None:
    """Rendered depth images of the ball, as a depth camera gives them, from left and right; it closes further round."""
    pytest.importorskip("open3d", exc_type=ImportError)
    matrix = np.array([[800.0, 0, 159.5], [0, 800.0, 119.5], [0, 0, 1]])
    column, row = np.meshgrid(np.arange(320), np.arange(240))
    ray = np.stack([column, row, np.ones_like(row)], axis=-1) @ np.linalg.inv(matrix).T
    grown = tsdf.Tsdf(1e-3, 4e-3)
    for turn in (-0.6, 0.0, 0.6):
        pose = transform(rotation_from(np.array([0.0, turn, 0.0])), np.zeros(3))
        pose[:3, 3] = [0, 0, 0.5] - pose[:3, :3] @ CENTER  # the ball's centre 0.5 m before the camera
        a, b, c = (ray**2).sum(-1), -0.5 * ray[..., 2], 0.25 - RADIUS_M**2
        root = b * b - a * c
        depth = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.nan)
        grown.integrate(depth.astype(np.float32), matrix, pose)
    error_m, inner = errors_m(grown.mesh())
    # half a voxel off at most, where one of the three looks along the surface
    assert np.abs(error_m[inner]).max() < 5e-4 and np.median(np.abs(error_m[inner])) < 1e-5
    shared = grown.mesh(least_images=3)
    one = (grown.mesh().point_m - CENTER)[:, 0]
    assert len(grown.mesh(least_images=4).triangle) == 0 < len(shared.triangle) < len(grown.mesh().triangle)
    assert np.ptp((shared.point_m - CENTER)[:, 0]) < 0.085 < np.ptp(one)  # what all three see is narrower


@pytest.mark.heavy
@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.5, 0.3)])
def test_a_plane_of_profiles_is_flat_to_a_micrometre(tilt: tuple[float, float], tmp_path: Path) -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    mesh = tsdf.of_profiles(plane(1.5e-3, tilt), VOXEL_M)
    inner = np.abs(mesh.point_m[:, :2]).max(axis=1) < 0.044
    off = mesh.point_m[:, 2] - 2.0 - mesh.point_m[:, :2] @ tilt
    assert inner.sum() > 1500 and np.abs(off[inner]).max() < 5e-6
    area = np.linalg.norm(facing(mesh), axis=1).sum() / 2
    assert area == pytest.approx(0.01 * np.sqrt(1 + tilt[0] ** 2 + tilt[1] ** 2), rel=0.06)
    ply.write(tmp_path / "tsdf.ply", ply.Ply(mesh.point_m, mesh.normal, triangle=mesh.triangle))
    read = ply.read(tmp_path / "tsdf.ply").triangle
    assert read is not None and np.array_equal(read, mesh.triangle)


@pytest.mark.heavy
def test_nothing_seen_is_an_empty_mesh_and_nonsense_is_refused() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    grown = tsdf.Tsdf(1e-3, 4e-3)
    grown.integrate(np.full((4, 4), np.nan, np.float32), np.eye(3), np.eye(4))
    assert len(grown.mesh().triangle) == 0 == len(tsdf.of_profiles([], 1e-3).triangle)
    with pytest.raises(SurfaceError, match="H x W"):
        grown.integrate(np.full((4, 4), -1.0), np.eye(3), np.eye(4))
    with pytest.raises(SurfaceError, match="check its units"):
        grown.integrate(np.full((4, 4), 1e6), np.eye(3), np.eye(4))
    with pytest.raises(SurfaceError, match="0 < voxel <= truncation"):
        tsdf.Tsdf(1e-3, 1e-4)
