"""Latency budgets: how long it takes from a message to what was made of it, and where the time goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from foveate.decisions import Step
from foveate.graph import BudgetSpec, Graph, Wire
from foveate.lineage import Ancestor, Lineage, Output, outputs_of
from foveate.metrics import Histogram
from foveate.quantity import format_duration

_MAX_STEPS = 64  # of one path: a loop of nodes has no end
_TRIES = 64  # a producer notes its step after it has put its message: the consumer may be faster
_ENOUGH = 20  # samples before a budget counts as missed while the run goes on


@dataclass(slots=True)
class Share:
    """Where the time on the path goes at one node."""

    queue: Histogram = field(default_factory=Histogram)  # waiting while the node was busy
    held: Histogram = field(default_factory=Histogram)  # of an optional input: its age when a step used it
    transport: Histogram = field(default_factory=Histogram)  # waiting although it was free: waking up, other inputs
    compute: Histogram = field(default_factory=Histogram)


class Budget:
    """One budget and its measurements."""

    def __init__(self, spec: BudgetSpec, graph: Graph) -> None:
        names = list(graph.nodes)
        self.spec = spec
        self.total = Histogram()
        self.over = 0  # measurements above the limit
        self.untraced = 0  # outputs that do not go back to a message of the source, or no more
        self.shares: dict[str, Share] = {}
        self._names = names
        self._source = _output(graph, spec.source)
        self.target = _output(graph, spec.target)
        self._optional = {
            n for n, w in enumerate(graph.wires) if not graph.nodes[w.target].schema.inputs[w.input].required
        }
        self._wires = {n for n, w in enumerate(graph.wires) if w in path_wires(graph, spec.source, spec.target)}

    def measure(self, lineage: Lineage, step: Step, done_ns: int, last: bool) -> bool:
        """Follow an output back to its source; False if a step on the way is not known yet (`last`: give up)."""
        path: list[tuple[Step, Ancestor]] = []
        current = step
        while len(path) < _MAX_STEPS:
            parents = [p for p in lineage.parents(current) if p is None or p.wire in self._wires]
            known = [p for p in parents if p is not None]
            if len(known) < len(parents) and not last:
                return False
            if not known:
                self.untraced += 1
                return True
            parent = max(known, key=lambda p: p.put_ns)
            path.append((current, parent))
            if parent.of == self._source:
                break
            current = parent.step
        else:
            self.untraced += 1
            return True
        took = done_ns - path[-1][1].put_ns
        self.total.record(took)
        self.over += took > self.spec.limit_ns
        for at, parent in path:
            before = lineage.before(at)
            free_ns = max(before.done_ns if before is not None else 0, parent.put_ns)
            share = self.shares.setdefault(self._names[at.node], Share())
            share.compute.record(max(at.done_ns - at.begun_ns, 0))
            if parent.wire in self._optional:
                share.held.record(max(at.begun_ns - parent.put_ns, 0))
                continue
            share.queue.record(max(min(free_ns, at.begun_ns) - parent.put_ns, 0))
            share.transport.record(max(at.begun_ns - free_ns, 0))
        return True

    @property
    def missed(self) -> bool:
        """Whether more measurements are above the limit than the quantile leaves; also without any."""
        return not self.total.total or self.over > (1 - self.spec.quantile) * self.total.total

    def lines(self) -> list[str]:
        """The verdict, then a line for each node on the path."""
        spec, total = self.spec, self.total
        head = f"budget {spec}: "
        if not total.total:
            return [head + f"NOT MEASURED: no {spec.target} goes back to a {spec.source}"]
        times = ", ".join(f"{n} {format_duration(total.quantile_ns(q))}" for n, q in (("p50", 0.5), ("p99", 0.99)))
        verdict = "MISSED" if self.missed else "kept"
        over = f"; {self.over} of {total.total} took longer"
        lines = [f"{head}{verdict}: {times}, max {format_duration(total.largest_ns)}{over}"]
        for name, share in reversed(self.shares.items()):
            parts = []
            for what, h in (("queue", share.queue), ("held", share.held), ("transport", share.transport),
                            ("compute", share.compute)):  # fmt: skip
                if h.total:
                    parts.append(
                        f"{what} {format_duration(h.quantile_ns(0.5))} / {format_duration(h.quantile_ns(0.99))}"
                    )
            lines.append(f"  {name}: {', '.join(parts)} (p50 / p99)")
        return lines

    def as_json(self) -> dict[str, object]:
        quantiles = {"p50_ms": self.total.quantile_ns(0.5) / 1e6, "p99_ms": self.total.quantile_ns(0.99) / 1e6}
        return {
            "from": self.spec.source, "to": self.spec.target, "quantile": self.spec.quantile,
            "limit_ms": self.spec.limit_ns / 1e6, "missed": self.missed, "measured": self.total.total,
            "over": self.over, "untraced": self.untraced, "max_ms": self.total.largest_ns / 1e6, **quantiles,
        }  # fmt: skip


class BudgetMeter:
    """Listens to the steps of a run and measures its budgets."""

    def __init__(self, graph: Graph, on_miss: Callable[[str], None] = lambda why: None) -> None:
        """`on_miss`: called once for each budget, when it counts as missed while the run goes on."""
        self.budgets = [Budget(spec, graph) for spec in graph.budgets]
        self._on_miss = on_miss
        self._told: set[int] = set()
        self._lineage = Lineage(wires_of(graph))
        self._by_target: dict[int, list[Budget]] = {}
        for budget in self.budgets:
            self._by_target.setdefault(budget.target.node, []).append(budget)
        self._pending: deque[tuple[Budget, Step, int, int]] = deque()  # with the time put and the tries so far

    def add(self, step: Step) -> None:
        """Called by any thread for every step."""
        self._lineage.add(step)
        for budget in self._by_target.get(step.node, ()):
            if step.outputs:
                for output, _, put_ns in outputs_of(step):
                    if output == budget.target.output:
                        self._pending.append((budget, step, put_ns, 0))
        if self._pending:
            self._work(8)

    def _work(self, most: int) -> None:
        for _ in range(most):
            if not self._pending:  # asked first: an exception costs ten times as much
                return
            try:
                budget, step, put_ns, tries = self._pending.popleft()
            except IndexError:
                return
            if not budget.measure(self._lineage, step, put_ns, tries >= _TRIES):
                self._pending.append((budget, step, put_ns, tries + 1))
                return
            if budget.missed and budget.total.total >= _ENOUGH and id(budget) not in self._told:
                self._told.add(id(budget))
                self._on_miss(f"budget {budget.spec} is missed")

    def finish(self) -> None:
        """Measure what is still waiting; the run is over."""
        for _ in range(_TRIES + 2):
            self._work(len(self._pending))


def wires_of(graph: Graph) -> list[Output]:
    """What feeds each wire."""
    return [_output(graph, f"{w.source}.{w.output}") for w in graph.wires]


def _output(graph: Graph, name: str) -> Output:
    node, _, output = name.rpartition(".")
    return Output(list(graph.nodes).index(node), list(graph.nodes[node].schema.outputs).index(output))


def path_wires(graph: Graph, source: str, target: str) -> list[Wire]:
    """The wires that lie on a way from an output to the node of another."""
    back = _reach({target.rpartition(".")[0]}, {n: [w.source for w in graph.incoming(n)] for n in graph.nodes})
    first = [w for w in graph.wires if f"{w.source}.{w.output}" == source and w.target in back]
    ahead = _reach({w.target for w in first}, {n: [w.target for w in graph.outgoing(n)] for n in graph.nodes})
    return [w for w in graph.wires if w in first or (w.source in ahead and w.target in back)]


def _reach(begin: set[str], edges: Mapping[str, list[str]]) -> set[str]:
    """All names that can be reached, with those to begin with."""
    found, waiting = set(begin), list(begin)
    while waiting:
        for name in edges[waiting.pop()]:
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
