"""How a simulated room is lit as time goes on: steady, dimmed, switched, or seen by an exposure that drifts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Change = Literal["steady", "dimming", "switching", "drift"]
_COLORS = np.array([[0.5, 0.46, 0.42], [0.32, 0.37, 0.42], [0.24, 0.26, 0.27]])  # B, G, R: daylight, two lamps


@dataclass(frozen=True, slots=True)
class Lighting:
    """The strength of ambient light and of two lamps; 1 is the light that a steady room has on average."""

    change: Change = "steady"
    period_s: float = 3.0
    level: float = 1.0  # times all light: 0.2 is a dim room

    def at(self, t_s: float) -> NDArray[np.float64]:
        """3 x 3: colours (B, G, R) of ambient light and each lamp.

        "dimming": the first lamp goes down to 15 % and up again while the second does the opposite. "switching": the
        first lamp goes off and on, in 30 ms, the second a third of a period later. "drift": all is seen 0.55 to 1.5
        times as bright, as by a camera whose exposure hunts.
        """
        turn = 2 * math.pi * t_s / self.period_s
        ambient, first, second = 1.0, 1.0, 1.0
        if self.change == "dimming":
            first, second, ambient = (
                0.575 + 0.425 * math.cos(turn),
                0.8 - 0.6 * math.cos(turn),
                0.8 + 0.2 * math.cos(turn),
            )
        elif self.change == "switching":
            first, second = (
                _switch(t_s / self.period_s, self.period_s),
                _switch(t_s / self.period_s - 1 / 3, self.period_s),
            )
        elif self.change == "drift":
            gain = math.exp(0.5 * math.sin(turn) - 0.1 * math.cos(2.3 * turn))
            ambient, first, second = gain, gain, gain
        return self.level * _COLORS * np.array([[ambient], [first], [second]])


def _switch(share: float, period_s: float) -> float:
    """1 for the first half of each period, 0.04 for the second; a lamp takes 30 ms."""
    phase = (share % 1.0) * period_s
    ramp = 0.03
    on = min(phase / ramp, 1.0) if phase < period_s / 2 else max(1.0 - (phase - period_s / 2) / ramp, 0.0)
    return 0.04 + 0.96 * on
