"""The simulated line laser: the rules of the interface in closed form on the clock."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from numbers import Real
from typing import Annotated

from annotated_types import Gt, Le

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import Interlock, OutOfRange, StateError
from foveate.messages import LaserState, Stamp
from foveate.node import Unit
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.lasers.base import LineLaser


class SimLaser(LineLaser):
    """Emits from a command until the deadline after it; needs no step of time."""

    def __init__(
        self,
        *,
        address: str = "laser",
        deadline: Annotated[float, Unit("s"), Gt(0), Le(60)] = 0.1,
    ) -> None:
        """`deadline`: silence after which it is off."""
        self.deadline_s = deadline
        self._lock = threading.Lock()
        self._clock: Clock | None = None
        self._interlock = ""
        self._stopped = False
        self._power = 0.0
        self._until_ns = 0

    @property
    def interlock(self) -> str:
        """Why it may not emit, "" = nothing: a door that whoever plays the room opens and closes."""
        return self._interlock

    @interlock.setter
    def interlock(self, why: str) -> None:
        with self._lock:
            self._interlock = why
            if why:
                self._power = 0.0  # and it stays off when the door closes

    def open(self, clock: Clock) -> None:
        if self._clock is not None:
            raise StateError(self.uri, "open", "it is open already")
        self._clock = clock
        self._power, self._stopped = 0.0, False

    def close(self) -> None:
        self.off()
        self._clock = None

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "line laser", simulated=True)

    def capabilities(self) -> Mapping[str, Capability]:
        return {"deadline": Capability("deadline", "s", 0.001, 60.0)}

    def _read(self, name: str) -> Value:
        self._now_ns("get deadline")
        return self.deadline_s

    def _write(self, name: str, value: Value) -> None:
        self.deadline_s = float(value)

    def health(self) -> Health:
        why = "emergency stop" if self._stopped else self._interlock
        return Health("degraded" if why else "ok", why)

    def _now_ns(self, operation: str) -> int:
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        return self._clock.now_ns()

    def emit(self, power: float) -> LaserState:
        now_ns = self._now_ns("emit")
        with self._lock:
            self._power = 0.0  # until everything has been found good
            if not isinstance(power, Real) or not math.isfinite(power) or not 0 <= power <= 1:
                raise OutOfRange(self.uri, "power", " ".join(repr(power).split())[:40], 0, 1)
            if self._stopped:
                raise Interlock(self.uri, "emit", "it was stopped by emergency stop; clear it first")
            if self._interlock and power > 0:
                raise Interlock(self.uri, "emit", f"{self._interlock}; close it, then ask again")
            self._power, self._until_ns = float(power), now_ns + round(self.deadline_s * 1e9)
        return self.state()

    def state(self) -> LaserState:
        now_ns = self._now_ns("read")
        with self._lock:
            power = self._power if now_ns < self._until_ns else 0.0
            why = "emergency stop" if self._stopped else self._interlock
            return LaserState(Stamp(now_ns), power, power > 0, why)

    def power_at(self, t_ns: int) -> float:
        """What it emits at a moment from now on if no further command comes, 0 to 1."""
        with self._lock:
            return self._power if t_ns < self._until_ns else 0.0

    def off(self) -> None:
        with self._lock:
            self._power = 0.0

    def estop(self) -> None:
        self._now_ns("stop")
        self.off()
        self._stopped = True

    def clear(self) -> None:
        self._now_ns("clear")
        self.off()
        self._stopped = False
