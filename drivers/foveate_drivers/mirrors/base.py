"""The steering mirror interface: mechanical radians per axis (the line of sight turns by twice that)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.device import Device
from foveate.errors import OutOfRange
from foveate.messages import MirrorState
from foveate_calibration.two_mirror import TwoMirror

Angles = NDArray[np.float64]


class Mirror(Device):
    """One or two axes that go where they are told; parks on close."""

    family = "mirror"
    axes: int = 2
    limit_rad: Angles  # (axes,): largest angle either side of rest
    geometry: TwoMirror | None = None  # how the camera looks through it, where the rig knows

    def goto(self, angle_rad: Angles, not_before_ns: int = 0) -> MirrorState:
        """Start a move now, or at `not_before_ns` on the clock; returns the accepted command.

        Raises OutOfRange naming axis, value and bounds; nothing has moved then.
        """
        raise NotImplementedError

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        """Where it was at `t_ns` (not in the future), and whether it moved in the exposure around that."""
        raise NotImplementedError

    def settle_s(self, step_rad: Angles) -> Angles:
        """Seconds from the start of a move of `step_rad` (any shape) to rest within its tolerance."""
        raise NotImplementedError

    def park(self) -> None:
        """Go to rest."""
        self.goto(np.zeros(self.axes))

    def checked(self, angle_rad: Angles) -> Angles:
        """`angle_rad` as an array of `axes` finite numbers within the limits, or OutOfRange."""
        angle = np.asarray(angle_rad, np.float64)
        if angle.shape != (self.axes,):
            raise OutOfRange(self.uri, "angles", f"an array of shape {angle.shape}", self.axes, self.axes, "axes")
        for axis in range(self.axes):
            limit = float(self.limit_rad[axis])
            if not abs(float(angle[axis])) <= limit:  # also catches NaN
                raise OutOfRange(self.uri, f"axis {axis}", float(angle[axis]), -limit, limit, "rad")
        return angle
