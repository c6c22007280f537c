"""The line laser interface: emits only while it is told to, again and again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.messages import LaserState
from foveate_drivers.adjustable import Adjustable


class LineLaser(Adjustable):
    """Emits a line of light. Off when opened; off on close, on any fault, and on silence.

    Silence: nothing was commanded for `deadline_s`. Whoever wants light goes on asking for it.
    """

    family = "laser"
    deadline_s: float = 0.1
    sheet: NDArray[np.float64] | None = None  # (4,) plane (n, d) of the light before any mirror, as drawn, rig frame

    def emit(self, power: float) -> LaserState:
        """Emit `power` (share of the most, 0 to 1; 0 = off), and go on for at most `deadline_s`.

        Raises OutOfRange, Interlock, Disconnected, Timeout; the laser is off then.
        """
        raise NotImplementedError

    def state(self) -> LaserState:
        """What the laser does now, asked of the device."""
        raise NotImplementedError

    def off(self) -> None:
        """Stop at once; never raises for a laser that is gone."""
        raise NotImplementedError

    def estop(self) -> None:
        """Off, and refuse to emit until `clear`."""
        raise NotImplementedError

    def clear(self) -> None:
        """End an emergency stop; the laser stays off."""
        raise NotImplementedError
