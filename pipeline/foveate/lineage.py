"""Where a message comes from: the steps behind it, back to the sources, from the scheduler's decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from foveate.decisions import Step


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a node: places among the graph's nodes and the node's outputs."""

    node: int
    output: int


class Ancestor(NamedTuple):
    """A message that another one was made from."""

    wire: int  # on which it was consumed
    of: Output
    sequence: int
    put_ns: int
    step: Step  # that gave it


class Lineage:
    """The last steps of a run by what they gave. One thread at a time asks; others may add."""

    def __init__(self, wires: Sequence[Output], keep: int = 4096) -> None:
        """`wires`: what feeds each wire, in the graph's order; `keep`: steps a node, 0 = all."""
        self._wires = wires
        self._keep = keep
        self._given: dict[tuple[int, int, int], Step] = {}  # node, output, sequence
        self._by_number: dict[tuple[int, int], Step] = {}
        self._order: dict[int, deque[Step]] = {}

    def add(self, step: Step) -> None:
        node = step.node
        self._by_number[node, step.number] = step
        for output, sequence, _ in outputs_of(step):
            self._given[node, output, sequence] = step
        order = self._order.get(node)
        if order is None:
            order = self._order.setdefault(node, deque())
        order.append(step)
        if self._keep and len(order) > self._keep:
            old = order.popleft()
            self._by_number.pop((old.node, old.number), None)
            for output, sequence, _ in outputs_of(old):
                self._given.pop((old.node, output, sequence), None)

    def step_of(self, of: Output, sequence: int) -> Step | None:
        """The step that gave a message, if it is still known."""
        return self._given.get((of.node, of.output, sequence))

    def before(self, step: Step) -> Step | None:
        """The node's step before this one."""
        return self._by_number.get((step.node, step.number - 1))

    def parents(self, step: Step) -> Iterator[Ancestor | None]:
        """What a step consumed; None for a message whose step is not known (any more)."""
        inputs = step.inputs
        for at in range(0, len(inputs), 2):
            wire, sequence = inputs[at], inputs[at + 1]
            if not sequence or not 0 <= wire < len(self._wires):
                continue
            of = self._wires[wire]
            made_by = self._given.get((of.node, of.output, sequence))
            if made_by is None:
                yield None
                continue
            for output, number, put_ns in outputs_of(made_by):
                if number == sequence and output == of.output:
                    yield Ancestor(wire, of, sequence, put_ns, made_by)
                    break

    def sources(self, step: Step, most: int = 10_000) -> Iterable[Ancestor]:
        """All messages of sources that a step's outputs go back to, each once, newest first."""
        found: dict[tuple[int, int, int], Ancestor] = {}
        seen: set[tuple[int, int]] = set()
        waiting = [step]
        while waiting and len(seen) < most:
            current = waiting.pop()
            for parent in self.parents(current):
                if parent is None:
                    continue
                if not parent.step.inputs:
                    found[parent.of.node, parent.of.output, parent.sequence] = parent
                elif (key := (parent.step.node, parent.step.number)) not in seen:
                    seen.add(key)
                    waiting.append(parent.step)
        return sorted(found.values(), key=lambda a: -a.put_ns)


def outputs_of(step: Step) -> Sequence[tuple[int, ...]]:
    """Output, sequence number and time of each message a step gave."""
    given = step.outputs
    return (given,) if len(given) == 3 else [given[i : i + 3] for i in range(0, len(given), 3)]
