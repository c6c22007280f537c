"""Whole rooms by kind: what is where in an office, a living room, a corridor, a store, a room that is nearly bare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foveate_drivers.world import room_furniture as put
from foveate_drivers.world.room_plan import Plan, Spot

Kind = Literal["office", "living", "corridor", "store", "bare"]
Size = tuple[float, float, float]  # width (x), height, depth (z) in metres
_SIZES: dict[str, Size] = {
    "office": (4.6, 2.6, 5.2), "living": (6.2, 2.7, 6.2), "corridor": (2.8, 2.5, 13.0), "store": (6.0, 3.0, 7.0),
    "bare": (4.4, 2.6, 4.4),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Walls:
    """The four walls as places for furniture: 0 is +z, then +x, -z, -x."""

    size_m: Size

    def spot(self, wall: int, along_m: float, away_m: float) -> Spot:
        """A place `away_m` before a wall, `along_m` from its middle, with its back to it."""
        yaw = wall % 4 * math.pi / 2
        half = self.size_m[2 if wall % 2 == 0 else 0] / 2
        return Spot(0.0, 0.0, yaw).at(along_m, half - away_m)

    def half_m(self, wall: int) -> float:
        """Half of a wall's width."""
        return self.size_m[0 if wall % 2 == 0 else 2] / 2


def laid_out(plan: Plan, kind: Kind, shiny: bool) -> tuple[Size, list[tuple[float, float, float]]]:
    """Fill a plan; returns the room's size and where its two lamps are. `shiny`: with what swallows infrared."""
    size = tuple(float(s * plan.rng.uniform(0.92, 1.08)) for s in _SIZES[kind])
    assert len(size) == 3
    floor = plan.cover("wood" if plan.rng.random() < 0.4 else ("checks" if plan.rng.random() < 0.4 else "carpet"), 1.3)
    wall = plan.cover("paint", 1.2)
    plan.shell(size, wall, floor, plan.cover("plain", 1.5, 0.95))
    walls = Walls(size)
    layout: Callable[[Plan, Walls, bool], None] = {
        "office": _office, "living": _living, "corridor": _corridor, "store": _store, "bare": _bare,
    }[kind]  # fmt: skip
    layout(plan, walls, shiny)
    return size, _lamps(plan, size)


def _lamps(plan: Plan, size: Size) -> list[tuple[float, float, float]]:
    """Two lamps hang from the ceiling; their globes throw no shadow."""
    long_x = size[0] > size[2]
    places = []
    for end in (-1, 1):
        share = end * plan.rng.uniform(0.2, 0.3)
        x, z = (share * size[0], 0.0) if long_x else (plan.rng.uniform(-0.15, 0.15) * size[0], share * size[2])
        glow = plan.cover("plain", 0.5, glow=5.0, returns=0.3)
        plan.sphere(Spot(float(x), float(z)), (0.0, size[1] - 0.55, 0.0), 0.12, glow)
        plan.shadowless[-1] = True
        places.append((float(x), -(size[1] - 0.43), float(z)))
    return places


def _decorated(plan: Plan, walls: Walls, wall: int, count: int, low: float = 1.25) -> None:
    """Pictures, posters and sheets side by side on a wall."""
    half = walls.half_m(wall)
    for i in range(count):
        kind = ("picture", "poster", "page", "poster")[int(plan.rng.integers(0, 4))]
        room = 2 * (half - 0.15) / count
        wide = min(float(plan.rng.uniform(0.25, 0.8)), room - 0.08)
        high = min(wide * float(plan.rng.uniform(0.75, 1.45)), walls.size_m[1] - low - 0.2)
        along = -half + 0.15 + (i + 0.5) * room
        put.hanging(plan, walls.spot(wall, along, 0.0), low + float(plan.rng.uniform(-0.08, 0.08)), wide, high, kind)


def _office(plan: Plan, walls: Walls, shiny: bool) -> None:
    desk = walls.spot(0, float(plan.rng.uniform(-0.5, 0.5)), 0.45)
    put.desk(plan, desk, dark=shiny)
    put.chair(plan, desk.at(-0.5, -0.85, float(plan.rng.uniform(2.6, 3.6))))
    _decorated(plan, walls, 0, 4)
    for along in (-1.3, -0.1):
        put.shelf(plan, walls.spot(1, along, 0.18), 1.1, float(plan.rng.uniform(1.7, 2.2)))
    put.cupboard(plan, walls.spot(1, 1.3, 0.25), shiny=shiny)
    put.opening(plan, walls.spot(2, -0.9, 0.0), "door")
    _decorated(plan, walls, 2, 3)
    put.parcels(plan, walls.spot(2, 1.3, 0.45), 4)
    second = walls.spot(3, -0.8, 0.42)
    put.table(plan, second, 1.5, 0.7)
    put.clutter(plan, second, 1.4, 0.6, 0.73, 12)
    put.opening(plan, walls.spot(3, 0.9, 0.0), "window")
    put.plant(plan, walls.spot(3, 1.9, 0.4))
    _decorated(plan, walls, 3, 5, 1.55)


def _living(plan: Plan, walls: Walls, shiny: bool) -> None:
    rug = plan.cover("carpet", 1.7)
    plan.box(Spot(0.0, 0.0, 0.1), (0.0, 0.0, 0.0), (2.6, 0.012, 2.2), rug)
    middle = Spot(0.0, 0.0, float(plan.rng.uniform(-0.3, 0.3)))
    put.table(plan, middle, 1.4, 0.9, 0.72)
    if shiny:
        put.monitor(plan, middle.at(0.3, 0.2, 0.3), 0.72, dark=True)
        glass = plan.cover("plain", 0.5, 0.06, gloss=0.8, returns=0.02)
        plan.box(middle.at(-0.35, -0.1), (0.0, 0.72, 0.0), (0.5, 0.004, 0.5), glass)
    put.clutter(plan, middle, 1.35, 0.85, 0.724, 14)
    put.chair(plan, middle.at(0.0, -0.62, math.pi))
    put.chair(plan, middle.at(0.2, 0.66, 0.2))
    put.sofa(plan, walls.spot(0, -0.7, 0.45))
    put.shelf(plan, walls.spot(0, 1.5, 0.18), 1.2, 2.0)
    put.plant(plan, walls.spot(0, 2.5, 0.4))
    put.cupboard(plan, walls.spot(1, -1.2, 0.25), 1.3, 1.1, shiny)
    put.cupboard(plan, walls.spot(1, 0.9, 0.25), 1.0, 2.0, shiny)
    put.desk(plan, walls.spot(2, -1.0, 0.45), dark=shiny)
    put.opening(plan, walls.spot(2, 1.4, 0.0), "window")
    put.opening(plan, walls.spot(3, 1.8, 0.0), "door")
    put.shelf(plan, walls.spot(3, -0.4, 0.18), 1.0, 1.9)
    put.sofa(plan, walls.spot(3, -2.0, 0.45), 1.4)
    for wall in range(4):
        _decorated(plan, walls, wall, 5, 1.5)


def _corridor(plan: Plan, walls: Walls, shiny: bool) -> None:
    half = walls.half_m(1)
    for wall in (1, 3):
        along = -half + 0.7
        while along < half - 0.7:
            choice = plan.rng.random()
            wide = float(plan.rng.uniform(0.9, 1.3))
            if choice < 0.55:
                put.shelf(
                    plan, walls.spot(wall, along + wide / 2 - 0.5, 0.18), wide, float(plan.rng.uniform(1.5, 2.2)), 0.75
                )
            elif choice < 0.68:
                put.cupboard(plan, walls.spot(wall, along, 0.24), wide - 0.1, 1.9, shiny)
            elif choice < 0.82:
                put.opening(plan, walls.spot(wall, along, 0.0), "door")
            else:
                put.hanging(plan, walls.spot(wall, along, 0.0), 1.1, 0.8, 1.0, "poster")
                put.parcels(plan, walls.spot(wall, along, 0.3), 2)
            along += wide + 0.12
    put.opening(plan, walls.spot(0, 0.2, 0.0), "window")
    _decorated(plan, walls, 0, 3, 1.3)
    put.opening(plan, walls.spot(2, -0.3, 0.0), "door")
    _decorated(plan, walls, 2, 3, 1.4)


def _store(plan: Plan, walls: Walls, shiny: bool) -> None:
    for wall in (0, 1, 3):
        for along in np.arange(-walls.half_m(wall) + 0.9, walls.half_m(wall) - 0.7, 1.25):
            put.shelf(plan, walls.spot(wall, float(along), 0.18), 1.15, float(plan.rng.uniform(1.9, 2.3)))
    for x in (-1.0, 1.0):
        for z in (-1.2, 0.9):
            put.parcels(plan, Spot(x, z + 0.3 * x, float(plan.rng.uniform(-1, 1))), 4)
    put.opening(plan, walls.spot(2, 0.5, 0.0), "door")
    put.desk(plan, walls.spot(2, -1.6, 0.45), dark=shiny)
    _decorated(plan, walls, 2, 5, 1.4)


def _bare(plan: Plan, walls: Walls, shiny: bool) -> None:
    """Painted walls and little else: few edges, fewer corners."""
    low = plan.cover("plain", 0.8, plan.color(0.25, 0.6))
    plan.box(walls.spot(0, -0.5, 0.4), (0.0, 0.0, 0.0), (1.2, 0.75, 0.7), low)
    plan.box(walls.spot(1, 0.6, 0.3), (0.0, 0.0, 0.0), (0.9, 1.4, 0.5), plan.cover("plain", 0.8, plan.color(0.4, 0.8)))
    put.hanging(plan, walls.spot(0, 0.9, 0.0), 1.2, 0.5, 0.6, "poster")
    put.opening(plan, walls.spot(3, -0.6, 0.0), "door")
    put.opening(plan, walls.spot(2, 0.3, 0.0), "window")
    plan.box(
        walls.spot(1, -0.9, 0.8), (0.0, 0.0, 0.0), (0.45, 0.45, 0.45), plan.cover("plain", 0.7, plan.color(0.3, 0.8))
    )
    if shiny:
        put.cupboard(plan, walls.spot(0, 1.3, 0.25), 0.9, 1.9, shiny=True)
