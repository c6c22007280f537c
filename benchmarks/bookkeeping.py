"""What foveate's bookkeeping costs: ledgers of wires, the log of decisions, lineage and latency budgets.

Microseconds of CPU time for each message on a wire; every trial is a process of its own, rows take turns inside
every run. `run`: a graph of three wires and four nodes that do nothing, with and without; `alone`: one operation.

    python benchmarks/bookkeeping.py            about a minute
"""

from __future__ import annotations

import threading
import time
import timeit
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trials import Part, options_of, report, verdict

from foveate import decisions
from foveate.budgets import BudgetMeter
from foveate.decisions import Step, StepLog
from foveate.errors import EndOfStream
from foveate.graph import BudgetSpec, Graph, NodeSpec, Wire
from foveate.lineage import Lineage, Output
from foveate.messages import Message, Stamp
from foveate.node import Node, schema_of
from foveate.queues import Item, Policy, Queue
from foveate.run import Run


@dataclass(frozen=True, slots=True)
class Number(Message):
    value: int


class Numbers(Node):
    """0, 1, 2, ... 100,000 a second in simulated time, as fast as they are taken in a live run."""

    class Outputs:
        out: Number

    def __init__(self, count: int, live: bool) -> None:
        self.count, self.live, self.next = count, live, 0

    def due_ns(self) -> int | None:
        return None if self.live else self.next * 10_000

    def step(self) -> Number:
        if self.next >= self.count:
            raise EndOfStream
        self.next += 1
        return Number(Stamp(self.next), self.next)


class Pass(Node):
    class Outputs:
        out: Number

    def step(self, value: Number) -> Number:
        return value


class Collect(Node):
    def step(self, value: Number) -> None:
        pass


def graph_of(nodes: Mapping[str, Node], budget: bool) -> Graph:
    """The chain a -> b -> c -> d of ready instances."""
    specs = {name: NodeSpec(name, name, type(node), schema_of(type(node)), {}, {}, 1) for name, node in nodes.items()}
    ends = [[*end.split(".")] for wire in WIRES for end in wire.split()]
    made = tuple(Wire(*a, *b, Policy.parse("block(64)")) for a, b in zip(ends[::2], ends[1::2], strict=True))
    budgets = (BudgetSpec("a.out", "c.out", 0.99, 10**9),) if budget else ()
    return Graph("bench", Path("bench.yaml"), specs, made, budgets=budgets)


COSTS = ("without", "decisions noted", "decisions noted and encoded", "lineage, one budget", "all")
COUNT, WIRES = 20_000, ["a.out b.value", "b.out c.value", "c.out d.value"]


class Drain:
    """Takes what was decided out of the log every 256 steps, as a recorder does, and encodes it."""

    def __init__(self, log: StepLog, encodes: bool) -> None:
        self.log, self.encodes, self.steps, self.lock = log, encodes, 0, threading.Lock()

    def add(self, step: Step) -> None:
        self.steps += 1
        if not self.steps % 256:
            with self.lock:
                steps, drops = self.log.drain()
            if self.encodes:
                decisions.encode(steps, drops)


def run_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """CPU time of a run of three wires and four nodes, for each message on a wire."""
    nodes: dict[str, Node] = {"a": Numbers(COUNT, case == "live"), "b": Pass(), "c": Pass(), "d": Collect()}
    graph = graph_of(nodes, engine in COSTS[3:])
    run = Run(graph, case, replace=nodes)  # type: ignore[arg-type]
    run.log.keeps = True
    drain = Drain(run.log, engine in (COSTS[2], COSTS[4]))
    for station in run.stations.values() if engine != COSTS[0] else ():
        station.log = run.log
        for inlet in station.inlets:
            inlet.queue.drops = run.log.drops
    run.log.listeners.append(drain.add)
    begun = time.process_time()
    result = run.execute()
    took = time.process_time() - begun
    assert result.failure is None and result.balanced and drain.steps <= 4 * COUNT
    assert not result.budgets or result.budgets[0].total.total == COUNT
    return {"value": took / len(WIRES) / COUNT * 1e6, "unit": "µs"}


def chain() -> tuple[Graph, list[Step]]:
    """The graph of `run_trial` and steps of it, 3,000 of each node that gives something."""
    graph = graph_of({"a": Numbers(1, True), "b": Pass(), "c": Pass(), "d": Collect()}, True)
    return graph, [
        Step(node, n, 1000 * n, 1000 * n + node, 1000 * n + node + 1, (node - 1, n) if node else (),
             (0, n, 1000 * n + node + 1)) for n in range(1, 3001) for node in range(3)
    ]  # fmt: skip


def queue_passes(policy: str, puts: int) -> Callable[[], None]:
    queue, message = Queue(Policy.parse(policy), 0), Number(Stamp(0), 0)
    queue.drops = deque(maxlen=100)

    def once() -> None:
        for _ in range(puts):
            queue.put(message, 0)
        queue.take()

    return once


def deque_pass() -> Callable[[], None]:
    queue, message = deque[Item](), Number(Stamp(0), 0)

    def once() -> None:
        queue.append(Item(message, 0, 0))
        queue.popleft()

    return once


def each(steps: list[Step], add: Callable[[Step], None]) -> Callable[[], None]:
    def once() -> None:
        for step in steps:
            add(step)

    return once


def operations() -> dict[str, tuple[Callable[[], object], int]]:
    """Each operation, and how many of it one call does."""
    graph, steps = chain()
    log, wires = StepLog(), [Output(0, 0), Output(1, 0), Output(2, 0)]
    return {
        "bare deque, append and popleft": (deque_pass(), 1),
        "Queue, put and take": (queue_passes("fifo(8)", 1), 1),
        "Queue, a put that drops, the drop noted": (queue_passes("latest", 101), 101),
        "StepLog.add, making the Step": (lambda: log.add(Step(0, 1, 2, 3, 4, (0, 1), (0, 1, 5))), 1),
        "decisions.encode, a step": (lambda: decisions.encode(steps[:256], []), 256),
        "Lineage.add": (each(steps, Lineage(wires).add), len(steps)),
        "BudgetMeter.add, a step": (each(steps, BudgetMeter(graph).add), len(steps)),
    }


def alone_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """The best of five."""
    work, per = operations()[engine]
    times = max(100_000 // per, 1)
    return {"value": min(timeit.repeat(work, number=times, repeat=5)) / times / per * 1e6, "unit": "µs"}


PARTS = (
    Part("run", "CPU time for each message on a wire", ("virtual", "live"), COSTS, run_trial, COSTS[:1],
         differences=True),
    Part("alone", "One operation alone", ("alone",), tuple(operations()), alone_trial, tuple(operations())[:1]),
)  # fmt: skip


def main() -> None:
    found = report(PARTS, options_of(__doc__ or "", PARTS), {})
    for case in PARTS[0].cases if "run" in found else ():
        for engine in COSTS[1:]:
            more = PARTS[0].ratios(found["run"], case, engine, COSTS[0])
            print(verdict(f"{case}: {engine}: at most 5 µs more a message", more, lambda us: us <= 5))


if __name__ == "__main__":
    main()
