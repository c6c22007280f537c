"""The live executor: a thread a node, messages by reference, bounded queues, the computer's clock."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any

from foveate.clock import LiveClock
from foveate.errors import EndOfStream, FoveateError
from foveate.messages import Message
from foveate.station import RECORDER, Inlet, RecorderStation, Station, Taken, failure

# A pure-Python neighbour holds the GIL for one switch interval: 5 ms by default, which delays a
# 240 Hz tick by a whole period half of the time; at 0.1 ms its 99th percentile lateness is 0.5 ms.
SWITCH_INTERVAL_S = 1e-4


def _one_thread_a_node() -> None:
    """Turn off OpenCV's own thread pool where a node uses OpenCV: it competes with the nodes' threads.

    On two cores the pool doubled the system time of the wide-area search and cost 3 % of its looks.
    """
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        opencv.setNumThreads(1)


_PATIENCE_S = 0.1  # how long a thread waits before it looks whether the run has ended
_IGNORED_S = 0.001  # a source whose failures are ignored must not spin
_DRAIN_S = 1.0  # how long nodes may work on after the sources have stopped


class _Seat:
    """A station's thread-side state: its lock, its wake-up line, and who waits for room."""

    __slots__ = ("idle", "lock", "room", "station", "thread", "wake")

    def __init__(self, station: Station) -> None:
        self.station = station
        self.lock = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.idle = False  # guarded by lock: nobody has woken it since it found nothing to do
        self.thread: threading.Thread | None = None


class LiveExecutor:
    """Runs stations in real time."""

    def __init__(self, clock: LiveClock) -> None:
        self._clock = clock
        self._seats: dict[str, _Seat] = {}
        self._halt = threading.Event()  # every thread ends now
        self._sources_stop = threading.Event()  # sources end now, the rest drains
        self._changed = threading.Event()  # something for the main thread to look at
        self._failure: FoveateError | None = None
        self._failure_lock = threading.Lock()

    def execute(self, made: Mapping[str, Station], duration_ns: int | None, stop: threading.Event) -> str:
        """See Executor.execute. Threads are joined before it returns or raises."""
        self._seats = {name: _Seat(station) for name, station in made.items()}
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        _one_thread_a_node()
        if not self._clock.started:
            self._clock.start()
        try:
            for name, seat in sorted(self._seats.items(), key=lambda pair: pair[1].station.is_source):
                if seat.station.stats.state == "failed":  # it could not be opened, and the run goes on without it
                    continue
                body = self._source if seat.station.is_source else self._worker
                seat.thread = threading.Thread(target=body, args=(seat,), name=name, daemon=True)
                seat.thread.start()
            why = self._watch(duration_ns, stop)
            self._drain()
        finally:
            self._halt.set()
            self._sources_stop.set()
            stuck = self._join()
            sys.setswitchinterval(before)
        if self._failure is not None:
            raise self._failure
        if stuck:
            raise FoveateError(f"node '{stuck[0]}' did not return from its step within 1 s of the stop")
        return why

    def _watch(self, duration_ns: int | None, stop: threading.Event) -> str:
        """Wait for the first reason to end."""
        while True:
            if stop.is_set():
                return "signal"
            if self._failure is not None:
                return "failure"
            if duration_ns is not None and self._clock.now_ns() >= duration_ns:
                return "duration"
            sources = [s for s in self._seats.values() if s.station.is_source]
            if all(s.station.stats.state in ("finished", "failed") for s in sources):
                return "end"
            left = 0.05 if duration_ns is None else (duration_ns - self._clock.now_ns()) / 1e9
            self._changed.wait(min(0.05, max(left, 0.0)))
            self._changed.clear()

    def _drain(self) -> None:
        """Stop the sources, let the others finish what is queued, at most `_DRAIN_S`."""
        self._sources_stop.set()
        deadline = self._clock.now_ns() + int(_DRAIN_S * 1e9)
        quiet = (-1, 0)
        while self._failure is None and self._clock.now_ns() < deadline:
            steps = sum(seat.station.stats.steps for seat in self._seats.values())
            if all(self._at_rest(seat) for seat in self._seats.values()):
                quiet = (steps, quiet[1] + 1 if quiet[0] == steps else 1)
                if quiet[1] >= 2:
                    return
            self._halt.wait(0.002)

    def _at_rest(self, seat: _Seat) -> bool:
        if seat.station.stats.state in ("finished", "failed"):
            return True
        with seat.lock:
            return seat.idle and not seat.station.ready(self._clock.now_ns())

    def _join(self) -> list[str]:
        """End the threads, the recorder last so that it keeps what the others still gave it."""
        for seat in self._seats.values():
            seat.wake.put(None)
            with seat.lock:
                seat.room.notify_all()
        deadline = self._clock.now_ns() + 1_000_000_000
        stuck = []
        for name, seat in self._seats.items():
            if seat.thread is not None:
                seat.thread.join(max(0.0, (deadline - self._clock.now_ns()) / 1e9))
                if seat.thread.is_alive():
                    stuck.append(name)
        if RECORDER in self._seats and RECORDER not in stuck and self._seats[RECORDER].station.stats.state != "failed":
            self._empty_recorder(self._seats[RECORDER].station)
        return stuck

    def _empty_recorder(self, station: Station) -> None:
        """Write what was put between the recorder's last look and the end of the other threads."""
        assert isinstance(station, RecorderStation)
        taken = Taken({}, 0)
        try:
            while station.ready(0):
                taken = station.consume(self._clock.now_ns())
                station.run(taken.arguments)
        except Exception as error:
            self._fail(station, taken.arguments, error)

    def _fail(self, station: Station, arguments: Mapping[str, Any], error: BaseException, why: str = "") -> None:
        station.stats.state = "failed"
        with self._failure_lock:
            if self._failure is None:
                self._failure = failure(station, arguments, error, why)
        self._sources_stop.set()
        self._halt.set()
        self._changed.set()

    def _source(self, seat: _Seat) -> None:
        station, clock, stop = seat.station, self._clock, self._sources_stop
        stats, taken = station.stats, Taken({}, 0)
        while not stop.is_set():
            try:
                due_ns = station.node.due_ns()
                if due_ns is not None:
                    stats.state = "waiting"
                    if not clock.wait_until(due_ns, stop):
                        break
                    stats.lateness.record(clock.now_ns() - due_ns)
                stats.state, stats.begun_ns = "working", clock.now_ns()
                taken = Taken({}, stats.begun_ns)
                self._finish(station, taken, station.run({}))
            except EndOfStream:
                break
            except Exception as error:
                if not self._survived(station, taken, error):
                    break
        if stats.state != "failed":
            stats.state = "finished"
        self._changed.set()

    def _worker(self, seat: _Seat) -> None:
        station = seat.station
        taken = Taken({}, 0)
        while not self._halt.is_set():
            try:
                if station.notices:
                    station.tell()
                with seat.lock:
                    now = self._clock.now_ns()
                    ready = station.ready(now)
                    seat.idle = not ready  # a producer may clear this as soon as the lock is free
                    if ready:
                        taken = station.consume(now)
                        seat.room.notify_all()
                if not ready:
                    self._rest(seat)
                    continue
                station.stats.state, station.stats.begun_ns = "working", self._clock.now_ns()
                self._finish(station, taken, station.run(taken.arguments))
            except EndOfStream:  # nothing more to do: then the run is over
                self._sources_stop.set()
            except Exception as error:
                if not self._survived(station, taken, error):
                    break
        with seat.lock:
            station.close_inlets()
            seat.room.notify_all()

    def _rest(self, seat: _Seat) -> None:
        """Wait until somebody has put something, or the time comes when waiting messages count otherwise."""
        seat.station.stats.state = "waiting"
        patience_s = _PATIENCE_S
        wake_ns = seat.station.wake_ns()
        if wake_ns is not None:
            patience_s = min(max((wake_ns - self._clock.now_ns()) / 1e9, 1e-4), _PATIENCE_S)
        try:
            seat.wake.get(timeout=patience_s)
        except queue.Empty:
            pass

    def _survived(self, station: Station, taken: Taken, error: BaseException) -> bool:
        """Do about a failure what the node's policy says; False: the run ends."""
        supervisor, stats = station.supervisor, station.stats
        station.done(taken, stats.begun_ns, self._clock.now_ns(), [], f"{type(error).__name__}: {error}")
        while True:
            verdict = supervisor.judge(error, self._clock.now_ns())
            if verdict.action == "ignore":
                return not self._halt.wait(_IGNORED_S if station.is_source else 0)
            if verdict.action == "stop":
                self._fail(station, taken.arguments, error, verdict.why)
                return False
            stats.state, stats.problem = "restarting", supervisor.last
            if self._halt.wait(verdict.delay_ns / 1e9):
                return False
            try:
                station.node = supervisor.revive(station.node, error)
            except Exception as another:
                error = another
                continue
            stats.problem = ""
            for target in station.downstream("restarted"):
                self._seats[target.name].wake.put(None)
            return True

    def _finish(self, station: Station, taken: Taken, pairs: list[tuple[str, Message]]) -> None:
        now, outputs = self._clock.now_ns(), []  # type: int, list[int]
        for output, message in pairs:  # first of all: whoever waits for it need not wait for the bookkeeping
            station.number(output, now, outputs)
            for target, inlet in station.targets[output]:
                self._put(station, self._seats[target.name], inlet, message, now)
        station.done(taken, station.stats.begun_ns, now, outputs)
        station.supervisor.keep_state(station.node)

    def _put(self, producer: Station, seat: _Seat, inlet: Inlet, message: Message, now_ns: int) -> None:
        wires = inlet.queue
        with seat.lock:
            if not wires.has_room:
                producer.stats.state, producer.stats.blocked_by = "blocked", str(inlet.wire)
                while not wires.has_room and not self._halt.is_set():
                    seat.room.wait(_PATIENCE_S)
                producer.stats.state, producer.stats.blocked_by = "working", ""
                now_ns = self._clock.now_ns()
                if not wires.has_room:  # the run ends: nobody will take it
                    wires.refuse("stopped", now_ns)
                    return
            wires.put(message, now_ns)
            wake = seat.idle
            seat.idle = False
        if wake:
            seat.wake.put(None)
