"""A checked graph: nodes with their parameters, wires with their policies, devices by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from foveate.device import Device
from foveate.node import Node, Schema
from foveate.queues import Policy
from foveate.supervision import FaultPolicy


@dataclass(frozen=True, slots=True)
class DeviceRef:
    """Stands for a device of the rig until the graph is built."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device of the rig."""

    name: str
    uri: str
    kind: type[Device]
    options: Mapping[str, Any]
    origins: Mapping[str, str] = field(default_factory=dict)  # of each option, as for a node's parameters


Method = Literal["exact", "nearest", "interpolate", "interval", "latest"]


@dataclass(frozen=True, slots=True)
class SyncSpec:
    """A node's `sync` block: how messages of its inputs are matched in time."""

    reference: str  # the input that asks for sets
    methods: Mapping[str, Method]  # of the other inputs
    window_ns: int = 0  # largest distance of a partner's stamp (nearest, interpolate)
    deadline_ns: int | None = None  # a set waits no longer for its partners, from when its reference came
    stale_ns: int | None = None  # an input that has given nothing new for so long is not waited for

    QUEUE: ClassVar[Policy] = Policy("fifo", 64)  # of inputs for which the graph names none


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of the graph."""

    name: str
    use: str
    kind: type[Node]
    schema: Schema
    parameters: Mapping[str, Any]
    origins: Mapping[str, str]  # of each parameter: "default", "file:line:col" or "--set"
    cost_ns: int | None = None
    on_fault: FaultPolicy = field(default_factory=FaultPolicy)
    sync: SyncSpec | None = None

    @property
    def devices(self) -> list[str]:
        """Names of the rig's devices it holds."""
        return [value.name for value in self.parameters.values() if isinstance(value, DeviceRef)]


@dataclass(frozen=True, slots=True)
class Wire:
    """From an output to an input."""

    source: str
    output: str
    target: str
    input: str
    policy: Policy

    def __str__(self) -> str:
        return f"{self.source}.{self.output} -> {self.target}.{self.input}"


@dataclass(frozen=True, slots=True)
class Ring:
    """A recording that stays in memory until something goes wrong."""

    keep_ns: int  # how far back, and how far on after what went wrong
    most_bytes: int = 512_000_000  # of messages in memory; the oldest go first
    dump_on_fault: bool = True  # also without anybody asking: a node fails, a budget is missed


@dataclass(frozen=True, slots=True)
class Record:
    """Which outputs go into a recording."""

    to: Path
    streams: tuple[tuple[str, str, Policy], ...]  # node, output, policy of the recorder's queue
    tolerances: Mapping[str, float] = field(default_factory=dict)  # of a replay's comparison, by node.output
    ring: Ring | None = None  # keep the last seconds in memory only


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """How long it may take from a message of one output to what another made of it."""

    source: str  # node.output
    target: str
    quantile: float  # the share of outputs that must keep to it: 0.99; 1 = all
    limit_ns: int

    def __str__(self) -> str:
        name = "max" if self.quantile == 1 else f"p{100 * self.quantile:g}"
        return f"{self.source} -> {self.target} {name} {self.limit_ns / 1e6:g} ms"


@dataclass(frozen=True, slots=True)
class Variant:
    """The same graph with some nodes replaced, to compare with."""

    name: str
    replace: Mapping[str, NodeSpec]


@dataclass(frozen=True, slots=True)
class ReportSpec:
    """What is written after a run."""

    use: str
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything an executor needs; nothing in it has touched hardware."""

    name: str
    path: Path
    nodes: Mapping[str, NodeSpec]
    wires: tuple[Wire, ...]
    devices: Mapping[str, DeviceSpec] = field(default_factory=dict)
    record: Record | None = None
    report: ReportSpec | None = None
    budgets: tuple[BudgetSpec, ...] = ()
    text: str = ""  # the expanded graph as YAML

    def outgoing(self, node: str) -> list[Wire]:
        """Wires that leave `node`."""
        return [wire for wire in self.wires if wire.source == node]

    def incoming(self, node: str) -> list[Wire]:
        """Wires that end at `node`."""
        return [wire for wire in self.wires if wire.target == node]

    def devices_of(self, nodes: set[str]) -> set[str]:
        """Names of all devices that some nodes hold, and that those hold in turn."""
        waiting = [name for node in nodes for name in self.nodes[node].devices]
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.devices:
                found.add(name)
                options = self.devices[name].options.values()
                waiting += [value.name for value in options if isinstance(value, DeviceRef)]
        return found

    def variant(self, variant: Variant) -> Graph:
        """The graph with the variant's nodes in place, without report; wires they do not take are left out."""
        nodes = {**self.nodes, **variant.replace}
        wires = tuple(wire for wire in self.wires if wire.input in nodes[wire.target].schema.inputs)
        return replace(self, nodes=nodes, wires=wires, report=None)

    def build(self, ready: Mapping[str, Node]) -> Built:
        """Construct all nodes that are not `ready`, and the devices they use; opens nothing."""
        return Built(self, ready)


class Built:
    """The nodes and devices of a graph, constructed."""

    def __init__(self, graph: Graph, ready: Mapping[str, Node]) -> None:
        self._graph = graph
        self._ready = ready
        self.devices: dict[str, Device] = {}
        self.nodes = {name: self.make(name) for name in graph.nodes}

    def make(self, name: str) -> Node:
        """The node, constructed anew on the same devices; one that came ready is given again."""
        if name in self._ready:
            return self._ready[name]
        spec = self._graph.nodes[name]
        made = spec.kind(**_resolve(spec.parameters, self.device))
        made.wired = frozenset(wire.output for wire in self._graph.outgoing(name))
        return made

    def device(self, name: str) -> Device:
        """The device, constructed when it is first asked for, with the devices its options name."""
        if name not in self.devices:
            spec = self._graph.devices[name]
            made = spec.kind(**_resolve(spec.options, self.device))
            made.uri = spec.uri
            self.devices[name] = made
        return self.devices[name]


def _resolve(values: Mapping[str, Any], device: Callable[[str], Device]) -> dict[str, Any]:
    return {name: device(value.name) if isinstance(value, DeviceRef) else value for name, value in values.items()}


def order(graph: Graph) -> list[str]:
    """Node names, sources first, each after what feeds it where no cycle forbids that."""
    waiting = {name: {w.source for w in graph.incoming(name)} - {name} for name in graph.nodes}
    done: list[str] = []
    while waiting:
        ready = [name for name, sources in waiting.items() if not sources]
        if not ready:  # a cycle: go on with the node that waits for least
            ready = [min(waiting, key=lambda name: len(waiting[name]))]
        for name in ready:
            done.append(name)
            del waiting[name]
            for sources in waiting.values():
                sources.discard(name)
    return done
