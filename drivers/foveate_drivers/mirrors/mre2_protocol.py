"""The wire of the Optotune MR-E-2 mirror controller in "pro" mode: frames, registers, errors, units.

A frame is 0x7E, address 0x00, command, length of the payload, payload (at most 50 bytes), CRC-16 low byte first, 0x7E;
0x7E and 0x7D within are sent as 0x7D and the byte xor 0x20. Numbers are big-endian. The CRC is CRC-16/ARC
over address to payload: found from the frame `7e 00 11 04 00 00 00 00 f2 81 7e` that the vendor's kit prints. The kit
itself sends 0000 for it and the board takes that; what is sent here carries the real one.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foveate_drivers.mirrors.base import Angles

FLAG, ESCAPE, MASK = 0x7E, 0x7D, 0x20
SET_MODE, SET, GET, SET_MULTIPLE, GET_MULTIPLE = 0x06, 0x10, 0x11, 0x12, 0x13
REFUSED = 0x80  # added to the command in the reply that refuses it
MOST_PAYLOAD = 50
MOST_REGISTERS = 8  # of one question
FULL_RAD = math.radians(25.0)  # mechanical, where x or y is 1
_FULL = math.tan(2 * FULL_RAD)


@dataclass(frozen=True, slots=True)
class Register:
    """One 32-bit register: number = system << 8 | register."""

    number: int
    kind: Literal["f", "i"]
    lo: float = -math.inf
    hi: float = math.inf
    writable: bool = False


# What the driver uses of the board; the manager's registers choose each channel's input and control stage.
REGISTERS = {
    "firmware_major": Register(0x1003, "i"),
    "firmware_minor": Register(0x1004, "i"),
    "status": Register(0x1007, "i", writable=True),
    "mirror_temperature": Register(0x2200, "i"),
    "driver_temperature": Register(0x2201, "i"),
    "feedback_x": Register(0x2302, "f"),
    "feedback_y": Register(0x2303, "f"),
    "input_x": Register(0x4000, "i", 0x48, 0x7F, True),
    "control_x": Register(0x4002, "i", 0, 0xFF, True),
    "input_y": Register(0x4005, "i", 0x48, 0x7F, True),
    "control_y": Register(0x4007, "i", 0, 0xFF, True),
    "current_x": Register(0x5000, "f", -0.7, 0.7, True),
    "current_y": Register(0x5100, "f", -0.7, 0.7, True),
    "x": Register(0x5002, "f", -1, 1, True),
    "y": Register(0x5102, "f", -1, 1, True),
}
# Set when the mirror is opened: static input, closed loop on the angle. The four values differ from each other.
ROUTING = {"input_x": 0x50, "control_x": 0xC0, "input_y": 0x51, "control_y": 0xC1}

UNSTABLE = 1 << 4
FLAGS = {
    0: "mirror head not connected",
    1: "driver too hot",
    2: "mirror too hot",
    3: "mirror EEPROM invalid",
    4: "mirror not stable",
    5: "current limit",
    6: "average current limit",
    7: "angle was cut to the limit",
}

ERRORS = {
    0x0001: "FRAME_INVALID",
    0x0002: "COMMAND_UNKNOWN",
    0x0003: "COMMAND_LENGTH_MISMATCH",
    0x0004: "CRC_FAIL",
    0x0005: "COMMAND_NOT_IMPLEMENTED",
    0x0101: "REGISTER_DOES_NOT_EXIST",
    0x0102: "REGISTER_WRITE_UNSUCCESSFUL",
    0x0103: "REGISTER_VALUE_OUT_OF_RANGE",
    0x0104: "REGISTER_IS_NOT_VALID",
    0x0105: "REGISTER_READ_UNSUCCESSFUL",
    0x0106: "REGISTER_IS_READ_ONLY",
    0x0107: "VECTOR_INDEX_OUT_OF_RANGE",
    0x0108: "VECTOR_INDEX_NOT_ALIGNED",
    0x0109: "REGISTER_IS_LOCKED",
    0x010A: "REGISTER_IS_NOT_READABLE",
    0x0201: "SYSTEM_DOES_NOT_EXIST",
    0x0202: "SYSTEM_NOT_A_VALID_SELECTION",
    0x0203: "CHAIN_CONSTRUCTION_ERROR",
    0x0701: "NO_SNAPSHOT_VALUES_AVAILABLE",
    0x0702: "CANNOT_SAVE_SNAPSHOT",
    0x0703: "CORRUPTED_SNAPSHOT",
    0x0704: "SNAPSHOT_INDEX_OUT_OF_RANGE",
    0x0705: "NOT_ENOUGH_SPACE_FOR_SNAPSHOT",
    0x0F0F: "COMMUNICATION_ERROR",
    0xFFFF: "WRONG_BOARD_MODE",
}


def error_name(code: int) -> str:
    """The name of an error code, with the code."""
    return f"{ERRORS.get(code, 'UNKNOWN_ERROR')} (0x{code:04x})"


def flag_names(status: int) -> list[str]:
    """What the status register says, but for the mirror being in a move."""
    return [name for bit, name in FLAGS.items() if status >> bit & 1 and 1 << bit != UNSTABLE]


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """CRC-16/ARC: polynomial 0x8005 reflected, beginning with 0."""
    value = 0
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value


def frame(command: int, payload: bytes, crc: int | None = None) -> bytes:
    """A frame ready for the wire; `crc`: another one than the right one."""
    body = bytes((0, command, len(payload))) + payload
    body += struct.pack("<H", crc16(body) if crc is None else crc)
    body = body.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    return b"\x7e" + body + b"\x7e"


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame said; `whole`: its length and CRC are right."""

    command: int
    payload: bytes
    whole: bool = True


class Deframer:
    """Frames out of bytes in any portions. A flag ends one frame and begins the next, so noise costs what it hits."""

    def __init__(self, without_crc: bool = False) -> None:
        """`without_crc`: take 0000 for a CRC, as the board does."""
        self._without_crc = without_crc
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in `data`; spoiled ones are not whole."""
        self._data += data
        *parts, rest = self._data.split(b"\x7e")
        self._data = rest[-4 * MOST_PAYLOAD :]  # noise without a flag does not pile up
        return [self._frame(bytes(part)) for part in parts if part]

    def _frame(self, stuffed: bytes) -> Frame:
        head, *others = stuffed.split(b"\x7d")
        body = head + b"".join(bytes((part[0] ^ MASK,)) + part[1:] for part in others if part)
        if len(body) < 5 or body[0] != 0 or body[2] != len(body) - 5 or not all(others):
            return Frame(body[1] if len(body) > 1 else 0, b"", whole=False)
        crc = struct.unpack("<H", body[-2:])[0]
        whole = crc == crc16(body[:-2]) or (self._without_crc and crc == 0)
        return Frame(body[1], body[3:-2], whole)

    def reset(self) -> None:
        """Forget what has begun."""
        self._data.clear()


def get_frame(names: list[str]) -> bytes:
    """A question for up to 8 registers by name; the reply carries 4 bytes of each."""
    return frame(GET_MULTIPLE, struct.pack(f">{len(names) + 1}H", len(names), *(REGISTERS[n].number for n in names)))


def set_frame(values: dict[str, float]) -> bytes:
    """A command that sets up to 8 registers by name."""
    kinds = "".join(REGISTERS[name].kind for name in values)
    numbers = [REGISTERS[name].number for name in values]
    return frame(SET_MULTIPLE, struct.pack(f">{len(numbers) + 1}H{kinds}", len(numbers), *numbers, *values.values()))


def xy_from_angles(angle_rad: Angles) -> Angles:
    """The board's x and y of mechanical angles (2,): tan of the optical angle over tan 50 degrees."""
    return np.tan(2 * angle_rad) / _FULL


def angles_from_xy(xy: Angles) -> Angles:
    """Mechanical angles (2,), radians, of the board's x and y."""
    return np.arctan(xy * _FULL) / 2
