"""Mirrors behind a DAC board on USB serial: galvanometers with analogue drivers, by the protocol of `dac_protocol`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import NotSupported, OutOfRange
from foveate.messages import MirrorState
from foveate.node import Unit
from foveate_drivers import dac_protocol as protocol
from foveate_drivers.dac_protocol import DacBoard
from foveate_drivers.mirrors.base import Angles, Sync
from foveate_drivers.mirrors.wired import WiredMirror

_STATE = 4  # numbers of a position: x, y, state, microseconds since the last move began


class DacMirror(WiredMirror):
    """Two galvanometers. The board itself parks on silence, starts moves by strobe and triggers a camera at rest.

    `board` is the connection; a laser on the same board takes it over (its option `board: ${rig.mirror}`).
    """

    def __init__(
        self,
        *,
        address: str,
        scanner: Literal["galvo5", "galvo10", "saccade30", "voicecoil15"] = "galvo5",
        limit: Annotated[float, Unit("rad"), Gt(0), Le(0.5)] = 0.24,
        tolerance: Annotated[float, Unit("rad"), Gt(0)] = 50e-6,
        delay: Annotated[float, Unit("s"), Ge(0), Le(0.1)] = 200e-6,
        spacing: Annotated[float, Unit("m"), Gt(0)] = 0.045,
        camera_distance: Annotated[float, Unit("m"), Gt(0)] = 0.08,
        sync: Sync = "predicted",
        deadline: Annotated[float, Unit("s"), Ge(0), Le(60)] = 0.09,
        rate: Annotated[float, Unit("Hz"), Gt(0)] = 2_000.0,
        duty: Annotated[float, Gt(0), Le(1)] = 1.0,
        timeout: Annotated[float, Unit("s"), Gt(0), Le(5)] = 0.03,
    ) -> None:
        """`address`: the port; the other options as of `mre2`; `sync`: strobe and trigger where the board has them."""
        super().__init__(
            scanner=scanner, limit=limit, tolerance=tolerance, delay=delay, spacing=spacing,
            camera_distance=camera_distance, sync=sync, deadline=deadline, rate=rate, duty=duty,
        )  # fmt: skip
        self.board = DacBoard(address, timeout)
        self._hello: protocol.Hello | None = None
        self._scale = np.ones(2)
        self._struck: Angles | None = None  # sent there at the next strobe; not known to have begun
        self._faulty = 0
        self._celsius: float | None = None

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """Nothing: boards of many makers, which no number on the USB tells apart from other serial ports."""
        return []

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "", "DAC board" if self._hello is None else self._hello.name)

    def _connect(self) -> int:
        hello = self.board.open()
        self._connection = self.board.connection
        try:
            self._hello = hello
            if hello.axes != 2:
                raise NotSupported(self.uri, "open", f"the board has {hello.axes} axes; this driver moves two")
            if not {"predicted": True, "strobe": hello.strobe, "trigger": hello.trigger}[self.sync]:
                raise NotSupported(
                    self.uri, f"move by {self.sync}", "the board has no such connection; use sync: predicted"
                )
            for limit, full in zip(self.limit_rad, hello.full_rad, strict=True):
                if limit > full:
                    raise OutOfRange(self.uri, "limit", float(limit), 0, full, "rad")
            self._scale = protocol.FULL / np.array(hello.full_rad)
            self._struck = None
            self._watch(self.deadline_s)
            self._ask_board()
            self._guard.stopped = bool(self._faulty & protocol.STOPPED)  # by whoever had it before
        except BaseException:
            self.board.close()
            raise
        return self.board.fileno()

    def _watch(self, deadline_s: float) -> None:
        self.board.ask("watch", "mirror", max(1, round(deadline_s * 1e3)) if deadline_s > 0 else 0, count=1)

    def _require(self, operation: str) -> Clock:
        clock = super()._require(operation)
        self.board.require(self._connection)
        return clock

    def _disconnect(self) -> None:
        self.board.close()

    def _park_bytes(self) -> bytes:
        return b"\n" + protocol.line(0, "park")

    def _write(self, name: str, value: float | int | bool | str) -> None:
        super()._write(name, value)
        self._watch(float(value))

    def _command(self, angle_rad: Angles) -> None:
        codes = [int(code) for code in np.round(angle_rad * self._scale)]
        when = "strobe" if self.sync == "strobe" else "now"
        trigger_us = 0
        if self.sync == "trigger":
            step = angle_rad - self._moves.target_rad
            trigger_us = max(1, round(float(self.settle_s(step).max()) * 1e6))
        got = self.board.ask("move", *codes, when, trigger_us, count=2)
        if got != codes:
            raise OutOfRange(self.uri, "codes", f"{codes}, which the board made {got}", -protocol.FULL, protocol.FULL)
        self._struck = angle_rad if when == "strobe" else None

    def _rest(self) -> None:
        self.board.ask("park", count=0)
        self._struck = None

    def _note_parking(self) -> None:
        parks = self._parks
        super()._note_parking()
        if self._parks != parks:
            self._struck = None

    def _note_move(self, angle_rad: Angles, sent_ns: int) -> None:
        if self._struck is None:
            super()._note_move(angle_rad, sent_ns)

    def _ask_position(self) -> tuple[NDArray[np.float64], int]:
        """Angles and state; learns when a move by strobe began."""
        clock = self._clock
        before_ns = clock.now_ns() if clock is not None else 0
        x, y, state, age_us = self.board.ask("pos", count=_STATE)
        if self._struck is not None and not state & protocol.WAITING and clock is not None:
            struck, self._struck = self._struck, None
            begun_ns = (before_ns + clock.now_ns()) // 2 - age_us * 1000
            self._moves.command(struck, max(begun_ns, self._left_ns))
        return np.array([x, y]) / self._scale, state

    def _measure(self) -> Angles | None:
        angle, state = self._ask_position()
        return angle if state & protocol.MEASURED else None

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        """Asks the board when a move by strobe began, if that is not known yet."""
        if self._struck is not None:
            self._require("read")
            self._ask_position()
        return super().reading(t_ns, exposure_ns)

    def settled(self) -> bool | None:
        self._require("read")
        self._note_parking()
        _, state = self._ask_position()
        return not self._sender.waiting and bool(state & protocol.SETTLED) and not state & protocol.WAITING

    def stream(self, times_s: Sequence[float], angle_rad: NDArray[np.float64]) -> None:
        """A waveform of at most the board's memory and, where there is a deadline, at most as long as that."""
        clock = self._require("stream a waveform")
        self._note_parking()
        points = [self._guard.checked(point) for point in np.atleast_2d(angle_rad)]
        growing = all(a < b < math.inf for a, b in pairwise((0.0, *times_s)))  # which NaN is not
        if not points or len(points) != len(times_s) or not growing:
            raise OutOfRange(self.uri, "waveform times", len(times_s), len(points), len(points), "growing numbers")
        if self.deadline_s > 0 and times_s[-1] > self.deadline_s:
            raise OutOfRange(self.uri, "a waveform's length", times_s[-1], 0, self.deadline_s, "s")
        self._guard.admit(points[0], clock.now_ns())
        self._sender.cancel()
        with self._sending:
            self._guardian.beat()
            self.board.ask("wave", "clear", count=1)
            for time_s, point in zip(times_s, points, strict=True):
                codes = (int(code) for code in np.round(point * self._scale))
                self.board.ask("wave", round(time_s * 1e6), *codes, count=1)
            begun_ns = clock.now_ns()
            self.board.ask("go", count=0)
            self._guardian.beat()
            self.parked, self._struck, self._left_ns = False, None, begun_ns
            for time_s, point in zip(times_s, points, strict=True):
                self._moves.command(point, begun_ns + round((time_s + self._delay_s) * 1e9))

    def park(self) -> None:
        super().park()
        self._ask_board()

    def estop(self) -> None:
        """The board stops and parks, its laser goes off, and both refuse until `clear`."""
        self._guard.stopped = True
        self._require("stop")
        self._sender.cancel()
        with self._sending:
            begun_ns = self._require("stop").now_ns()
            self.board.ask("stop", count=0)
            self._struck = None
            super()._note_move(np.zeros(2), begun_ns)
        self._guard.parked()
        self.parked = True
        self._ask_board()

    def clear(self) -> None:
        self._require("clear")
        self.board.ask("clear", count=0)
        super().clear()
        self._ask_board()

    def _ask_board(self) -> None:
        _, _, self._faulty, tenths = self.board.ask("state", count=4)
        self._celsius = tenths / 10 if tenths > -2730 else None

    def _faults(self) -> list[str]:
        return ["the board is too hot"] if self._faulty & protocol.HOT else []

    def _counters(self) -> dict[str, int]:
        return dict(self.board.counters)

    def _temperature_c(self) -> float | None:
        return self._celsius
