"""The simulated room: depth against distances found otherwise, one view against another, paths, sensor, twins."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="rooms are traced by numba (extra odometry)")

from foveate.clock import VirtualClock
from foveate.errors import NotFound, NotSupported
from foveate.messages import Pose
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import invert, transform
from foveate_drivers.cameras.sim import SimCamera
from foveate_drivers.conformance import depth as suite
from foveate_drivers.conformance.suite import Bench, Check, checks
from foveate_drivers.depth.sim import SimDepthCamera
from foveate_drivers.world import room_trace
from foveate_drivers.world.base import World
from foveate_drivers.world.room import Room, Sight
from foveate_drivers.world.room_light import Lighting
from foveate_drivers.world.room_path import Hand, Hover, facing, towards
from foveate_drivers.world.room_sensor import ColorModel, DepthModel, RgbdSensor
from foveate_drivers.world.room_sequences import RATE_HZ, SEQUENCES, Sequence
from foveate_drivers.world.room_stage import Stage
from foveate_drivers.world.room_walker import Walker
from foveate_nodes.devices.ground_truth import GroundTruth

LENS = Pinhole(160, 120, 131.0)
SMALL = Pinhole(64, 48, 52.5)
PATH = Hover((-0.3, 1.3, -0.9), (0.3, 0.8, 2.0), (0.3, 0.06, 0.15), hand=Hand(0.01, 0.02), period_s=4.0)
BARE = Sequence("a bare room", 5, "bare", PATH)


@cache
def stage() -> Stage:
    return Stage(BARE)


def wall(depth_m: np.ndarray, slant_rad: float) -> Sight:
    """A sight of grey surfaces at some depth, all turned away from the camera by an angle."""
    shape = depth_m.shape
    normal = np.zeros((*shape, 3), np.float32)
    normal[..., 0], normal[..., 2] = np.sin(slant_rad), -np.cos(slant_rad)
    light = np.full((*shape, 3), 0.4, np.float32)
    return Sight(light, depth_m.astype(np.float32), normal, light, np.zeros(shape, np.int32))


def measured(
    depth_m: np.ndarray, model: DepthModel, returns: float = 1.0, index: int = 0, slant: float = 0.0
) -> np.ndarray:
    lens = Pinhole(depth_m.shape[1], depth_m.shape[0], 525.0)
    sensor = RgbdSensor(lens, 3, ColorModel(), model)
    return sensor.measured(wall(depth_m, slant), np.eye(4), np.full(6, returns), index)


# --- geometry -------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["office", "living", "corridor", "store", "bare"]), st.integers(0, 3),
    st.floats(-0.6, 0.6), st.floats(1.2, 1.7), st.floats(-3.1, 3.1), st.floats(-0.6, 0.6), st.floats(-0.5, 0.5),
)  # fmt: skip
def test_depth_is_where_a_walk_along_the_ray_ends(
    kind: str, seed: int, x: float, high: float, yaw: float, pitch: float, roll: float
) -> None:
    """Walking by the distance to the nearest surface never passes it, and needs no formula for hits of rays."""
    room = Room(seed=seed, kind=kind)  # type: ignore[arg-type]
    pose = transform(facing(yaw, pitch, roll), np.array([x, -high, x / 2]))
    if room.clearance_m(pose[:3, 3]) < 0.05:
        return
    depth, face = room.depth(SMALL, pose)
    rays = pose[:3, :3] @ (
        np.linalg.inv(SMALL.matrix) @ np.array([[7.0, 3.0, 1.0], [31.0, 24.0, 1.0], [60.0, 41.0, 1.0]]).T
    )
    for (column, row), ray in zip(((7, 3), (31, 24), (60, 41)), rays.T, strict=True):
        t, length = 0.0, float(np.linalg.norm(ray))
        for _ in range(400):
            step = room.clearance_m(pose[:3, 3] + t * ray)
            t += step / length
            if step < 1e-7:
                break
        else:
            continue  # it grazes something for ever
        assert depth[row, column] == pytest.approx(t, rel=1e-5)
        assert 0 <= face[row, column] < 6 * len(room.solids(0.0))


def test_a_ball_is_in_the_middle_of_the_image_that_looks_at_it() -> None:
    solids = Room(seed=1, kind="bare").solids(0.0)
    index = int(np.flatnonzero(solids[:, room_trace.KIND] == room_trace.SPHERE)[0])  # one of the lamps
    centre, radius = solids[index, 1:4], solids[index, room_trace.HALF]
    eye = centre + [0.0, 0.9, -1.2]
    depth, face = Room(seed=1, kind="bare").depth(LENS, towards(eye, centre))
    assert (face[59:61, 79:81] == 6 * index).all()
    assert np.abs(depth[59:61, 79:81] - (1.5 - radius)).max() < 4e-4  # half a pixel from the middle
    across = 2 * np.tan(np.arcsin(radius / 1.5)) * LENS.focal_px
    assert (face[60] == 6 * index).sum() == pytest.approx(across, abs=1.01)


def test_normals_face_the_camera_and_albedo_is_a_share() -> None:
    sight = stage().sight(LENS, 0.4)
    pose = stage().world_from_rig(0.4)
    rows, columns = np.mgrid[0:120, 0:160]
    rays = np.stack([(columns - 79.5) / 131, (rows - 59.5) / 131, np.ones((120, 160))], axis=-1) @ pose[:3, :3].T
    assert np.abs(np.linalg.norm(sight.normal, axis=2) - 1).max() < 1e-5
    assert (np.einsum("ijk,ijk->ij", rays, sight.normal) < 0).all()
    assert sight.albedo.min() >= 0 and sight.albedo.max() <= 1 and np.isfinite(sight.light).all()
    points = pose[:3, 3] + rays * sight.depth[..., None]
    same = (sight.face[:, 1:] == sight.face[:, :-1]) & (sight.solid[:, 1:] == 0)
    off = np.einsum("ijk,ijk->ij", points[:, 1:] - points[:, :-1], sight.normal[:, 1:])
    assert np.abs(off[same]).max() < 1e-4  # neighbours on a wall are in the plane that its normal says


@pytest.mark.parametrize("shift", [(0.12, 0.0, 0.0), (-0.05, 0.04, 0.15)])
def test_one_view_warped_by_depth_and_pose_is_the_other(shift: tuple[float, float, float]) -> None:
    lens = Pinhole(320, 240, 262.5)
    first = stage().world_from_rig(0.3)
    second = first @ transform(facing(0.04, -0.02, 0.03), np.array(shift))
    a, b = (stage().room.render(lens, pose) for pose in (first, second))
    rows, columns = np.mgrid[0:240, 0:320].astype(np.float32)
    points = np.stack([(columns - 159.5) / 262.5, (rows - 119.5) / 262.5, np.ones_like(rows)], -1) * a.depth[..., None]
    motion = invert(second) @ first
    there = points @ motion[:3, :3].T.astype(np.float32) + motion[:3, 3].astype(np.float32)
    u, v = (262.5 * there[..., i] / there[..., 2] + c for i, c in ((0, 159.5), (1, 119.5)))
    u, v = u.astype(np.float32), v.astype(np.float32)
    inside = (u > 1) & (u < 318) & (v > 1) & (v < 238)
    seen_depth = cv2.remap(b.depth, u, v, cv2.INTER_LINEAR)
    seen = cv2.remap(b.image().astype(np.float32), u, v, cv2.INTER_LINEAR)
    agrees = inside & (np.abs(seen_depth - there[..., 2]) < 0.01)
    assert inside.mean() > 0.6 and agrees.sum() > 0.93 * inside.sum()  # the rest is hidden, or at an edge
    off = np.abs(seen - a.image()).mean(axis=2)[agrees]
    assert np.median(off) < 1.5 and np.mean(off < 12) > 0.97  # grey levels
    wrong = np.abs(cv2.remap(b.image().astype(np.float32), u + 4, v + 3, cv2.INTER_LINEAR) - a.image()).mean(axis=2)
    assert wrong[agrees].mean() > 2 * off.mean()


# --- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEQUENCES)
def test_ways_are_smooth_rigid_clear_of_everything_and_begin_again(name: str) -> None:
    sequence = SEQUENCES[name]
    room = sequence.room()
    times = np.arange(sequence.frames) / RATE_HZ
    poses = np.stack([sequence.path.pose(t) for t in times])
    turns = poses[:, :3, :3]
    assert np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12 and (np.linalg.det(turns) > 0).all()
    assert min(room.clearance_m(pose[:3, 3], t) for pose, t in zip(poses[::3], times[::3], strict=True)) > 0.25
    speed = np.diff(poses[:, :3, 3], axis=0) * RATE_HZ
    assert np.linalg.norm(speed, axis=1).max() < 2.0
    assert np.linalg.norm(np.diff(speed, axis=0), axis=1).max() * RATE_HZ < 25.0  # m/s^2: no jump
    again = sequence.path.pose(1.0 + sequence.path.period_s)
    assert np.allclose(again, sequence.path.pose(1.0), atol=1e-9)
    assert 100 <= sequence.frames <= 200


def test_the_orbit_returns_and_the_fast_one_is_fast() -> None:
    orbit, fast = SEQUENCES["orbit"], SEQUENCES["fast_rotation"]
    assert np.allclose(orbit.path.pose(orbit.frames / RATE_HZ), orbit.path.pose(0.0), atol=1e-9)
    turns = np.stack([fast.path.pose(t)[:3, :3] for t in np.arange(0, 4, 0.002)])
    cosines = (np.einsum("nij,nij->n", turns[1:], turns[:-1]) - 1) / 2
    rates = np.arccos(np.minimum(cosines, 1.0)) / 0.002
    assert 3.3 < rates.max() < 4.5


# --- what changes with time -----------------------------------------------------------------------------------------


def test_lamps_are_switched_and_people_walk() -> None:
    walker = Walker((-1.0, 1.0), (1.0, 1.0), 3.0)
    room = Room(seed=5, kind="bare", walkers=(walker,), lighting=Lighting("switching", 2.0))
    pose = towards(np.array([0.0, -1.3, -1.5]), np.array([0.0, -1.0, 1.0]))
    on, off, later = (room.render(SMALL, pose, t) for t in (0.9, 1.9, 2.9))
    still = len(room.solids(0.0)) - room.movers
    assert off.light.mean() < 0.6 * on.light.mean()
    masks = [sight.solid >= still for sight in (on, later)]
    assert all(0.02 < mask.mean() < 0.5 for mask in masks) and (masks[0] & masks[1]).sum() < 0.5 * masks[0].sum()
    unchanged = np.isclose(later.light, on.light, rtol=1e-5).all(axis=2)
    assert unchanged.mean() > 0.5 and not unchanged[masks[0]].any()  # what else differs is in somebody's shadow
    shaded = ~unchanged & ~masks[0] & ~masks[1]
    assert 0 < shaded.mean() < 0.4


@pytest.mark.parametrize("change", ["steady", "dimming", "switching", "drift"])
def test_light_stays_positive_and_only_changes_where_it_should(change: str) -> None:
    light = np.stack([Lighting(change, 2.0).at(t).sum(axis=1) for t in np.linspace(0, 6, 400)])  # type: ignore[arg-type]
    assert light.min() > 0
    assert (np.ptp(light, axis=0).max() > 0.3) == (change != "steady")


def test_the_same_seed_is_the_same_room_and_another_is_another() -> None:
    pose = PATH.pose(0.5)
    first, again = (room.render(SMALL, pose) for room in (stage().room, BARE.room()))
    assert first.light.tobytes() == again.light.tobytes() and first.depth.tobytes() == again.depth.tobytes()
    other, _ = Room(seed=6, kind="bare").depth(SMALL, pose)
    assert np.abs(first.depth - other).max() > 0.02


def test_an_exposure_smears_the_light_and_leaves_the_rest() -> None:
    quick = Stage(replace(BARE, path=replace(PATH, sway_m=(1.2, 0.1, 0.1), hand=Hand(0.0, 0.0))))
    quick.room = stage().room
    sharp, smeared = quick.sight(LENS, 2.0), quick.sight(LENS, 2.0, 0.05)
    assert np.array_equal(sharp.depth, smeared.depth) and np.array_equal(sharp.face, smeared.face)
    moments = 2.0 + 0.05 * (np.arange(60) + 0.5) / 60 - 0.025
    exact = np.mean([stage().room.render(LENS, quick.world_from_rig(t), t).light for t in moments], axis=0)
    assert np.abs(smeared.light - exact).mean() < 0.25 * np.abs(sharp.light - exact).mean()
    assert np.abs(sharp.light - exact).max() > 0.05


# --- the sensor -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [0.6, 1.5, 3.0, 4.5])
def test_depth_noise_is_the_kinects(z: float) -> None:
    got = measured(np.full((240, 320), z), DepthModel(farthest_m=9.0, nearest_m=0.1))
    assert (got > 0).all()
    wanted = 0.0012 + 0.0019 * (z - 0.4) ** 2
    assert float(got.std()) == pytest.approx(wanted, rel=0.08) and float(got.mean()) == pytest.approx(
        z, abs=0.15 * wanted
    )
    steps = 525.0 * 0.075 / got.astype(np.float64) / 0.125
    assert np.abs(steps - np.rint(steps)).max() < 1e-3  # eighths of a pixel of disparity


def test_holes_are_where_the_range_the_angle_and_the_surface_say() -> None:
    flat = np.full((60, 80), 1.5)
    model = DepthModel()
    assert (measured(np.full((60, 80), 0.3), model) == 0).all() and (measured(np.full((60, 80), 5.4), model) == 0).all()
    assert (measured(flat, model, slant=1.5) == 0).mean() > 0.9 and (measured(flat, model, slant=0.6) > 0).all()
    assert (measured(flat, model, returns=0.02) == 0).all() and (measured(flat, model) > 0).all()
    blotched = np.mean([np.mean(measured(flat, DepthModel(dropout=0.3), index=8 * i) == 0) for i in range(4)])
    assert blotched == pytest.approx(0.3, abs=0.02)


def test_a_near_thing_throws_the_projectors_shadow_to_its_left() -> None:
    scene = np.full((40, 320), 3.0)
    scene[:, 150:220] = 1.0
    got = measured(scene, DepthModel(noise=(0.0, 0.0, 0.0), step_rad=0.0))
    wide = 525 * 0.075 * (1 / 1.0 - 1 / 3.0)
    hidden = (got[20, :150] == 0).sum()
    assert hidden == pytest.approx(wide, abs=3) and (got[20, 150 - hidden + 3 : 147] == 0).all()
    assert (got[:, 222:] > 0).all() and (got[:, 153:217] == np.float32(1.0)).all()
    edge = got[:, [150, 219, 220]]
    assert 0.15 < np.mean(edge == 0) < 0.55  # ragged


def test_image_noise_is_that_of_the_electrons() -> None:
    lens = Pinhole(320, 240, 262.0)
    color = ColorModel(gain=1.0, vignetting=0.0)
    light = np.full((240, 320, 3), 0.25, np.float32)
    image = RgbdSensor(lens, 1, color, DepthModel()).image(light, 4).astype(np.float64)
    electrons = 0.25 * color.full_well_e
    sigma = np.sqrt(electrons + color.read_noise_e**2) / electrons * 127.5 / 2  # the root halves what is relative
    assert image.mean() == pytest.approx(127.5, abs=0.3) and image.std() == pytest.approx(
        np.hypot(sigma, 12**-0.5), rel=0.05
    )
    again, other = (RgbdSensor(lens, 1, color, DepthModel()).image(light, i) for i in (4, 5))
    assert np.array_equal(again, image) and not np.array_equal(other, image)


# --- in a world -----------------------------------------------------------------------------------------------------


def world() -> World:
    made = World(scene="room")
    made.uri = "sim:room"
    made._stage = stage()
    return made


def twin(**options: object) -> SimDepthCamera:
    camera = SimDepthCamera(**({"address": "x", "world": world(), "width": 64, "height": 48} | options))  # type: ignore[arg-type]
    camera.uri = "sim:depth"
    return camera


def test_the_twin_sees_what_is_rendered() -> None:
    camera, clock = (
        twin(image="BGR8", disparity_noise=0.0, exposure=0.001, offset=0.05, nearest=0.1, seed=7),
        VirtualClock(),
    )
    camera._world.open(clock)
    camera.open(clock)
    clock.advance(round(0.5e9))
    depth, frame = camera.read(0.0)
    camera.close()
    assert frame is not None
    t_s, place = depth.stamp.t_ns / 1e9, transform(np.eye(3), np.array([0.05, 0.0, 0.0]))
    sight = stage().sight(camera.pinhole, t_s, 0.001, place)
    metres = depth.depth * depth.scale_m
    seen = metres > 0
    bent = np.abs(cv2.Laplacian(1 / sight.depth, cv2.CV_32F)) * sight.depth**2  # an edge measures what is beside it
    inner = seen & (cv2.dilate(bent, np.ones((3, 3))) < 0.02)
    assert inner.mean() > 0.6 and np.abs(metres - sight.depth)[inner].max() <= 0.5001 * depth.scale_m
    off = np.abs(frame.image.astype(float) - np.minimum(sight.image().astype(float), 255))
    assert np.median(off) < 8  # noise, vignetting and the lens' blur
    pose = camera._world.pose(depth.stamp.t_ns)
    assert isinstance(pose, Pose) and (pose.parent, pose.child) == ("world", "camera")
    assert np.allclose(quaternion(pose.orientation), stage().world_from_rig(t_s)[:3, :3])
    assert np.allclose(pose.position_m, stage().world_from_rig(t_s)[:3, 3])


def test_a_plain_camera_sees_the_room_and_others_say_that_they_do_not() -> None:
    clock, room = VirtualClock(), world()
    room.open(clock)
    camera = SimCamera(address="c", world=room, width=64, height=48, field=1.1, encoding="BGR8", vignetting=0.0)
    camera.uri = "sim:c"
    camera.open(clock)
    clock.advance(camera.due_ns())
    frame = camera.read(0.0)
    wanted = stage().sight(camera.pinhole, frame.stamp.t_ns / 1e9).image()
    assert frame.image.shape == (48, 64, 3) and np.abs(frame.image.astype(float) - wanted).mean() < 6
    with pytest.raises(NotSupported, match="show a room"):
        _ = room.scene
    with pytest.raises(NotFound, match="there are desk, orbit"):
        World(scene="room", sequence="moon").open(clock)


def test_the_truth_node_gives_the_pose_of_a_rig_that_moves() -> None:
    room = world()
    room.open(VirtualClock())
    out = GroundTruth(device=room, rate=10.0).step()
    assert out is not None and set(out) == {"pose"}
    assert World(scene="bench").pose(0) is None


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
def test_conformance_of_the_depth_camera_in_a_room(check: Check) -> None:
    made: list[SimDepthCamera] = []

    def make() -> SimDepthCamera:
        made.append(twin(image="Mono8", rate=60.0))
        return made[-1]

    def plug(state: bool) -> None:
        for camera in made:
            camera.plugged = state

    check(Bench(make, VirtualClock(), lambda: plug(False), lambda: plug(True)))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_sequence_as_a_tum_folder_is_read_back(tmp_path: Path) -> None:
    import importlib.util

    from foveate_calibration.poses import read_poses

    script = Path(__file__).resolve().parents[2] / "benchmarks/rendered_sequences.py"
    spec = importlib.util.spec_from_file_location("rendered_sequences", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path, "low_texture", 160, 3)
    folder = tmp_path / "low_texture"
    poses = read_poses(str(folder / "groundtruth.txt"))
    assert np.allclose(poses.matrices[2], SEQUENCES["low_texture"].path.pose(2 / RATE_HZ), atol=1e-8)
    assert (folder / "camera.txt").read_text().split() == ["131.25", "131.25", "79.5", "59.5"]
    depth = cv2.imread(str(folder / "depth" / "1000.066667.png"), cv2.IMREAD_UNCHANGED)
    true, _ = SEQUENCES["low_texture"].room().depth(Pinhole(160, 120, 131.25), poses.matrices[2])
    good = depth > 0
    assert depth.dtype == np.uint16 and np.median(np.abs(depth[good] / 5000 - true[good])) < 0.02
