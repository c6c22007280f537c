"""A recording as the sources of its graph: recorded outputs stand in for devices."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from foveate.checking import load_graph
from foveate.errors import EndOfStream, RecordingError
from foveate.graph import Graph, NodeSpec, Record
from foveate.messages import Message
from foveate.node import Node, Port, Schema
from foveate.recording import Recording


class RecordedSource(Node):
    """Gives the recorded outputs of one node, at the times they were put on their wires."""

    def __init__(self, log: Recording, name: str, outputs: list[Port]) -> None:
        self._iterators: dict[str, Iterator[tuple[int, Message]]] = {
            port.name: log.messages(f"{name}.{port.name}", port.type) for port in outputs
        }
        self._next: dict[str, tuple[int, Message]] = {}

    def open(self) -> None:
        for output in list(self._iterators):
            self._advance(output)

    def _advance(self, output: str) -> None:
        item = next(self._iterators[output], None)
        if item is None:
            self._next.pop(output, None)
        else:
            self._next[output] = item

    def due_ns(self) -> int:
        if not self._next:
            raise EndOfStream
        return min(t_ns for t_ns, _ in self._next.values())

    def step(self) -> dict[str, Message]:
        output = min(self._next, key=lambda name: self._next[name][0])
        _, message = self._next[output]
        self._advance(output)
        return {output: message}


def prepare(
    log: Recording, graph: Path | None, settings: list[str], allowed: list[Path]
) -> tuple[Graph, dict[str, Node]]:
    """The recording's graph (or another) with every node that touches hardware replaced by its record.

    Raises RecordingError naming a stream that is needed and was not recorded; GraphError.
    """
    if graph is not None:
        return substitute(load_graph(graph, settings, allowed, open_devices=False), log)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{log.path.stem}.yaml"
        path.write_text(log.graph_text, encoding="utf-8")
        return substitute(load_graph(path, settings, allowed, open_devices=False), log)


def substitute(graph: Graph, log: Recording) -> tuple[Graph, dict[str, Node]]:
    """`graph` with its sources and hardware nodes fed from `log`, and the instances that feed."""
    recorded = {stream.topic.lstrip("/") for stream in log.streams()}
    replaced = {n for n, spec in graph.nodes.items() if spec.schema.is_source or spec.kind.drives_hardware}
    nodes: dict[str, NodeSpec] = {}
    sources: dict[str, Node] = {}
    for name, spec in graph.nodes.items():
        if name not in replaced:
            nodes[name] = replace(spec, cost_ns=_cost(spec, log))
            continue
        wanted = {wire.output for wire in graph.outgoing(name) if wire.target not in replaced}
        for output in sorted(wanted):
            if f"{name}.{output}" not in recorded:
                raise RecordingError(
                    f"{log.path}: '{name}.{output}' was not recorded, and the graph needs it; "
                    "add it to the graph's record.streams"
                )
        ports = [port for port in spec.schema.outputs.values() if f"{name}.{port.name}" in recorded]
        if ports:
            schema = Schema({}, {}, {port.name: port for port in ports})
            nodes[name] = replace(spec, kind=RecordedSource, schema=schema, parameters={}, cost_ns=0)
            sources[name] = RecordedSource(log, name, ports)
    wires = tuple(w for w in graph.wires if w.target not in replaced and w.source in nodes)
    record = graph.record
    if record is not None:
        record = Record(record.to, tuple(s for s in record.streams if s[0] in nodes))
    return replace(graph, nodes=nodes, wires=wires, record=record, report=None), sources


def _cost(spec: NodeSpec, log: Recording) -> int:
    """What a step took in the recorded run, if the graph does not say: its median."""
    if spec.cost_ns is not None:
        return spec.cost_ns
    recorded = log.end.get("nodes", {}).get(spec.name, {}).get("step_p50_ns")
    return int(recorded) if recorded else spec.kind.cost_ns
