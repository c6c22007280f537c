"""Commands that leave at a moment to come."""

from __future__ import annotations

import threading
from collections.abc import Callable

from foveate.clock import Clock
from foveate.errors import DeviceError
from foveate_drivers.mirrors.base import Angles

_SLICE_S = 1.0  # of a wait: a moment far away is beyond what a condition takes (292 years)
_EXACT_NS = 2_000_000  # before the moment the wait is by the clock, exact to its 60 us; until then it can be broken


class Sender:
    """Sends the newest command when its moment comes; one that has not left is replaced.

    A thread of a driver, against the house's rule, because `goto` must return at once while the command leaves
    milliseconds later: the boards know no time, and the caller's thread is busy with the next image by then.
    """

    def __init__(self, clock: Clock, send: Callable[[Angles], None], name: str) -> None:
        self._clock = clock
        self._send = send
        self._changed = threading.Condition()
        self._leaving = threading.Lock()  # held while a command leaves
        self._ending = threading.Event()
        self._waiting: tuple[int, Angles] | None = None
        self._closed = False
        self._failed: DeviceError | None = None
        self._thread = threading.Thread(target=self._run, name=f"sender {name}", daemon=True)
        self._thread.start()

    def schedule(self, at_ns: int, angle_rad: Angles) -> None:
        """Send at `at_ns` on the clock, in place of what has not left."""
        with self._changed:
            self._waiting = at_ns, angle_rad
            self._changed.notify()

    def cancel(self) -> None:
        """What has not left does not leave; waits for one that is just leaving, so that the next comes after it."""
        with self._changed:
            self._waiting = None
        with self._leaving:
            pass

    @property
    def waiting(self) -> bool:
        """Whether a command has not left."""
        return self._waiting is not None

    def raise_failure(self) -> None:
        """Raise, once, what became of a command that failed when it left."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def close(self) -> None:
        """End the thread, without sending what waits."""
        with self._changed:
            self._closed = True
            self._waiting = None
            self._changed.notify()
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                if self._waiting is None:
                    self._changed.wait()
                    continue
                planned = self._waiting
                left_ns = planned[0] - self._clock.now_ns()
                if left_ns > _EXACT_NS:
                    self._changed.wait(min((left_ns - _EXACT_NS) / 1e9, _SLICE_S))
                    continue
            self._clock.wait_until(planned[0], self._ending)
            with self._leaving:
                self._leave(planned)

    def _leave(self, planned: tuple[int, Angles]) -> None:
        """Send it, unless it was replaced or cancelled."""
        with self._changed:
            if self._waiting is not planned:
                return
            self._waiting = None
        try:
            self._send(planned[1])
        except DeviceError as error:
            self._failed = error
