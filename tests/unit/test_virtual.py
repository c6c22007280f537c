"""The virtual executor: order, cost, closed loops, blocking, determinism."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import EndOfStream, FoveateError
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.queues import Policy
from foveate.run import ExecutorName, Result, Run
from tests.conftest import Collect, MemoryRecorder, Numbers, Pass, graph_of, number, value_of


def run(
    nodes: dict[str, Node], wires: list[str], costs: dict[str, int] | None = None, duration: int | None = None
) -> Result:
    result = Run(graph_of(nodes, wires, costs), "virtual", replace=nodes).execute(duration)
    assert result.balanced
    return result


def test_a_step_costs_what_is_declared_and_latest_drops_in_between() -> None:
    sink = Collect()
    nodes = {"a": Numbers(count=100, period_ns=10), "slow": Pass(), "sink": sink}
    run(nodes, ["a.out -> slow.value", "slow.out -> sink.value fifo(99)"], {"slow": 35})
    # busy 0..35, 35..70, ...: takes the newest at each start
    assert sink.got[:4] == [0, 3, 7, 10]


def test_block_keeps_everything_in_order() -> None:
    sink = Collect()
    nodes = {"a": Numbers(count=500, period_ns=1), "slow": Pass(), "sink": sink}
    result = run(nodes, ["a.out -> slow.value block(3)", "slow.out -> sink.value block(1)"], {"slow": 7, "sink": 20})
    assert sink.got == list(range(500))
    assert result.duration_ns >= 499 * 20


def test_time_ends_at_the_duration() -> None:
    sink = Collect()
    result = run({"a": Numbers(count=10**9, period_ns=10), "sink": sink}, ["a.out -> sink.value"], duration=1000)
    assert (result.stopped_by, result.duration_ns, len(sink.got)) == ("duration", 1000, 101)


class Enough(Pass):
    """Passes numbers on, and has done what the run was for at 7."""

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if value_of(value) > 7:
            raise EndOfStream
        return super().step(value)


@pytest.mark.parametrize("executor", ["virtual", "live"])
def test_a_node_that_has_done_what_the_run_was_for_ends_it(executor: ExecutorName) -> None:
    sink = Collect()
    nodes = {"a": Numbers(count=10**9, period_ns=100_000), "enough": Enough(), "sink": sink}
    graph = graph_of(nodes, ["a.out -> enough.value fifo(64)", "enough.out -> sink.value fifo(64)"], {})
    result = Run(graph, executor, replace=nodes).execute(60_000_000_000)
    assert (result.stopped_by, result.balanced, sink.got) == ("end", True, list(range(8)))


class Feedback(Node):
    """Adds the newest value of its own loop."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        pass

    def step(self, value: ProbabilityMap, back: ProbabilityMap | None) -> ProbabilityMap:
        return number(value_of(value) + (value_of(back) if back else 0))


def test_closed_loops_work() -> None:
    sink = Collect()
    nodes: dict[str, Node] = {"a": Numbers(count=5, period_ns=10), "sum": Feedback(), "lag": Pass(), "sink": sink}
    wires = ["a.out -> sum.value", "lag.out -> sum.back", "sum.out -> lag.value", "sum.out -> sink.value"]
    run(nodes, wires, {"lag": 3})
    assert sink.got == [0, 1, 3, 6, 10]


class Echo(Node):
    """Triggers itself for ever once started."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        pass

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        return value


def test_a_loop_without_cost_is_named_instead_of_hanging() -> None:
    nodes: dict[str, Node] = {"a": Numbers(count=1), "b": Echo(), "c": Echo()}
    wires = ["a.out -> b.value fifo(9)"]
    graph = graph_of(nodes, wires)
    run_ = Run(graph, "virtual", replace=nodes)
    # wire c back into b by hand: the checker refuses nothing here, since b has one input from one wire
    stations = run_.stations
    stations["b"].targets["out"].append((stations["b"], stations["b"].inlets[0]))
    result = run_.execute(None)
    assert result.failure is not None and "simulated time stands still" in str(result.failure)


class Deaf(Node):
    """A source that only its device could time."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        pass

    def step(self) -> ProbabilityMap:
        raise AssertionError


def test_a_source_that_cannot_be_simulated_is_refused_by_name() -> None:
    nodes: dict[str, Node] = {"camera": Deaf()}
    result = Run(graph_of(nodes, []), "virtual", replace=nodes).execute(None)
    assert isinstance(result.failure, FoveateError)
    assert "'camera' cannot run in simulated time" in str(result.failure)


@settings(max_examples=30)
@given(
    period=st.integers(1, 20), costs=st.lists(st.integers(0, 40), min_size=3, max_size=3),
    queues=st.lists(st.sampled_from(["latest", "fifo(2)", "block(2)", "every(3)"]), min_size=3, max_size=3),
)  # fmt: skip
def test_the_same_graph_gives_the_same_messages(period: int, costs: list[int], queues: list[str]) -> None:
    def once() -> tuple[dict[str, list[int]], list[object]]:
        nodes: dict[str, Node] = {"a": Numbers(count=40, period_ns=period), "b": Pass(), "c": Pass(), "d": Feedback()}
        wires = [
            f"a.out -> b.value {queues[0]}",
            f"a.out -> c.value {queues[1]}",
            f"b.out -> d.value {queues[2]}",
            "c.out -> d.back",
        ]
        recorder = MemoryRecorder()
        graph = graph_of(nodes, wires, dict(zip("bcd", costs, strict=True)), record=("a.out", "b.out", "d.out"))
        made = Run(graph, "virtual", replace=nodes)
        made.add_recorder(recorder)
        result = made.execute(None)
        assert result.balanced and result.failure is None
        values = {name: [value_of(m) for m in messages] for name, messages in recorder.streams.items()}  # type: ignore[arg-type]
        return values, [(w.wire, w.produced, w.delivered, w.dropped, w.in_flight) for w in result.wires]

    assert once() == once()


def test_a_message_no_output_declares_is_a_failure_that_names_the_node() -> None:
    class Wrong(Pass):
        def step(self, value: ProbabilityMap) -> ProbabilityMap:
            return "text"  # type: ignore[return-value]

    nodes: dict[str, Node] = {"a": Numbers(count=1), "odd": Wrong()}
    result = Run(graph_of(nodes, ["a.out -> odd.value"]), "virtual", replace=nodes).execute(None)
    with pytest.raises(
        FoveateError, match=r"node 'odd' failed in step \(value at 0.0000 s\): TypeError: step returned str"
    ):
        raise result.failure or AssertionError


class Pair(Node):
    """Takes two at once."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []

    def step(self, a: ProbabilityMap, b: ProbabilityMap) -> None:
        self.got.append((value_of(a), value_of(b)))


def test_expired_messages_make_room_for_a_producer_that_waits() -> None:
    pair = Pair()
    nodes: dict[str, Node] = {"a": Numbers(count=100, period_ns=10), "b": Numbers(count=3, period_ns=400), "pair": pair}
    graph = graph_of(nodes, ["a.out -> pair.a block(1)", "b.out -> pair.b fifo(5)"])
    old = Policy("block", 1, max_age_ns=100)
    graph = replace(graph, wires=(replace(graph.wires[0], policy=old), graph.wires[1]))
    result = Run(graph, "virtual", replace=nodes).execute(None)
    assert result.balanced and result.wires[0].dropped.get("expired", 0) >= 1
    assert len(pair.got) == 3
