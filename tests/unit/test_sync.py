"""The synchroniser: methods, partial sets, deadlines, frozen sources, reasons, and the same sets in a replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.errors import EndOfStream
from foveate.graph import Graph, Method, SyncSpec
from foveate.messages import Events, Imu, ProbabilityMap, Stamp
from foveate.node import Node
from foveate.run import ExecutorName, Result, Run
from foveate.sync import SyncStation
from tests.conftest import graph_of, number, value_of

MS = 1_000_000


class Timed(Node):
    """Gives numbers with given stamps at given times (ms)."""

    class Outputs:
        out: ProbabilityMap

    def __init__(
        self, stamps_ms: Sequence[float], at_ms: Sequence[float] | None = None, exposure_ms: float = 0
    ) -> None:
        self.stamps = [round(t * MS) for t in stamps_ms]
        self.at = [round(t * MS) for t in (at_ms if at_ms is not None else stamps_ms)]
        self.exposure_ns = round(exposure_ms * MS)
        self.next = 0

    def due_ns(self) -> int:
        if self.next == len(self.stamps):
            raise EndOfStream
        return self.at[self.next]

    def message(self, t_ns: int) -> Any:
        return replace(number(self.next, t_ns), stamp=Stamp(t_ns, self.exposure_ns))

    def step(self) -> ProbabilityMap:
        self.next += 1
        return self.message(self.stamps[self.next - 1])


class TimedImu(Timed):
    class Outputs:
        out: Imu

    def message(self, t_ns: int) -> Imu:
        return Imu(Stamp(t_ns), np.array([t_ns / 1e9, 0.0, 0.0]), np.zeros(3))

    def step(self) -> Imu:
        self.next += 1
        return self.message(self.stamps[self.next - 1])


class TimedEvents(Timed):
    """Packets of 10 events, 1 ms apart, from the stamp on."""

    class Outputs:
        out: Events

    def step(self) -> Events:
        self.next += 1
        t = self.stamps[self.next - 1] + np.arange(10, dtype=np.int64) * MS
        zeros = np.zeros(10, np.uint16)
        stamp = Stamp(int(t[0] + t[-1]) // 2, int(t[-1] - t[0]))
        return Events(stamp, t, zeros, zeros, np.ones(10, np.uint8), 4, 4)


class Pair(Node):
    def __init__(self) -> None:
        self.got: list[tuple[float, float | None]] = []

    def step(self, a: ProbabilityMap, b: ProbabilityMap | None) -> None:
        self.got.append((a.stamp.t_ns / MS, None if b is None else b.stamp.t_ns / MS))


class Strict(Node):
    def __init__(self) -> None:
        self.got: list[tuple[float, float]] = []

    def step(self, a: ProbabilityMap, b: ProbabilityMap) -> None:
        self.got.append((a.stamp.t_ns / MS, b.stamp.t_ns / MS))


class WithImu(Node):
    def __init__(self) -> None:
        self.got: list[tuple[float, float]] = []

    def step(self, a: ProbabilityMap, imu: Imu) -> None:
        self.got.append((a.stamp.t_ns / MS, float(imu.angular_velocity_rad_s[0]) * 1e3))


class WithEvents(Node):
    def __init__(self) -> None:
        self.got: list[list[float]] = []

    def step(self, a: ProbabilityMap, events: tuple[Events, ...]) -> None:
        self.got.append([t / MS for part in events for t in part.t_ns.tolist()])


def spec(
    port: str, method: Method, window: float = 0, deadline: float | None = None, stale: float | None = None
) -> SyncSpec:
    ns = [None if t is None else round(t * MS) for t in (window, deadline, stale)]
    return SyncSpec("a", {port: method}, ns[0] or 0, ns[1], ns[2])


def graph(nodes: dict[str, Node], port: str, sync: SyncSpec) -> Graph:
    made = graph_of(nodes, ["a.out -> sink.a fifo(64)", f"b.out -> sink.{port} fifo(64)"])
    return replace(made, nodes={**made.nodes, "sink": replace(made.nodes["sink"], sync=sync)})


def run(
    a: Timed, b: Timed, sink: Node, port: str, sync: SyncSpec, executor: ExecutorName = "virtual"
) -> tuple[Any, Result, Any]:
    nodes: dict[str, Node] = {"a": a, "b": b, "sink": sink}
    made = Run(graph(nodes, port, sync), executor, replace=nodes)
    result = made.execute()
    assert result.failure is None and result.balanced
    station = result.stations["sink"]
    assert isinstance(station, SyncStation)
    return sink.got, result, station.partners[port].stats  # type: ignore[attr-defined]


def test_exact_takes_equal_stamps_only() -> None:
    got, result, stats = run(Timed([10, 20, 30, 40]), Timed([10, 21, 30, 50]), Strict(), "b", spec("b", "exact"))
    assert got == [(10, 10), (30, 30)]
    assert (stats.matched, stats.missed) == (2, {"absent": 2})
    assert "b.out had no message for the reference, 2 times" in result.notes[0]


def test_nearest_is_the_nearest_on_either_side_and_may_serve_twice() -> None:
    got, _, _ = run(Timed([10, 12, 20, 31]), Timed([9, 14, 28, 33, 60]), Strict(), "b", spec("b", "nearest", 8))
    assert got == [(10, 9), (12, 14), (20, 14), (31, 33)]


def test_beyond_the_window_is_explained_with_what_would_have_helped() -> None:
    a, b = Timed([100 * i for i in range(1, 41)]), Timed([100 * i + 14 for i in range(42)])
    got, result, stats = run(a, b, Strict(), "b", spec("b", "nearest", 8))
    assert got == [] and stats.missed == {"outside": 40}
    (line,) = result.notes
    assert line.startswith("sink: b.out off by 14 ms > window 8 ms, 40 times; 1")
    needed = float(line.split("; ")[1].split(" ms")[0])
    assert 14 <= needed < 16
    got, result, _ = run(Timed(list(range(100, 4001, 100))), Timed([100 * i + 14 for i in range(42)]), Strict(), "b",
                         spec("b", "nearest", needed))  # fmt: skip
    assert len(got) == 40 and not result.notes


def test_interpolation_is_linear_between_the_neighbours() -> None:
    got, _, stats = run(
        Timed([10, 15, 17.5, 30]), TimedImu([10, 20, 40]), WithImu(), "imu", spec("imu", "interpolate", 10)
    )
    assert got == [(t, pytest.approx(t)) for t in (10, 15, 17.5, 30)]
    got, _, stats = run(Timed([5, 15, 31]), TimedImu([10, 20, 40]), WithImu(), "imu", spec("imu", "interpolate", 9))
    assert [t for t, _ in got] == [15]
    assert stats.missed == {"absent": 1, "outside": 1}


def test_an_interval_gives_the_events_of_the_exposure() -> None:
    a = Timed([15, 25, 27, 90], exposure_ms=6)
    got, _, _ = run(a, TimedEvents([0, 10, 20, 30, 40, 100]), WithEvents(), "events", spec("events", "interval"))
    assert got == [[12, 13, 14, 15, 16, 17], [22, 23, 24, 25, 26, 27], [24, 25, 26, 27, 28, 29], []]


@pytest.mark.parametrize("executor", ["virtual", "live"])
def test_a_deadline_gives_partial_sets_or_counts_a_miss(executor: ExecutorName) -> None:
    late = [(10, 11), (20, 75), (30, 76), (140, 141)]
    stamps, at = [s for s, _ in late], [t for _, t in late]
    times = [10, 20, 30, 140]
    sync = spec("b", "nearest", 2, deadline=20)
    got, result, stats = run(Timed(times), Timed(stamps, at), Pair(), "b", sync, executor)
    assert got == [(10, 10), (20, None), (30, None), (140, 140)]
    assert stats.missed == {"deadline": 2}
    (line,) = result.notes
    assert "had not come by the deadline, 2 times" in line and "ms would have been enough" in line
    got, _, _ = run(Timed(times), Timed(stamps, at), Strict(), "b", sync, executor)
    assert got == [(10, 10), (140, 140)]


def test_a_frozen_source_is_not_waited_for_and_comes_back() -> None:
    a = Timed([*range(10, 160, 10), *range(200, 300, 10)])
    b = Timed(
        [*range(10, 60, 10), *[50] * 9, *range(200, 300, 10)],
        [*range(10, 60, 10), *range(60, 150, 10), *range(200, 300, 10)],
    )
    got, result, stats = run(a, b, Pair(), "b", spec("b", "nearest", 2, stale=35))
    assert [g for g in got if g[0] <= 50] == [(t, t) for t in (10, 20, 30, 40, 50)]
    assert [g for g in got if 60 <= g[0] <= 150] == [(t, None) for t in range(60, 151, 10)]
    assert [g for g in got if g[0] >= 200] == [(t, t) for t in range(200, 300, 10)]
    assert stats.missed["stale"] >= 10 and not stats.frozen
    dropped = next(w.dropped for w in result.wires if w.wire.startswith("b.out"))
    assert dropped["repeated"] == 9
    assert any("gave nothing new" in line for line in result.notes)


@given(
    a=st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True).map(sorted),
    b=st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True).map(sorted),
    window=st.integers(0, 40),
)
def test_nearest_against_the_definition(a: list[int], b: list[int], window: int) -> None:
    end = 10_000  # a last message of b closes every set
    got, _, stats = run(Timed(a), Timed([*b, end]), Strict(), "b", spec("b", "nearest", window))
    expected = []
    for t in a:
        best = min(b, key=lambda s: (abs(s - t), s))
        if abs(best - t) <= window:
            expected.append((t, best))
    assert [(x, abs(x - y)) for x, y in got] == [(x, abs(x - y)) for x, y in expected]
    assert stats.matched == len(expected) and stats.matched + sum(stats.missed.values()) == len(a)


def test_what_is_used_and_what_is_not_is_in_the_ledger() -> None:
    _, result, _ = run(Timed([10, 20]), Timed(list(range(0, 40, 2))), Strict(), "b", spec("b", "nearest", 1))
    wire = next(w for w in result.wires if w.wire.startswith("b.out"))
    assert (wire.produced, wire.delivered) == (20, 2) and value_of(number(3)) == 3
    assert wire.dropped == {"unmatched": 9} and wire.in_flight == 9
