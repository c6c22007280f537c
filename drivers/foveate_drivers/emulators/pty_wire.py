"""The device's end of a serial cable: a pseudo terminal that can be unplugged, under a name that stays."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import tempfile
import threading
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path

from foveate.clock import process_ns
from foveate.errors import Busy, NotFound
from foveate_drivers.emulators.base import serve
from foveate_drivers.emulators.faults import FaultPlan


class PtyWire:
    """A raw pty behind the link `path`; what arrives goes to `heard` in the serving thread, which may `send`.

    Replies keep their order, as on a cable: one that is delayed holds up those after it.
    """

    def __init__(self, name: str, link: Path | None, faults: FaultPlan, heard: Callable[[bytes], None]) -> None:
        self.faults = faults
        self.path = Path()
        self.counters = {"bytes in": 0, "replies": 0, "dropped": 0, "delayed": 0, "spoiled": 0, "unplugged": 0}
        self._name = name
        self._link = link
        self._heard = heard
        self._own_folder: Path | None = None
        self._master = self._slave = -1
        self._lock = threading.Lock()  # the descriptors, between the serving thread and who pulls the cable
        self._leaving: deque[tuple[int, bytes]] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None

    def start(self) -> None:
        """Raises Busy where something else than an old link is at `link`."""
        if self._link is None:
            self._own_folder = Path(tempfile.mkdtemp(prefix=f"foveate-{self._name}-"))
            self._link = self._own_folder / self._name
        self.path = self._link
        if self.path.exists() and not self.path.is_symlink():
            raise Busy(str(self.path), "emulate a port there", "a file is in the way")
        if not self.path.parent.is_dir():
            raise NotFound(str(self.path), "emulate a port there", "its folder does not exist")
        self._stop.clear()
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._started_ns = process_ns()
        self.plug()
        self._thread = serve(self._name, self._serve)

    def stop(self) -> None:
        """Unplug and join; may be called twice."""
        self._stop.set()
        self.unplug(count=False)
        if self._thread is not None:
            self._poke()
            self._thread.join()
            self._thread = None
        if self._wake is not None:
            for end in self._wake:
                os.close(end)
            self._wake = None
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)
            self._own_folder = self._link = None

    def plug(self) -> None:
        """A new pty under the same name."""
        with self._lock:
            if self._master >= 0:
                return
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            new = self.path.with_name(self.path.name + ".new")
            new.unlink(missing_ok=True)
            new.symlink_to(os.ttyname(self._slave))
            new.replace(self.path)
        self._poke()

    def unplug(self, count: bool = True) -> None:
        """Close the master: who has the port open sees a hang-up."""
        with self._lock:
            if self._master < 0:
                return
            self.path.unlink(missing_ok=True)
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            self._leaving.clear()
            self.counters["unplugged"] += count
        self._poke()

    def send(self, reply: bytes) -> None:
        """A reply, subject to the fault plan."""
        faults = self.faults
        if faults.hits(faults.drop):
            self.counters["dropped"] += 1
            return
        if faults.hits(faults.garbage):
            self.counters["spoiled"] += 1
            reply = faults.spoil(reply)
        self.counters["replies"] += 1
        due_ns = 0
        if faults.delay_s > 0 and faults.hits(faults.delay):
            self.counters["delayed"] += 1
            due_ns = process_ns() + round(faults.delay_s * 1e9)
        self._leaving.append((due_ns, reply))
        self._flush()

    def _flush(self) -> None:
        """Write what is due."""
        with self._lock:
            while self._leaving and self._leaving[0][0] <= process_ns() and self._master >= 0:
                _, reply = self._leaving.popleft()
                with contextlib.suppress(OSError):  # nobody reads: a full port loses bytes, as a cable does
                    os.write(self._master, reply)

    def _poke(self) -> None:
        if self._wake is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake[1], b".")

    def _serve(self) -> None:
        assert self._wake is not None
        wake = self._wake[0]
        while not self._stop.is_set():
            poller = select.poll()
            poller.register(wake, select.POLLIN)
            master = self._master
            if master >= 0:
                with contextlib.suppress(OSError):
                    poller.register(master, select.POLLIN)
            ready = [fd for fd, _ in poller.poll(self._timeout_ms())]
            if wake in ready:
                os.read(wake, 4096)
            self._planned()
            self._flush()
            if master in ready:
                self._hear(master)

    def _hear(self, master: int) -> None:
        with self._lock:
            if master != self._master:
                return
            try:
                data = os.read(master, 4096)
            except OSError:
                return
        self.counters["bytes in"] += len(data)
        self._heard(data)

    def _timeout_ms(self) -> float:
        """Until the next reply or planned fault is due, at most 50 ms."""
        leaving = self._leaving
        due_ns = leaving[0][0] if leaving else process_ns() + 50_000_000
        return min(max((due_ns - process_ns()) / 1e6, 0.0), 5.0 if self.faults.unplug_s is not None else 50.0)

    def _planned(self) -> None:
        """Unplug and replug when the plan says so."""
        plan = self.faults
        if plan.unplug_s is None:
            return
        now_s = (process_ns() - self._started_ns) / 1e9
        if now_s >= plan.unplug_s + (1e12 if plan.replug_s is None else plan.replug_s):
            plan.unplug_s = None
            self.plug()
        elif now_s >= plan.unplug_s:
            self.unplug(count=self._master >= 0)
            if plan.replug_s is None:
                plan.unplug_s = None
