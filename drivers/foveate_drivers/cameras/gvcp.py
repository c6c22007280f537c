"""GigE Vision's control protocol (GVCP, AIA GigE Vision 2.0): what driver and emulator share; and a camera's pulse."""

from __future__ import annotations

import select
import socket
import struct

PORT = 3956
COMMAND_KEY = 0x42
ACK_REQUIRED = 0x01
ALLOW_BROADCAST_ACK = 0x10
HEADER = struct.Struct(">BBHHH")  # key (or status high), flag (or status low), command, length, id
ACK_HEADER = struct.Struct(">HHHH")  # status, answer, length, id

DISCOVERY, DISCOVERY_ACK = 0x0002, 0x0003
RESEND = 0x0040
READ_REGISTER, READ_REGISTER_ACK = 0x0080, 0x0081
WRITE_REGISTER, WRITE_REGISTER_ACK = 0x0082, 0x0083
READ_MEMORY, READ_MEMORY_ACK = 0x0084, 0x0085
WRITE_MEMORY, WRITE_MEMORY_ACK = 0x0086, 0x0087

CONTROL_PRIVILEGE = 0x0A00  # register: bit 0 exclusive, bit 1 control
_CONTROLLED = 0x3
# bootstrap registers of the clock; the wide ones are two, upper half first
TICKS_PER_S, TIMESTAMP_CONTROL, TIMESTAMP_VALUE = 0x093C, 0x0944, 0x0948
LATCH = 2  # in TIMESTAMP_CONTROL: copy the clock to TIMESTAMP_VALUE


class Pulse:
    """Asks a silent camera whether it is there, beside whoever controls it, and never waits for the answer.

    Aravis keeps its own heartbeat, but tells of a dead camera only after 5 s.
    """

    def __init__(self, address: str, answer_ns: int, tries: int) -> None:
        """`answer_ns`: how long one answer may take; it is given up after `tries` without one. Raises OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect((address, PORT))
        except OSError:
            self._socket.close()
            raise
        self._answer_ns = answer_ns
        self._tries = tries
        self._asked = 0  # questions since the last answer
        self._asked_ns = 0
        self._id = 0

    def lost(self, now_ns: int) -> str:
        """Ask, or look for the answer; call again and again while the camera is silent. Why it is lost, or ""."""
        if self._asked:
            controlled = self._answer()
            if controlled is not None:
                self._asked = 0
                return "" if controlled else "the camera is there, but another took control of it or it was restarted"
            if now_ns - self._asked_ns < self._answer_ns:
                return ""
            if self._asked >= self._tries:
                return f"it is silent and did not answer {self._asked} questions"
        self._ask()
        self._asked += 1
        self._asked_ns = now_ns
        return ""

    def _ask(self) -> None:
        self._id = self._id % 0xFFFF + 1
        ask = HEADER.pack(COMMAND_KEY, ACK_REQUIRED, READ_REGISTER, 4, self._id) + struct.pack(">I", CONTROL_PRIVILEGE)
        try:
            self._socket.send(ask)
        except OSError:  # nobody listens there, or the network is down: as good as no answer
            pass

    def held(self) -> bool | None:
        """Whether somebody controls the camera; None where it does not answer. Waits for that."""
        for _ in range(self._tries):
            self._ask()
            select.select([self._socket], [], [], self._answer_ns / 1e9)
            controlled = self._answer()
            if controlled is not None:
                return controlled
        return None

    def _answer(self) -> bool | None:
        """Whether the camera is under control; None where no answer is there."""
        while True:
            try:
                packet = self._socket.recv(64)
            except OSError:
                return None
            if len(packet) >= 8:
                status, answer, _, number = ACK_HEADER.unpack_from(packet)
                if answer == READ_REGISTER_ACK and number == self._id:
                    if status != 0 or len(packet) < 12:
                        return True  # it answers, but will not tell
                    return bool(struct.unpack_from(">I", packet, 8)[0] & _CONTROLLED)

    def rest(self) -> None:
        """The camera has sent something: what was asked does not matter any more."""
        self._asked = 0

    def close(self) -> None:
        self._socket.close()
