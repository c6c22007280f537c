"""A sender of dv-processing's network stream on this computer: AEDAT4 packets over TCP, from any event camera."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from foveate.clock import Clock, LiveClock
from foveate.errors import Busy, EndOfStream, FoveateError, StateError, Timeout
from foveate.messages import Events, Stamp
from foveate_drivers.emulators.base import Emulator, serve
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.events.base import EventCamera
from foveate_drivers.events.dv_protocol import endpoint
from foveate_logbook.formats.events.aedat4_write import head, packet
from foveate_logbook.formats.events.base import Block

_TICK_NS = 10_000_000  # a camera is waited for so long before the connections are looked at again
_STEP_NS = 1_000_000
_MOST_WAITING = 8 << 20  # bytes that are kept for a client that does not read; more are dropped for it


class EventPattern(EventCamera):
    """A bar 8 pixels wide that moves a column a millisecond over 320 x 240: bright at its front, dark at its back."""

    width, height = 320, 240

    def __init__(self, milliseconds: int = 10) -> None:
        """`milliseconds`: of a packet."""
        self._clock: Clock | None = None
        self._steps = milliseconds
        self._begin_ns = 0  # of the next packet

    def open(self, clock: Clock) -> None:
        self._clock, self._begin_ns = clock, clock.now_ns()

    def close(self) -> None:
        self._clock = None

    def due_ns(self) -> int:
        return self._begin_ns + self._steps * _STEP_NS

    def read(self, timeout_s: float) -> Events:
        if self._clock is None:
            raise StateError(self.uri, "read", "it is not open")
        if self._clock.now_ns() < self.due_ns():
            raise Timeout(self.uri, "read", f"no packet within {timeout_s:g} s")
        begin_ns = self._begin_ns
        step = begin_ns // _STEP_NS + np.arange(self._steps)
        rows = np.arange(self.height, dtype=np.uint16)
        # each step: a column of dark events behind, one of bright ones in front, a row every 2 us
        column = np.stack([step - 8, step], axis=1)[:, :, None] % self.width
        x, y = (a.astype(np.uint16).ravel() for a in np.broadcast_arrays(column, rows))
        sign = np.broadcast_to(np.array([0, 1], np.uint8)[None, :, None], (step.size, 2, self.height)).ravel()
        within = np.arange(2 * self.height) * 2000
        t = (begin_ns + np.arange(self._steps)[:, None] * _STEP_NS + within).ravel()
        length_ns = self._steps * _STEP_NS
        self._begin_ns += length_ns
        stamp = Stamp(begin_ns + length_ns // 2, length_ns)
        return Events(stamp, t, x, y, sign.copy(), self.width, self.height)


@dataclass
class _Client:
    """A connection and what waits to be sent over it."""

    connection: socket.socket
    waiting: deque[memoryview] = field(default_factory=deque)
    size: int = 0

    def push(self) -> bool:
        """Send what goes without waiting; False where the client is gone."""
        try:
            while self.waiting:
                sent = self.connection.send(self.waiting[0])
                self.size -= sent
                if sent < len(self.waiting[0]):
                    self.waiting[0] = self.waiting[0][sent:]
                    break
                self.waiting.popleft()
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


class DvStreamEmulator(Emulator):
    """Any number of clients; each gets the packets from when it connects on.

    Times on the wire are Unix time in microseconds. Unplugged, the sender is gone: connections end, none is taken.
    Faults: drop, delay, garbage (of packets), unplug, replug, clock_jump.
    """

    twin = "events"

    def __init__(
        self, *, events: EventCamera | None = None, address: str = "127.0.0.1:7777", faults: FaultPlan | None = None
    ) -> None:
        """`events`: where they come from, None for a test pattern; port 0: any free one. Raises FoveateError."""
        where = endpoint(address)
        if where is None or where[0] not in ("127.0.0.1", "localhost", "::1"):
            raise FoveateError(f"dv: cannot listen on '{address}': an emulator takes 127.0.0.1:PORT")
        self._host, self._port = where
        self._camera = events if events is not None else EventPattern()
        self.faults = faults or FaultPlan()
        self.clock = LiveClock()
        self._counts: Counter[str] = Counter()
        self._clients: list[_Client] = []
        self._later: deque[tuple[int, bytes]] = deque()  # delayed packets and when they are due
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._jump_ns = 0
        self._when: dict[str, float] = {}  # moments of the plan that are still to come, in seconds
        self._opened = False

    def start(self) -> None:
        self._listen()
        assert self._listener is not None
        self._port = self._listener.getsockname()[1]
        self.uri = f"dv:{self._host}:{self._port}"
        if not self.clock.started:
            self.clock.start()
        if getattr(self._camera, "_clock", None) is None:
            self._camera.open(self.clock)
            self._opened = True
        self._begin_ns = self.clock.now_ns()
        self._stopping.clear()
        self._jump_ns = 0
        moments = {"unplug": self.faults.unplug_s, "clock_jump": self.faults.clock_jump_at_s}
        self._when = {name: moment for name, moment in moments.items() if moment is not None}
        self._thread = serve("dv", self._run)

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
            listener.listen()
        except OSError as error:
            listener.close()
            where = f"{self._host}:{self._port}"
            raise Busy("dv", f"listen on {where}", error.strerror or "the address is taken") from None
        listener.setblocking(False)
        self._listener = listener

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None
        self._hang_up()
        if self._opened:
            self._camera.close()
            self._opened = False

    def unplug(self) -> None:
        self._hang_up()

    def replug(self) -> None:
        if self._listener is None:
            self._listen()

    def _hang_up(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        clients, self._clients = self._clients, []
        for client in clients:
            client.connection.close()

    def counters(self) -> dict[str, int]:
        return dict(self._counts)

    def _run(self) -> None:
        ended = False
        while not self._stopping.is_set():
            now_ns = self.clock.now_ns()
            self._fate((now_ns - self._begin_ns) / 1e9)
            self._accept()
            if not ended:
                try:
                    self._put(self._camera_read())
                except EndOfStream:
                    ended = True
                except (Timeout, StateError):
                    self._stopping.wait(0.001)
            else:
                self._stopping.wait(0.01)
            while self._later and self._later[0][0] <= self.clock.now_ns():
                self._send(self._later.popleft()[1])
            self._push()

    def _camera_read(self) -> Events:
        due_ns = self._camera.due_ns()
        if due_ns is not None:
            self.clock.wait_until(min(due_ns, self.clock.now_ns() + _TICK_NS), self._stopping)
            return self._camera.read(0.0)
        return self._camera.read(_TICK_NS / 1e9)

    def _fate(self, now_s: float) -> None:
        """What the plan has for this moment."""
        when = self._when
        if now_s >= when.get("unplug", np.inf):
            self.unplug()
            self._counts["unplugged"] += 1
            if self.faults.replug_s is not None:
                when["replug"] = when["unplug"] + self.faults.replug_s
            del when["unplug"]
        if now_s >= when.get("replug", np.inf):
            self.replug()
            del when["replug"]
        if now_s >= when.get("clock_jump", np.inf):
            self._jump_ns = round(self.faults.clock_jump_s * 1e9)
            self._counts["clock_jumps"] += 1
            del when["clock_jump"]

    def _accept(self) -> None:
        while (listener := self._listener) is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Client(connection)
            first = head(self._camera.width, self._camera.height, "foveate emulator")
            client.waiting.append(memoryview(first))
            client.size += len(first)
            self._clients.append(client)
            self._counts["clients"] += 1

    def _put(self, events: Events) -> None:
        """One packet on its way, or what the plan makes of it."""
        t_ns = events.t_ns + (self.clock.wall_start_ns + self._jump_ns)
        data = packet(Block(t_ns, events.x, events.y, events.polarity))
        self._counts["packets"] += 1
        self._counts["events"] += int(events.t_ns.size)
        plan = self.faults
        if plan.hits(plan.drop):
            self._counts["dropped"] += 1
            return
        if plan.hits(plan.garbage):
            self._counts["garbage"] += 1
            data = plan.spoil(data)
        late_ns = round(plan.delay_s * 1e9) if plan.delay_s and plan.hits(plan.delay) else 0
        if late_ns or self._later:  # a stream keeps its order
            self._counts["delayed"] += bool(late_ns)
            self._later.append((self.clock.now_ns() + late_ns, data))
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        for client in self._clients:
            if client.size + len(data) > _MOST_WAITING:
                self._counts["not_sent"] += 1  # this client does not read: the whole packet is left out for it
                continue
            client.waiting.append(memoryview(data))
            client.size += len(data)

    def _push(self) -> None:
        for client in list(self._clients):
            if not client.push():
                with contextlib.suppress(ValueError):
                    self._clients.remove(client)
                client.connection.close()
