"""A process that parks a device when its driver cannot: silent, stopped, hung in the interpreter, or killed.

A thread of the driver's own process would be blind while anything holds the interpreter's lock (1.5 s was measured
for the sorting of a list), and stop or die with it. So the guardian is another process, in a session of its own. It
holds the wire's descriptor and gets one byte with each command. On silence longer than the deadline, or when the
driver's process ends (a pidfd says so even where a forked child keeps the pipe open), it writes the bytes that park
the device. What ends both at once (a power cut, a control group killed as a whole) only a watchdog in the device
survives.

Measured on 2 cores: 9 to 11 ms until it is ready, 9.8 MB resident (3.8 MB of its own), 2.6 us a beat; with a deadline
of 90 ms the bytes are on the wire 90.3 ms after the last beat, and 3 ms after the process was killed.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

from foveate.clock import process_ns
from foveate.errors import Disconnected, NotSupported, Timeout
from foveate_drivers.mirrors import guardian_process

_START_S = 5.0
_END_S = 2.0


class Guardian:
    """Parks the device behind `fd` by writing `park` after `deadline_s` without a `beat`, and when this process ends.

    The bytes must end a half-written frame and mean the same wherever they come. Beat before each command, so that
    the deadline runs whatever happens while it is written, and after it. Silence after a parking is not parked again.
    With `deadline_s` = 0 only the end of the process counts. Raises Timeout or NotSupported where the process does not
    start.
    """

    def __init__(self, fd: int, park: bytes, deadline_s: float, uri: str = "") -> None:
        self._uri = uri
        self.parks = 0  # how often it has parked so far, as far as `parked` has seen
        self._parks_at_beat = 0
        self._beaten_ns = 0
        self._apart_ns = round((deadline_s or 1.0) * 1e9 / 20)
        deadline_ms = max(1, round(deadline_s * 1e3)) if deadline_s > 0 else 0
        made: list[int] = []
        try:
            life = os.pidfd_open(os.getpid())
            made.append(life)
            beats, self._beats = os.pipe2(os.O_CLOEXEC)
            made += beats, self._beats
            self._notes, notes = os.pipe2(os.O_CLOEXEC)
            made += self._notes, notes
            os.set_blocking(self._beats, False)
            os.set_blocking(self._notes, False)
            inherited = (fd, life, beats, notes)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(guardian_process.__file__)), *map(str, inherited),
                 str(deadline_ms), park.hex()],
                pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            for used in made:
                os.close(used)
            why = error.strerror or type(error).__name__
            raise NotSupported(uri, "start its guardian process", why) from None
        for used in (life, beats, notes):
            os.close(used)
        poller = select.poll()
        poller.register(self._notes, select.POLLIN)
        if not poller.poll(_START_S * 1e3) or os.read(self._notes, 1) != guardian_process.READY:
            self.close()
            raise Timeout(uri, "start its guardian process", f"it was not ready within {_START_S:g} s")

    def beat(self) -> None:
        """A command comes, or has gone. Raises Disconnected where the guardian is dead: command nothing then.

        One that comes within a twentieth of the deadline after another is not passed on: it would wake the guardian
        for nothing, and the wait that runs ends at most that much early.
        """
        now_ns = process_ns()
        if now_ns - self._beaten_ns < self._apart_ns:
            return
        self._beaten_ns = now_ns
        self._read_notes()
        self._parks_at_beat = self.parks
        try:
            os.write(self._beats, guardian_process.BEAT)
        except BlockingIOError:
            pass  # 65,536 beats are waiting for it: one more would say nothing new
        except OSError:
            raise Disconnected(self._uri, "command", "its guardian process has died; close and open it") from None

    @property
    def parked(self) -> bool:
        """Whether it has parked the device since the last beat."""
        self._read_notes()
        return self.parks != self._parks_at_beat

    def _read_notes(self) -> None:
        try:
            self.parks += os.read(self._notes, 4096).count(guardian_process.PARKED)
        except (BlockingIOError, OSError):
            pass

    def close(self) -> None:
        """End it; the driver has parked the device. May be called twice."""
        if self._beats < 0:
            return
        try:
            os.write(self._beats, guardian_process.QUIT)
        except OSError:
            self._process.kill()  # it does not read, or is dead
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._beats)
        os.close(self._notes)
        self._beats = self._notes = -1
