"""The virtual executor: one thread, simulated time, the same result every time.

Events are ordered by (time, rank of the node, number). A step consumes at its start, and its outputs
leave after the step's declared cost; the node is busy in between. Closed loops work.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Mapping

from foveate.clock import VirtualClock
from foveate.errors import EndOfStream, FoveateError
from foveate.messages import Message
from foveate.station import RECORDER, Station, Taken, failure

_HASTE = 100_000  # steps at one moment of simulated time before the loop is called endless


class Place:
    """A station's scheduling state."""

    def __init__(self, station: Station, rank: int, cost_ns: int) -> None:
        self.station = station
        self.rank = rank
        self.cost_ns = cost_ns
        self.busy = False
        self.finished = False
        self.taken = Taken({}, 0)  # what the present step works on
        self.pending: list[tuple[str, Message]] = []  # its outputs not yet handed on
        self.given: list[int] = []  # its outputs handed on: place, number and time of each


class VirtualExecutor:
    """Runs stations in simulated time."""

    def __init__(self, clock: VirtualClock, costs_ns: Mapping[str, int | None]) -> None:
        self._clock = clock
        self._costs = costs_ns
        self._events: list[tuple[int, int, int, Callable[[Place], None], Place]] = []
        self._number = 0
        self._places: dict[str, Place] = {}
        self._blocked: list[Place] = []
        self._at = (0, 0)
        self._over = False  # a node that is no source has nothing more to do

    def execute(self, made: Mapping[str, Station], duration_ns: int | None, stop: threading.Event) -> str:
        """See Executor.execute."""
        for rank, (name, station) in enumerate(made.items()):
            cost = self._costs.get(name)
            place = Place(station, rank, type(station.node).cost_ns if cost is None else cost)
            place.finished = station.stats.state == "failed"  # it could not be opened, and the run goes on without it
            self._places[name] = place
        for place in self._places.values():
            self._prepare(place)
        try:
            return self._loop(duration_ns, stop)
        finally:
            self._empty_recorder()

    def _empty_recorder(self) -> None:
        """Write what the recorder had not taken yet when the run ended."""
        place = self._places.get(RECORDER)
        while place is not None and place.station.stats.state != "failed" and place.station.ready(self._clock.now_ns()):
            taken = place.station.consume(self._clock.now_ns())
            place.station.run(taken.arguments)

    def _loop(self, duration_ns: int | None, stop: threading.Event) -> str:
        while self._more() and not self._over:
            if stop.is_set():
                return "signal"
            t_ns, _, _, action, place = heapq.heappop(self._events)
            if duration_ns is not None and t_ns > duration_ns:
                self._clock.advance(duration_ns)
                return "duration"
            if not self._reach(t_ns, stop):
                return "signal"
            self._guard(t_ns)
            action(place)
        return "end"

    def _prepare(self, place: Place) -> None:
        """Called once for each station before anything moves."""
        if place.station.is_source and not place.finished:
            self._schedule_source(place)
        if place.station.notices:
            self._push(0, self._try, place)

    def _more(self) -> bool:
        """Whether there is another event."""
        return bool(self._events)

    def _reach(self, t_ns: int, stop: threading.Event) -> bool:
        """Let time pass until `t_ns`; False if `stop` was set meanwhile."""
        self._clock.advance(t_ns)
        return True

    def _guard(self, t_ns: int) -> None:
        """A cycle of steps that cost nothing would never end."""
        self._at = (t_ns, self._at[1] + 1) if self._at[0] == t_ns else (t_ns, 0)
        if self._at[1] > _HASTE:
            raise FoveateError(
                f"simulated time stands still at {t_ns / 1e9:.6f} s: a loop of nodes costs nothing; "
                "give one a 'cost' in the graph"
            )

    def _push(self, t_ns: int, action: Callable[[Place], None], place: Place) -> None:
        self._number += 1
        heapq.heappush(self._events, (t_ns, place.rank, self._number, action, place))

    def _schedule_source(self, place: Place) -> None:
        try:
            due_ns = place.station.node.due_ns()
        except EndOfStream:
            self._end(place)
            return
        if due_ns is None:
            raise FoveateError(
                f"node '{place.station.name}' cannot run in simulated time: only its device knows when "
                "data come; use --executor live"
            )
        self._push(max(due_ns, self._clock.now_ns()), self._due, place)

    def _due(self, place: Place) -> None:
        self._step(place, Taken({}, self._clock.now_ns()))

    def _end(self, place: Place) -> None:
        place.finished = True
        place.station.stats.state = "finished"
        self._over |= not place.station.is_source

    def _try(self, place: Place) -> None:
        """Start a step if the node is free and its inputs are there."""
        if place.busy or place.finished:
            return
        try:
            place.station.tell()
        except Exception as error:
            self._faulted(place, error)
            return
        now = self._clock.now_ns()
        taken = place.station.consume(now) if place.station.ready(now) else None
        self._unblock()  # also where nothing was taken: expired messages have left
        if taken is not None:
            self._step(place, taken)
            return
        wake_ns = place.station.wake_ns()
        if wake_ns is not None and wake_ns > now:
            self._push(wake_ns, self._try, place)

    def _step(self, place: Place, taken: Taken) -> None:
        place.busy, place.taken, place.given = True, taken, []
        place.station.stats.begun_ns = self._clock.now_ns()
        try:
            place.pending = place.station.run(taken.arguments)
        except EndOfStream:
            self._end(place)
            return
        except Exception as error:
            self._faulted(place, error)
            return
        self._push(self._clock.now_ns() + place.cost_ns, self._done, place)

    def _faulted(self, place: Place, error: BaseException) -> None:
        """Do about a failure what the node's policy says. Raises NodeFailed."""
        station, now = place.station, self._clock.now_ns()
        place.busy = True
        station.done(place.taken, station.stats.begun_ns, now, [], f"{type(error).__name__}: {error}")
        self._judge(place, error)

    def _judge(self, place: Place, error: BaseException) -> None:
        station = place.station
        verdict = station.supervisor.judge(error, self._clock.now_ns())
        if verdict.action == "stop":
            station.stats.state = "failed"
            raise failure(station, place.taken.arguments, error, verdict.why) from error
        if verdict.action == "ignore":
            self._again(place)
        else:
            station.stats.state, station.stats.problem = "restarting", station.supervisor.last
            self._push(self._clock.now_ns() + verdict.delay_ns, lambda p: self._revive(p, error), place)

    def _revive(self, place: Place, error: BaseException) -> None:
        station = place.station
        try:
            station.node = station.supervisor.revive(station.node, error)
        except Exception as another:
            self._judge(place, another)
            return
        station.stats.problem = ""
        for target in station.downstream("restarted"):
            self._push(self._clock.now_ns(), self._try, self._places[target.name])
        self._again(place)

    def _again(self, place: Place) -> None:
        """The node is free for its next step."""
        place.station.stats.state = "waiting"
        place.busy = False
        if place.station.is_source:
            self._schedule_source(place)
        else:
            self._push(self._clock.now_ns(), self._try, place)

    def _done(self, place: Place) -> None:
        """Hand on the outputs; a full blocking queue keeps the node busy until there is room."""
        while place.pending:
            output, message = place.pending[0]
            targets = place.station.targets[output]
            if not all(inlet.queue.has_room for _, inlet in targets):
                blocked = next(inlet for _, inlet in targets if not inlet.queue.has_room)
                place.station.stats.state, place.station.stats.blocked_by = "blocked", str(blocked.wire)
                self._blocked.append(place)
                return
            place.pending.pop(0)
            place.station.number(output, self._clock.now_ns(), place.given)
            for target, inlet in targets:
                inlet.queue.put(message, self._clock.now_ns())
                self._push(self._clock.now_ns(), self._try, self._places[target.name])
        stats = place.station.stats
        stats.state, stats.blocked_by = "waiting", ""
        place.station.done(place.taken, stats.begun_ns, self._clock.now_ns(), place.given)
        place.station.supervisor.keep_state(place.station.node)
        self._again(place)

    def _unblock(self) -> None:
        """Somebody took a message: those who wait for room try again."""
        waiting, self._blocked = self._blocked, []
        for place in waiting:
            self._push(self._clock.now_ns(), self._done, place)
