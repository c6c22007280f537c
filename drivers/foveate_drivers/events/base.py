"""The event camera interface: packets of brightness changes, blocking reads."""

from __future__ import annotations

from foveate.messages import Events
from foveate_drivers.streaming import Streaming


class EventCamera(Streaming):
    """Gives packets of events in the order of time: no event twice, none unaccounted for.

    Packets cover intervals of the driver's choice (option `packet`, s); an interval without events gives an
    empty packet where the driver knows that it was watched, so that silence differs from absence.
    Settings, where a camera has them: bias_diff_on, bias_diff_off, rate_limit (events/s).
    """

    family = "events"
    width: int = 0  # px, known once open
    height: int = 0

    def read(self, timeout_s: float) -> Events:
        """The oldest unread packet. Raises Timeout, Disconnected, ProtocolError, EndOfStream, StateError."""
        raise NotImplementedError
