"""What cameras of every kind have in common: data come one after the other, and whoever reads waits for them."""

from __future__ import annotations

import threading

from foveate.clock import Clock
from foveate.errors import StateError, Timeout
from foveate_drivers.adjustable import Adjustable

_NEVER = threading.Event()
_SLICE_NS = 50_000_000  # after which a wait looks whether the device was closed


class Streaming(Adjustable):
    """A device that is read again and again, between `open` and `close`."""

    _clock: Clock | None = None  # of an open device

    def start(self) -> None:
        """Begin to take data; the first `read` does it too."""

    def stop(self) -> None:
        """Take no more data, drop what is unread; a later `start` or `read` begins anew."""

    def _running(self, operation: str = "read") -> Clock:
        """The clock of an open device. Raises StateError."""
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        return self._clock

    def _await(self, timeout_s: float, what: str = "frame") -> None:
        """Return when what `due_ns` promises is there. Raises Timeout, at once where time is simulated, and StateError.

        For devices that know when; a `close` by another thread ends the wait.
        """
        clock = self._running()
        end_ns = clock.now_ns() + round(max(timeout_s, 0.0) * 1e9)
        while (due_ns := self.due_ns()) is not None and (now_ns := clock.now_ns()) < due_ns:
            if now_ns >= end_ns or clock.kind == "simulated":
                raise Timeout(self.uri, "read", f"no {what} within {timeout_s:g} s")
            clock.wait_until(min(due_ns, end_ns, now_ns + _SLICE_NS), _NEVER)
            self._running()
