"""A line laser on a DAC board: enable and power, off by itself when nobody asks for light."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from numbers import Real
from typing import Annotated

from annotated_types import Gt, Le

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import DeviceError, Disconnected, Interlock, NotSupported, OutOfRange, StateError
from foveate.messages import LaserState, Stamp
from foveate.node import Unit
from foveate_drivers import dac_protocol as protocol
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.dac_protocol import DacBoard
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_drivers.mirrors.guardian import Guardian

_OFF = b"\n" + protocol.line(0, "laser", 0)


class DacLaser(LineLaser):
    """Off by three watchdogs that know nothing of each other: the board's own, the guardian's, and the board's reset.

    A serial port belongs to one program and one object: where a mirror sits on the same board, `board:
    ${rig.mirror}` takes the mirror's connection over, whatever the laser's own address says.
    """

    def __init__(
        self,
        *,
        address: str,
        board: Mirror | None = None,
        deadline: Annotated[float, Unit("s"), Gt(0), Le(60)] = 0.1,
        timeout: Annotated[float, Unit("s"), Gt(0), Le(5)] = 0.03,
    ) -> None:
        """`address`: the port; `board`: a mirror whose board this is; `deadline`: silence after which it is off."""
        self.deadline_s = deadline
        shared = None if board is None else getattr(board, "board", None)
        if board is not None and not isinstance(shared, DacBoard):
            raise NotSupported(f"dac:{address}", "share a board", "option 'board' takes a mirror of scheme dac")
        self._board = shared if isinstance(shared, DacBoard) else DacBoard(address, timeout)
        self._lock = threading.Lock()
        self._clock: Clock | None = None
        self._hello: protocol.Hello | None = None
        self._gone: Disconnected | None = None
        self._stopped = False
        self._faults = 0
        self._celsius: float | None = None

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """Nothing: boards of many makers, which no number on the USB tells apart from other serial ports."""
        return []

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "", "DAC board" if self._hello is None else f"{self._hello.name}, laser")

    def open(self, clock: Clock) -> None:
        if self._clock is not None:
            raise StateError(self.uri, "open", "it is open already")
        hello = self._board.open()
        self._connection = self._board.connection
        try:
            if not hello.laser:
                raise NotSupported(self.uri, "open", "the board has no laser")
            self._hello, self._gone, self._stopped = hello, None, False
            self._board.ask("laser", 0, count=3)
            self._board.ask("watch", "laser", max(1, round(self.deadline_s * 1e3)), count=1)
            self._ask_state()
            self._guardian = Guardian(self._board.fileno(), _OFF, self.deadline_s, self.uri)
        except BaseException:
            self._board.close()
            raise
        self._clock = clock

    def close(self) -> None:
        if self._clock is None:
            return
        self.off()
        self._guardian.close()
        self._board.close()
        self._clock = None

    def capabilities(self) -> Mapping[str, Capability]:
        return {"deadline": Capability("deadline", "s", 0.001, 60.0)}

    def _read(self, name: str) -> Value:
        self._require("get deadline")
        return self.deadline_s

    def _write(self, name: str, value: Value) -> None:
        """Off while it changes: another guardian takes over."""
        self._require("set deadline")
        with self._lock:
            self._board.ask("laser", 0, count=3)
            self._board.ask("watch", "laser", round(float(value) * 1e3), count=1)
            guardian = Guardian(self._board.fileno(), _OFF, float(value), self.uri)
            self._guardian.close()
            self._guardian, self.deadline_s = guardian, float(value)

    def health(self) -> Health:
        counters = dict(self._board.counters)
        if self._gone is not None:
            return Health("lost", self._gone.hint, counters, self._celsius)
        why = self._why()
        return Health("degraded" if why else "ok", why, counters, self._celsius)

    def _why(self) -> str:
        """Why it may not emit, as the board said last."""
        if self._stopped or self._faults & protocol.STOPPED:
            return "emergency stop"
        if self._faults & protocol.INTERLOCK:
            return "the interlock is open"
        return "the board is too hot" if self._faults & protocol.HOT else ""

    def _require(self, operation: str) -> Clock:
        if self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        if self._gone is not None:
            raise self._gone
        self._board.require(self._connection)
        return self._clock

    def emit(self, power: float) -> LaserState:
        clock = self._require("emit")
        try:
            if not isinstance(power, Real) or not math.isfinite(power) or not 0 <= power <= 1:
                raise OutOfRange(self.uri, "power", " ".join(repr(power).split())[:40], 0, 1)
            if self._stopped:
                raise Interlock(self.uri, "emit", "it was stopped by emergency stop; clear it first")
            with self._lock:
                self._guardian.beat()
                got, emitting, self._faults = self._board.ask("laser", round(power * protocol.FULL_POWER), count=3)
                self._guardian.beat()
        except Interlock:
            self.off()
            self._ask_state()
            raise
        except Disconnected as error:
            self._gone = error
            self.off()  # where it was the guardian that has gone
            raise
        except DeviceError:
            self.off()
            raise
        return LaserState(Stamp(clock.now_ns()), got / protocol.FULL_POWER, bool(emitting), self._why())

    def state(self) -> LaserState:
        clock = self._require("read")
        try:
            power, emitting = self._ask_state()
        except Disconnected as error:
            self._gone = error
            raise
        return LaserState(Stamp(clock.now_ns()), power / protocol.FULL_POWER, emitting, self._why())

    def _ask_state(self) -> tuple[int, bool]:
        power, emitting, self._faults, tenths = self._board.ask("state", count=4)
        self._celsius = tenths / 10 if tenths > -2730 else None
        return power, bool(emitting)

    def off(self) -> None:
        try:
            self._board.ask("laser", 0, count=3)
        except DeviceError:
            pass  # gone, or silent: then the board's own watchdog puts it out

    def estop(self) -> None:
        """The board stops: its mirror parks and refuses too."""
        self._require("stop")
        self._stopped = True
        self._board.ask("stop", count=0)
        self._ask_state()

    def clear(self) -> None:
        self._require("clear")
        self._board.ask("clear", count=0)
        self._stopped = False
        self._ask_state()
