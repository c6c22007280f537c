"""Which angles of a camera's and a laser's mirrors cover a volume: pure geometry.

A volume is 3 x 2 metres, (low, high) of x, y, z in the frame of the rig, before the scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser

Array = NDArray[np.float64]

_STEPS = 12  # of Newton's; from rest it takes 3 to 5
_LATTICE = 7  # places along each edge of an image that stand for all of them


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """The laser's angles that light something of the volume in a view: whole numbers times a step."""

    view_rad: Array  # (axes,) of the camera's mirrors
    first: int
    last: int
    step_rad: float

    def angle(self, number: int) -> Array:
        """(1,) of the laser's mirror."""
        return np.array([number * self.step_rad])

    def coarse(self, every: int) -> list[int]:
        """Numbers `every` apart, from before the first to after the last, so that each number is between two."""
        return list(range(self.first // every * every, -(-self.last // every) * every + 1, every))

    def fine(self, every: int, seen: set[int]) -> list[int]:
        """What is left to do between the coarse numbers that saw a surface and their neighbours."""
        near = {n + k for n in seen for k in range(-every + 1, every) if k}
        return sorted(n for n in near if self.first <= n <= self.last and n % every)


def aim(camera: SteeredCamera, point_m: Array, start_rad: Array | None = None) -> Array:
    """Mirror angles (axes,) that put a point (3,) into the middle of the image. Raises ValueError where none do."""
    angle = np.zeros(len(camera.mirrors)) if start_rad is None else np.array(start_rad, np.float64)
    middle = np.array([camera.lens.width - 1, camera.lens.height - 1]) / 2
    for _ in range(_STEPS):
        pixel, _, _, _, by_angle = camera.linearize(point_m[None], angle)
        step = np.linalg.lstsq(by_angle[0], middle - pixel[0], rcond=None)[0]
        angle = angle + np.clip(step, -0.2, 0.2)
        if np.abs(step).max() < 1e-9:
            return angle
    raise ValueError(f"no angle of the mirrors looks at {np.round(point_m, 3).tolist()} m")


def laser_angles(laser: SteeredLaser, points_m: Array) -> Array:
    """Angles (N,) of the laser's mirror that put its light on points (N x 3).

    The point seen in the mirror lies in the sheet before it: with m the mirror's normal and q = m (x - c) - e the
    point's distance from it, n x - 2 q (n m) = d. Newton's method from rest. Raises ValueError where it finds nothing.
    """
    points = np.asarray(points_m, np.float64).reshape(-1, 3)
    mirror, normal = laser.mirror, laser.sheet[:3]
    before = points @ normal - laser.sheet[3]
    arm = points - mirror.point_m
    along = mirror.axis * (mirror.axis @ mirror.normal)
    upright, turned = mirror.normal - along, np.cross(mirror.axis, mirror.normal)
    command = np.zeros(len(points))
    for _ in range(_STEPS):
        shaft = np.asarray(mirror.shaft_rad(command))[:, None]
        m = along + np.cos(shaft) * upright + np.sin(shaft) * turned
        slope = np.cos(shaft) * turned - np.sin(shaft) * upright
        away = (arm * m).sum(axis=1) - mirror.offset_m
        off = before - 2 * away * (m @ normal)
        by_shaft = -2 * ((arm * slope).sum(axis=1) * (m @ normal) + away * (slope @ normal))
        step = -off / (by_shaft * (mirror.gain + 3 * mirror.cubic * command**2))
        command = command + np.clip(step, -0.2, 0.2)
        if np.abs(step).max(initial=0.0) < 1e-10:
            return command
    raise ValueError("no angle of the laser's mirror lights some of the points")


def lattice(volume_m: Array, counts: tuple[int, int, int]) -> Array:
    """Points (N x 3) evenly through the volume, its faces included."""
    axes = [np.linspace(low, high, n) for (low, high), n in zip(volume_m, counts, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def views(camera: SteeredCamera, volume_m: Array, overlap: float) -> list[Array]:
    """Mirror angles (axes,) of views that together see all of the volume, line by line, to and fro.

    A view is as wide in the mirrors' angles as half its angle of view, for a mirror turns the line of sight by twice
    its angle; `overlap` is the share that neighbours have in common, and makes up for views that are turned a little.
    """
    aims = np.array([aim(camera, point) for point in lattice(volume_m, (5, 5, 2))])
    focal = camera.lens.values[:2]
    size = np.arctan(np.array([camera.lens.width, camera.lens.height]) / 2 / focal)[: aims.shape[1]]
    low, high = aims.min(axis=0), aims.max(axis=0)
    # the outermost views reach over the edge by half the overlap
    counts = np.maximum(np.ceil((high - low) / (size * (1 - overlap))), 1).astype(int)
    axes = [
        a + (b - a) * (np.arange(n) + 0.5) / n if n > 1 else np.array([(a + b) / 2])
        for a, b, n in zip(low, high, counts, strict=True)
    ]
    if len(axes) == 1:
        return [np.array([angle]) for angle in axes[0]]
    found = []
    for k, second in enumerate(axes[1]):
        line = axes[0] if k % 2 == 0 else axes[0][::-1]
        found += [np.array([first, second]) for first in line]
    return [angle for angle in found if len(seen(camera, angle, volume_m))]


def seen(camera: SteeredCamera, view_rad: Array, volume_m: Array) -> Array:
    """Points (N x 3) where rays over the whole image enter and leave the volume; none where it is not seen.

    The volume is widened by what lies between two rays, so that its edges between them are not forgotten.
    """
    x = np.linspace(0, camera.lens.width - 1, _LATTICE)
    y = np.linspace(0, camera.lens.height - 1, _LATTICE)
    pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    center, rays = camera.rays(pixels, view_rad)
    between = max(camera.lens.width / camera.lens.values[0], camera.lens.height / camera.lens.values[1])
    between *= float(np.abs(volume_m - center[:, None]).max()) / (_LATTICE - 1)
    widened = volume_m + between * np.array([[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])
    with np.errstate(divide="ignore"):
        bounds = (widened.T[None] - center) / rays[:, None]  # rays x (low, high) x axis: distances of the six faces
    enter, leave = bounds.min(axis=1).max(axis=1), bounds.max(axis=1).min(axis=1)
    through = (leave > enter) & (leave > 0)
    ends = np.concatenate([np.maximum(enter, 0.0)[through], leave[through]])
    return center + np.concatenate([rays[through], rays[through]]) * ends[:, None]


def sweep(camera: SteeredCamera, laser: SteeredLaser, view_rad: Array, volume_m: Array, pitch_m: float) -> Sweep:
    """The laser's angles for a view, so close that planes are at most `pitch_m` apart wherever they are seen."""
    points = seen(camera, view_rad, volume_m)
    angles = laser_angles(laser, points)
    step = pitch_step(laser, volume_m, pitch_m)
    return Sweep(view_rad, int(np.floor(angles.min() / step)), int(np.ceil(angles.max() / step)), step)


def pitch_step(laser: SteeredLaser, volume_m: Array, pitch_m: float) -> float:
    """The laser's step (commanded radians) for planes `pitch_m` apart at the far end of the volume."""
    corners = lattice(volume_m, (2, 2, 2))
    across = corners - laser.mirror.point_m
    across -= np.outer(across @ laser.mirror.axis, laser.mirror.axis)  # the distance from the axis counts
    gain = abs(laser.mirror.gain) + 3 * abs(laser.mirror.cubic) * 0.25**2
    return float(pitch_m / (2 * gain * np.linalg.norm(across, axis=1).max()))
