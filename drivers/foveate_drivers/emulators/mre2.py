"""An emulated Optotune MR-E-2 on a pseudo terminal: simple and pro mode, with the mirror's twin behind."""

from __future__ import annotations

import math
import struct
from collections import deque
from pathlib import Path

import numpy as np

from foveate.errors import DeviceError
from foveate_drivers.emulators.board import MirrorBoard
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.mirrors import mre2_protocol as protocol
from foveate_drivers.mirrors.base import Angles
from foveate_drivers.mirrors.sim import SimMirror

_BY_NUMBER = {register.number: name for name, register in protocol.REGISTERS.items()}
_LOGGED = 1000
_STILL_RAD = 5e-5  # in a millisecond


class Mre2Emulator(MirrorBoard):
    """Answers as the board does: CRC 0000 accepted, angles beyond the circle cut to its edge, no watchdog of its own.

    `log` holds the last 1000 commands as (ns of the emulator's clock, x, y), `largest` the farthest x, y ever
    commanded, and `accepted` their number; `mode` is "simple" until it is told GoPro.
    """

    name = "mre2"

    def __init__(
        self, *, mirror: SimMirror | None = None, link: Path | None = None, faults: FaultPlan | None = None
    ) -> None:
        # 0.47 rad: 25 degrees and what the twin's own guard would refuse of rounding
        twin = mirror or SimMirror(scanner="voicecoil15", limit=0.47, deadline=0.0, rate=1e6)
        super().__init__(twin, link, faults)
        self.mode = "simple"
        self.log: deque[tuple[int, float, float]] = deque(maxlen=_LOGGED)
        self.largest = 0.0
        self._values: dict[str, float] = {}
        self._deframer = protocol.Deframer(without_crc=True)
        self._text = b""

    def _power_on(self) -> None:
        self.mirror.set("deadline", 0.0)  # the board goes on holding its last angle whoever is gone
        self._values = {"x": 0.0, "y": 0.0, "current_x": 0.0, "current_y": 0.0,
                        "firmware_major": 1, "firmware_minor": 0}  # fmt: skip
        self._values |= dict.fromkeys(protocol.ROUTING, 0x60)  # another input, until somebody chooses

    def _heard(self, data: bytes) -> None:
        if self.mode == "pro":
            for frame in self._deframer.feed(data):
                self._asked += 1
                self._send(self._reply(frame))
            return
        *lines, self._text = (self._text + data).split(b"\n")
        self._text = self._text[-200:]
        for at, line in enumerate(lines):
            text = line.strip()
            if not text:
                continue
            self._asked += 1
            self._send(self._said(text) + b"\r\n")
            if text == b"GoPro":
                self.mode = "pro"
                self._deframer.reset()
                self._heard(b"\n".join([*lines[at + 1 :], self._text]))
                self._text = b""
                return

    def _said(self, text: bytes) -> bytes:
        """The answer of simple mode."""
        if text in (b"Start", b"GoPro", b"Reset", b"status", b"acknowledge"):
            return b"OK"
        name, _, rest = text.partition(b"=")
        try:
            x, y = (float(part) for part in rest.split(b";"))
        except ValueError:
            return b"NO"
        if name.strip() != b"xy" or self.faults.hits(self.faults.nak) or not math.isfinite(x + y):
            return b"NO"
        if max(x, y) > 1:
            return b"OU"
        if min(x, y) < -1:
            return b"OL"
        self._values |= {"x": x, "y": y}
        try:
            self._move()
        except _Refused:  # beyond what the twin can do
            return b"OU" if max(x, y) > 0 else b"OL"
        return b"OK"

    def _reply(self, frame: protocol.Frame) -> bytes:
        """The answer of pro mode."""
        try:
            payload = self._refusal(4) if not frame.whole else self._done(frame)
        except _Refused as refused:
            self._refused += 1
            return protocol.frame(frame.command & 0x7F | protocol.REFUSED, struct.pack(">I", refused.code))
        return protocol.frame(frame.command, payload)

    @staticmethod
    def _refusal(code: int) -> bytes:
        raise _Refused(code)

    def _done(self, frame: protocol.Frame) -> bytes:
        command, payload = frame.command, frame.payload
        if command == protocol.SET_MODE:
            self.mode = "simple"
            return b""
        if command in (protocol.SET, protocol.GET):
            payload = b"\x00\x01" + payload
        elif command not in (protocol.SET_MULTIPLE, protocol.GET_MULTIPLE):
            raise _Refused(2)
        count = int.from_bytes(payload[:2], "big")
        setting = command in (protocol.SET, protocol.SET_MULTIPLE)
        if not 1 <= count <= protocol.MOST_REGISTERS or len(payload) != 2 + count * (6 if setting else 2):
            raise _Refused(3)
        numbers = struct.unpack_from(f">{count}H", payload, 2)
        names = [_BY_NUMBER.get(number, "") for number in numbers]
        if not all(names):
            raise _Refused(0x101)
        if setting:
            self._set(names, payload[2 + 2 * count :])
            return b""
        xy = protocol.xy_from_angles(self.mirror.position().angle_rad)  # one loop's, however often it is asked for
        values = b"".join(self._get(name, xy) for name in names)
        return values if command == protocol.GET else struct.pack(">H", count) + values

    def _set(self, names: list[str], data: bytes) -> None:
        """All or nothing."""
        new: dict[str, float] = {}
        for at, name in enumerate(names):
            register = protocol.REGISTERS[name]
            value = struct.unpack_from(f">{register.kind}", data, 4 * at)[0]
            if not register.writable:
                raise _Refused(0x106)
            # the kit's tables give 0x48 to 0x7f for all stages, but control stages have higher numbers
            if not register.lo <= value <= register.hi:
                raise _Refused(0x103)
            new[name] = value
        if self.faults.hits(self.faults.nak):
            raise _Refused(0x102)
        self._values |= new
        if "x" in new or "y" in new:
            self._move()

    def _get(self, name: str, xy: Angles) -> bytes:
        register = protocol.REGISTERS[name]
        if name in ("feedback_x", "feedback_y"):
            return struct.pack(">f", float(xy[int(name == "feedback_y")]))
        if name == "status":
            return struct.pack(">I", self._status())
        if name.endswith("_temperature"):
            return struct.pack(">i", round(self.faults.temperature_c or 31))
        return struct.pack(f">{register.kind}", self._values[name])

    def _status(self) -> int:
        hot = self.faults.temperature_c is not None and self.faults.temperature_c >= 65
        trimmed = math.hypot(self._values["x"], self._values["y"]) > 1
        now_s = self.clock.now_ns() / 1e9
        drift = np.abs(self.mirror.true_angle(now_s) - self.mirror.true_angle(now_s - 1e-3)).max()
        stable = self.mirror.settled() and drift < _STILL_RAD  # the board looks at the speed too
        return (0 if stable else protocol.UNSTABLE) | hot << 2 | trimmed << 7

    def _move(self) -> None:
        xy = np.array([self._values["x"], self._values["y"]])
        reach = float(np.hypot(*xy))
        self.log.append((self.clock.now_ns(), float(xy[0]), float(xy[1])))
        self.largest = max(self.largest, reach)
        self.accepted += 1
        try:
            self.mirror.goto(protocol.angles_from_xy(xy / max(reach, 1.0)))
        except DeviceError:
            raise _Refused(0x103) from None


class _Refused(Exception):
    """The board refuses with an error code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(protocol.error_name(code))
