"""Lineage and latency budgets: what a message goes back to, how long that took, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foveate.decisions import Step
from foveate.graph import BudgetSpec, Graph
from foveate.lineage import Lineage, Output
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.run import Run
from tests.conftest import Collect, MemoryRecorder, Numbers, Pass, graph_of

MS = 1_000_000


class Mix(Node):
    """A trigger and a held value."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap, other: ProbabilityMap | None) -> ProbabilityMap:
        return value


def chain(budgets: list[BudgetSpec], costs: dict[str, int], period_ns: int = 10 * MS) -> tuple[Graph, dict[str, Node]]:
    nodes: dict[str, Node] = {
        "source": Numbers(count=50, period_ns=period_ns), "first": Pass(), "second": Pass(), "sink": Collect(),
    }  # fmt: skip
    wires = [
        "source.out -> first.value fifo(4)",
        "first.out -> second.value fifo(4)",
        "second.out -> sink.value fifo(4)",
    ]
    return replace(graph_of(nodes, wires, costs), budgets=tuple(budgets)), nodes


def test_a_budget_measures_the_way_and_splits_it() -> None:
    spec = BudgetSpec("source.out", "second.out", 0.99, 6 * MS)
    graph, nodes = chain([spec], {"first": 2 * MS, "second": 3 * MS})
    result = Run(graph, "virtual", replace=nodes).execute()
    (budget,) = result.budgets
    assert (budget.total.total, budget.over, budget.missed, budget.untraced) == (50, 0, False, 0)
    assert budget.total.quantile_ns(0.5) == pytest.approx(5 * MS, rel=0.13)
    assert budget.total.largest_ns == 5 * MS
    assert {name: share.compute.largest_ns for name, share in budget.shares.items()} == {
        "first": 2 * MS,
        "second": 3 * MS,
    }
    assert all(share.queue.largest_ns == share.transport.largest_ns == 0 for share in budget.shares.values())
    assert budget.lines()[0].startswith("budget source.out -> second.out p99 6 ms: kept: p50 ")


def test_waiting_behind_a_slow_step_is_queue() -> None:
    """A message every 2 ms, 3 ms a step: the queue of four fills up."""
    graph, nodes = chain([BudgetSpec("source.out", "first.out", 1.0, 10 * MS)], {"first": 3 * MS}, 2 * MS)
    result = Run(graph, "virtual", replace=nodes).execute()
    (budget,) = result.budgets
    share = budget.shares["first"]
    assert share.compute.largest_ns == 3 * MS
    assert 8 * MS <= share.queue.largest_ns <= 12 * MS and share.transport.largest_ns == 0
    assert budget.missed and 0 < budget.over < budget.total.total
    assert "MISSED" in budget.lines()[0] and f"{budget.over} of {budget.total.total} took longer" in budget.lines()[0]


@pytest.mark.parametrize(("over", "missed"), [(1, False), (2, True)])
def test_the_verdict_counts_exactly(over: int, missed: bool) -> None:
    """Of 100 measurements one may be above a p99."""
    graph, _ = chain([BudgetSpec("source.out", "first.out", 0.99, 5 * MS)], {})
    run = Run(graph, "virtual", replace={n: s.kind() for n, s in graph.nodes.items()})
    for number in range(1, 101):
        took = 6 * MS if number <= over else 5 * MS
        run.meter.add(Step(0, number, 0, 0, 0, (), (0, number, 0)))
        run.meter.add(Step(1, number, 0, 0, took, (0, number), (0, number, took)))
    run.meter.finish()
    (budget,) = run.meter.budgets
    assert (budget.total.total, budget.over, budget.missed) == (100, over, missed)


def test_a_consumer_that_is_noted_before_its_producer() -> None:
    graph, _ = chain([BudgetSpec("source.out", "first.out", 0.99, 5 * MS)], {})
    run = Run(graph, "virtual", replace={n: s.kind() for n, s in graph.nodes.items()})
    run.meter.add(Step(1, 1, 0, 0, 4 * MS, (0, 1), (0, 1, 4 * MS)))
    assert run.meter.budgets[0].total.total == 0
    run.meter.add(Step(0, 1, 0, 0, MS, (), (0, 1, MS)))
    run.meter.finish()
    assert run.meter.budgets[0].total.largest_ns == 3 * MS


def test_a_budget_that_nothing_reaches_is_missed() -> None:
    graph, nodes = chain([BudgetSpec("source.out", "second.out", 0.99, MS)], {})
    nodes["first"] = Collect()
    silent = {**graph.nodes, "first": replace(graph.nodes["first"])}
    result = Run(replace(graph, nodes=silent), "virtual", replace=nodes).execute()
    assert result.budgets[0].missed and "NOT MEASURED" in result.budgets[0].lines()[0]


def test_lineage_goes_back_to_every_source() -> None:
    nodes: dict[str, Node] = {"fast": Numbers(count=20, period_ns=MS), "slow": Numbers(count=3, period_ns=9 * MS),
                              "twice": Pass(), "mix": Mix(), "sink": Collect()}  # fmt: skip
    wires = ["fast.out -> twice.value fifo(9)", "twice.out -> mix.value fifo(9)", "slow.out -> mix.other",
             "mix.out -> sink.value fifo(9)"]  # fmt: skip
    graph = graph_of(nodes, wires, record=("mix.out",))
    run = Run(graph, "virtual", replace=nodes)
    run.add_recorder(MemoryRecorder())
    run.execute()
    lineage = Lineage([Output(0, 0), Output(2, 0), Output(1, 0), Output(3, 0)], keep=0)
    steps, _ = run.log.drain()
    for step in steps:
        lineage.add(step)
    for number in range(1, 21):
        step = lineage.step_of(Output(3, 0), number)
        assert step is not None
        found = {(a.of.node, a.sequence) for a in lineage.sources(step)}
        assert found == {(0, number), (1, 1 + (number - 1) // 9)}
    bounded = Lineage([Output(0, 0), Output(2, 0), Output(1, 0), Output(3, 0)], keep=4)
    for step in steps:
        bounded.add(step)
    assert bounded.step_of(Output(3, 0), 16) is None and bounded.step_of(Output(3, 0), 17) is not None
