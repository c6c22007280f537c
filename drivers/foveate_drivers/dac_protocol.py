"""The line protocol of DAC boards for mirrors and lasers, and a board's connection that several devices share.

docs/dac_protocol.md is the contract with whoever writes a firmware. A line is `SEQ WORD ARGUMENTS*CRC` and a
newline; a reply begins with the sequence number of its question, so that a reply that is late by up to 65,534
questions is taken for nobody else's. A line is taken if its CRC-16 is right, so a spoiled one passes by chance once
in 65,536 and then carries the present number once in 65,535.
"""

from __future__ import annotations

import binascii
import itertools
import math
import threading
from collections import Counter
from dataclasses import dataclass

from foveate.clock import process_ns
from foveate.errors import DeviceError, Disconnected, Interlock, NotSupported, OutOfRange, ProtocolError, Timeout
from foveate_drivers.serial_line import SerialLine

VERSION = 1
FULL = 32_767  # the code of a full-scale angle
FULL_POWER = 1000
LONGEST = 96  # characters of a line
SETTLED, WAITING, MEASURED = 1, 2, 4  # bits of a position's state
INTERLOCK, STOPPED, HOT = 1, 2, 4  # bits of a board's faults
RANGE, STOP, LOCKED, MISSING = 4, 6, 7, 8
ERRORS = {
    1: "crc",
    2: "unknown",
    3: "arguments",
    RANGE: "range",
    5: "full",
    STOP: "stopped",
    LOCKED: "interlock",
    MISSING: "missing",
    9: "fault",
}
_TRIES = 3
_GREET_S = 3.0


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, beginning with 0xFFFF; 8 shifts a byte, no table in a microcontroller."""
    return binascii.crc_hqx(data, 0xFFFF)


def line(seq: int, *words: object) -> bytes:
    """A line ready for the wire."""
    body = " ".join(map(str, (seq, *words))).encode("ascii")
    return body + b"*%04X\n" % crc16(body)


@dataclass(frozen=True, slots=True)
class Line:
    """One line that came whole."""

    seq: int
    words: tuple[str, ...]


def parse(raw: bytes) -> Line | None:
    """A line without its newline; None where it is not whole."""
    body, star, check = raw.strip(b"\r").rpartition(b"*")
    if not star or len(raw) > LONGEST or check != b"%04X" % crc16(body):
        return None
    first, *words = body.decode("ascii", "replace").split(" ")
    return Line(int(first), tuple(words)) if first.isascii() and first.isdigit() and len(first) <= 5 else None


@dataclass(frozen=True, slots=True)
class Hello:
    """What a board says of itself."""

    axes: int
    laser: bool
    strobe: bool  # has an input for the camera's strobe
    trigger: bool  # has an output to the camera's trigger
    full_rad: tuple[float, ...]  # the mechanical angle of code 32767, of each axis
    name: str


class DacBoard:
    """The connection to one board; a mirror and a laser on it open it both, and the last to close it lets go."""

    def __init__(self, port: str, timeout_s: float) -> None:
        self.uri = f"dac:{port}"
        self.counters: Counter[str] = Counter(sent=0, received=0, spoiled=0, late=0, retried=0)
        self._line = SerialLine(self.uri, port)
        self._timeout_ns = round(timeout_s * 1e9)
        self._lock = threading.RLock()
        self._users = 0
        self._gone: Disconnected | None = None
        self.connection = 0  # how often it was connected: who opened an earlier one must close and open it
        self._sequence = itertools.cycle(range(1, 65_536))  # 0 is of those who wait for no answer
        self._data = b""
        self._hello: Hello | None = None

    def open(self) -> Hello:
        """Connect, if nobody has, or if the connection was lost. Raises NotFound, Busy, Timeout, ProtocolError."""
        with self._lock:
            if self._users == 0 or self._gone is not None:
                self._line.close()
                self._line.open()
                self._gone, self._data = None, b""
                self.connection += 1
                try:
                    self._line.write(b"\n")  # ends what somebody else left half-written
                    self._hello = self._greet()
                except BaseException as error:
                    self._gone = error if isinstance(error, Disconnected) else self._line.gone(None)
                    self._line.close()
                    raise
            assert self._hello is not None
            self._users += 1
            return self._hello

    def close(self) -> None:
        """Let go of it, if nobody else uses it."""
        with self._lock:
            self._users = max(self._users - 1, 0)
            if self._users == 0:
                self._line.close()

    def fileno(self) -> int:
        return self._line.fileno()

    def require(self, connection: int) -> None:
        """Raises Disconnected where the connection of that number was lost."""
        if connection != self.connection:
            raise Disconnected(self.uri, "talk", "its board was lost and is connected anew; close and open it")

    def _greet(self) -> Hello:
        words = self._hello_words()
        try:
            version, axes, laser, strobe, trigger, *rest = words
            if int(version) != VERSION:
                raise NotSupported(self.uri, "open", f"its firmware speaks version {version}, this driver {VERSION}")
            full = tuple(int(text) / 1e6 for text in rest[: int(axes)])
            if len(rest) != int(axes) + 1 or not full or min(full) <= 0 or max(full) > math.pi / 2:
                raise ValueError
            return Hello(int(axes), laser == "1", strobe == "1", trigger == "1", full, rest[-1])
        except ValueError:
            raise ProtocolError(self.uri, "open", f"its hello makes no sense: {' '.join(words)!r:.90}") from None

    def _hello_words(self) -> tuple[str, ...]:
        """Patient, for many boards start anew when their port is opened, and sit in a boot loader for up to 2 s."""
        end_ns = process_ns() + round(_GREET_S * 1e9)
        while True:
            try:
                return self._words("hello", ())
            except Timeout:
                if process_ns() > end_ns:
                    hint = "no DAC board answers there; check the port, power and firmware"
                    raise Timeout(self.uri, "open", hint) from None

    def ask(self, *words: object, count: int) -> list[int]:
        """The `count` numbers of the reply.

        Raises OutOfRange, Interlock, NotSupported, ProtocolError as the board refuses; Timeout, Disconnected.
        """
        reply = self._words(str(words[0]), words[1:])
        try:
            numbers = [int(word) for word in reply]
        except ValueError:
            numbers = []
        if len(numbers) != count:
            text = " ".join(reply)
            raise ProtocolError(self.uri, f"do '{words[0]}'", f"its reply is not {count} numbers: {text!r:.90}")
        return numbers

    def _words(self, word: str, arguments: tuple[object, ...]) -> tuple[str, ...]:
        with self._lock:
            for attempt in range(_TRIES):
                reply = self._exchange(word, arguments, attempt)
                if reply is None:
                    continue
                if reply[:1] == ("ok",):
                    return reply[1:]
                raise self._refusal(" ".join(map(str, (word, *arguments))), reply)
        waited = f"no answer within {_TRIES * self._timeout_ns / 1e6:g} ms"
        raise Timeout(self.uri, f"do '{word}'", waited)

    def _exchange(self, word: str, arguments: tuple[object, ...], attempt: int) -> tuple[str, ...] | None:
        if self._gone is not None:
            raise self._gone
        seq = next(self._sequence)
        self.counters["sent"] += 1
        self.counters["retried"] += attempt > 0
        try:
            self._line.write(line(seq, word, *arguments))
            return self._reply(seq, process_ns() + self._timeout_ns)
        except Disconnected as error:
            self._gone = error
            raise

    def _reply(self, seq: int, until_ns: int) -> tuple[str, ...] | None:
        """The words of the reply to a question; None when it does not come in time."""
        spoiled = self.counters["spoiled"]
        end_ns = until_ns + self._timeout_ns  # of one who talks without a pause
        # a spoiled line was the answer as likely as not: ask again at once, the number tells them apart
        while self.counters["spoiled"] == spoiled and process_ns() < end_ns and (data := self._line.read(until_ns)):
            *raws, self._data = (self._data + data).split(b"\n")
            self._data = self._data[-4 * LONGEST :]
            found = None
            for raw in raws:
                reply = parse(raw)
                if reply is None:
                    self.counters["spoiled"] += 1
                elif reply.seq != seq or not reply.words:
                    self.counters["late"] += reply.seq != 0
                else:
                    self.counters["received"] += 1
                    found = reply.words
            if found is not None:
                return found
        return None

    def _refusal(self, asked: str, reply: tuple[str, ...]) -> DeviceError:
        code = int(reply[1]) if len(reply) > 1 and reply[0] == "err" and reply[1].isdigit() else 0
        if code == RANGE:
            return OutOfRange(self.uri, "the code", f"in '{asked}'", -FULL, FULL)
        if code in (STOP, LOCKED):
            why = {STOP: "it was stopped; clear it first", LOCKED: "its interlock is open; close it, then ask again"}
            return Interlock(self.uri, f"do '{asked}'", why[code])
        if code == MISSING:
            return NotSupported(self.uri, f"do '{asked}'", "the board has no such part")
        return ProtocolError(self.uri, f"do '{asked}'", f"it answered '{' '.join(reply):.80}'")
