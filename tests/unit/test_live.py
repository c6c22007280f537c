"""The live executor: FLW1 to FLW3, failures, endings. Waits are for events, never for a time."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from foveate.clock import Clock
from foveate.device import Device
from foveate.errors import NodeFailed
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.run import Result, Run
from tests.conftest import Collect, MemoryRecorder, Numbers, Pass, graph_of, number

pytestmark = pytest.mark.live


class Fast(Numbers):
    """Counts as fast as it is asked."""

    def due_ns(self) -> None:  # type: ignore[override]
        return None


def execute(nodes: dict[str, Node], wires: list[str], record: tuple[str, ...] = ()) -> tuple[Result, MemoryRecorder]:
    recorder = MemoryRecorder()
    run = Run(graph_of(nodes, wires, record=record), "live", replace=nodes)
    if record:
        run.add_recorder(recorder)
    result = run.execute(60_000_000_000)
    assert result.balanced, [w for w in result.wires if w.missing]
    return result, recorder


class Slow(Collect):
    """Ten times slower than its producer: burns a little time a step."""

    def step(self, value: ProbabilityMap) -> None:
        for _ in range(300):
            pass
        super().step(value)


@pytest.mark.parametrize("queue", ["latest", "fifo(8)", "every(4)"])
def test_flw1_a_slow_consumer_loses_messages_but_none_without_account(queue: str) -> None:
    sink = Slow()
    nodes = {"a": Fast(count=20_000), "sink": sink}
    tracemalloc.start()
    result, _ = execute(nodes, [f"a.out -> sink.value {queue}"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    wire = result.wires[0]
    assert wire.produced == 20_000 == wire.delivered + sum(wire.dropped.values()) + wire.in_flight
    assert wire.delivered == len(sink.got) == result.stations["sink"].stats.steps
    assert sink.got == sorted(set(sink.got)), "a message was delivered twice or out of order"
    assert peak < 5_000_000


def test_flw2_block_loses_nothing_and_keeps_the_order() -> None:
    sink = Collect()
    nodes = {"a": Fast(count=30_000), "mid": Pass(), "sink": sink}
    result, _ = execute(nodes, ["a.out -> mid.value block(4)", "mid.out -> sink.value block(64)"])
    assert sink.got == list(range(30_000))
    assert all(not wire.dropped and wire.in_flight == 0 for wire in result.wires)


class Stuck(Collect):
    """Waits in its first step until told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def step(self, value: ProbabilityMap) -> None:
        self.go_on.wait(30)
        super().step(value)


class Last(Collect):
    """Tells when it has seen the last number."""

    def __init__(self, last: int, done: threading.Event) -> None:
        super().__init__()
        self.last, self.done = last, done

    def step(self, value: ProbabilityMap) -> None:
        super().step(value)
        if self.got[-1] == self.last:
            self.done.set()


def test_flw3_a_branch_that_stands_still_does_not_hold_up_the_other() -> None:
    stuck = Stuck()
    quick = Last(4_999, stuck.go_on)  # the quick branch ends first, and only then may the stuck one go on
    nodes: dict[str, Node] = {"a": Fast(count=5_000), "stuck": stuck, "quick": quick}
    result, _ = execute(nodes, ["a.out -> stuck.value latest", "a.out -> quick.value block(16)"])
    assert quick.got == list(range(5_000))
    assert stuck.got[-1] == 4_999 and len(stuck.got) <= 3
    assert result.wires[0].produced == 5_000


def test_every_message_is_recorded_once_in_order() -> None:
    nodes = {"a": Fast(count=3_000), "b": Pass()}
    _, recorder = execute(nodes, ["a.out -> b.value block(4)"], record=("b.out",))
    values = [int(m.expected[0, 0]) for m in recorder.streams["b.out"]]  # type: ignore[attr-defined]
    assert values == sorted(set(values))
    assert len(values) >= 1


class Breaks(Pass):
    """Raises at its tenth message."""

    closed = 0

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if self.steps == 9:
            raise RuntimeError("the lens\nfell off")
        return super().step(value)

    def close(self) -> None:
        self.closed += 1


def test_a_node_that_raises_stops_the_graph_and_everything_is_closed() -> None:
    breaks, sink = Breaks(), Breaks()
    nodes: dict[str, Node] = {"a": Fast(count=10**9), "b": breaks, "sink": sink}
    result, _ = execute(nodes, ["a.out -> b.value block(2)", "b.out -> sink.value"])
    assert isinstance(result.failure, NodeFailed)
    assert str(result.failure).startswith("node 'b' failed in step (value at ")
    assert str(result.failure).endswith("RuntimeError: the lens fell off")
    assert breaks.closed == sink.closed == 1


class FailsToOpen(Pass):
    closed = 0

    def open(self) -> None:
        raise ValueError("no weights")

    def close(self) -> None:
        self.closed += 1


def test_a_node_that_cannot_open_ends_the_run_before_a_step() -> None:
    bad = FailsToOpen()
    nodes: dict[str, Node] = {"a": Fast(count=10), "b": bad}
    result, _ = execute(nodes, ["a.out -> b.value"])
    assert str(result.failure) == "node 'b' failed in open: ValueError: no weights"
    assert result.stations["a"].stats.steps == 0 and bad.closed == 1


class FailsToClose(Pass):
    def close(self) -> None:
        raise OSError("stuck shut")


def test_one_node_that_cannot_close_does_not_keep_the_others_open() -> None:
    good = Breaks()
    nodes: dict[str, Node] = {"a": Fast(count=3), "bad": FailsToClose(), "good": good}
    result, _ = execute(nodes, ["a.out -> bad.value", "a.out -> good.value"])
    assert [str(p) for p in result.close_failures] == ["node 'bad' failed in close: OSError: stuck shut"]
    assert good.closed == 1


def test_a_stop_from_outside_ends_sources_and_drains_the_rest() -> None:
    sink = Collect()
    nodes: dict[str, Node] = {"a": Fast(count=10**9), "sink": sink}
    run = Run(graph_of(nodes, ["a.out -> sink.value fifo(4)"]), "live", replace=nodes)
    threading.Timer(0.05, run.stop.set).start()
    result = run.execute(None)
    assert result.stopped_by == "signal" and result.balanced and result.failure is None
    assert result.wires[0].in_flight == 0


def test_optional_inputs_give_the_newest_and_stay() -> None:
    class Both(Node):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int | None]] = []

        def step(self, value: ProbabilityMap, other: ProbabilityMap | None) -> None:
            self.seen.append((int(value.expected[0, 0]), None if other is None else int(other.expected[0, 0])))

    both = Both()
    nodes: dict[str, Node] = {"a": Numbers(count=4, period_ns=10), "b": Numbers(count=2, period_ns=15), "both": both}
    result = Run(graph_of(nodes, ["a.out -> both.value", "b.out -> both.other"]), "virtual", replace=nodes).execute(
        None
    )
    assert result.balanced
    assert both.seen == [(0, None), (1, 0), (2, 1), (3, 1)] or both.seen == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert number(3).expected.flags.writeable is False


def test_a_queue_that_loses_a_message_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is no tautology: an engine that loses one message of a hundred does not balance, exit 3."""
    from foveate.commands.run import exit_code
    from foveate.queues import Queue

    put = Queue.put

    def leaky(self: Queue, message: ProbabilityMap, now_ns: int) -> None:
        put(self, message, now_ns)
        if int(message.expected[0, 0]) == 50:
            self._items.pop()

    monkeypatch.setattr(Queue, "put", leaky)
    nodes: dict[str, Node] = {"a": Numbers(count=100), "sink": Collect()}
    result = Run(graph_of(nodes, ["a.out -> sink.value fifo(200)"]), "virtual", replace=nodes).execute(None)
    assert result.wires[0].missing == 1 and not result.balanced
    assert exit_code(result) == 3


def test_a_device_that_fails_in_an_unforeseen_way_is_one_line_not_a_traceback() -> None:
    class Broken(Device):
        uri = "cam:7"

        def open(self, clock: Clock) -> None:
            raise ValueError("bad firmware")

    nodes: dict[str, Node] = {"a": Fast(count=3)}
    run = Run(graph_of(nodes, []), "live", replace=nodes)
    run.devices["x"] = Broken()
    assert str(run.execute(None).failure) == "node 'cam:7' failed in open: ValueError: bad firmware"
