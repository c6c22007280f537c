"""The simulated street: every pixel's class is exactly what its ray meets, and the twin's cameras see it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs the extra 'segmentation'")

from foveate.clock import VirtualClock
from foveate.errors import NotSupported
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.cameras.sim import SimCamera
from foveate_drivers.events.sim import SimEventCamera
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world import street_layout as layout
from foveate_drivers.world.base import World
from foveate_drivers.world.street import Street
from foveate_drivers.world.street_draw import draw

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]  # numba compiles when it is first run
WIDTH, HEIGHT, FOCAL, EYE_M, ROAD_M, WALK_M = 97, 65, 60.0, 1.5, 4.0, 2.0


def drawn(items: np.ndarray, t_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Depth and classes from 1.5 m above a straight street, one ray a pixel."""
    depth, grey = np.empty((HEIGHT, WIDTH), np.float32), np.empty((HEIGHT, WIDTH), np.float32)
    label = np.empty((HEIGHT, WIDTH), np.uint8)
    eye = np.array([0.0, -EYE_M, 0.0])
    draw(items, np.array([ROAD_M, WALK_M, 1e9]), eye, np.eye(3), t_s, FOCAL, depth, grey, label)
    assert np.isfinite(grey).all()
    return depth, label


def rays() -> tuple[np.ndarray, np.ndarray]:
    """x and y of each ray at z = 1."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (column - (WIDTH - 1) / 2) / FOCAL, (row - (HEIGHT - 1) / 2) / FOCAL


def item(**values: float) -> np.ndarray:
    made = np.zeros(1, layout.ITEM)
    for name, value in values.items():
        made[name] = value
    return made


def test_an_empty_street_is_ground_and_sky_where_rays_meet_them() -> None:
    depth, label = drawn(np.zeros(0, layout.ITEM))
    x, y = rays()
    at = np.where(y > 0, EYE_M / np.maximum(y, 1e-9), 1e9)
    ground, across = at < 140, np.abs(at * x)
    assert np.allclose(depth[ground], at[ground], rtol=1e-5)
    clear = (np.abs(across - ROAD_M) > 1e-3) & (np.abs(across - ROAD_M - WALK_M) > 1e-3)
    expected = np.where(
        across < ROAD_M, layout.ROAD, np.where(across < ROAD_M + WALK_M, layout.SIDEWALK, layout.VEGETATION)
    )
    assert np.array_equal(label[ground & clear], expected[ground & clear])
    assert set(np.unique(label[~ground])) <= {layout.SKY, layout.BUILDING, layout.VEGETATION}


@pytest.mark.parametrize(("x_m", "z_m", "speed"), [(0.0, 12.0, 0.0), (-3.0, 20.0, 0.0), (2.5, 9.0, 4.0)])
def test_a_box_is_where_its_rays_are(x_m: float, z_m: float, speed: float) -> None:
    t_s = 1.5
    box = item(
        paint=layout.PLAIN, label=layout.WALL, x=x_m, z=z_m, width=2.0, height=2.2, depth=3.0, speed=speed, shade=90
    )
    depth, label = drawn(box, t_s)
    x, y = rays()
    middle = z_m + speed * t_s
    # the end that faces the camera, one side, and the top, as planes that rays meet
    near = middle - 1.5
    inside = (np.abs(near * x - x_m) < 1.0) & (EYE_M - near * y > 0) & (EYE_M - near * y < 2.2)
    hit = np.where(inside, near, np.inf)
    for edge in (x_m - 1.0, x_m + 1.0):
        with np.errstate(divide="ignore", invalid="ignore"):
            at = edge / x
            on = (np.abs(at - middle) < 1.5) & (EYE_M - at * y > 0) & (EYE_M - at * y < 2.2) & (at > 0)
        hit = np.where(on, np.minimum(hit, at), hit)
    wall = label == layout.WALL
    differs = wall != np.isfinite(hit)
    assert wall.sum() > 40 and differs.mean() < 0.002  # rays along an edge may fall to either side
    both = wall & np.isfinite(hit)
    assert np.allclose(depth[both], hit[both], rtol=1e-4)


def test_what_is_nearer_hides_what_is_behind() -> None:
    near = item(paint=layout.PLAIN, label=layout.WALL, z=8.0, width=2.0, height=2.0, depth=0.5, shade=90)
    far = item(paint=layout.PLAIN, label=layout.VEHICLE, z=15.0, width=12.0, height=3.0, depth=0.5, shade=90)
    for order in ((near, far), (far, near)):
        _, label = drawn(np.concatenate(order))
        assert np.array_equal(label == layout.WALL, drawn(near)[1] == layout.WALL)
        assert (label == layout.VEHICLE).sum() > 100


def test_a_drive_is_smooth_rigid_and_the_seeds() -> None:
    street, again, other = Street(4), Street(4), Street(5)
    pinhole = Pinhole.from_field(96, 72, 1.2)
    grey, label = street.see(pinhole, 2.0)
    assert np.array_equal(grey, again.see(pinhole, 2.0)[0]) and not np.array_equal(grey, other.see(pinhole, 2.0)[0])
    assert grey.dtype == label.dtype == np.uint8 and grey.shape == label.shape == (72, 96) and label.max() < 11
    poses = np.array([street.world_from_rig(t) for t in np.arange(0, 60, 0.01)])
    assert np.allclose(poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-12)
    steps = np.diff(poses[:, :3, 3], axis=0)
    assert np.abs(np.diff(steps, axis=0)).max() < 1e-3 and (steps[:, 2] > 0).all()
    assert street.see(pinhole, 500.0)[0].std() > 5  # the street goes on


def test_many_streets_have_all_classes() -> None:
    pinhole = Pinhole.from_field(144, 108, 1.2)
    pixels = sum(np.bincount(Street(seed).see(pinhole, 1.0 + seed)[1].ravel(), minlength=11) for seed in range(25))
    assert (pixels > 20).all() and pixels[layout.ROAD] > 0.1 * pixels.sum()


def test_the_event_camera_sees_the_street_and_the_world_knows_its_pixels() -> None:
    def packets(size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
        world = World(scene="street", seed=3)
        camera = SimEventCamera(address="", world=world, width=size[0], height=size[1], field=1.2, steps=2)
        clock = VirtualClock()
        world.open(clock)
        camera.open(clock)
        found = []
        for i in range(1, 11):
            clock.wait_until(i * 10_000_000, threading.Event())
            events = camera.read(1.0)
            found.append(np.stack([events.t_ns, events.x, events.y, events.polarity]))
        seen = world.classes(100_000_000)
        assert seen is not None and seen.label.shape == size[::-1] and len(seen.names) == 11
        pose = world.pose(100_000_000)
        assert pose is not None and pose.position_m[2] > 0
        return found

    one, two = packets(), packets()
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert sum(part.shape[1] for part in one) > 1000


def test_a_frame_camera_sees_it_and_mirrors_do_not() -> None:
    world, clock = World(scene="street", seed=3), VirtualClock()
    camera = SimCamera(address="", world=world, width=64, height=48, field=1.2, rate=20.0)
    world.open(clock)
    camera.open(clock)
    clock.wait_until(100_000_000, threading.Event())
    assert camera.read(1.0).image.std() > 5
    through = SimEventCamera(address="", world=world, through=SimMirror(address=""), width=64, height=48)
    with pytest.raises(NotSupported, match="show a street: only fixed cameras"):
        through.open(clock)
