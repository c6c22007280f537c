"""FLW4: a node that raises in open, first step, middle or close, with each policy; restarts, budgets, state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foveate.graph import Graph
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.run import ExecutorName, Result, Run
from foveate.station import Station
from foveate.supervision import FaultPolicy, Supervisor
from tests.conftest import Collect, Numbers, graph_of, value_of

COUNT = 12
EXECUTORS: list[ExecutorName] = ["live", "virtual"]


class Faulty(Node):
    """Gives on what it gets; raises where it is told to, as often as it is told to."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self, where: str, times: int = 1) -> None:
        self.where, self.left = where, times
        self.opened = self.closed = self.steps = self.sum = 0

    def _raise(self, where: str) -> None:
        if self.where == where and self.left > 0:
            self.left -= 1
            raise ValueError(f"told to fail in {where}")

    def open(self) -> None:
        self.opened += 1
        self._raise("open")

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if value_of(value) == (0 if self.where == "first" else COUNT // 2):
            self._raise("first" if self.where == "first" else "middle")
        self.steps += 1
        self.sum += value_of(value)
        return value

    def close(self) -> None:
        self.closed += 1
        self._raise("close")


class Told(Node):
    """Keeps what it is told of its upstream."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def on_upstream(self, input: str, state: str) -> None:
        self.told.append((input, state))

    def step(self, value: ProbabilityMap) -> None:
        pass


def with_policy(graph: Graph, name: str, policy: FaultPolicy) -> Graph:
    return replace(graph, nodes={**graph.nodes, name: replace(graph.nodes[name], on_fault=policy)})


def run(executor: ExecutorName, where: str, policy: FaultPolicy, times: int = 1) -> tuple[Result, dict[str, Any]]:
    nodes = {"source": Numbers(count=COUNT), "faulty": Faulty(where, times), "sink": Collect(), "side": Collect(),
             "told": Told()}  # fmt: skip
    wires = ["source.out -> faulty.value block(4)", "faulty.out -> sink.value block(4)",
             "source.out -> side.value block(4)", "faulty.out -> told.value block(4)"]  # fmt: skip
    graph = with_policy(graph_of(nodes, wires), "faulty", policy)
    made = Run(graph, executor, replace=nodes)
    return made.execute(), nodes


EVERYTHING = list(range(COUNT))
WITHOUT_FIRST = EVERYTHING[1:]
WITHOUT_MIDDLE = [n for n in EVERYTHING if n != COUNT // 2]
OUTCOMES = {  # (where, policy): failure, what reaches the sink
    ("open", "stop"): ("node 'faulty' failed in open", []),
    ("open", "restart"): (None, EVERYTHING),
    ("open", "ignore"): (None, []),
    ("first", "stop"): ("node 'faulty' failed in step", []),
    ("first", "restart"): (None, WITHOUT_FIRST),
    ("first", "ignore"): (None, WITHOUT_FIRST),
    ("middle", "stop"): ("node 'faulty' failed in step", None),
    ("middle", "restart"): (None, WITHOUT_MIDDLE),
    ("middle", "ignore"): (None, WITHOUT_MIDDLE),
    ("close", "stop"): ("node 'faulty' failed in close", EVERYTHING),
    ("close", "restart"): (None, EVERYTHING),
    ("close", "ignore"): (None, EVERYTHING),
}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(("where", "action"), OUTCOMES)
def test_every_outcome_of_a_fault(executor: ExecutorName, where: str, action: Any) -> None:
    whole, nodes = run(executor, "nowhere", FaultPolicy(action))
    assert whole.failure is None and whole.balanced and nodes["sink"].got == EVERYTHING

    result, nodes = run(executor, where, FaultPolicy(action, backoff_ns=1_000_000))
    expected, reached = OUTCOMES[where, action]
    said = [str(error) for error in (result.failure, *result.close_failures) if error is not None]
    assert [text.startswith(str(expected)) for text in said] == ([] if expected is None else [True]), said
    assert result.balanced
    if reached is not None:
        assert nodes["sink"].got == reached
    else:
        assert nodes["sink"].got == EVERYTHING[: len(nodes["sink"].got)]
    if expected is None:
        assert nodes["side"].got == EVERYTHING  # the others never noticed
    state = {("open", "ignore"): "failed", ("first", "restart"): "restarted", ("middle", "restart"): "restarted"}
    assert nodes["told"].told == ([("value", state[where, action])] if (where, action) in state else [])
    assert result.stations["faulty"].supervisor.faults == 1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_budget_of_restarts_ends_the_run(executor: ExecutorName) -> None:
    result, nodes = run(executor, "open", FaultPolicy("restart", times=3, backoff_ns=1_000_000), times=100)
    assert "it was restarted 3 times in 60 s" in str(result.failure)
    assert nodes["faulty"].opened == 4


def test_back_off_doubles_and_the_window_forgets() -> None:
    node = Faulty("nowhere")
    supervisor = Supervisor(FaultPolicy("restart", times=5, within_ns=10_000, backoff_ns=100), lambda: node)
    delays = [supervisor.judge(ValueError("x"), 0).delay_ns for _ in range(5)]
    assert delays == [100, 200, 400, 800, 1600]
    assert supervisor.judge(ValueError("x"), 9_000).action == "stop"
    later = supervisor.judge(ValueError("x"), 20_000)
    assert (later.action, later.delay_ns) == ("restart", 100)


class Counter(Node):
    """Sums what it gets; raises at one value, once in all its lives."""

    class Outputs:
        out: ProbabilityMap

    raised = 0

    def __init__(self) -> None:
        self.sum = 0

    def state_dict(self) -> Any:
        return {"sum": self.sum}

    def load_state_dict(self, state: Any) -> None:
        self.sum = state["sum"]

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if value_of(value) == 5:
            self.sum = 10**6  # half-done work that must not survive
            type(self).raised += 1
            raise ValueError("five")
        self.sum += value_of(value)
        return replace(value, left_rad=float(self.sum))


class Sums(Node):
    def __init__(self) -> None:
        self.got: list[float] = []

    def step(self, value: ProbabilityMap) -> None:
        self.got.append(value.left_rad)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_restarted_node_gets_its_state_back(executor: ExecutorName) -> None:
    nodes: dict[str, Node] = {"source": Numbers(count=10), "counter": Counter(), "sink": Sums()}
    graph = graph_of(nodes, ["source.out -> counter.value block(4)", "counter.out -> sink.value block(4)"])
    graph = with_policy(graph, "counter", FaultPolicy("restart", backoff_ns=1_000_000))
    made = Run(graph, executor, replace={name: nodes[name] for name in ("source", "sink")})
    first = made.stations["counter"].node
    result = made.execute()
    assert result.failure is None and result.balanced
    assert nodes["sink"].got == [0, 1, 3, 6, 10, 16, 23, 31, 40]  # type: ignore[attr-defined]
    again: Station = result.stations["counter"]
    assert again.node is not first and again.supervisor.restarts == 1
