"""The executor of replays: every step works on the messages that it worked on in the recorded run.

Nodes whose wires are those of the recording follow its decisions; others run freely in simulated time. A
followed step starts when the messages it consumed are there, and its outputs leave when they left.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from foveate.clock import VirtualClock
from foveate.decisions import Step
from foveate.lineage import outputs_of
from foveate.messages import Message
from foveate.queues import Drop
from foveate.station import RECORDER, Inlet, Station, Taken, failure
from foveate.virtual import Place, VirtualExecutor

_AHEAD_NS = 2_000_000_000  # decisions are read this far ahead: a step is noted when it ends, after shorter ones
_MAX_NAMED = 20

# called with (node, step, output, sequence number, message or None where it gave none this time)
Watcher = Callable[[str, Step, str, int, Message | None], None]


@dataclass(slots=True)
class Shelf:
    """The messages on one wire of a node that follows, until its steps have asked for them."""

    inlet: Inlet
    there: dict[int, Message] = field(default_factory=dict)
    void: set[int] = field(default_factory=set)  # messages that came in the recorded run and not in this one
    delivered: int = 0  # the newest one that a step has consumed
    newest: int = 0  # the newest one that has come, or that will not come
    ended: bool = False  # no more will come

    def is_void(self, sequence: int) -> bool:
        """Whether a message came in the recorded run and will not come in this one."""
        return sequence not in self.there and (sequence in self.void or self.ended)

    def put(self, sequence: int, message: Message | None) -> None:
        if message is None:
            self.void.add(sequence)
            return
        self.inlet.queue.ledger.produced += 1
        self.there[sequence] = message

    def forget_before(self, sequence: int) -> None:
        """No later step asks for messages before this one."""
        ledger = self.inlet.queue.ledger
        for number in [n for n in self.there if n < sequence]:
            del self.there[number]
            if number > self.delivered:
                ledger.drop("as recorded")
        self.void = {n for n in self.void if n >= sequence}

    def deliver(self, sequences: list[int]) -> list[Message]:
        for number in sequences:
            if number > self.delivered:
                self.inlet.queue.ledger.delivered += 1
        last = max(sequences)
        for number in [n for n in self.there if self.delivered < n < last and n not in sequences]:
            del self.there[number]
            self.inlet.queue.ledger.drop("as recorded")
        self.delivered = max(self.delivered, last)
        return [self.there[number] for number in sequences]


class Script:
    """The steps of a recording, by node, read as the replay goes."""

    def __init__(self, decisions: Iterable[Step | Drop], nodes: list[str], followed: set[str]) -> None:
        self._decisions: Iterator[Step | Drop] = iter(decisions)
        self._nodes = nodes
        self.waiting: dict[str, deque[Step]] = {name: deque() for name in followed}
        self.horizon_ns = -1
        self.exhausted = False

    def read_until(self, t_ns: int) -> list[str]:
        """Read on until decisions after `t_ns` come; the nodes that have got new steps."""
        fresh = []
        while self.horizon_ns < t_ns and not self.exhausted:
            item = next(self._decisions, None)
            if item is None:
                self.exhausted = True
            elif isinstance(item, Step):
                self.horizon_ns = max(self.horizon_ns, item.done_ns)
                name = self._nodes[item.node]
                if name in self.waiting:
                    self.waiting[name].append(item)
                    fresh.append(name)
        return fresh


class FollowingExecutor(VirtualExecutor):
    """Runs stations in simulated time as a recording says."""

    def __init__(
        self, clock: VirtualClock, costs_ns: Mapping[str, int | None], script: Script,
        wires: list[str], watcher: Watcher | None = None, speed: float = 0.0,
    ) -> None:  # fmt: skip
        """`wires`: texts of the recorded graph's wires, in order; `speed`: of real time, 0 = as fast as it goes."""
        super().__init__(clock, costs_ns)
        self._script = script
        self._numbers = {text: number for number, text in enumerate(wires)}
        self._watcher = watcher
        self._speed = speed
        self._shelves: dict[str, dict[int, Shelf]] = {}
        self.skipped = 0  # steps that could not be repeated
        self.reasons: list[str] = []  # why, of the first of them

    def _prepare(self, place: Place) -> None:
        name = place.station.name
        if name not in self._script.waiting:
            super()._prepare(place)
            return
        self._shelves[name] = {self._numbers[str(i.wire)]: Shelf(i) for i in place.station.inlets}
        place.station.stats.state = "waiting"

    def _more(self) -> bool:
        at = self._events[0][0] if self._events else self._clock.now_ns()
        while self._events or not self._script.exhausted:
            for name in self._script.read_until(at + _AHEAD_NS):
                place = self._places[name]
                self._push(max(self._script.waiting[name][0].begun_ns, self._clock.now_ns()), self._follow, place)
            if self._events:
                return True
            at = self._script.horizon_ns
        self._finish()
        return False

    def _reach(self, t_ns: int, stop: threading.Event) -> bool:
        left_ns = (t_ns - self._clock.now_ns()) / self._speed if self._speed else 0
        if left_ns > 0 and stop.wait(left_ns / 1e9):
            return False
        return super()._reach(t_ns, stop)

    def _try(self, place: Place) -> None:
        if place.station.name in self._shelves:
            self._follow(place)
        else:
            super()._try(place)

    def _follow(self, place: Place) -> None:
        """Do the next recorded step if its time has come and its messages are there."""
        steps = self._script.waiting[place.station.name]
        if place.busy or not steps or steps[0].begun_ns > self._clock.now_ns():
            return
        step = steps[0]
        shelves, wanted = self._shelves[place.station.name], _by_wire(step.inputs)
        for wire, sequences in wanted.items():
            shelf = shelves[wire]
            absent = [n for n in sequences if n not in shelf.there]
            if any(shelf.is_void(n) for n in absent):
                self._skip(
                    place, step, f"{shelf.inlet.wire.source}.{shelf.inlet.wire.output} #{absent[0]} did not come"
                )
                return
            if absent:
                return
        steps.popleft()
        picked: dict[int, list[Message]] = {}
        for wire, sequences in wanted.items():
            picked[wire] = []
            if sequences:
                shelves[wire].forget_before(sequences[0])
                picked[wire] = shelves[wire].deliver(sequences)
        arguments = place.station.recall(picked, {wire: shelf.inlet for wire, shelf in shelves.items()})
        self._repeat(place, step, arguments)

    def _repeat(self, place: Place, step: Step, arguments: dict[str, Any]) -> None:
        station = place.station
        place.busy = True
        place.taken = Taken(arguments, step.since_ns, step.inputs)
        station.stats.begun_ns = step.begun_ns
        station.notices.clear()
        station.notices.extend(step.notices)
        try:
            station.tell()
            place.pending = station.run(arguments)
        except Exception as error:
            if not step.fault:
                station.stats.state = "failed"
                raise failure(station, arguments, error) from error
            self._fail_again(place, step, error)
            return
        self._push(max(step.done_ns, self._clock.now_ns()), lambda p: self._followed(p, step), place)

    def _fail_again(self, place: Place, step: Step, error: Exception) -> None:
        """The step failed in the recorded run too: the node goes on as it did then."""
        station = place.station
        station.done(place.taken, step.begun_ns, step.done_ns, [], f"{type(error).__name__}: {error}")
        if station.supervisor.policy.action == "restart":
            station.node = station.supervisor.revive(station.node, error)
        place.busy = False
        self._next(place)

    def _followed(self, place: Place, step: Step) -> None:
        """Hand on what the step gave, numbered and timed as in the recorded run."""
        station, given = place.station, []  # type: Station, list[int]
        names = list(station.outputs)
        recorded = {names[o]: (n, t) for o, n, t in outputs_of(step) if o < len(names)}
        pending, place.pending = dict(place.pending), []
        for output in station.outputs:
            message = pending.get(output)
            number, put_ns = recorded.get(output, (0, step.done_ns))
            if not number and message is None:
                continue
            if self._watcher is not None:
                self._watcher(station.name, step, output, number, message)
            if message is not None:
                station.number(output, put_ns, given)
            for target, inlet in station.targets[output]:
                self._give(target, inlet, number, put_ns, message)
        station.done(place.taken, step.begun_ns, step.done_ns, given)
        station.supervisor.keep_state(station.node)
        station.stats.state = "waiting"
        place.busy = False
        self._next(place)

    def _next(self, place: Place) -> None:
        steps = self._script.waiting[place.station.name]
        if steps:
            self._push(max(steps[0].begun_ns, self._clock.now_ns()), self._follow, place)

    def _give(self, target: Station, inlet: Inlet, number: int, put_ns: int, message: Message | None) -> None:
        shelves = self._shelves.get(target.name)
        if shelves is not None:
            if number:
                shelves[self._numbers[str(inlet.wire)]].put(number, message)
            elif message is not None:
                inlet.queue.refuse("not in the recorded run", put_ns)
        elif message is not None:
            inlet.queue.put(message, put_ns, number)
        self._push(self._clock.now_ns(), self._try, self._places[target.name])

    def _done(self, place: Place) -> None:
        """What recorded sources, and nodes that run freely, hand on."""
        shelves = [t for out, _ in place.pending for t, _ in place.station.targets[out] if t.name in self._shelves]
        recorded = getattr(place.station.node, "sequence", 0)
        if not shelves and not recorded:
            super()._done(place)
            return
        pending, place.pending = place.pending, []
        now = self._clock.now_ns()
        for output, message in pending:
            place.station.number(output, now, place.given)
            number = recorded or place.station.sent[output]
            for target, inlet in place.station.targets[output]:
                shelf = self._shelves.get(target.name, {}).get(self._numbers.get(str(inlet.wire), -1))
                if shelf is not None:  # what the recording lacks will not come
                    shelf.void.update(range(shelf.newest + 1, number))
                    shelf.newest = number
                self._give(target, inlet, number, now, message)
        super()._done(place)

    def _end(self, place: Place) -> None:
        super()._end(place)
        for targets in place.station.targets.values():
            for target, inlet in targets:
                if target.name in self._shelves:
                    self._shelves[target.name][self._numbers[str(inlet.wire)]].ended = True
                    self._push(self._clock.now_ns(), self._try, self._places[target.name])

    def _skip(self, place: Place, step: Step, why: str) -> None:
        """A step whose messages do not exist this time: nothing it gave will come either."""
        name = place.station.name
        self._script.waiting[name].popleft()
        self.skipped += 1
        if len(self.reasons) < _MAX_NAMED:
            self.reasons.append(f"{name} step {step.number} at {step.begun_ns / 1e9:.6f} s was not repeated: {why}")
        outputs = list(place.station.outputs)
        for o, number, put_ns in outputs_of(step):
            if o >= len(outputs):  # a node in its place has fewer
                continue
            if self._watcher is not None:
                self._watcher(name, step, outputs[o], number, None)
            for target, inlet in place.station.targets[outputs[o]]:
                self._give(target, inlet, number, put_ns, None)
        self._next(place)

    def _finish(self) -> None:
        """Account for what nobody asked for, and for steps that never got their messages."""
        for name, shelves in self._shelves.items():
            for step in self._script.waiting[name]:
                absent = [
                    f"{shelves[wire].inlet.wire.source}.{shelves[wire].inlet.wire.output} #{n}"
                    for wire, sequences in _by_wire(step.inputs).items() for n in sequences
                    if n not in shelves[wire].there
                ]  # fmt: skip
                self.skipped += 1
                if len(self.reasons) < _MAX_NAMED:
                    self.reasons.append(f"{name} step {step.number} was not repeated: it waits for {', '.join(absent)}")
            for shelf in shelves.values():
                shelf.forget_before(2**63)


def _by_wire(inputs: tuple[int, ...]) -> dict[int, list[int]]:
    """Sequence numbers by wire; an input that had nothing has none."""
    found: dict[int, list[int]] = {}
    for wire, sequence in zip(inputs[::2], inputs[1::2], strict=True):
        found.setdefault(wire, []).extend([sequence] if sequence else [])
    return found


def followed_nodes(stations: Mapping[str, Station], seal: Mapping[str, Any]) -> set[str]:
    """Nodes whose wires are those that the recording knows, and that are no sources."""
    known = {entry["wire"] for entry in seal.get("wires", [])}
    before: dict[str, set[str]] = {}
    for text in known:
        before.setdefault(text.rpartition(" -> ")[2].rpartition(".")[0], set()).add(text)
    found = set()
    for name, station in stations.items():
        wires = {str(inlet.wire) for inlet in station.inlets}
        if name != RECORDER and wires and name in seal.get("nodes", []) and wires == before.get(name, set()):
            found.add(name)
    return found
