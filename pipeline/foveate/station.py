"""A node at its place in the graph: queues in, wires out. Shared by the executors, without threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.decisions import Step, StepLog
from foveate.errors import NodeFailed
from foveate.graph import Graph, Wire
from foveate.messages import Message
from foveate.metrics import NodeStats
from foveate.node import Node, Port
from foveate.queues import Item, Queue
from foveate.supervision import FaultPolicy, Supervisor

if TYPE_CHECKING:
    from foveate.run import Run


RECORDER = "record"
MOST_WAITING_BYTES = 256_000_000  # of one recorded stream, when the disk is slow: memory must not fill up


class Inlet:
    """One input: its queue, and for an optional port the value it holds."""

    __slots__ = ("held", "port", "queue", "wire")

    def __init__(self, port: Port, wire: Wire, number: int = -1) -> None:
        """`number`: the wire's place among the graph's wires."""
        self.port = port
        self.wire = wire
        self.queue = Queue(wire.policy, number)
        self.held: Item | None = None


@dataclass(slots=True)
class Taken:
    """What a step works on."""

    arguments: dict[str, Any]
    since_ns: int  # when its oldest trigger was put
    inputs: tuple[int, ...] = ()  # wire, sequence number, wire, ... of what it consumed; 0 = nothing there


class Station:
    """One node with its inlets; the executor moves messages between stations."""

    needs = "all"  # of its triggers a message each: "all"; "any" of them; a "set" of messages that belong together

    def __init__(
        self, name: str, node: Node, inlets: list[Inlet], outputs: Mapping[str, Port], inputs: Mapping[str, Port]
    ) -> None:
        self.name = name
        self.node = node
        self.rank = 0  # place among the graph's nodes
        self.log: StepLog | None = None  # where its steps are noted, if anybody wants to know
        self.stats = NodeStats()
        self.supervisor = Supervisor(FaultPolicy(), lambda: node)
        self.notices: deque[str] = deque()  # "input state" of upstream nodes, to be told before the next step
        self._told: list[str] = []  # since the last step
        self.inlets = inlets
        self.triggers = [inlet for inlet in inlets if inlet.port.required]
        self.optional = [inlet for inlet in inlets if not inlet.port.required]
        wired = {inlet.port.name for inlet in inlets}
        self.unconnected = dict.fromkeys(name for name in inputs if name not in wired)
        self.outputs = outputs
        self.targets: dict[str, list[tuple[Station, Inlet]]] = {name: [] for name in outputs}
        self.sent = dict.fromkeys(outputs, 0)  # messages given so far
        self._places = {name: place for place, name in enumerate(outputs)}

    @property
    def is_source(self) -> bool:
        return not self.inlets and not self.unconnected

    def ready(self, now_ns: int) -> bool:
        """Whether a step could run now; drops expired messages on the way."""
        for inlet in self.triggers:
            inlet.queue.discard_expired(now_ns)
            if not len(inlet.queue):
                return False
        return bool(self.triggers)

    def wake_ns(self) -> int | None:
        """When to ask `ready` again although no message has come; None: not before one does."""
        return None

    def consume(self, now_ns: int) -> Taken:
        """What the next step works on. Call only when `ready`."""
        arguments: dict[str, Any] = dict(self.unconnected)
        since = now_ns
        inputs: list[int] = []
        for inlet in self.triggers:
            item = inlet.queue.take()
            arguments[inlet.port.name] = item.message
            inputs += (inlet.queue.wire, item.sequence)
            since = min(since, item.put_ns)
        for inlet in self.optional:
            queue = inlet.queue
            queue.discard_expired(now_ns)
            while len(queue):
                inlet.held = queue.take()
            held, age = inlet.held, inlet.wire.policy.max_age_ns
            fresh = held is not None and (age is None or now_ns - held.message.stamp.t_ns <= age)
            arguments[inlet.port.name] = held.message if held is not None and fresh else None
            inputs += (queue.wire, held.sequence if held is not None and fresh else 0)
        return Taken(arguments, since, tuple(inputs))

    def recall(self, picked: Mapping[int, list[Message]], inlets: Mapping[int, Inlet]) -> dict[str, Any]:
        """The arguments of a step that is repeated on messages of a recording; both by recorded wire."""
        arguments: dict[str, Any] = dict(self.unconnected)
        for wire, inlet in inlets.items():
            arguments[inlet.port.name] = picked[wire][-1] if picked.get(wire) else None
        return arguments

    def run(self, arguments: dict[str, Any]) -> list[tuple[str, Message]]:
        """One step. Raises NodeFailed; EndOfStream passes through."""
        result = self.node.step(**arguments)  # type: ignore[attr-defined]
        if result is None:
            return []
        if isinstance(result, Message) and len(self.outputs) == 1:
            return [(next(iter(self.outputs)), result)]
        if isinstance(result, Mapping):
            pairs = [(name, message) for name, message in result.items() if message is not None]
        else:
            pairs = [("", result)]
        for name, message in pairs:
            port = self.outputs.get(name)
            if port is None or not isinstance(message, port.type):
                expected = ", ".join(f"{p.name}: {p.type.__name__}" for p in self.outputs.values())
                got = f"{name}: {type(message).__name__}" if name else type(message).__name__
                raise TypeError(f"step returned {got}; its outputs are {expected or 'none'}")
        return pairs

    def number(self, output: str, now_ns: int, outputs: list[int]) -> None:
        """Count a message that is given on `output` now, and add it to the list of the step's outputs."""
        self.sent[output] += 1
        outputs += (self._places[output], self.sent[output], now_ns)

    def done(self, taken: Taken, begun_ns: int, now_ns: int, outputs: list[int], fault: str = "") -> None:
        """Count a step that has ended."""
        stats = self.stats
        stats.step.record(now_ns - begun_ns)
        stats.latency.record(now_ns - taken.since_ns)
        if not stats.steps:
            stats.first_ns = now_ns
        stats.last_ns = now_ns
        stats.steps += 1
        if self.log is not None:
            self.log.add(Step(self.rank, stats.steps, taken.since_ns, begun_ns, now_ns, taken.inputs, tuple(outputs),
                              fault, tuple(self._told)))  # fmt: skip
        self._told.clear()
        if word := self.node.after_step(now_ns - begun_ns):
            self.notices.append(f". {word}")

    def tell(self) -> None:
        """Pass on what has become of upstream nodes, and the node's own decisions. Raises what the node raises."""
        while self.notices:
            notice = self.notices.popleft()
            self._told.append(notice)
            inlet, word = notice.split(" ")
            self.node.adapt(word) if inlet == "." else self.node.on_upstream(inlet, word)

    def downstream(self, state: str) -> Iterator[Station]:
        """Leave a notice for every node that this one feeds, and name it."""
        for targets in self.targets.values():
            for target, inlet in targets:
                if target.name != RECORDER:
                    target.notices.append(f"{inlet.port.name} {state}")
                    yield target

    def say(self) -> list[str]:
        """What somebody should know of its inputs after the run, a line each."""
        return []

    def close_inlets(self) -> None:
        """The node takes no more: what still comes is dropped with a reason."""
        for inlet in self.inlets:
            inlet.queue.closed = True


def failure(station: Station, arguments: Mapping[str, Any], error: BaseException, why: str = "") -> NodeFailed:
    """The error to report for a step: names the node and the messages it worked on."""
    parts = []
    for name, message in arguments.items():
        if isinstance(message, Message):
            seq = f" seq {message.seq}" if hasattr(message, "seq") else ""
            parts.append(f"{name}{seq} at {message.stamp.t_ns / 1e9:.4f} s")
    doing = f"step ({', '.join(parts)})" if parts else "step"
    failed = NodeFailed(station.name, doing, error, why)
    failed.__cause__ = error
    return failed


class Recorder(Node):
    """The sink that every recorded stream ends at; takes one message at a time."""

    lost_own = 0  # batches of decisions that were not written

    @property
    def files(self) -> list[Path]:
        """What was written."""
        return []

    def connect(self, run: Run) -> None:
        """Called once when the stations are made: the run that it records."""

    def record(self, stream: str, message: Message, now_ns: int, sequence: int) -> None:
        """Write message number `sequence` of `stream` (`node.output`) that was put on its wire at `now_ns`."""
        raise NotImplementedError


class RecorderStation(Station):
    """Fires for every message on any of its inlets, oldest first."""

    needs = "any"

    def ready(self, now_ns: int) -> bool:
        return any(len(inlet.queue) for inlet in self.inlets)

    def consume(self, now_ns: int) -> Taken:
        waiting = [inlet for inlet in self.inlets if len(inlet.queue)]
        first = min(waiting, key=lambda inlet: inlet.queue.first_put_ns)
        message, put_ns, sequence = first.queue.take()
        arguments = {"stream": first.port.name, "message": message, "now_ns": put_ns, "sequence": sequence}
        return Taken(arguments, put_ns)

    def run(self, arguments: dict[str, Any]) -> list[tuple[str, Message]]:
        self.node.record(**arguments)  # type: ignore[attr-defined]
        return []


def stations(graph: Graph, nodes: Mapping[str, Node], recorder: Recorder | None) -> dict[str, Station]:
    """All stations of a graph, connected, the recorder last."""
    made: dict[str, Station] = {}
    for rank, (name, spec) in enumerate(graph.nodes.items()):
        inputs = spec.schema.inputs
        inlets = [Inlet(inputs[w.input], w, i) for i, w in enumerate(graph.wires) if w.target == name]
        if spec.sync is None:
            made[name] = Station(name, nodes[name], inlets, spec.schema.outputs, inputs)
        else:
            from foveate.sync import SyncStation

            matched = SyncStation(name, nodes[name], inlets, spec.schema.outputs, inputs)
            matched.match(spec.sync)
            made[name] = matched
        made[name].rank = rank
    if recorder is not None and graph.record is not None:
        inlets = []
        for number, (node, output, policy) in enumerate(graph.record.streams, len(graph.wires)):
            kind = graph.nodes[node].schema.outputs[output].type
            stream = f"{node}.{output}"
            inlets.append(Inlet(Port(stream, kind), Wire(node, output, RECORDER, stream, policy), number))
            inlets[-1].queue.most_bytes = MOST_WAITING_BYTES
        made[RECORDER] = RecorderStation(RECORDER, recorder, inlets, {}, {})
    for station in made.values():
        for inlet in station.inlets:
            made[inlet.wire.source].targets[inlet.wire.output].append((station, inlet))
    return made


def ledgers(made: Mapping[str, Station]) -> Iterator[tuple[Wire, Queue]]:
    """Every wire with its queue."""
    for station in made.values():
        for inlet in station.inlets:
            yield inlet.wire, inlet.queue
