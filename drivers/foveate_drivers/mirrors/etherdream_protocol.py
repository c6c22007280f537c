"""The Ether Dream's wire: little-endian, packed, over TCP; once a second a broadcast over UDP.

Source: protocol.h, point-stream.c and dac.c of the DAC's published firmware (github.com/j4cbo/j4cDAC). A comment there
gives the command `queue rate change` as 0x74; firmware and the author's own client use 0x71 ('q').
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TCP_PORT = 7765
UDP_PORT = 7654
RING = 1800  # points, of which one stays free
USABLE = RING - 1
MOST_RATE = 100_000  # points/s
RATE_QUEUE = 200

ACK, FULL, INVALID, STOPPED = b"aFI!"
PREPARE, BEGIN, UPDATE, QUEUE_RATE, DATA, STOP, CLEAR, PING, VERSION = b"pbuqdsc?v"
ESTOP, ESTOP_TOO = 0x00, 0xFF

READY, WARMUP, COOLDOWN, LIGHT_ESTOP = range(4)  # light engine states
IDLE, PREPARED, PLAYING = range(3)  # playback states
SHUTTER, UNDERFLOW, ESTOPPED = 1, 2, 4  # playback flags
POP_RATE = 0x8000  # a point's control flag: play on at the next queued rate

STATE_NAMES = ("ready", "warming up", "cooling down", "in emergency stop")

_STATUS = struct.Struct("<BBBBHHHHII")
_BROADCAST = struct.Struct("<6sHHHI")
RESPONSE_BYTES = 2 + _STATUS.size
BROADCAST_BYTES = _BROADCAST.size + _STATUS.size
VERSION_BYTES = 32

# control, x, y, then red, green, blue, intensity and two more channels
POINT = np.dtype([("control", "<u2"), ("x", "<i2"), ("y", "<i2"), ("color", "<u2", 6)])

BODY_BYTES = {  # of each command after its first byte; DATA is followed by its points
    PREPARE: 0, BEGIN: 6, UPDATE: 6, QUEUE_RATE: 4, DATA: 2, STOP: 0, CLEAR: 0, PING: 0, VERSION: 0,
    ESTOP: 0, ESTOP_TOO: 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Status:
    """What the DAC says of itself in every response and broadcast."""

    protocol: int = 0
    light_engine_state: int = READY
    playback_state: int = IDLE
    source: int = 0  # 0 = network
    light_engine_flags: int = 0
    playback_flags: int = 0
    source_flags: int = 0
    fullness: int = 0  # points in the ring
    point_rate: int = 0
    point_count: int = 0  # played since it was prepared, modulo 2^32

    def pack(self) -> bytes:
        return _STATUS.pack(
            self.protocol, self.light_engine_state, self.playback_state, self.source, self.light_engine_flags,
            self.playback_flags, self.source_flags, self.fullness, self.point_rate, self.point_count,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Status:
        """Of 20 bytes."""
        return cls(*_STATUS.unpack(data))


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one command."""

    answer: int  # ACK, FULL, INVALID or STOPPED
    command: int
    status: Status

    def pack(self) -> bytes:
        return bytes((self.answer, self.command)) + self.status.pack()

    @classmethod
    def unpack(cls, data: bytes) -> Response:
        """Of 22 bytes. Raises ValueError where they are not a response."""
        if len(data) != RESPONSE_BYTES or data[0] not in (ACK, FULL, INVALID, STOPPED):
            raise ValueError(f"{data[:8].hex(' ')} ... is no response")
        status = Status.unpack(data[2:])
        if status.light_engine_state > LIGHT_ESTOP or status.playback_state > PLAYING or status.fullness > RING:
            raise ValueError(f"a status that cannot be: {status}")
        return cls(data[0], data[1], status)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What the DAC sends to everybody once a second."""

    mac: bytes
    hardware: int
    software: int
    capacity: int  # points
    most_rate: int  # points/s
    status: Status

    def pack(self) -> bytes:
        head = _BROADCAST.pack(self.mac, self.hardware, self.software, self.capacity, self.most_rate)
        return head + self.status.pack()

    @classmethod
    def unpack(cls, data: bytes) -> Broadcast:
        """Of 36 bytes. Raises ValueError where they are no broadcast."""
        if len(data) != BROADCAST_BYTES:
            raise ValueError(f"{len(data)} bytes are no broadcast")
        mac, hardware, software, capacity, most_rate = _BROADCAST.unpack_from(data)
        return cls(mac, hardware, software, capacity, most_rate, Status.unpack(data[_BROADCAST.size :]))


def begin(rate: int, command: int = BEGIN) -> bytes:
    """Play, or play on, at `rate` points/s."""
    return struct.pack("<BHI", command, 0, rate)


def data(x: NDArray[np.int16], y: NDArray[np.int16]) -> bytes:
    """Points with all lights off."""
    points = np.zeros(len(x), POINT)
    points["x"], points["y"] = x, y
    return struct.pack("<BH", DATA, len(points)) + points.tobytes()


def counts(angle_rad: NDArray[np.float64], full_scale_rad: float) -> NDArray[np.int16]:
    """The DAC's values (N x 2) for mechanical angles (N x 2); 32767 = `full_scale_rad`."""
    return np.rint(np.clip(angle_rad / full_scale_rad, -1.0, 1.0) * 32767).astype(np.int16)


def angles(x: NDArray[np.integer], y: NDArray[np.integer], full_scale_rad: float) -> NDArray[np.float64]:
    """The inverse of `counts`."""
    return np.column_stack([x, y]).astype(np.float64) * (full_scale_rad / 32767)
