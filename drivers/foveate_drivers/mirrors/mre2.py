"""Optotune MR-E-2 controllers with MR-15-30 or MR-10-30 mirrors on USB serial: two axes, closed loop, readback.

Written from the vendor's kit and one printed trace, and never tried on a board. What may turn out otherwise there: that
GET_MULTIPLE answers with the count before the values (as the kit reads it), that the registers of the signal flow
can be read at any time, the payload of the command back to simple mode, and what simple mode answers to an empty line.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from foveate.device import DeviceInfo
from foveate.errors import NotSupported, OutOfRange
from foveate.node import Unit
from foveate_drivers import serial_line
from foveate_drivers.mirrors import mre2_protocol as protocol
from foveate_drivers.mirrors.base import Angles, Sync
from foveate_drivers.mirrors.guard import Guard
from foveate_drivers.mirrors.mre2_lines import ProLine, SimpleLine
from foveate_drivers.mirrors.wired import WiredMirror
from foveate_drivers.serial_line import SerialLine

_USB = {(0x0483, 0xA31E)}


class CircleGuard(Guard):
    """Refuses as well what is within both axes' limits but beyond the mirror's reach, 25 degrees off rest."""

    def checked(self, angle_rad: Angles) -> Angles:
        angle = super().checked(angle_rad)
        reach = math.hypot(*protocol.xy_from_angles(angle))
        if reach > 1.0:
            raise OutOfRange(self.uri, "the angle off rest (x^2 + y^2 = 1 is 25 degrees)", f"{reach:.4f}", 0, 1)
        return angle


class Mre2Mirror(WiredMirror):
    """`mode` "pro" reads back where the mirror is; "simple" (ASCII) only commands, in steps of 60 microradians.

    The reach is a circle: x^2 + y^2 <= 1 where x = tan(2 angle) / tan(50 degrees).
    """

    _guard_type = CircleGuard

    def __init__(
        self,
        *,
        address: str,
        mode: Literal["pro", "simple"] = "pro",
        scanner: Literal["galvo5", "galvo10", "saccade30", "voicecoil15"] = "voicecoil15",
        limit: Annotated[float, Unit("rad"), Gt(0), Le(protocol.FULL_RAD)] = 0.24,
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
        """`address`: the port; `scanner`: how it moves, for the model; `delay`: from a command's first byte to the
        start of the move; `deadline`: silence after which it is parked, 0 = never; `rate`: most commands a second;
        `duty`: share of a second an axis may accelerate, 1 = any; `timeout`: of one question, asked up to three times.
        """
        super().__init__(
            scanner=scanner, limit=limit, tolerance=tolerance, delay=delay, spacing=spacing,
            camera_distance=camera_distance, sync=sync, deadline=deadline, rate=rate, duty=duty,
        )  # fmt: skip
        self._port = address
        self._mode = mode
        self._timeout_s = timeout
        self._talk: ProLine | SimpleLine | None = None
        if sync != "predicted":
            raise NotSupported(
                f"mre2:{address}", f"move by {sync}", "the board has no such input; use sync: predicted, or a DAC board"
            )

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """Controllers on USB, unopened."""
        return serial_line.ports("mre2", "Optotune", "MR-E-2", _USB)

    def info(self) -> DeviceInfo:
        firmware = "" if self._talk is None else self._talk.firmware
        return DeviceInfo(self.uri, "Optotune", f"MR-E-2 {firmware}".strip())

    def _connect(self) -> int:
        line = SerialLine(self.uri, self._port, 256_000)
        line.open()
        self._talk = (ProLine if self._mode == "pro" else SimpleLine)(line, self._timeout_s)
        try:
            self._talk.start()
        except BaseException:
            self._disconnect()
            raise
        return line.fileno()

    def _disconnect(self) -> None:
        if self._talk is not None:
            self._talk.line.close()

    def _line(self) -> ProLine | SimpleLine:
        assert self._talk is not None
        return self._talk

    def _park_bytes(self) -> bytes:
        return self._line().park_bytes

    def _command(self, angle_rad: Angles) -> None:
        self._line().command(protocol.xy_from_angles(angle_rad))

    def _measure(self) -> Angles | None:
        xy = self._line().measure()
        return None if xy is None else protocol.angles_from_xy(xy)

    def settled(self) -> bool | None:
        """By the board's "not stable" flag in pro mode, by the model in simple mode."""
        self._require("read")
        self._note_parking()
        if self._sender.waiting:
            return False
        talk = self._line()
        if talk.measure() is None:
            return super().settled()
        return not talk.status & protocol.UNSTABLE

    def _faults(self) -> list[str]:
        return [] if self._talk is None else protocol.flag_names(self._talk.status)

    def _counters(self) -> dict[str, int]:
        return {} if self._talk is None else dict(self._talk.counters)

    def _temperature_c(self) -> float | None:
        return None if self._talk is None or math.isnan(self._talk.temperature_c) else self._talk.temperature_c
