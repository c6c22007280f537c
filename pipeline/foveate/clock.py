"""The pipeline's clock: nanoseconds since the run began. The only place that reads the computer's time."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time as drivers and engines see it."""

    wall_start_ns: int  # Unix time of the run's start; 0 where time is simulated

    def now_ns(self) -> int:
        """Nanoseconds since the run began; never runs backwards."""

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Return at `t_ns`, or earlier when `stop` is set: False then."""


class LiveClock:
    """Monotonic time of the computer; stands at 0 until the run starts, while devices are opened."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self.wall_start_ns = time.time_ns()

    def start(self) -> None:
        """Time runs from here."""
        self._start_ns = time.monotonic_ns()
        self.wall_start_ns = time.time_ns()

    def now_ns(self) -> int:
        return 0 if self._start_ns is None else time.monotonic_ns() - self._start_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Sleeps in slices of at most 50 ms so that a stop is seen; the last slice is exact."""
        while not stop.is_set():
            left_ns = t_ns - self.now_ns()
            if left_ns <= 0:
                return True
            if left_ns > 50_000_000:
                stop.wait(0.05)
            else:
                time.sleep(left_ns / 1e9)
        return False


class VirtualClock:
    """Simulated time: stands still until it is set."""

    wall_start_ns = 0

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Time does not pass while somebody waits: moves the clock."""
        self.advance(t_ns)
        return not stop.is_set()

    def advance(self, t_ns: int) -> None:
        """Move to `t_ns`; an earlier time changes nothing."""
        self._now_ns = max(self._now_ns, t_ns)
