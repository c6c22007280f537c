"""What stands and moves along a simulated street: houses, trees, poles, parked and driving cars, people.

The street runs along z, x is to the right, y down and 0 on the ground, metres. It repeats itself every `LENGTH_M`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "sky", "building", "fence", "person", "pole", "road", "sidewalk", "vegetation", "vehicle", "wall", "traffic sign",
)  # fmt: skip  # those of DSEC-Semantic, in its order
SKY, BUILDING, FENCE, PERSON, POLE, ROAD, SIDEWALK, VEGETATION, VEHICLE, WALL, SIGN = range(11)
HOUSE, PLAIN, BARS, BODY, CABIN, TREE, BUSH, WALKER, POST, PLATE = range(10)  # how a surface is painted
BOARDS = TREE  # from here on: upright pictures that face the camera; before it: solid boxes
LENGTH_M = 320.0

ITEM = np.dtype([
    ("paint", "i4"), ("label", "i4"), ("seed", "i4"),
    ("x", "f8"), ("z", "f8"), ("foot", "f8"),  # the middle of its base; `foot` above the ground
    ("width", "f8"), ("height", "f8"), ("depth", "f8"), ("yaw", "f8"),
    ("speed", "f8"),  # m/s along z
    ("sway", "f8"), ("sway_hz", "f8"),  # metres to both sides, there and back
    ("shade", "f8"),  # grey level
])  # fmt: skip
Items = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Layout:
    """One street."""

    items: Items  # of ITEM
    road_m: float  # half the width of the road
    walk_m: float  # width of each sidewalk
    crossing_m: float  # every so many metres people may cross
    lane_m: float  # the middle of the camera's lane
    speed_m_s: float  # the camera's, on average
    eye_m: float  # the camera's height
    light: float  # of the day: 0.55 dusk to 1


def layout(seed: int) -> Layout:
    """The street of a seed."""
    rng = np.random.default_rng(seed)
    road = float(rng.uniform(3.4, 6.5))
    walk = float(rng.uniform(1.6, 3.2))
    speed = float(rng.uniform(3.0, 13.0))
    lane = road / 2
    rows: list[tuple] = []
    for side in (-1, 1):
        _line(rows, rng, side, road + walk)
        _kerb(rows, rng, side, road, walk)
    _traffic(rows, rng, lane, road, speed)
    return Layout(
        np.array(rows, ITEM), road, walk, float(rng.uniform(40, 90)), lane + float(rng.normal(0, 0.2)), speed,
        float(rng.uniform(1.2, 2.0)), float(rng.uniform(0.55, 1.0)),
    )  # fmt: skip


def _item(
    paint: int, label: int, seed: int, x: float, z: float, size: tuple[float, float, float], shade: float, *,
    foot: float = 0.0, yaw: float = 0.0, speed: float = 0.0, sway: float = 0.0, sway_hz: float = 0.0,
) -> tuple:  # fmt: skip
    return (paint, label, seed, x, z, foot, *size, yaw, speed, sway, sway_hz, shade)


def _line(rows: list[tuple], rng: np.random.Generator, side: int, edge: float) -> None:
    """Behind the sidewalk: houses, walls, fences, trees and bushes, one after the other."""
    z = float(rng.uniform(0, 5))
    while z < LENGTH_M - 8:
        seed, back = int(rng.integers(1 << 20)), edge + float(rng.uniform(0.2, 4.0))
        kind = rng.choice(5, p=[0.42, 0.08, 0.12, 0.26, 0.12])
        if kind == 0:
            length, depth = float(rng.uniform(7, 22)), float(rng.uniform(6, 12))
            size = (depth, float(rng.uniform(4, 16)), length)
            rows.append(
                _item(HOUSE, BUILDING, seed, side * (back + depth / 2), z + length / 2, size, rng.uniform(70, 210))
            )
        elif kind in (1, 2):
            length = float(rng.uniform(5, 14))
            paint, label, height = (
                (PLAIN, WALL, rng.uniform(0.8, 2.4)) if kind == 1 else (BARS, FENCE, rng.uniform(0.8, 1.8))
            )
            size = (0.2, float(height), length)
            rows.append(_item(paint, label, seed, side * (edge + 0.3), z + length / 2, size, rng.uniform(60, 200)))
        elif kind == 3:
            length = float(rng.uniform(4, 14))
            for _ in range(int(rng.integers(1, 5))):
                height = float(rng.uniform(3.5, 10))
                size = (height * float(rng.uniform(0.45, 0.8)), height, 0.0)
                place = side * (back + rng.uniform(0, 5)), z + rng.uniform(0, length)
                rows.append(_item(TREE, VEGETATION, int(rng.integers(1 << 20)), *place, size, rng.uniform(45, 110)))
        else:
            length = float(rng.uniform(2, 6))
            for _ in range(int(rng.integers(1, 4))):
                size = (float(rng.uniform(1, 3)), float(rng.uniform(0.7, 2)), 0.0)
                place = side * (edge + rng.uniform(0.5, 2.5)), z + rng.uniform(0, length)
                rows.append(_item(BUSH, VEGETATION, int(rng.integers(1 << 20)), *place, size, rng.uniform(45, 110)))
        z += length + float(rng.choice([0.0, rng.uniform(0.5, 6)]))


def _kerb(rows: list[tuple], rng: np.random.Generator, side: int, road: float, walk: float) -> None:
    """On the sidewalk and beside it: lamps, signs, trees, people, parked cars."""
    for z in np.arange(rng.uniform(0, 20), LENGTH_M, rng.uniform(18, 40)):
        size = (float(rng.uniform(0.12, 0.25)), float(rng.uniform(4, 7.5)), 0.0)
        rows.append(_item(POST, POLE, 0, side * (road + 0.4), z, size, rng.uniform(40, 190)))
    for z in rng.uniform(0, LENGTH_M, int(rng.integers(5, 14))):
        size = (float(rng.uniform(0.55, 0.95)), float(rng.uniform(2.2, 3.2)), 0.0)
        rows.append(_item(PLATE, SIGN, int(rng.integers(1 << 20)), side * (road + 0.5), z, size, rng.uniform(90, 230)))
    for z in rng.uniform(0, LENGTH_M, int(rng.integers(2, 18))):
        height = float(rng.uniform(3, 7))
        size = (height * 0.6, height, 0.0)
        rows.append(
            _item(TREE, VEGETATION, int(rng.integers(1 << 20)), side * (road + 0.8), z, size, rng.uniform(45, 110))
        )
    for z in rng.uniform(0, LENGTH_M, int(rng.integers(14, 40))):
        across = side * (road + rng.uniform(0.5, walk - 0.2))
        rows.append(_person(rng, across, z, float(rng.choice([-1, 1]) * rng.uniform(0, 1.8)), 0.0, 0.0))
    if road > 4.5:
        for z in np.arange(rng.uniform(0, 8), LENGTH_M - 6, 6.5):
            if rng.random() < 0.45:
                _car(rows, rng, side * (road - 1.05), z, 0.0 if side > 0 else np.pi, 0.0)


def _traffic(rows: list[tuple], rng: np.random.Generator, lane: float, road: float, speed: float) -> None:
    if road > 4.5:
        lane = (road - 2.0) / 2
    for z in np.arange(rng.uniform(15, 45), LENGTH_M - 40, rng.uniform(35, 90)):
        _car(rows, rng, lane, z, 0.0, speed)
    for z in np.arange(rng.uniform(0, 40), LENGTH_M, rng.uniform(25, 70)):
        _car(rows, rng, -lane, z, np.pi, -float(rng.uniform(0.6, 1.0)) * speed)
    for z in rng.uniform(0, LENGTH_M, int(rng.integers(3, 9))):
        rows.append(_person(rng, 0.0, z, 0.0, road + 1.0, float(rng.uniform(0.04, 0.09))))


def _person(rng: np.random.Generator, x: float, z: float, speed: float, sway: float, sway_hz: float) -> tuple:
    height = float(rng.normal(1.7, 0.12))
    return _item(WALKER, PERSON, int(rng.integers(1 << 20)), x, z, (0.36 * height, height, 0.0), rng.uniform(25, 220),
                 speed=speed, sway=sway, sway_hz=sway_hz)  # fmt: skip


def _car(rows: list[tuple], rng: np.random.Generator, x: float, z: float, yaw: float, speed: float) -> None:
    seed, shade = int(rng.integers(1 << 20)), float(rng.uniform(25, 235))
    tall = rng.random() < 0.25
    width, length = float(rng.uniform(1.65, 1.95)), float(rng.uniform(3.7, 4.8)) * (1.25 if tall else 1.0)
    low, high = (0.9, 1.25) if tall else (0.72, 0.62)
    turn = yaw + float(rng.normal(0, 0.02))
    rows.append(_item(BODY, VEHICLE, seed, x, z, (width, low, length), shade, foot=0.18, yaw=turn, speed=speed))
    cabin = (width * 0.88, high, length * (0.9 if tall else 0.55))
    rows.append(_item(CABIN, VEHICLE, seed, x, z, cabin, shade, foot=0.18 + low, yaw=turn, speed=speed))
