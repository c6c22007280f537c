"""People who walk through a simulated room: blocks and a ball that move with time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world import room_trace as rt
from foveate_drivers.world.room_plan import Plan, Spot

Array = NDArray[np.float64]
# x, height of the foot, z, width, height, depth: two legs, a trunk, two arms, a head (a ball)
_PARTS = (
    (-0.1, 0.0, 0.0, 0.15, 0.84, 0.17), (0.1, 0.0, 0.0, 0.15, 0.84, 0.17), (0.0, 0.82, 0.0, 0.42, 0.62, 0.23),
    (-0.27, 0.78, 0.0, 0.1, 0.62, 0.12), (0.27, 0.78, 0.0, 0.1, 0.62, 0.12), (0.0, 1.46, 0.0, 0.24, 0.24, 0.24),
)  # fmt: skip
_STRIDE = (0.16, -0.16, 0.0, -0.12, 0.12, 0.0)  # how far each part swings (m)
PARTS = len(_PARTS)


@dataclass(frozen=True, slots=True)
class Walker:
    """Goes to and fro between two places, once in `period_s`, at first from the first one."""

    from_m: tuple[float, float]  # x and z
    to_m: tuple[float, float]
    period_s: float = 5.0
    phase: float = 0.0  # of a period

    def dress(self, plan: Plan) -> None:
        """Add its parts to a plan, as its last solids."""
        shirt = plan.cover("carpet", 0.25, plan.color(0.5, 1.0))
        trousers = plan.cover("plain", 0.4, plan.color(0.05, 0.3))
        skin = plan.cover("plain", 0.4, (0.35, 0.5, 0.75))
        for i, (x, lift, z, wide, high, deep) in enumerate(_PARTS):
            if i == PARTS - 1:
                plan.sphere(Spot(0.0, 0.0), (x, lift, z), wide / 2, skin)
            else:
                plan.box(Spot(0.0, 0.0), (x, lift, z), (wide, high, deep), trousers if i < 2 else shirt)

    def put(self, solid: Array, first: int, t_s: float) -> None:
        """Write where its parts are at a moment into the table's rows from `first`."""
        turn = 2 * math.pi * (t_s / self.period_s + self.phase)
        share, speed = 0.5 - 0.5 * math.cos(turn), math.sin(turn)
        dx, dz = self.to_m[0] - self.from_m[0], self.to_m[1] - self.from_m[1]
        length = max(math.hypot(dx, dz), 1e-9)
        step = 2 * math.pi * share * length / 1.3  # a pair of steps is 1.3 m
        ahead = (dx / length, dz / length)  # it looks along its way, and walks backwards on the way back
        rotation = np.array([[ahead[1], 0.0, ahead[0]], [0.0, 1.0, 0.0], [-ahead[0], 0.0, ahead[1]]])
        foot = np.array([self.from_m[0] + share * dx, 0.0, self.from_m[1] + share * dz])
        for i, (x, lift, z, _, high, _) in enumerate(_PARTS):
            swing = _STRIDE[i] * math.sin(step) * min(abs(speed) * 3, 1.0)
            local = np.array([x, -(lift + high / 2), z + swing])
            solid[first + i, rt.CENTER : rt.CENTER + 3] = foot + rotation @ local
            solid[first + i, rt.TURN : rt.TURN + 9] = rotation.ravel()
