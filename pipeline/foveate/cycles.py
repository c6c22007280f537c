"""Cycles that would stop a graph: nobody starts, or everybody waits for room."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator

from foveate.graph import Graph, Wire


def faults(graph: Graph) -> Iterator[tuple[str, str]]:
    """(node, text) of each cycle that can never run or can block for good."""
    yield from _never_started(graph)
    for cycle in _cycles([wire for wire in graph.wires if wire.policy.kind == "block"]):
        path = " -> ".join(cycle)
        yield cycle[0], f"blocking queues form a cycle that can stop for good: {path}; make one 'latest' or 'fifo(n)'"


def _never_started(graph: Graph) -> Iterator[tuple[str, str]]:
    """Nodes whose triggering inputs wait for each other."""
    alive: set[str] = set()
    grows = True
    while grows:
        grows = False
        for name, spec in graph.nodes.items():
            feeds = {w.input: w.source for w in graph.incoming(name)}
            if name not in alive and all(feeds.get(port) in alive for port in spec.schema.required_inputs):
                alive.add(name)
                grows = True
    waiting = [
        wire for wire in graph.wires
        if wire.source not in alive and wire.target not in alive
        and graph.nodes[wire.target].schema.inputs[wire.input].required
    ]  # fmt: skip
    for cycle in _cycles(waiting):
        path = " -> ".join(cycle)
        yield cycle[0], f"never starts: these nodes wait for each other: {path}; make one input optional"


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
