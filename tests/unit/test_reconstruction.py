"""Clouds, meshes, files of them, fits and what is measured on them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.messages import Stamp
from foveate_calibration.rigid import rotation_from
from foveate_nodes.reconstruction import fitting, ply, voxels
from foveate_nodes.reconstruction.cloud_map import CloudMap, as_message, select
from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.merging import VoxelCloud, beside_mean, crowded, normals
from foveate_nodes.reconstruction.mesh import mesh_of
from foveate_nodes.reconstruction.messages import PointCloud

VIEW = np.zeros(3, np.float32)


def cloud_of(points: np.ndarray, sigma_m: float = 1e-4, t_ns: int = 0, **changes: np.ndarray) -> PointCloud:
    """A cloud seen from the origin, with round covariances."""
    n = len(points)
    covariance = np.zeros((n, 6), np.float32)
    covariance[:, [0, 3, 5]] = sigma_m**2
    fields = {"covariance_m2": covariance, "intensity": np.full(n, 90, np.float32), **changes}
    return PointCloud(Stamp(t_ns), np.asarray(points, np.float32), view_m=VIEW, **fields)


def cap(count: int, radius_m: float, noise_m: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Points of the near side of a sphere 2 m away, noisy along z; the centre."""
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(4 * count, 3))
    way /= np.linalg.norm(way, axis=1)[:, None]
    way = way[way[:, 2] < -0.3][:count]
    center = np.array([0.1, -0.2, 2.0])
    return center + radius_m * way + rng.normal(size=(len(way), 1)) * [0, 0, noise_m], center


# --- files


def cube() -> ply.Ply:
    point = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32) / 3
    triangle = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7]], np.int32)
    color = np.arange(24, dtype=np.uint8).reshape(8, 3)
    return ply.Ply(point, point / 2, color, {"error": np.linspace(-1, 1, 8, dtype=np.float32)}, triangle)


@pytest.mark.parametrize("text", [True, False])
def test_a_file_gives_back_every_bit(tmp_path: Path, text: bool) -> None:
    written = cube()
    ply.write(tmp_path / "a.ply", written, text=text)
    read = ply.read(tmp_path / "a.ply")
    for name in ("point_m", "normal", "color", "triangle"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    np.testing.assert_array_equal(read.scalar["error"], written.scalar["error"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


def test_the_text_of_a_file_is_what_others_read(tmp_path: Path) -> None:
    point = np.array([[0, 0.5, 1], [1, 0, 0], [0.1, 0, 0]])
    ply.write(
        tmp_path / "a.ply", ply.Ply(point, color=np.array([[1, 2, 255]] * 3), triangle=np.array([[0, 1, 2]])), True
    )
    assert (tmp_path / "a.ply").read_text() == (
        "ply\nformat ascii 1.0\ncomment metres; made by foveate\nelement vertex 3\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n"
        "0 0.5 1 1 2 255\n1 0 0 1 2 255\n0.100000001 0 0 1 2 255\n3 0 1 2\n"
    )


def test_files_of_others_are_read(tmp_path: Path) -> None:
    """Other byte orders, types and orders of columns, and elements that say nothing to us."""
    head = (
        b"ply\r\nformat binary_big_endian 1.0\r\nobj_info x\r\nelement camera 1\r\nproperty double f\r\n"
        b"element vertex 3\r\nproperty double z\r\nproperty uint8 quality\r\nproperty double y\r\nproperty double x\r\n"
        b"element face 1\r\nproperty list uchar uint vertex_index\r\nend_header\r\n"
    )
    vertex = np.array(
        [(3, 7, 2, 1), (6, 8, 5, 4), (9, 9, 8, 7)], [("z", ">f8"), ("q", "u1"), ("y", ">f8"), ("x", ">f8")]
    )
    face = np.array([(3, (2, 1, 0))], [("n", "u1"), ("i", ">u4", 3)])
    (tmp_path / "a.ply").write_bytes(head + np.array([1.5], ">f8").tobytes() + vertex.tobytes() + face.tobytes())
    read = ply.read(tmp_path / "a.ply")
    assert read.point_m.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert read.scalar["quality"].tolist() == [7, 8, 9] and read.triangle.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b"no" + b, "must begin with 'ply'"),
        (lambda b: b[:-1], "cut off"),
        (lambda b: b.replace(b"element vertex 8", b"element vertex 9000"), "ends before its 9000"),
        (lambda b: b.replace(b"property float x", b"property text x "), "'property text x '"),
        (lambda b: b[:-13] + b"\x04" + b[-12:], "other polygons"),
        (lambda b: b[:-4] + b"\xff\xff\xff\x7f", "not there; there are 8"),
        (lambda b: b.replace(b"float y\n", b"float q\n"), "needs x, y and z"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, change: object, said: str) -> None:
    path = tmp_path / "a.ply"
    ply.write(path, cube())
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SurfaceError, match=r"a\.ply") as caught:
        ply.read(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.heavy
@pytest.mark.parametrize("text", [True, False])
def test_open3d_reads_what_is_written(tmp_path: Path, text: bool) -> None:
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    made = cube()
    ply.write(tmp_path / "a.ply", made, text=text)
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "a.ply"))
    np.testing.assert_allclose(np.asarray(mesh.vertices), made.point_m, atol=1e-7)
    np.testing.assert_array_equal(np.asarray(mesh.triangles), made.triangle)
    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "a.ply"))
    np.testing.assert_allclose(cloud.point["error"].numpy().ravel(), made.scalar["error"], atol=1e-7)
    np.testing.assert_array_equal(cloud.point["colors"].numpy(), made.color)


# --- merging


@given(st.lists(st.tuples(*[st.integers(-(2**19), 2**19)] * 3), min_size=1, max_size=20))
def test_a_voxel_s_number_gives_its_place_and_its_neighbours(places: list[tuple[int, int, int]]) -> None:
    place = np.array(places, np.int64)
    key = voxels.keys(place)
    np.testing.assert_array_equal(voxels.unkeyed(key), place)
    for offset in ((1, -2, 0), (-1, 1, -1)):
        np.testing.assert_array_equal(key + voxels.step(offset), voxels.keys(place + offset))


def test_points_are_weighted_by_the_inverse_of_their_covariance() -> None:
    """One is sharp in x, the other in z: the mean takes from each what it knows."""
    covariance = np.array([[1e-12, 0, 0, 1e-8, 0, 1e-8], [1e-8, 0, 0, 1e-8, 0, 1e-12]], np.float32)
    grown = VoxelCloud(0.01)
    grown.add(cloud_of(np.array([[0.001, 0.001, 0.002], [0.003, 0.003, 0.004]]), covariance_m2=covariance))
    merged = grown.merged()
    np.testing.assert_allclose(merged.point_m, [[0.001, 0.002, 0.004]], atol=1e-6)
    np.testing.assert_allclose(merged.covariance_m2[0, [0, 3, 5]], [2e-12, 5e-9, 2e-12], rtol=0.01)
    assert merged.count.tolist() == [2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_many_clouds_are_merged_as_one(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.05, 0.05, (300, 3)).astype(np.float32)
    whole, pieces = VoxelCloud(0.01), VoxelCloud(0.01)
    whole.add(cloud_of(points))
    for piece in np.array_split(points, parts):
        pieces.add(cloud_of(piece))
    one, many = whole.merged(), pieces.merged()
    np.testing.assert_array_equal(one.key, many.key)
    np.testing.assert_array_equal(one.count, many.count)
    np.testing.assert_allclose(one.point_m, many.point_m, atol=1e-9)


def test_merged_noise_is_what_the_covariance_says() -> None:
    """On a plane in the middle of its voxels: no bend, and no point falls into the next voxel for its noise."""
    rng = np.random.default_rng(2)
    flat = np.column_stack([rng.uniform(-0.1, 0.1, (40_000, 2)), np.full(40_000, 1.0005)])
    grown = VoxelCloud(1e-3 * 5)
    grown.add(cloud_of(flat + [0, 0, 0.002] + rng.normal(0, 2e-4, flat.shape), 2e-4))
    merged = grown.merged(5)
    share = (merged.point_m[:, 2] - 1.0025) / np.sqrt(merged.covariance_m2[:, 5])
    assert len(merged) > 1500 and 0.93 < share.std() < 1.07
    normal, off = normals(merged)
    assert np.degrees(np.arccos(-normal[:, 2])).mean() < 1 and np.median(off) < 1e-4


def test_flying_points_are_left_out() -> None:
    flat = np.stack(np.meshgrid(np.arange(20) * 1e-3, np.arange(20) * 1e-3, [1.0]), axis=-1).reshape(-1, 3)
    grown = VoxelCloud(1e-3)
    grown.add(cloud_of(np.concatenate([flat + 5e-4, [[0.01, 0.01, 0.9]]])))
    merged = grown.merged()
    assert len(merged) == 401 and crowded(merged, 2).sum() == 400


def test_a_mean_over_neighbours_takes_those_that_are_there() -> None:
    grown = VoxelCloud(1.0)
    grown.add(cloud_of(np.array([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5], [1.5, 1.5, 1.5], [9.5, 0.5, 0.5]])))
    merged = grown.merged()
    value = merged.point_m[:, 0]
    np.testing.assert_allclose(beside_mean(merged, value), [3.5 / 3, 3.5 / 3, 3.5 / 3, 9.5], atol=1e-6)


def test_a_point_that_is_no_number_is_refused() -> None:
    with pytest.raises(SurfaceError, match="no number"):
        VoxelCloud(1e-3).add(cloud_of(np.array([[0, np.nan, 1]])))


def test_the_cloud_node_tells_at_its_pace_and_goes_on_after_a_restart() -> None:
    def profile(k: int) -> PointCloud:
        x = np.linspace(0, 0.02, 41)
        return cloud_of(np.stack([x, np.full(41, k * 1e-3), np.ones(41)], axis=1), t_ns=k * 250_000_000)

    node, other = CloudMap(neighbours=0), CloudMap(neighbours=0)
    told = [node.step(profile(k)) for k in range(4)]
    assert [message is not None for message in told] == [True, False, False, False]
    state = copy.deepcopy(node.state_dict())
    other.load_state_dict(state)
    one, two = node.step(profile(4)), other.step(profile(4))
    assert one is not None and two is not None and one.seq == two.seq == 2
    np.testing.assert_array_equal(one.point_m, two.point_m)
    assert len(one.point_m) >= 5 * 20  # voxels of 1 mm along 20 mm, five profiles 1 mm apart


def test_a_cloud_that_hardly_grew_is_not_given_out_again() -> None:
    flat = np.column_stack([np.random.default_rng(1).uniform(0, 0.02, (1000, 2)), np.ones(1000)])
    node = CloudMap(neighbours=0)
    told = [node.step(cloud_of(points, t_ns=k * 10**9)) for k, points in enumerate((flat, flat[:40], flat[:40]))]
    assert [message is not None for message in told] == [True, False, True]  # 4 %, then 8 % more


# --- mesh


def test_a_mesh_of_a_noisy_sphere_lies_on_the_sphere() -> None:
    points, center = cap(60_000, 0.05, 1e-4)
    grown = VoxelCloud(1.5e-3)
    grown.add(cloud_of(points))
    merged = select(grown.merged(), 3)
    mesh = mesh_of(merged, normals(merged)[0], 1.5e-3)
    error = np.linalg.norm(mesh.point_m - center, axis=1) - 0.05
    assert abs(error.mean()) < 15e-6 and error.std() < 30e-6  # a third of the noise
    a, b, c = (mesh.point_m[mesh.triangle[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    assert (np.einsum("ij,ij->i", face, a - center) > 0).mean() > 0.999  # all turn outward
    area = np.linalg.norm(face, axis=1).sum() / 2
    assert area == pytest.approx(2 * np.pi * 0.05**2 * 0.7, rel=0.04)
    edges = np.sort(np.concatenate([mesh.triangle[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]), axis=1)
    assert np.unique(edges, axis=0, return_counts=True)[1].max() == 2  # no edge of three triangles


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0, 1e-3))
@settings(max_examples=30)
def test_a_mesh_of_a_plane_is_flat(tilt_x: float, tilt_y: float, shift_m: float) -> None:
    x, y = (v.ravel() for v in np.meshgrid(np.arange(-40, 40) * 5e-4, np.arange(-40, 40) * 5e-4))
    points = np.stack([x, y, 1.0 + shift_m + tilt_x * x + tilt_y * y], axis=1)
    grown = VoxelCloud(1e-3)
    grown.add(cloud_of(points))
    merged = grown.merged()
    mesh = mesh_of(merged, normals(merged)[0], 1e-3)
    off = mesh.point_m @ [-tilt_x, -tilt_y, 1.0] - 1.0 - shift_m
    assert np.abs(off).max() < 3e-6 and len(mesh.triangle) > 1000


def test_a_mesh_of_nothing_is_refused() -> None:
    with pytest.raises(SurfaceError, match="empty"):
        mesh_of(VoxelCloud(1e-3).merged(), np.zeros((0, 3)), 1e-3)


# --- fits


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.35))
def test_a_plane_is_found_among_strays(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    side = np.linalg.svd(normal[None])[2][1:]
    points = 2.0 * normal + rng.uniform(-0.05, 0.05, (400, 2)) @ side + rng.normal(0, 1e-4, (400, 1)) * normal
    stray = int(share * 400)
    points[:stray] += np.outer(rng.uniform(0.002, 0.05, stray), normal)
    found = fitting.plane(points, toward=np.zeros(3))
    assert abs(found.distance_m + 2.0) < 5e-5 and found.normal @ normal < -1 + 1e-5
    assert found.sigma_m == pytest.approx(1e-4, rel=0.2)
    assert found.sigma_center_m == pytest.approx(1e-4 / np.sqrt(400 - stray), rel=0.3)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3))
@settings(max_examples=40)
def test_a_sphere_is_found_among_strays(seed: int, share: float) -> None:
    points, center = cap(600, 0.03, 0.0, seed)
    rng = np.random.default_rng(seed)
    way = (points - center) / 0.03
    points = points + way * rng.normal(0, 5e-5, (len(points), 1))
    stray = int(share * len(points))
    points[:stray] += way[:stray] * rng.uniform(0.002, 0.02, (stray, 1))
    found = fitting.sphere(points)
    assert abs(found.radius_m - 0.03) < 6 * found.sigma_radius_m < 1e-4
    assert np.linalg.norm(found.center_m - center) < 6 * np.linalg.norm(found.sigma_center_m)


def test_sigmas_of_fits_are_what_repeated_fits_scatter_by() -> None:
    planes, spheres = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        flat = np.column_stack([rng.uniform(-0.05, 0.05, (300, 2)), 1 + rng.normal(0, 1e-4, 300)])
        planes.append(fitting.plane(flat, np.zeros(3)))
        ball = cap(300, 0.03, 0.0, 99)[0]
        spheres.append(fitting.sphere(ball + rng.normal(0, 1e-4, ball.shape)))
    offs = [plane.distance(np.array([[0, 0, 1.0]]))[0] for plane in planes]
    assert np.std(offs) == pytest.approx(np.mean([plane.sigma_center_m for plane in planes]), rel=0.4)
    radii = [sphere.radius_m for sphere in spheres]
    assert np.std(radii) == pytest.approx(np.mean([sphere.sigma_radius_m for sphere in spheres]), rel=0.4)


@pytest.mark.parametrize("points", [np.zeros((3, 3)), np.outer(np.arange(50), [1.0, 2.0, 3.0])])
def test_what_holds_no_plane_is_refused(points: np.ndarray) -> None:
    with pytest.raises(SurfaceError, match=r"few|line"):
        fitting.plane(points)


@given(st.lists(st.floats(-0.003, 0.003), min_size=6, max_size=6))
@settings(max_examples=25)
def test_a_cloud_is_laid_on_its_surface(step: list[float]) -> None:
    """A box and a ball hold six directions; the cloud is off by up to 3 mm and 3 mrad."""

    def distance(points: np.ndarray) -> np.ndarray:
        apart = np.abs(points - [0, 0, 2]) - [0.1, 0.05, 0.02]
        box = np.linalg.norm(np.maximum(apart, 0), axis=1) + np.minimum(apart.max(axis=1), 0)
        return np.minimum(box, np.linalg.norm(points - [0.15, 0.1, 1.95], axis=1) - 0.03)

    rng = np.random.default_rng(1)
    x, y = rng.uniform(-0.1, 0.1, 1500), rng.uniform(-0.05, 0.05, 1500)
    top = np.stack([x, y, np.full(1500, 1.98)], axis=1)
    left = np.stack([np.full(400, -0.1), rng.uniform(-0.05, 0.05, 400), rng.uniform(1.98, 2.02, 400)], axis=1)
    upper = np.stack([rng.uniform(-0.1, 0.1, 400), np.full(400, -0.05), rng.uniform(1.98, 2.02, 400)], axis=1)
    ball = cap(600, 0.03, 0.0)[0] - [0.1, -0.2, 2.0] + [0.15, 0.1, 1.95]
    true = np.concatenate([top, left, upper, ball])
    middle = true.mean(axis=0)
    points = (true - middle) @ rotation_from(np.array(step[:3])).T + middle + step[3:]
    found, left_m = fitting.align(points + rng.normal(0, 1e-4, points.shape), distance)
    assert np.abs(left_m).mean() < 1.2e-4
    assert np.linalg.norm(points @ found[:3, :3].T + found[:3, 3] - true, axis=1).max() < 1e-4


def test_a_plane_alone_does_not_hold_a_cloud() -> None:
    points = np.column_stack([np.random.default_rng(1).uniform(-1, 1, (100, 2)), np.ones(100)])
    with pytest.raises(SurfaceError, match="six directions"):
        fitting.align(points, lambda p: p[:, 2] - 1.0)


def test_a_merged_cloud_is_a_message() -> None:
    grown = VoxelCloud(1e-3)
    assert len(as_message(grown.merged(), Stamp(1)).point_m) == 0
    grown.add(cloud_of(np.array([[0, 0, 1.0]])))
    message = as_message(grown.merged(), Stamp(1), 3)
    assert message.seq == 3 and message.view_m[2] < 0.5 and not message.point_m.flags.writeable
