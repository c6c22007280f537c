"""A light-section scanner of numbers alone: the rig as drawn, as it was made, and what it would see of boards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.lens import PARAMETERS, Lens
from foveate_calibration.procedures.rig_problem import Noise, board_plane
from foveate_calibration.rigid import rotation_from, transform
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.two_mirror import TwoMirror
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
HALF = np.sqrt(0.5)
LOW, HIGH = np.array([-0.55, -0.65, 1.675]), np.array([0.55, 0.65, 2.325])  # the volume, metres
MADE = np.array(
    [3e-3, 3e-3, 0.5e-3, 0.5e-3, 1e-3, 0.3e-3, 5e-3, 0.02, 2e-3]
)  # standard deviations of a mirror's errors
MADE_SHEET = np.array([2e-3, 2e-3, 0.5e-3])


def drawn(mirrors: int = 2) -> tuple[SteeredCamera, SteeredLaser]:
    """As drawn: 1280 x 1024 at 10,000 px of focal length, the laser 0.8 m to the right."""
    two = TwoMirror()
    lens = Lens.from_matrix(np.array([[1e4, 0, 639.5], [0, 1e4, 511.5], [0, 0, 1.0]]), np.zeros(5), 1280, 1024)
    if mirrors == 2:
        camera = SteeredCamera(lens, two.rig_from_bare_camera, two.galvanometers())
    else:  # looks along +x at one mirror that turns about y
        turned = transform(np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]).T @ np.diag([1.0, 1, 1]), np.zeros(3))
        turned[:3, :3] = np.column_stack([[0, 0, -1.0], [0, 1.0, 0], [1.0, 0, 0]])
        turned[:3, 3] = [-0.1, 0, 0]
        camera = SteeredCamera(
            lens, turned, (Galvanometer(np.array([0, 1.0, 0]), np.zeros(3), np.array([-HALF, 0, HALF])),)
        )
    mirror = Galvanometer(np.array([0, 1.0, 0]), np.array([0.8, 0, 0]), np.array([-HALF, 0, HALF]))
    return camera, SteeredLaser(np.array([0, 0, 1.0, 0]), mirror)


def errors(seed: int, mirrors: int = 2) -> Array:
    """A step from the drawing to a rig as made, in the order of RigProblem.names."""
    rng = np.random.default_rng(seed)
    lens = np.zeros(len(PARAMETERS))
    lens[:4] = rng.normal(0, [30, 30, 6, 6])
    lens[1], lens[4] = lens[0], rng.normal(0, 0.1)
    parts = [rng.normal(0, MADE) for _ in range(mirrors)]
    return np.concatenate([*parts, lens, rng.normal(0, MADE_SHEET), rng.normal(0, MADE)])


def made(seed: int, mirrors: int = 2) -> tuple[SteeredCamera, SteeredLaser]:
    """The rig as made."""
    camera, laser = drawn(mirrors)
    step = errors(seed, mirrors)
    return camera.stepped(step[: 9 * mirrors], step[9 * mirrors : 9 * mirrors + 18]), laser.stepped(step[-12:])


def aim_laser(laser: SteeredLaser, point: Array) -> float:
    """The command that puts the light on a point, by Newton's method."""
    command = 0.0
    for _ in range(8):
        plane, _, slope = laser.linearize(np.array([command]))
        command -= float((plane[:3] @ point - plane[3]) / (slope[:3] @ point - slope[3]))
    return command


def aim_camera(camera: SteeredCamera, point: Array) -> Array:
    """The commands that put a point in the middle of the image, by Newton's method."""
    angle = np.zeros(len(camera.mirrors))
    middle = np.array([(camera.lens.width - 1) / 2, (camera.lens.height - 1) / 2])
    for _ in range(12):
        pixel, *_, slope = camera.linearize(point[None], angle)
        angle = angle - np.clip(np.linalg.lstsq(slope[0], pixel[0] - middle, rcond=None)[0], -0.1, 0.1)
    return angle


def board_points(columns: int = 16, rows: int = 12, square_m: float = 0.03) -> Array:
    """Corners (N x 3) of a board about its middle."""
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    return np.column_stack([x.ravel() * square_m, y.ravel() * square_m, np.zeros(x.size)])


def poses(seed: int, placements: int, tilt_rad: float = 0.5, height: float = 1.0) -> tuple[Array, ...]:
    """Where boards stand, all over `height` of the volume and tilted to all sides: rig_from_board (4 x 4)."""
    rng, found = np.random.default_rng((seed, 7)), []
    for _ in range(placements):
        side = rng.uniform(0, 2 * np.pi)
        tilt = rotation_from(tilt_rad * rng.uniform(0.4, 1.0) * np.array([np.cos(side), np.sin(side), 0]))
        turn = tilt @ rotation_from(np.array([0, 0, rng.uniform(-0.5, 0.5)]))
        found.append(transform(turn, rng.uniform(LOW, HIGH) * [1, height, 1]))
    return tuple(found)


def views(
    camera: SteeredCamera, laser: SteeredLaser, seed: int, *, placements: int = 12, each: int = 10,
    noise: Noise | None = None, tilt_rad: float = 0.5, stripes: bool = True, outliers: float = 0.0,
) -> list[BoardView]:  # fmt: skip
    """What a rig as made sees of boards that stand still while its mirrors turn."""
    noise, rng = noise or Noise(), np.random.default_rng((seed, 8))
    points, found = board_points(), []
    height = 1.0 if len(camera.mirrors) == 2 else 0.1  # one mirror looks along a line
    for k, pose in enumerate(poses(seed, placements, tilt_rad, height)):
        for i in range(each):
            view = _view(camera, laser, pose, points, rng, noise, stripes, outliers)
            if view is not None:
                board, pixel, angle, stripe, light = view
                found.append(BoardView(board, pixel, f"placement {k} view {i}", k, angle, 0, stripe, light))
    return found


def _view(camera, laser, pose, points, rng, noise, stripes, outliers):  # type: ignore[no-untyped-def]
    where = pose[:3, :3] @ [rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15), 0] + pose[:3, 3]
    angle = aim_camera(camera, where)
    pixel = camera.project(points @ pose[:3, :3].T + pose[:3, 3], angle)
    inside = _inside(pixel)
    if inside.sum() < 8:
        return None
    pixel = pixel[inside] + rng.normal(0, noise.corner_px, (inside.sum(), 2))
    stray = rng.random(len(pixel)) < outliers
    pixel[stray] += rng.normal(0, 30, (stray.sum(), 2))
    light = np.array([aim_laser(laser, where + pose[:3, :3] @ [rng.uniform(-0.08, 0.08), 0, 0])])
    stripe = stripe_on(camera, laser, pose, where, angle, light) if stripes else np.zeros((0, 2))
    stripe = stripe + rng.normal(0, noise.stripe_px, stripe.shape)
    read = angle + rng.normal(0, noise.camera_rad, len(angle))
    return points[inside], pixel, read, stripe if len(stripe) > 10 else None, light + rng.normal(0, noise.laser_rad, 1)


def stripe_on(  # type: ignore[no-untyped-def]
    camera, laser, pose, where, angle, light
):
    """Pixels of the laser's line on a board of pose `pose`, about the point `where`."""
    plane, board = laser.plane(light), board_plane(pose)
    along = np.cross(plane[:3], board[:3])
    along /= np.linalg.norm(along)
    start = np.linalg.solve(np.stack([plane[:3], board[:3], along]), [plane[3], board[3], along @ where])
    points = start + np.linspace(-0.12, 0.12, 40)[:, None] * along
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    pixel = camera.project(points, angle)
    return pixel[_inside(pixel) & (np.abs(local[:, 0]) < 0.24) & (np.abs(local[:, 1]) < 0.18)]


def _inside(pixel: Array) -> NDArray[np.bool_]:
    return ((pixel > 5) & (pixel < [1274, 1018])).all(axis=1)


def triangulate(camera: SteeredCamera, laser: SteeredLaser, pixel: Array, angle: Array, light: Array) -> Array:
    """Where the ray of one pixel (2,) meets the laser's plane."""
    origin, rays = camera.rays(pixel[None], angle)
    plane = laser.plane(light)
    return origin + rays[0] * (plane[3] - plane[:3] @ origin) / (plane[:3] @ rays[0])


def aligned(points: Array, to: Array) -> Array:
    """Points (N x 3) after the rigid motion that brings them nearest to others (Kabsch 1976)."""
    a, b = points - points.mean(axis=0), to - to.mean(axis=0)
    u, _, v = np.linalg.svd(a.T @ b)
    turn = v.T @ np.diag([1, 1, np.linalg.det(v.T @ u.T)]) @ u.T
    return a @ turn.T + to.mean(axis=0)
