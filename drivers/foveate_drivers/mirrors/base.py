"""The steering mirror interface: mechanical radians per axis (the line of sight turns by twice that)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotSupported
from foveate.messages import MirrorState
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.adjustable import Adjustable

Angles = NDArray[np.float64]
Sync = Literal["predicted", "strobe", "trigger"]


class Mirror(Adjustable):
    """One or two axes that go where they are told; parks on close, and when commands cease.

    `goto` and `reading` may be called from different threads.
    """

    family = "mirror"
    axes: int = 2
    limit_rad: Angles  # (axes,): largest angle either side of rest
    tolerance_rad: float = 25e-6  # what counts as at rest
    deadline_s: float = 0.09  # silence after which it parks; 0 = never. Counts from the start of the last move
    geometry: TwoMirror | None = None  # how the camera looks through it, where the rig knows
    galvanometers: tuple[Galvanometer, ...] = ()  # as drawn, for a rig that is going to be calibrated; () = not known
    # how moves keep out of exposures: "predicted": they start at a time computed from the camera's rhythm;
    # "strobe": the controller starts them where an exposure ends; "trigger": the controller releases the
    # camera once the mirror has settled
    sync: Sync = "predicted"

    def goto(self, angle_rad: Angles, not_before_ns: int = 0) -> MirrorState:
        """Start a move now, or at `not_before_ns` on the clock; returns the accepted command at once.

        A command replaces one that has not started. With `sync` "strobe" or "trigger" the controller times the move.

        Raises OutOfRange naming axis, value and bounds, Interlock after an emergency stop or beyond the
        permitted duty; nothing has moved then. Raises Disconnected, Timeout, ProtocolError.
        """
        raise NotImplementedError

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        """Where it was at `t_ns` (not in the future), and whether it moved in the exposure around that.

        `source` says from what: "readback" measured then, "model" of the commanded moves, or "command" alone.
        """
        raise NotImplementedError

    def position(self) -> MirrorState:
        """Where it is now, asked of the device where it can tell."""
        raise NotImplementedError

    def settle_s(self, step_rad: Angles) -> Angles:
        """Seconds from the start of a move of `step_rad` (any shape) to rest within its tolerance."""
        raise NotImplementedError

    def settled(self) -> bool | None:
        """Whether it is at rest where it was sent; None where nobody can tell."""
        return None

    def stream(self, times_s: Sequence[float], angle_rad: NDArray[np.float64]) -> None:
        """Pass through angles (N x axes) at times from now on (N, growing). Raises as `goto`, and NotSupported."""
        raise NotSupported(self.uri, "stream a waveform", "this mirror only goes from place to place")

    def park(self) -> None:
        """Go to rest."""
        self.goto(np.zeros(self.axes))

    def estop(self) -> None:
        """Stop and park by the shortest way, and refuse commands until `clear`."""
        raise NotImplementedError

    def clear(self) -> None:
        """End an emergency stop; the mirror stays parked."""
        raise NotImplementedError
