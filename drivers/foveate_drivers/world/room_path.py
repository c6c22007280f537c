"""Ways of a camera through a room: smooth functions of time that begin again after their period.

A pose is `world_from_camera` (4 x 4); yaw turns right about the vertical, pitch up, roll clockwise; all in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import rotation, transform

Array = NDArray[np.float64]
Place = tuple[float, float, float]  # x, height above the floor, z
_X, _Y, _Z = np.eye(3)
_TREMBLES = (2, 3, 5, 8, 13, 19, 28)  # of a hand, in periods of its path


class Path(Protocol):
    """Where a camera is at a moment."""

    @property
    def period_s(self) -> float:
        """After which it begins again."""

    def pose(self, t_s: float) -> Array:
        """world_from_camera (4 x 4)."""


@dataclass(frozen=True, slots=True)
class Hand:
    """How unsteadily a camera is held: standard deviations, about, of slow and fast trembling together."""

    shift_m: float = 0.004
    turn_rad: float = 0.006
    seed: int = 1

    def moved(self, pose: Array, t_s: float, period_s: float) -> Array:
        """A pose as the hand holds it at a moment."""
        rng = np.random.default_rng(self.seed)
        counts = np.array(_TREMBLES)
        phases, signs = rng.uniform(0, 2 * math.pi, (6, len(counts))), rng.normal(size=(6, len(counts)))
        waves = np.sin(2 * math.pi * counts * t_s / period_s + phases) * signs / np.sqrt(counts)
        turn, shift = waves[:3].sum(axis=1) * self.turn_rad, waves[3:].sum(axis=1) * self.shift_m
        angle = float(np.linalg.norm(turn))
        small = rotation(turn / angle, angle) if angle > 1e-12 else np.eye(3)
        return pose @ transform(small, shift)


STEADY = Hand(0.0, 0.0)


def facing(yaw_rad: float, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> Array:
    """3 x 3: world from camera."""
    return rotation(_Y, yaw_rad) @ rotation(_X, pitch_rad) @ rotation(_Z, roll_rad)


def towards(eye: Array, target: Array, roll_rad: float = 0.0) -> Array:
    """The pose (4 x 4) of a camera at `eye` with `target` (both (3,), world) in the middle of its image."""
    x, y, z = target - eye
    turn = facing(math.atan2(x, z), math.atan2(-y, math.hypot(x, z)), roll_rad)
    return transform(turn, eye)


def _world(place: Place) -> Array:
    return np.array([place[0], -place[1], place[2]])


@dataclass(frozen=True, slots=True)
class Hover:
    """Moves about a place and looks at another one, as a hand does that shows what lies on a desk."""

    eye: Place
    target: Place
    sway_m: Place = (0.3, 0.15, 0.2)  # amplitudes along the camera's x, the vertical, and ahead
    scan_m: Place = (0.0, 0.0, 0.0)  # amplitudes of the place that is looked at, in the world
    roll_rad: float = 0.0
    period_s: float = 4.4
    hand: Hand = STEADY

    def pose(self, t_s: float) -> Array:
        turn = 2 * math.pi * t_s / self.period_s
        base, target = _world(self.eye), _world(self.target)
        level = towards(base, target)[:3, :3]
        side, ahead = level[:, 0], np.cross(level[:, 0], _Y)
        waves = self.sway_m * np.array([math.sin(turn), math.sin(2 * turn), math.sin(2 * turn + 1.0) - math.sin(1.0)])
        eye = base + waves[0] * side - waves[1] * _Y + waves[2] * ahead
        scan = np.array([math.sin(turn + 0.4), -math.sin(2 * turn), math.sin(turn)]) * self.scan_m
        return self.hand.moved(towards(eye, target + scan, self.roll_rad * math.sin(3 * turn)), t_s, self.period_s)


@dataclass(frozen=True, slots=True)
class Orbit:
    """Round a place, looking at it, once in a period."""

    center: Place
    radius_m: float
    height_m: float
    period_s: float = 6.0
    start_rad: float = 0.0
    hand: Hand = STEADY

    def pose(self, t_s: float) -> Array:
        turn = 2 * math.pi * t_s / self.period_s + self.start_rad
        target = _world(self.center)
        eye = np.array(
            [target[0] - self.radius_m * math.sin(turn), -self.height_m, target[2] - self.radius_m * math.cos(turn)]
        )
        return self.hand.moved(towards(eye, target), t_s, self.period_s)


@dataclass(frozen=True, slots=True)
class Turns:
    """Stays in place and turns to and fro, as TUM's freiburg1_rpy does; amplitudes about the middle directions."""

    eye: Place
    yaw_rad: float  # of the middle
    swing_rad: Place = (1.0, 0.3, 0.2)  # amplitudes of yaw, pitch, roll
    cycles: Place = (1.0, 2.0, 3.0)  # in a period, whole numbers
    pitch_rad: float = 0.0
    period_s: float = 4.0
    hand: Hand = STEADY

    def pose(self, t_s: float) -> Array:
        waves = [
            a * math.sin(2 * math.pi * n * t_s / self.period_s)
            for a, n in zip(self.swing_rad, self.cycles, strict=True)
        ]
        turn = facing(self.yaw_rad + waves[0], self.pitch_rad + waves[1], waves[2])
        return self.hand.moved(transform(turn, _world(self.eye)), t_s, self.period_s)


@dataclass(frozen=True, slots=True)
class Walk:
    """From one place to another and back, once in a period, its eyes on what is beside or ahead."""

    from_m: Place
    to_m: Place
    yaw_rad: float = 0.0  # of the camera, from the way's direction
    look_rad: float = 0.0  # amplitude of looking left and right
    pitch_rad: float = 0.0
    period_s: float = 12.0
    hand: Hand = STEADY
    step_m: float = 0.0  # how far each step lifts the camera

    def pose(self, t_s: float) -> Array:
        turn = 2 * math.pi * t_s / self.period_s
        start, end = _world(self.from_m), _world(self.to_m)
        way = end - start
        share = 0.5 - 0.5 * math.cos(turn)
        eye = start + share * way
        eye[1] -= self.step_m * math.sin(2 * math.pi * share * float(np.linalg.norm(way)) / 0.65)
        yaw = math.atan2(way[0], way[2]) + self.yaw_rad + self.look_rad * math.sin(3 * turn)
        return self.hand.moved(transform(facing(yaw, self.pitch_rad), eye), t_s, self.period_s)
