"""The procedural scene: a town from above with vehicles and people whose places are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from foveate_drivers.world import sprites, town
from foveate_drivers.world.scene import Matrix, Pixels, Sprite, Texture, Truth, visible_area

PX_PER_M = 32.0


@dataclass(slots=True)
class _Mover:
    """An object that goes to and fro between two points at constant speed."""

    label: int
    start_m: np.ndarray
    direction: np.ndarray
    length_m: float
    speed_m_s: float
    phase_m: float
    there: Sprite
    back: Sprite

    def place(self, t_s: float) -> tuple[np.ndarray, Sprite]:
        """Centre (2,) and picture at `t_s`."""
        s = (self.phase_m + self.speed_m_s * t_s) % max(2 * self.length_m, 1e-9)
        returning = s > self.length_m
        along = 2 * self.length_m - s if returning else s
        return self.start_m + along * self.direction, self.back if returning else self.there


class ProceduralScene:
    """Roads, roofs, vegetation, vehicles and people from a seed; the same seed gives the same pixels."""

    names = ("vehicle", "person")

    def __init__(
        self, *, seed: int, width_m: float, height_m: float, active_m: tuple[float, float],
        vehicles: int = 16, people: int = 22,
    ) -> None:  # fmt: skip
        """`active_m`: the centred part (width, height) in which objects stay, so that all can be found."""
        rng = np.random.default_rng(seed)
        self.town = town.build(rng, width_m, height_m, PX_PER_M)
        self.width_m, self.height_m = width_m, height_m
        self._active = np.array(active_m) / 2 - 1.0
        self._color = Texture(self.town.image, width_m)
        gray = cv2.cvtColor(self.town.image, cv2.COLOR_BGR2GRAY)
        self._gray = Texture(gray, width_m)
        self._sun = (float(rng.uniform(-0.8, 0.8)), float(rng.uniform(-0.8, 0.8)))
        self._shadow = float(rng.uniform(0.35, 0.6))
        self.movers: list[_Mover] = []
        self._add_vehicles(rng, vehicles)
        self._add_people(rng, people)

    def _add_vehicles(self, rng: np.random.Generator, count: int) -> None:
        flowing = bool(rng.random() < 0.5)  # which family of streets has green light
        speeds = {id(lane): float(rng.uniform(2.5, 7.0)) for lane in self.town.lanes}
        tries = 0
        while sum(m.label == 0 for m in self.movers) < count and tries < 60 * count:
            tries += 1
            kind = rng.choice(["lane", "curb", "bay"], p=[0.5, 0.32, 0.18])
            if kind == "bay":
                if not self.town.bays:
                    continue
                x, y, heading = self.town.bays[rng.integers(len(self.town.bays))]
                self._add(rng, 0, np.array([x, y]), np.array([x, y]), 0.0, heading + np.pi * rng.integers(2))
                continue
            lanes = self.town.lanes if kind == "lane" else self.town.curbs
            lane = lanes[rng.integers(len(lanes))]
            moves = kind == "lane" and lane.along_first == flowing
            self._along(rng, 0, lane, speeds[id(lane)] if moves else 0.0)

    def _add_people(self, rng: np.random.Generator, count: int) -> None:
        tries = 0
        while sum(m.label == 1 for m in self.movers) < count and tries < 60 * count:
            tries += 1
            kind = rng.choice(["walk", "crossing", "square", "lawn"], p=[0.7, 0.1, 0.1, 0.1])
            speed = float(rng.uniform(0.5, 1.6)) if rng.random() < 0.7 else 0.0
            if kind in ("walk", "crossing"):
                lanes = self.town.walks if kind == "walk" else self.town.crossings
                self._along(rng, 1, lanes[rng.integers(len(lanes))], speed)
            else:
                areas = self.town.squares if kind == "square" else self.town.lawns
                if areas:
                    corners = areas[rng.integers(len(areas))]
                    u, v = rng.uniform(0.1, 0.9, 2)
                    at = corners[0] + u * (corners[1] - corners[0]) + v * (corners[3] - corners[0])
                    end = at + rng.normal(0, 6, 2)
                    self._add(rng, 1, at, end, speed, None)

    def _along(self, rng: np.random.Generator, label: int, lane: town.Lane, speed_m_s: float) -> None:
        """Put an object on the part of `lane` that lies in the active area."""
        start, end = np.array(lane.start_m), np.array(lane.end_m)
        steps = np.linspace(0, 1, 400)[:, None]
        points = start + steps * (end - start)
        inside = points[(np.abs(points) < self._active).all(axis=1)]
        if len(inside) < 8:
            return
        sway = rng.normal(0, 0.35 if label else 0.12) * np.array([start[1] - end[1], end[0] - start[0]])
        sway /= np.linalg.norm(end - start)
        if label and len(inside) > 60:
            first = rng.integers(0, len(inside) - 50)
            inside = inside[first : first + 50]
        self._add(rng, label, inside[0] + sway, inside[-1] + sway, speed_m_s, None)

    def _add(
        self, rng: np.random.Generator, label: int, start: np.ndarray, end: np.ndarray, speed: float,
        heading: float | None,
    ) -> None:  # fmt: skip
        length = float(np.linalg.norm(end - start))
        direction = (end - start) / length if length > 0 else np.array([1.0, 0.0])
        if heading is None:
            heading = float(np.arctan2(direction[1], direction[0])) + np.pi * int(speed == 0 and rng.random() < 0.5)
        phase = float(rng.uniform(0, 2 * length)) if length > 0 else 0.0
        make = sprites.person if label else sprites.vehicle
        state = int(rng.integers(2**31))
        there = make(np.random.default_rng(state), heading, self._sun, self._shadow)
        back = there
        if speed > 0:
            back = make(np.random.default_rng(state), heading + np.pi, self._sun, self._shadow)
        mover = _Mover(label, start, direction, length, speed, phase, there, back)
        at, _ = mover.place(0.0)
        if (np.abs(at) > self._active).any():
            return
        need = 1.2 if label else 6.0
        for other in self.movers:
            gap = max(need, 6.0 if other.label == 0 else 1.2) if other.label == label else 2.5
            if np.linalg.norm(other.place(0.0)[0] - at) < gap:
                return
        self.movers.append(mover)

    def truth(self, t_s: float) -> Truth:
        """Every object at `t_s`: the box is the body's, without the shadow."""
        center, size = [], []
        for mover in self.movers:
            at, sprite = mover.place(t_s)
            x0, y0, x1, y1 = sprite.box_m
            center.append(at + [(x0 + x1) / 2, (y0 + y1) / 2])
            size.append([x1 - x0, y1 - y0])
        labels = np.array([m.label for m in self.movers], np.int32)
        return Truth(
            np.arange(len(labels), dtype=np.int64), labels,
            np.array(center).reshape(-1, 2), np.array(size).reshape(-1, 2),
        )  # fmt: skip

    def render(self, image_from_plane: Matrix, width: int, height: int, color: bool, t_s: float) -> Pixels:
        """The ground and the objects at `t_s`."""
        image = (self._color if color else self._gray).render(image_from_plane, width, height)
        x0, y0, x1, y1 = visible_area(image_from_plane, width, height)
        for mover in self.movers:
            (x, y), sprite = mover.place(t_s)
            reach = max(sprite.image.shape[:2]) / sprite.px_per_m / 2
            if x0 - reach < x < x1 + reach and y0 - reach < y < y1 + reach:
                sprite.draw(image, image_from_plane, float(x), float(y))
        return image
