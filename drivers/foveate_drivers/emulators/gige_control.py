"""The control channel of an emulated GigE Vision camera: commands to replies, who may write, and the heartbeat."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from foveate.clock import process_ns
from foveate_drivers.cameras import gvcp
from foveate_drivers.emulators import gige_registers as reg
from foveate_drivers.emulators.faults import FaultPlan

OK, NOT_IMPLEMENTED, INVALID_PARAMETER, INVALID_ADDRESS, WRITE_PROTECT = 0, 0x8001, 0x8002, 0x8003, 0x8004
_ACCESS_DENIED, _BUSY = 0x8006, 0x8007
_LARGEST_READ = 540
_DOUBLES = (reg.EXPOSURE, reg.GAIN, reg.RATE)

Place = tuple[str, int]
Result = tuple[int, bytes]


class Behind(Protocol):
    """The camera whose registers these are."""

    registers: reg.Registers

    def refresh(self) -> None:
        """Bring registers up to date that change by themselves."""

    def write(self, at: int, value: int) -> int:
        """Take a value that its sender may write; the status."""

    def write_number(self, at: int, value: float) -> int:
        """As `write`, for a register of 8 bytes."""

    def released(self) -> None:
        """Nobody is in control any more."""

    def send_again(self, block: int, first: int, last: int) -> None:
        """Packets of a block did not arrive."""


class Control:
    """Answers commands; knows who is in control."""

    def __init__(self, camera: Behind, faults: FaultPlan, counts: Counter[str]) -> None:
        self._camera = camera
        self._faults = faults
        self._counts = counts
        self._heard_ns = 0
        self.controller: Place | None = None

    def release(self) -> None:
        """Take control from whoever has it."""
        self.controller = None
        self._camera.registers[reg.CONTROL] = 0
        self._camera.released()

    def check_heartbeat(self) -> None:
        """An application that is not heard of for as long as it promised loses control."""
        silent_ms = (process_ns() - self._heard_ns) / 1e6
        if self.controller is not None and silent_ms > self._camera.registers[reg.HEARTBEAT_MS]:
            self._counts["heartbeats missed"] += 1
            self.release()

    def answer(self, packet: bytes, sender: Place) -> bytes | None:
        """The reply to a command; None where none is due."""
        _, flags, command, length, number = gvcp.HEADER.unpack_from(packet)
        body = packet[8 : 8 + length]
        if sender == self.controller:
            self._heard_ns = process_ns()
        if command == gvcp.RESEND:
            # of the same computer: applications ask by the port that the stream goes to
            if self.controller is not None and sender[0] == self.controller[0] and len(body) >= 12:
                _, block, first, last = struct.unpack_from(">HHII", body)
                self._camera.send_again(block, first & 0xFFFFFF, last & 0xFFFFFF)
            return None
        actions: dict[int, Callable[[], Result]] = {
            gvcp.DISCOVERY: lambda: (OK, self._camera.registers.discovery),
            gvcp.READ_REGISTER: lambda: self._read_registers(body),
            gvcp.READ_MEMORY: lambda: self._read_memory(body),
            gvcp.WRITE_REGISTER: lambda: self._write_registers(body, sender),
            gvcp.WRITE_MEMORY: lambda: self._write_memory(body, sender),
        }
        if command not in actions:
            status, content = NOT_IMPLEMENTED, b""
        else:
            status, content = actions[command]() if len(body) == length else (INVALID_PARAMETER, b"")
        if not flags & gvcp.ACK_REQUIRED:
            return None
        if status != OK:
            self._counts["refused"] += 1
            content = b""
        return gvcp.ACK_HEADER.pack(status, command + 1, len(content), number) + content

    def _read_registers(self, body: bytes) -> Result:
        self._camera.refresh()
        places = struct.iter_unpack(">I", body[: len(body) // 4 * 4])
        found = [self._camera.registers.read(at, 4) for (at,) in places]
        known = [item for item in found if item is not None]
        return (OK, b"".join(known)) if len(known) == len(found) else (INVALID_ADDRESS, b"")

    def _read_memory(self, body: bytes) -> Result:
        if len(body) < 8:
            return INVALID_PARAMETER, b""
        self._camera.refresh()
        at, count = struct.unpack_from(">I2xH", body)
        found = self._camera.registers.read(at, count) if count <= _LARGEST_READ else None
        return (INVALID_ADDRESS, b"") if found is None else (OK, body[:4] + found)

    def _write_registers(self, body: bytes, sender: Place) -> Result:
        done = 0
        for at, value in struct.iter_unpack(">II", body[: len(body) // 8 * 8]):
            status = self._write(at, value, sender)
            if status != OK:
                return status, b""
            done += 1
        return OK, struct.pack(">HH", 0, done)

    def _write_memory(self, body: bytes, sender: Place) -> Result:
        if len(body) < 8 or len(body) % 4:
            return INVALID_PARAMETER, b""
        (at,), data = struct.unpack_from(">I", body), body[4:]
        if at in _DOUBLES and len(data) == 8:
            status = self._allowed(at, sender) or self._camera.write_number(at, struct.unpack(">d", data)[0])
        else:
            words = enumerate(struct.iter_unpack(">I", data))
            status = next(filter(None, (self._write(at + 4 * i, word, sender) for i, (word,) in words)), OK)
        return status, struct.pack(">HH", 0, len(data))

    def _allowed(self, at: int, sender: Place) -> int:
        """Why a write is refused, or 0."""
        if not self._camera.registers.writable(at):
            return INVALID_ADDRESS if self._camera.registers.read(at, 4) is None else WRITE_PROTECT
        if sender != self.controller and (at != reg.CONTROL or self.controller is not None):
            return _ACCESS_DENIED
        return _BUSY if self._faults.hits(self._faults.nak) else OK

    def _write(self, at: int, value: int, sender: Place) -> int:
        status = self._allowed(at, sender)
        if status != OK or at != reg.CONTROL:
            return status or self._camera.write(at, value)
        if value & 3:
            self.controller, self._heard_ns = sender, process_ns()
            self._camera.registers[at] = value
        else:
            self.release()
        return OK
