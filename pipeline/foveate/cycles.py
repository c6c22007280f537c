"""Cycles that would stop a graph: nobody starts, or everybody waits for room."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator

from foveate.graph import Graph, Wire


def faults(graph: Graph) -> Iterator[tuple[str, str]]:
    """(node, text) of each cycle that can never run or can block for good."""
    yield from _never_started(graph)
    for cycle in _cycles([wire for wire in graph.wires if wire.policy.kind == "block"]):
        text = f"blocking queues form a cycle that can stop for good: {_path(cycle)}; make one 'latest' or 'fifo(n)'"
        yield cycle[0], text


def _never_started(graph: Graph) -> Iterator[tuple[str, str]]:
    """Nodes whose triggering inputs wait for each other."""
    waits = {name: len(spec.schema.required_inputs) for name, spec in graph.nodes.items()}
    required = [w for w in graph.wires if graph.nodes[w.target].schema.inputs[w.input].required]
    feeds: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for wire in required:
        feeds[wire.source].append(wire.target)
    started = [name for name, count in waits.items() if count == 0]
    for name in started:  # grows while it is walked
        for target in feeds[name]:
            waits[target] -= 1
            if waits[target] == 0:
                started.append(target)
    waiting = [wire for wire in required if waits[wire.source] and waits[wire.target]]
    for cycle in _cycles(waiting):
        yield cycle[0], f"never starts: these nodes wait for each other: {_path(cycle)}; make one input optional"


def _path(cycle: list[str]) -> str:
    return " -> ".join(cycle if len(cycle) <= 12 else [*cycle[:6], "...", *cycle[-5:]])


def _cycles(wires: list[Wire]) -> Iterator[list[str]]:
    """One cycle of each knot in `wires`, starting with the first name in the alphabet."""
    wires = list(wires)
    while wires:
        sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
        for wire in wires:
            sorter.add(wire.target, wire.source)
        try:
            sorter.prepare()
            return
        except graphlib.CycleError as error:
            nodes: list[str] = error.args[1][:-1]
            start = nodes.index(min(nodes))
            around = nodes[start:] + nodes[:start]
            yield [*around, around[0]]
            wires = [w for w in wires if not (w.source in nodes and w.target in nodes)]
