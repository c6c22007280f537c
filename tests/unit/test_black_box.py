"""The black box: what is kept, when it is written, what is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from foveate.graph import BudgetSpec, Graph, Ring
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.recording import Recording
from foveate.recording.black_box import BlackBox
from foveate.run import Run
from foveate.supervision import FaultPolicy
from tests.conftest import Collect, Numbers, Pass, graph_of, value_of

MS = 1_000_000


class Trip(Node):
    """Gives on what it gets; raises at one value."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self, at: int = -1) -> None:
        self.at = at

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if value_of(value) == self.at:
            raise ValueError("tripped")
        return value


def made(count: int, trip: int, ring: Ring, action: str = "ignore") -> tuple[Graph, dict[str, Node]]:
    nodes: dict[str, Node] = {"source": Numbers(count=count, period_ns=MS), "trip": Trip(trip), "sink": Collect()}
    graph = graph_of(
        nodes, ["source.out -> trip.value fifo(9)", "trip.out -> sink.value fifo(9)"], record=("source.out",)
    )
    assert graph.record is not None
    policy = FaultPolicy(action)  # type: ignore[arg-type]
    specs = {**graph.nodes, "trip": replace(graph.nodes["trip"], on_fault=policy)}
    return replace(graph, nodes=specs, record=replace(graph.record, ring=ring)), nodes


def run(graph: Graph, nodes: dict[str, Node], folder: Path, ask_at: int = -1) -> tuple[BlackBox, Run]:
    assert graph.record is not None and graph.record.ring is not None
    box = BlackBox(folder, graph, graph.record.ring, {"nodes": list(graph.nodes)})
    made_run = Run(graph, "virtual", replace=nodes)
    made_run.add_recorder(box)
    if ask_at >= 0:

        class Asking(Pass):
            def step(self, value: ProbabilityMap) -> ProbabilityMap:
                if value_of(value) == ask_at:
                    box.ask("the user asked")
                return value

        made_run.stations["trip"].node = Asking()
    result = made_run.execute()
    box.end({})
    assert result.balanced
    return box, made_run


def values(path: Path) -> list[int]:
    with Recording(path) as log:
        assert log.file.closed and not log.lost()
        return [value_of(m) for _, m in log.messages("source.out", ProbabilityMap)]  # type: ignore[arg-type]


def test_nothing_is_written_when_nothing_goes_wrong(tmp_path: Path) -> None:
    box, _ = run(*made(100, -1, Ring(20 * MS)), tmp_path)
    assert box.files == [] and list(tmp_path.iterdir()) == []


def test_a_fault_writes_what_came_before_and_after(tmp_path: Path) -> None:
    box, _ = run(*made(200, 100, Ring(20 * MS)), tmp_path)
    assert [p.name for p in box.files] == ["blackbox_001.mcap"]
    got = values(box.files[0])
    assert got == list(range(got[0], got[-1] + 1))
    assert 78 <= got[0] <= 81 and 119 <= got[-1] <= 122
    with Recording(box.files[0]) as log:
        assert log.end["why"] == ["node 'trip' failed: ValueError: tripped"]
        steps = [d for d in log.decisions() if hasattr(d, "node") and d.node == 1]
        assert [s.fault for s in steps if s.fault] == ["ValueError: tripped"]
        assert steps[0].number >= 78 and steps[-1].number >= 119


def test_a_failure_that_ends_the_run_is_written(tmp_path: Path) -> None:
    graph, nodes = made(200, 100, Ring(20 * MS), "stop")
    box, made_run = run(graph, nodes, tmp_path)
    assert made_run.stations["trip"].stats.state == "failed"
    assert values(box.files[0])[-1] == 100


def test_somebody_asks(tmp_path: Path) -> None:
    box, _ = run(*made(200, -1, Ring(20 * MS)), tmp_path, ask_at=60)
    got = values(box.files[0])
    assert got[0] <= 41 and got[-1] >= 79
    with Recording(box.files[0]) as log:
        assert log.end["why"] == ["the user asked"]


def test_a_missed_budget_is_written_unless_the_ring_says_keep(tmp_path: Path) -> None:
    for dump in (True, False):
        graph, nodes = made(100, -1, Ring(20 * MS, dump_on_fault=dump))
        costs = {**graph.nodes, "trip": replace(graph.nodes["trip"], cost_ns=2 * MS)}
        graph = replace(graph, nodes=costs, budgets=(BudgetSpec("source.out", "trip.out", 0.99, MS),))
        box, _ = run(graph, nodes, tmp_path / str(dump))
        assert len(box.files) == (1 if dump else 0)
        if dump:
            with Recording(box.files[0]) as log:
                assert log.end["why"] == ["budget source.out -> trip.out p99 1 ms is missed"]


def test_memory_is_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    ring = Ring(1000 * MS, most_bytes=30 * 504)  # a message takes 500 bytes and its 4 bytes of content
    box, _ = run(*made(200, 100, ring), tmp_path)
    got = values(box.files[0])
    assert 68 <= got[0] <= 72 and got[-1] == 199


def test_faults_one_after_the_other_are_one_dump(tmp_path: Path) -> None:
    graph, nodes = made(300, 100, Ring(20 * MS))

    class Often(Trip):
        def step(self, value: ProbabilityMap) -> ProbabilityMap:
            if value_of(value) in (100, 110, 200):
                raise ValueError("again")
            return value

    nodes["trip"] = Often()
    box, _ = run(graph, nodes, tmp_path)
    assert len(box.files) == 2
    assert 129 <= values(box.files[0])[-1] <= 132  # 20 ms after the second
    assert values(box.files[1])[0] >= 132
