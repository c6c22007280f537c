"""An Ether Dream on TCP and UDP of this computer: the firmware's state machine before the twin of a mirror."""

from __future__ import annotations

import selectors
import socket
import threading
from collections import Counter
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from foveate.clock import LiveClock, process_ns
from foveate.errors import Busy, FoveateError
from foveate.node import Unit
from foveate_drivers.emulators.base import Emulator, serve
from foveate_drivers.emulators.etherdream_dac import Dac
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.mirrors import etherdream_protocol as wire
from foveate_drivers.mirrors.sim import SimMirror

_TICK_S = 0.001
_MOST_STALL_NS = 3_000_000  # of the emulator's thread; beyond it, it is the computer that is late, not the client
_KNOT_POINTS = 4  # the twin is given every so many moving points: a mirror does not follow single ones
_ANNOUNCE_NS = 1_000_000_000
_MOST_BYTES = 65536


class EtherDreamEmulator(Emulator):
    """Any number of connections, as the firmware takes them; an unknown command closes its connection.

    Faults: drop, delay, garbage (of replies), nak (a right command is refused), unplug, replug (the cable: silence,
    no end of the connection), underrun (the ring runs dry), temperature: above 60 C the light engine cools down.
    """

    twin = "mirror"

    def __init__(
        self,
        *,
        mirror: SimMirror | None = None,
        address: str = "127.0.0.1",
        port: Annotated[int, Ge(0), Le(65535)] = wire.TCP_PORT,
        announce: Annotated[int, Ge(0), Le(65535)] = wire.UDP_PORT,
        full_scale: Annotated[float, Unit("rad"), Gt(0), Le(0.6)] = 0.26,
        faults: FaultPlan | None = None,
    ) -> None:
        """`port` 0: any free one; `announce`: the UDP port of the broadcasts, 0 = none; `full_scale`: at 32767."""
        self._mirror = mirror
        self._address = address
        self._port = port
        self._announce = announce
        self._full_scale = full_scale
        self.faults = faults or FaultPlan()
        self.clock = LiveClock()
        self.dac = Dac()
        self.lit = 0  # points with any light on
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._plugged = self._listening = True
        self._changed = threading.Event()
        self._at = np.zeros(2, np.int64)  # what is put out
        self._seen_ns = self._stalled_ns = 0

    def start(self) -> None:
        self._listener = self._listen()
        self._port = self._listener.getsockname()[1]
        self.uri = f"etherdream:{self._address}:{self._port}"
        if not self.clock.started:
            self.clock.start()
        self._opened = self._mirror is not None and self._mirror._clock is None
        if self._opened and self._mirror is not None:
            self._mirror.open(self.clock)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._stopping.clear()
        self._when = {name: getattr(self.faults, name) for name in ("unplug_s", "replug_s", "underrun_s")}
        self._thread = serve("etherdream", self._run)

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._address, self._port))
            listener.listen()
        except OSError as error:
            listener.close()
            where = f"{self._address}:{self._port}"
            raise Busy("etherdream", f"listen on {where}", error.strerror or "the address is taken") from None
        listener.setblocking(False)
        return listener

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None
            if self._opened and self._mirror is not None:
                self._mirror.close()

    def unplug(self) -> None:
        self._set_plug(False)

    def replug(self) -> None:
        self._set_plug(True)

    def _set_plug(self, plugged: bool) -> None:
        """Returns once the wire is as told."""
        self._changed.clear()
        self._plugged = plugged
        if self._thread is not None and self._listening != plugged:
            self._changed.wait(1.0)

    def estop(self) -> None:
        """Somebody pressed the button on the DAC."""
        with self._lock:
            self.dac.stop(wire.ESTOPPED)
            self.dac.light = wire.LIGHT_ESTOP

    def counters(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    # the thread of the emulator

    def _run(self) -> None:
        begun_ns = process_ns()
        announced_ns = begun_ns - _ANNOUNCE_NS
        buffers: dict[socket.socket, bytearray] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                self._scheduled((process_ns() - begun_ns) / 1e9)
                if self._plugged != self._listening:
                    self._plug(selector, buffers)
                    self._changed.set()
                ready = selector.select(_TICK_S)
                self._play()
                for key, _ in ready:
                    sock: Any = key.fileobj
                    if not self._plugged:
                        break
                    if sock is self._listener:
                        self._accept(selector, buffers)
                    elif not self._serve(sock, buffers[sock]):
                        self._drop(selector, buffers, sock)
                if self._announce and self._plugged and process_ns() - announced_ns >= _ANNOUNCE_NS:
                    announced_ns = process_ns()
                    self._broadcast()
            for sock in list(buffers):
                self._drop(selector, buffers, sock)
        self._listener.close()
        self._udp.close()

    def _scheduled(self, t_s: float) -> None:
        """The faults whose moment has come."""
        plan, when = self.faults, self._when
        if when["unplug_s"] is not None and t_s >= when["unplug_s"]:
            when["unplug_s"] = None
            when["replug_s"] = None if when["replug_s"] is None else t_s + when["replug_s"]
            self._plugged = False
        elif not self._plugged and when["replug_s"] is not None and t_s >= when["replug_s"]:
            when["replug_s"] = None
            self._plugged = True
        if when["underrun_s"] is not None and t_s >= when["underrun_s"]:
            when["underrun_s"] = None
            with self._lock:
                self._counts["underrun"] += 1
                self.dac.stop(wire.UNDERFLOW)
        if plan.temperature_c is not None and self.dac.light in (wire.READY, wire.COOLDOWN):
            with self._lock:
                hot = plan.temperature_c > 60
                if hot and self.dac.light == wire.READY:
                    self.dac.stop()
                self.dac.light = wire.COOLDOWN if hot else wire.READY

    def _plug(self, selector: selectors.BaseSelector, buffers: dict[socket.socket, bytearray]) -> None:
        """Without a cable nobody is heard: open connections stay silent, new ones find nobody."""
        self._listening = self._plugged
        if self._listening:
            for sock in list(buffers):  # the other side gave these up, or will
                self._drop(selector, buffers, sock)
            self._listener = self._listen()
            selector.register(self._listener, selectors.EVENT_READ)
            return
        self._counts["unplug"] += 1
        selector.unregister(self._listener)
        self._listener.close()
        for sock in buffers:
            selector.unregister(sock)

    def _accept(self, selector: selectors.BaseSelector, buffers: dict[socket.socket, bytearray]) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        buffers[sock] = bytearray()
        selector.register(sock, selectors.EVENT_READ)
        self._counts["connections"] += 1
        self._send(sock, wire.Response(wire.ACK, wire.PING, self.dac.status()).pack())

    @staticmethod
    def _drop(selector: selectors.BaseSelector, buffers: dict[socket.socket, bytearray], sock: socket.socket) -> None:
        try:
            selector.unregister(sock)
        except KeyError:
            pass
        buffers.pop(sock, None)
        sock.close()

    def _serve(self, sock: socket.socket, buffer: bytearray) -> bool:
        """Take in what came and answer whole commands; False = the connection is over."""
        try:
            chunk = sock.recv(_MOST_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not chunk:
            return False
        buffer += chunk
        while buffer:
            command = buffer[0]
            if command not in wire.BODY_BYTES:
                self._counts["unknown"] += 1
                return False
            end = 1 + wire.BODY_BYTES[command]
            if command == wire.DATA and len(buffer) >= end:
                end += wire.POINT.itemsize * int.from_bytes(buffer[1:3], "little")
            if len(buffer) < end:
                return True
            body = bytes(buffer[1:end])
            del buffer[:end]
            self._counts["commands"] += 1
            if not self._answer(sock, command, body):
                return False
        return True

    def _answer(self, sock: socket.socket, command: int, body: bytes) -> bool:
        if command == wire.VERSION:
            return self._send(sock, b"foveate emulator".ljust(wire.VERSION_BYTES, b"\0"))
        if command != wire.PING and self.faults.hits(self.faults.nak):
            self._counts["nak"] += 1
            answer = wire.INVALID
        else:
            with self._lock:
                answer = self._carry_out(command, body)
        with self._lock:
            return self._send(sock, wire.Response(answer, command, self.dac.status()).pack())

    def _carry_out(self, command: int, body: bytes) -> int:
        dac = self.dac
        if command == wire.DATA:
            points = np.frombuffer(body[2:], wire.POINT).copy()
            self.lit += int(points["color"].any(axis=1).sum())
            return dac.add(points) if len(points) else wire.ACK
        if command == wire.PREPARE:
            return wire.ACK if dac.prepare() else wire.INVALID
        if command in (wire.BEGIN, wire.UPDATE, wire.QUEUE_RATE):
            rate = int.from_bytes(body[-4:], "little")
            if rate > wire.MOST_RATE:
                return wire.INVALID
            if command == wire.QUEUE_RATE:
                return wire.ACK if dac.queue_rate(rate) else wire.FULL
            if command == wire.BEGIN:
                dac.start(rate, self._now_ns())
            else:
                dac.rate = rate
        elif command == wire.STOP:
            if dac.playback == wire.IDLE:
                return wire.INVALID
            dac.stop()
        elif command == wire.CLEAR:
            if dac.light == wire.LIGHT_ESTOP:
                dac.light = wire.READY
                dac.flags &= ~wire.ESTOPPED
            return wire.ACK if dac.light == wire.READY else wire.STOPPED
        elif command in (wire.ESTOP, wire.ESTOP_TOO):
            dac.stop(wire.ESTOPPED)
            dac.light = wire.LIGHT_ESTOP
        return wire.ACK

    def _send(self, sock: socket.socket, reply: bytes) -> bool:
        plan = self.faults
        if plan.hits(plan.drop):
            self._counts["drop"] += 1
            return True
        if plan.delay_s > 0 and plan.hits(plan.delay):
            self._counts["delay"] += 1
            self._stopping.wait(plan.delay_s)
            self._seen_ns = process_ns()  # the DAC plays on meanwhile
        if plan.hits(plan.garbage):
            self._counts["garbage"] += 1
            reply = plan.spoil(reply)
        try:
            sock.sendall(reply)
        except OSError:
            return False
        self._counts["replies"] += 1
        return True

    def _broadcast(self) -> None:
        packet = wire.Broadcast(b"\x02foved", 1, 2, wire.USABLE, wire.MOST_RATE, self.dac.status()).pack()
        try:
            self._udp.sendto(packet, (self._address, self._announce))
        except OSError:
            pass  # nobody needs to listen
        self._counts["broadcasts"] += 1

    def _now_ns(self) -> int:
        """The DAC's time: it stands still while this thread is not let run, for then what a client sent lies unread."""
        return process_ns() - self._stalled_ns

    def _play(self) -> None:
        """Put out the points whose time has come, and move the twin by them."""
        late_ns = process_ns() - self._seen_ns
        if self._seen_ns and late_ns > _MOST_STALL_NS:
            self._stalled_ns += late_ns - round(_TICK_S * 1e9)
            self._counts["stalls"] += 1
        self._seen_ns = process_ns()
        with self._lock:
            now_ns = self._now_ns()
            points, times = self.dac.play(now_ns)
            self._counts["points"] += len(points)
            xy = np.column_stack([points["x"], points["y"]]).astype(np.int64)
            if self.dac.playback != wire.PLAYING and (len(points) or self._at.any()):
                xy = np.vstack([xy, np.zeros((1, 2), np.int64)])  # stopped: 0 V
                times = np.append(times, max(now_ns, int(times[-1]) + 1 if len(times) else 0))
        moved = np.flatnonzero((np.diff(xy, axis=0, prepend=self._at[None]) != 0).any(axis=1))
        if len(moved) == 0 or self._mirror is None:
            self._at = xy[-1] if len(xy) else self._at
            return
        self._at = xy[-1]
        knots = sorted({int(moved[0]), *moved[_KNOT_POINTS - 1 :: _KNOT_POINTS].tolist(), int(moved[-1])})
        angle = wire.angles(xy[knots, 0], xy[knots, 1], self._full_scale)
        limit = self._mirror.limit_rad
        try:
            late_ns = self._now_ns() - now_ns  # since then
            self._mirror.stream(((times[knots] - now_ns - late_ns) / 1e9).tolist(), np.clip(angle, -limit, limit))
        except FoveateError:
            self._counts["refused by the twin"] += 1
