"""The pipeline's clock: nanoseconds since the run began. The only place that reads the computer's time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Time as drivers and engines see it."""

    kind: str  # where its time comes from
    wall_start_ns: int  # Unix time of the run's start; 0 where time is simulated

    def now_ns(self) -> int:
        """Nanoseconds since the run began; never runs backwards."""

    def wait_until(self, t_ns: int, stop: threading.Event) -> bool:
        """Return at `t_ns`, or earlier when `stop` is set: False then."""


def process_ns() -> int:
    """Real time that never runs backwards, to measure how long something takes whatever clock a run has."""
    return time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class WallOffset:
    """How the computer's wall clock stood to its monotonic one."""

    offset_ns: int  # wall - monotonic
    sigma_ns: int  # half of the time the two readings took


def wall_offset() -> WallOffset:
    """Read both clocks, the one between two readings of the other; the tightest of five tries."""
    tries = []
    for _ in range(5):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append(WallOffset(wall - (before + after) // 2, (after - before + 1) // 2))
    return min(tries, key=lambda t: t.sigma_ns)


class LiveClock:
    """Monotonic time of the computer; stands at 0 until the run starts, while devices are opened."""

    kind = "CLOCK_MONOTONIC"

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self.wall_start_ns = time.time_ns()

    @property
    def started(self) -> bool:
        return self._start_ns is not None

    def start(self, after_ns: int = 0) -> None:
        """Time runs from `after_ns` on."""
        self._start_ns = time.monotonic_ns() + after_ns
        self.wall_start_ns = time.time_ns() + after_ns

    def now_ns(self) -> int:
        return 0 if self._start_ns is None else max(time.monotonic_ns() - self._start_ns, 0)

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

    kind = "simulated"

    def __init__(self, wall_start_ns: int = 0) -> None:
        """`wall_start_ns`: of the run that is replayed."""
        self.wall_start_ns = wall_start_ns
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
