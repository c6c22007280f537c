"""What lies on a bench: plates with gauge blocks and spheres that fill a volume, and where boards are held up in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import rotation_from, transform
from foveate_drivers.world import solids
from foveate_drivers.world.base import Part

Array = NDArray[np.float64]
HEIGHTS_M = (0.005, 0.010, 0.020, 0.050, 0.100)
BACKDROP_ALBEDO = 0.05
_PLATE_M = np.array([0.150, 0.180, 0.008])
_BLOCK_M = 0.060
_LASER_AT_M = 0.8  # where a laser usually stands beside the camera: no plate hides another from there either
_TRIES = 60  # depths of one plate
# the free form: capsules (both ends, radius), metres about its middle; the viewer is at -z
_CAPSULES = np.array([
    [-0.045, 0.040, 0.000, 0.045, 0.040, 0.000, 0.032], [0.000, 0.030, 0.000, 0.010, -0.030, 0.005, 0.030],
    [0.015, -0.060, -0.005, 0.015, -0.060, -0.005, 0.034], [-0.010, -0.055, -0.030, -0.045, -0.050, -0.055, 0.011],
    [-0.050, 0.010, -0.020, -0.075, -0.045, -0.020, 0.013],
])  # fmt: skip
FREE_FORM_REACH_M = 0.12


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Solids and what they are called."""

    table: Array  # K x COLUMNS
    capsules: Array  # of the free form
    parts: tuple[Part, ...]


def backdrop(depth_m: float) -> Array:
    """A dark wall across the view."""
    return solids.row(solids.PLANE, BACKDROP_ALBEDO, np.array([0, 0, depth_m]), np.eye(3), np.zeros(3))


def stations(seed: int, size_m: Array, center_m: Array, columns: int, rows: int) -> Layout:
    """A grid of plates at depths of their own, each with a block or a sphere; the free form nearest to the middle."""
    rng = np.random.default_rng((seed, 41))
    places, plate = _places(rng, size_m, center_m, columns, rows)
    middle = int(np.argmin([np.hypot(*(place - center_m)[:2]) for place in places]))
    order = rng.permutation(len(places))
    table, parts = [backdrop(center_m[2] + size_m[2] / 2 + 0.3)], []
    for number, place in enumerate(places):
        turn = rotation_from(np.append(rng.uniform(-0.12, 0.12, 2), rng.uniform(-0.05, 0.05)))
        if number == middle:
            half = np.full(3, FREE_FORM_REACH_M)
            parts.append(Part("free form", "free_form", len(table), place, turn, 2 * half))
            table.append(solids.row(solids.BLEND, 0.7, place, turn, half))
            continue
        _station(table, parts, f"station {number + 1}", int(order[number]), place, turn, plate, rng)
    return Layout(np.array(table), _CAPSULES, tuple(parts))


def _station(
    table: list[Array], parts: list[Part], name: str, kind: int, place: Array, turn: Array, plate: Array,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    on = len(parts)
    away = turn[:, 2]
    parts.append(Part(f"{name}: plate", "plane", len(table), place, turn, plate))
    table.append(solids.row(solids.BOX, rng.uniform(0.5, 0.8), place + away * plate[2] / 2, turn, plate / 2))
    scale = plate[0] / _PLATE_M[0]
    if kind % 3 == 2:
        radius = float(rng.uniform(0.020, 0.040)) * scale
        center = place - away * radius
        size = np.full(3, 2 * radius)
        parts.append(Part(f"{name}: sphere", "sphere", len(table), center, turn, size, radius_m=radius, plate=on))
        table.append(solids.row(solids.SPHERE, rng.uniform(0.5, 0.8), center, turn, size / 2))
        return
    height = HEIGHTS_M[(kind - kind // 3) % len(HEIGHTS_M)]
    size = np.array([_BLOCK_M * scale, _BLOCK_M * scale, height])
    parts.append(Part(f"{name}: block {height * 1e3:.0f} mm", "block", len(table), place, turn, size, height, plate=on))
    half = np.append(size[:2], height + 0.001) / 2  # it stands 1 mm deep in its plate: no slit between them
    table.append(solids.row(solids.BOX, rng.uniform(0.5, 0.8), place + away * (0.001 - half[2]), turn, half))


def _places(
    rng: np.random.Generator, size_m: Array, center_m: Array, columns: int, rows: int
) -> tuple[list[Array], Array]:
    """Middles of the plates' faces, out to the volume's edges, and the plates' size.

    A depth is drawn anew until nothing is hidden from the camera or the laser; in vain, the plates become smaller.
    """
    room = size_m[:2] / (columns, rows)
    plate = _PLATE_M * min(1.0, float((room / (_PLATE_M[:2] + 0.03)).min()))
    tall = min(HEIGHTS_M[-1], size_m[2] / 4)
    while True:
        across, down = ((np.arange(n) - (n - 1) / 2) / max(n - 1, 1) for n in (columns, rows))
        cells = [np.array([x, y]) * (size_m[:2] - plate[:2] - 0.02) + center_m[:2] for y in down for x in across]
        places: list[Array] = []
        for cell in cells:
            for _ in range(_TRIES):
                z = center_m[2] - size_m[2] / 2 + tall + (size_m[2] - tall - 0.02) * rng.beta(0.6, 0.6)
                place = np.append(cell, z)
                if all(_apart(place, other, plate) for other in places):
                    places.append(place)
                    break
        if len(places) == len(cells):
            return places, plate
        plate = plate * 0.98


def _apart(a: Array, b: Array, plate: Array) -> bool:
    """Whether two plates lie side by side as the camera sees them, and as the laser does."""
    for origin in (0.0, _LASER_AT_M):
        (ax, ay), (bx, by) = ((np.array([p[0] - origin, p[1]]) / p[2]) for p in (a, b))
        room = plate[:2] / 2 * (1 / a[2] + 1 / b[2])
        if abs(ax - bx) < room[0] and abs(ay - by) < room[1]:
            return False
    return True


def board_pose(seed: int, index: int, size_m: Array, center_m: Array) -> Array:
    """4 x 4, rig from the middle of a board's sheet: over the whole volume, tilted by up to 35 degrees.

    The places are a low-discrepancy sequence (Roberts' R3), so that any number of them fills the volume.
    """
    g = 1.2207440846057596  # the root of x^4 = x + 1
    rng = np.random.default_rng((seed, 43))
    place = np.mod(rng.uniform(size=3) + (index + 1) / g ** np.arange(1, 4), 1.0) - 0.5
    rng = np.random.default_rng((seed, 47, index))
    side, tilt = rng.uniform(0, 2 * np.pi), np.radians(35) * np.sqrt(rng.uniform(0.05, 1.0))
    turn = rotation_from(tilt * np.array([np.cos(side), np.sin(side), 0.0]))
    return transform(turn @ rotation_from(np.array([0, 0, rng.uniform(-0.6, 0.6)])), center_m + place * size_m)
