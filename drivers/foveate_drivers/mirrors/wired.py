"""What mirrors on a wire have in common: the guard before it, the guardian behind it, the history of moves."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import ClassVar

import numpy as np

from foveate.clock import Clock
from foveate.errors import DeviceError, Disconnected, Interlock, StateError
from foveate.messages import MirrorState, Stamp
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.mirrors.base import Angles, Mirror, Sync
from foveate_drivers.mirrors.dynamics import CLASSES, SettleTable
from foveate_drivers.mirrors.guard import Guard
from foveate_drivers.mirrors.guardian import Guardian
from foveate_drivers.mirrors.moves import Moves
from foveate_drivers.mirrors.sender import Sender


@cache
def _settle_table(scanner: str, tolerance_rad: float, largest_rad: float) -> SettleTable:
    """Kept, for it takes 50 ms to make."""
    return SettleTable(CLASSES[scanner], tolerance_rad, largest_rad)


class WiredMirror(Mirror):
    """A mirror behind a descriptor. A driver says how to connect, command, measure and park.

    `Mirror.geometry` is that of two galvanometers; a single mirror that tips about two axes turns the image otherwise
    (x and y couple by tan(2a) / cos(2b)), which no calibration here models yet.
    """

    _guard_type: ClassVar[type[Guard]] = Guard

    def __init__(
        self, *, scanner: str, limit: float, tolerance: float, delay: float, rate: float, duty: float,
        spacing: float = 0.045, camera_distance: float = 0.08, sync: Sync = "predicted", deadline: float = 0.09,
    ) -> None:  # fmt: skip
        self.limit_rad = np.array([limit, limit])
        self.geometry = TwoMirror(spacing, camera_distance)
        self.tolerance_rad = tolerance
        self.sync = sync
        self.deadline_s = deadline
        self._scanner = scanner
        self._delay_s = delay
        self._bounds = (rate, duty)
        self._settle = _settle_table(scanner, tolerance, 2 * limit)
        self._clock: Clock | None = None
        self._sending = threading.Lock()  # one command at a time, from `goto` or from the sender's thread
        self._gone: Disconnected | None = None
        self._parks = 0
        self.parked = True
        self._reset()

    def _reset(self) -> None:
        rate, duty = self._bounds
        axes = [CLASSES[self._scanner]] * 2
        self._guard = self._guard_type(self.uri, self.limit_rad, axes, rate_hz=rate, duty=duty)
        self._moves = Moves(axes, self.tolerance_rad)

    # What a driver adds. `_command` and `_measure` may be called from two threads.
    def _connect(self) -> int:
        """Open the wire and set the device up; the wire's descriptor. Leaves nothing open where it raises."""
        raise NotImplementedError

    def _disconnect(self) -> None:
        """Let go of the wire."""
        raise NotImplementedError

    def _park_bytes(self) -> bytes:
        """What parks it wherever a frame was cut off."""
        raise NotImplementedError

    def _command(self, angle_rad: Angles) -> None:
        """Send it there, and see that it took the command."""
        raise NotImplementedError

    def _rest(self) -> None:
        """Send it to rest at once."""
        self._command(np.zeros(2))

    def _measure(self) -> Angles | None:
        """Ask it where it is; None where it cannot tell."""
        raise NotImplementedError

    def open(self, clock: Clock) -> None:
        if self._clock is not None:
            raise StateError(self.uri, "open", "it is open already")
        self._reset()
        self._gone, self._parks, self.parked = None, 0, True
        self._fd = self._connect()
        try:
            self._rest()  # wherever somebody else left it
            self._guardian = Guardian(self._fd, self._park_bytes(), self.deadline_s, self.uri)
        except BaseException:
            self._disconnect()
            raise
        self._clock = clock
        self._left_ns = clock.now_ns()
        self._sender = Sender(clock, self._send, self.uri)

    def close(self) -> None:
        """Park, end thread and process, let go of the wire; whatever state it is in."""
        if self._clock is None:
            return
        self._sender.close()
        with self._sending:
            try:
                self._rest()
            except DeviceError:  # it does not answer; perhaps it hears
                with suppress(OSError):
                    os.write(self._fd, self._park_bytes())
        self.parked = True
        self._guardian.close()
        self._disconnect()
        self._clock = None

    def capabilities(self) -> Mapping[str, Capability]:
        return {
            "limit": Capability("limit", "rad", writable=False),
            "deadline": Capability("deadline", "s", 0.0, 60.0),
            "scanner": Capability("scanner", choices=tuple(CLASSES), writable=False),
        }

    def _read(self, name: str) -> Value:
        self._require(f"get {name}")
        values: dict[str, Value] = {
            "limit": float(self.limit_rad[0]), "deadline": self.deadline_s, "scanner": self._scanner,
        }  # fmt: skip
        return values[name]

    def _write(self, name: str, value: Value) -> None:
        """The deadline: another guardian takes over."""
        self._require(f"set {name}")
        with self._sending:
            guardian = Guardian(self._fd, self._park_bytes(), float(value), self.uri)
            self._guardian.close()
            self._guardian, self._parks, self.deadline_s = guardian, 0, float(value)
            if not self.parked:
                guardian.beat()  # a mirror that is out is watched at once

    def _faults(self) -> list[str]:
        """What is wrong with it, as far as it is known without asking."""
        return []

    def _counters(self) -> dict[str, int]:
        return {}

    def _temperature_c(self) -> float | None:
        return None

    def health(self) -> Health:
        faults = (["emergency stop"] if self._guard.stopped else []) + self._faults()
        counters = {"refused": self._guard.refused, **self._counters()}
        if self._gone is not None:
            return Health("lost", self._gone.hint, counters, self._temperature_c())
        return Health("degraded" if faults else "ok", ", ".join(faults), counters, self._temperature_c())

    def _require(self, operation: str) -> Clock:
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        if self._gone is not None:
            raise self._gone
        return self._clock

    def _note_parking(self) -> None:
        """Take note of what the guardian did meanwhile."""
        if self._guardian.parked and self._guardian.parks != self._parks:
            self._parks = self._guardian.parks
            self._guard.parked()
            self._moves.command(np.zeros(2), self._left_ns + round(self.deadline_s * 1e9))
            self.parked = True

    def goto(self, angle_rad: Angles, not_before_ns: int = 0) -> MirrorState:
        clock = self._require("move")
        self._sender.raise_failure()
        self._note_parking()
        now_ns = clock.now_ns()
        angle = self._guard.admit(angle_rad, now_ns)
        if self.sync == "predicted" and not_before_ns > now_ns:
            self._sender.schedule(not_before_ns, angle)
        else:
            self._sender.cancel()
            self._send(angle)
        return MirrorState(Stamp(now_ns), angle, True, "command")

    def _send(self, angle_rad: Angles | None) -> None:
        """Send it there now; None = to rest."""
        assert self._clock is not None
        with self._sending:
            if angle_rad is not None and self._guard.stopped:  # by another thread since it was admitted
                raise Interlock(self.uri, "move", "it was stopped by emergency stop; clear it first")
            self._note_parking()  # before a command that was long in coming
            self.parked = self.parked and angle_rad is None  # it may go there though the answer is lost
            try:
                self._guardian.beat()
                begun_ns = self._clock.now_ns()
                self._do(angle_rad)
                if self._guardian.parked:  # in this very moment: whichever came first, the command comes last
                    self._do(angle_rad)
                    self._parks = self._guardian.parks
                self._guardian.beat()
            except Disconnected as error:
                self._gone = error
                with suppress(DeviceError):  # where it was the guardian that has gone, the wire still parks it
                    self._rest()
                raise
            self._left_ns = begun_ns
            self._note_move(np.zeros(2) if angle_rad is None else angle_rad, begun_ns)
            self.parked = angle_rad is None

    def _do(self, angle_rad: Angles | None) -> None:
        if angle_rad is None:
            self._rest()
        else:
            self._command(angle_rad)

    def _note_move(self, angle_rad: Angles, sent_ns: int) -> None:
        """Take note of a move whose command was sent at `sent_ns`."""
        self._moves.command(angle_rad, sent_ns + round(self._delay_s * 1e9))

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        self._require("read")
        self._note_parking()
        return self._moves.at(t_ns, exposure_ns)

    def position(self) -> MirrorState:
        clock = self._require("read")
        self._note_parking()
        before_ns = clock.now_ns()
        try:
            angle = self._measure()
        except Disconnected as error:
            self._gone = error
            raise
        t_ns = (before_ns + clock.now_ns()) // 2
        if angle is None:
            return self._moves.at(t_ns, 0)
        self._moves.measured(t_ns, angle)
        return MirrorState(Stamp(t_ns, sigma_ns=t_ns - before_ns), angle, False, "readback")

    def settled(self) -> bool | None:
        clock = self._require("read")
        self._note_parking()
        return not self._sender.waiting and self._moves.settled(clock.now_ns())

    def settle_s(self, step_rad: Angles) -> Angles:
        return self._settle(step_rad) + self._delay_s

    def park(self) -> None:
        """Go to rest at once, even after an emergency stop."""
        self._require("park")
        self._sender.cancel()
        self._send(None)
        self._guard.parked()

    def estop(self) -> None:
        self._guard.stopped = True
        self.park()

    def clear(self) -> None:
        self._require("clear")
        with suppress(DeviceError):
            self._sender.raise_failure()  # of a command that the stop overtook
        self._guard.stopped = False
