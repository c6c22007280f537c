"""Questions and answers of the MR-E-2, so that no answer is ever taken for another question's.

Pro mode has no sequence numbers, and a reply to GET_MULTIPLE says only how many registers it carries. So every
question asks, besides what it wants, for three registers out of four whose values were set when the mirror was opened
and differ from each other: the 64 ways to choose them, taken in turn, come back as values and number the question.
A reply is an answer if it is whole (length, CRC), has the right count and these three values. A reply that is
late by fewer than 64 questions carries another number, whatever came in between and in whatever order; the number
moves on with every question and every repetition. Against spoiled frames that pass the CRC-16 by chance (1 in 65,536)
stand those 96 bits of known values, and that both copies of the angle in the same reply agree within 0.02.
A command is a SET_MULTIPLE whose acknowledgement is not used at all: the numbered question that follows it in
the same write reads back what was set, and that must be the same float.

Simple mode answers OK, OU, OL or NO and nothing else, in order. So, after a reply that was late or spoiled, lines are
sent that are no commands, until there were as many NOs as such lines: whatever was asked before has then been
answered. Where noise ate a NO that never comes true; the line must then have been quiet for five timeouts. That is
weaker than the numbers of pro mode, but what could go wrong is one OK, and no angle is ever read in this mode.
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
from collections import Counter

import numpy as np

from foveate.clock import process_ns
from foveate.errors import OutOfRange, ProtocolError, Timeout
from foveate_drivers.mirrors import mre2_protocol as protocol
from foveate_drivers.mirrors.base import Angles
from foveate_drivers.serial_line import SerialLine

_TRIES = 3
_QUIET_TIMEOUTS = 5
_LONGEST_NOISE_NS = 1_000_000_000
_AGREE = 0.02  # two readings of x in one frame: at 1500 degrees a second x changes by 0.0044 in one loop of 100 us
_OUT_OF_RANGE = 0x0103
_TAGS = [list(names) for names in itertools.product(protocol.ROUTING, repeat=3)]


class ProLine:
    """The binary mode."""

    def __init__(self, line: SerialLine, timeout_s: float) -> None:
        self.line = line
        self.firmware = ""
        self.status = 0
        self.temperature_c = math.nan
        self.counters: Counter[str] = Counter(sent=0, received=0, spoiled=0, late=0, retried=0)
        self._timeout_ns = round(timeout_s * 1e9)
        self._deframer = protocol.Deframer()
        self._turn = 0
        self._code = 0  # of the last refusal
        self._lock = threading.Lock()
        rest = protocol.set_frame({"x": 0.0, "y": 0.0})
        # twice and a flag between: whether or not a flag that ends a cut frame also begins one, one of them is whole
        self.park_bytes = rest + b"\x7e" + rest

    def start(self) -> None:
        """Bring the board into pro mode, at rest, in closed loop. Raises Timeout, ProtocolError."""
        for _ in range(_TRIES):
            self.line.write(b"\r\nStart\r\nGoPro\r\n")  # noise to a board in pro mode, which its next frame ends
            until_ns, said = process_ns() + self._timeout_ns, b""
            while said.count(b"OK") < 2 and process_ns() < until_ns and (data := self.line.read(until_ns)):
                said += data
            self._deframer.reset()
            self.line.write(protocol.set_frame({"x": 0.0, "y": 0.0}))
            self.line.write(protocol.set_frame(dict(protocol.ROUTING)))
            try:
                major, minor = self._ask(["firmware_major", "firmware_minor"])[:2]
            except Timeout:
                continue
            self.firmware = ".".join(str(int.from_bytes(word, "big")) for word in (major, minor))
            return
        if self._code:
            raise ProtocolError(self.line.uri, "open", f"the board refuses: {protocol.error_name(self._code)}")
        raise Timeout(self.line.uri, "open", f"no MR-E-2 answers on {self.line.port}; check the port and the power")

    def command(self, xy: Angles) -> None:
        """Go to x, y; read back that they are set. Raises OutOfRange, ProtocolError, Timeout, Disconnected."""
        wanted = struct.pack(">2f", *xy)
        order = protocol.set_frame({"x": float(xy[0]), "y": float(xy[1])})
        with self._lock:
            for _ in range(_TRIES):
                self._code = 0
                got = self._ask(["x", "y", "status", "mirror_temperature"], order)
                self._note(got[2])
                self.temperature_c = float(int.from_bytes(got[3], "big", signed=True))
                if got[0] + got[1] == wanted:
                    return
                self.counters["retried"] += 1
        if self._code == _OUT_OF_RANGE:
            raise OutOfRange(self.line.uri, "x, y", f"{xy[0]:.4f}, {xy[1]:.4f}", -1, 1)
        why = protocol.error_name(self._code) if self._code else "it kept another angle"
        raise ProtocolError(self.line.uri, "move", f"the board did not take the command: {why}")

    def measure(self) -> Angles:
        """x, y as the optical feedback has them. Raises Timeout, Disconnected."""
        with self._lock:
            for _ in range(_TRIES):
                got = self._ask(["feedback_x", "feedback_y", "status", "feedback_x", "feedback_y"])
                first = np.frombuffer(got[0] + got[1], ">f4").astype(np.float64)
                again = np.frombuffer(got[3] + got[4], ">f4").astype(np.float64)
                if np.abs(first - again).max() <= _AGREE and math.hypot(*first) <= 1.1:  # false for NaN
                    self._note(got[2])
                    return first
                self.counters["spoiled"] += 1
        raise ProtocolError(self.line.uri, "read the angle", "the board's readings contradict each other")

    def _note(self, status: bytes) -> None:
        self.status = int.from_bytes(status, "big")

    def _ask(self, names: list[str], before: bytes = b"") -> list[bytes]:
        """The registers' values, 4 bytes each; `before` goes out in the same write. Raises Timeout, Disconnected."""
        for attempt in range(_TRIES):
            self._turn = (self._turn + 1) % len(_TAGS)
            tags = _TAGS[self._turn]
            known = struct.pack(">3i", *(protocol.ROUTING[tag] for tag in tags))
            self.counters["sent"] += 1
            self.counters["retried"] += attempt > 0
            self.line.write(before + protocol.get_frame(tags + names))
            until_ns, spoiled = process_ns() + self._timeout_ns, self.counters["spoiled"]
            end_ns = until_ns + self._timeout_ns  # of one who talks without a pause
            # a spoiled frame was the answer as likely as not: ask again at once, the number tells them apart
            while self.counters["spoiled"] == spoiled and process_ns() < end_ns and (data := self.line.read(until_ns)):
                for frame in self._deframer.feed(data):
                    values = self._answer(frame, known, len(names))
                    if values is not None:
                        return values
        hint = f"no answer within {_TRIES * self._timeout_ns / 1e6:g} ms"
        said = f"; the board said {protocol.error_name(self._code)}" if self._code else ""
        raise Timeout(self.line.uri, "ask", hint + said)

    def _answer(self, frame: protocol.Frame, known: bytes, count: int) -> list[bytes] | None:
        """The values of a frame that answers the present question; counts the others."""
        if not frame.whole:
            self.counters["spoiled"] += 1
            return None
        self.counters["received"] += 1
        if frame.command & protocol.REFUSED and len(frame.payload) == 4:
            self._code = int.from_bytes(frame.payload, "big")
            return None
        if frame.command != protocol.GET_MULTIPLE:
            return None  # the acknowledgement of a command, which proves nothing
        words = [frame.payload[at : at + 4] for at in range(2, len(frame.payload), 4)]
        if len(words) != count + 3 or len(frame.payload) != 4 * count + 14 or b"".join(words[:3]) != known:
            self.counters["late"] += 1
            return None
        return words[3:]


class SimpleLine:
    """The ASCII mode: four decimals of x and y, no readback."""

    park_bytes = b"\r\nxy= 0.0000;0.0000\r\n"
    firmware = ""

    def __init__(self, line: SerialLine, timeout_s: float) -> None:
        self.line = line
        self.status = 0
        self.temperature_c = math.nan
        self.counters: Counter[str] = Counter(sent=0, received=0, spoiled=0, late=0, retried=0)
        self._timeout_ns = round(timeout_s * 1e9)
        self._data = b""
        self._owed = 0  # NOs to come
        self._lock = threading.Lock()

    def start(self) -> None:
        """See that a board in simple mode is there. Raises Timeout."""
        self.line.write(protocol.frame(protocol.SET_MODE, b"\x00") + b"\r\n")  # for one that is in pro mode
        with self._lock:
            self._in_step("open")
            self._ask("Start")

    def command(self, xy: Angles) -> None:
        """Go to x, y, cut towards rest to four decimals. Raises OutOfRange, ProtocolError, Timeout, Disconnected."""
        x, y = (math.trunc(float(value) * 1e4) / 1e4 for value in xy)
        with self._lock:
            self._ask(f"xy= {x:.4f};{y:.4f}")

    def measure(self) -> Angles | None:
        """None: this mode does not tell."""
        return None

    def _ask(self, text: str) -> None:
        for attempt in range(_TRIES):
            self.counters["retried"] += attempt > 0
            if self._lines(0):  # what comes unasked belongs to no question of ours
                self.counters["late"] += 1
                self._in_step(text)
            self._write(text)
            until_ns = process_ns() + self._timeout_ns
            replies = self._lines(until_ns)
            while replies == [] and process_ns() < until_ns + self._timeout_ns:
                replies = self._lines(until_ns)
            if replies == [b"OK"]:
                return
            if replies in ([b"OU"], [b"OL"]):
                raise OutOfRange(self.line.uri, "x, y", text, -1, 1)
            self._in_step(text)
        raise Timeout(self.line.uri, f"send '{text}'", f"it was not acknowledged in {_TRIES} tries")

    def _in_step(self, doing: str) -> None:
        """Bring question and answer together again: lines that are no commands, until each has had its NO."""
        for _ in range(_TRIES):
            if self._told():
                return
        end_ns = process_ns() + _LONGEST_NOISE_NS
        quiet_ns = _QUIET_TIMEOUTS * self._timeout_ns
        while process_ns() < end_ns and self._lines(process_ns() + quiet_ns) is not None:
            pass
        self._owed = 0  # some NOs were lost, and nothing is as late as this
        if not self._told():
            raise Timeout(self.line.uri, f"do '{doing}'", f"no MR-E-2 in simple mode answers on {self.line.port}")

    def _told(self) -> bool:
        """Whether a line that is no command, and all such lines before it, are answered within the timeout."""
        self._owed += 1
        self._write("foveate?")
        until_ns = process_ns() + self._timeout_ns
        while self._owed and process_ns() < until_ns + self._timeout_ns and self._lines(until_ns) is not None:
            pass
        return not self._owed

    def _write(self, text: str) -> None:
        self.counters["sent"] += 1
        self.line.write(text.encode() + b"\r\n")

    def _lines(self, until_ns: int) -> list[bytes] | None:
        """Replies that have come, without the NOs that were owed; None when the time is over."""
        data = self.line.read(until_ns)
        if not data:
            return None
        *lines, self._data = (self._data + data).split(b"\r\n")
        self._data = self._data[-64:]
        replies = []
        for line in lines:
            if line == b"NO" and self._owed:
                self._owed -= 1
            elif line in (b"OK", b"OU", b"OL"):
                self.counters["received"] += 1
                replies.append(line)
            else:
                self.counters["spoiled"] += 1
                replies.append(b"?")
        return replies
