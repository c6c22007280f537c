"""FLW9: the wall clock may jump by hours while a run goes on, and nothing of the run notices."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import foveate
from foveate import clock
from foveate.clock import LiveClock, VirtualClock, WallOffset, wall_offset
from foveate.commands.run import end_facts
from foveate.decisions import Step
from foveate.errors import EndOfStream
from foveate.graph import Graph, SyncSpec
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.queues import Policy
from foveate.recording import McapRecorder, Recording, recorder
from foveate.recording.seal import provenance
from foveate.run import Result, Run
from foveate.supervision import FaultPolicy
from tests.conftest import Collect, graph_of, number, value_of

pytestmark = pytest.mark.live

MS = 1_000_000
HOUR = 3_600_000_000_000
BASE = 1_700_000_000_000_000_000  # Unix time when the faked monotonic clock showed 0


def fake(monkeypatch: pytest.MonkeyPatch, monotonic_ns: Callable[[], int], time_ns: Callable[[], int]) -> list[float]:
    """Put these in the place of the computer's clocks; what was slept through is in the list."""
    slept: list[float] = []
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic_ns=monotonic_ns, time_ns=time_ns, sleep=slept.append))
    return slept


# The clock itself -----------------------------------------------------------------------------------------------


def test_a_clock_stands_at_0_until_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [500]
    fake(monkeypatch, lambda: now[0], lambda: BASE + now[0])
    made = LiveClock()
    assert not made.started and made.now_ns() == 0 and made.wall_start_ns == BASE + 500
    now[0] = 10_000
    assert made.now_ns() == 0
    made.start()
    assert made.started and made.now_ns() == 0 and made.wall_start_ns == BASE + 10_000
    now[0] = 10_007
    assert made.now_ns() == 7


def test_a_clock_that_starts_later_stands_at_0_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000]
    fake(monkeypatch, lambda: now[0], lambda: BASE + now[0])
    made = LiveClock()
    made.start(after_ns=50)
    shown = []
    for now[0] in (1000, 1049, 1050, 1051, 1060):
        shown.append(made.now_ns())
    assert shown == [0, 0, 0, 1, 10]
    assert made.started and made.wall_start_ns == BASE + 1050, "what is at 0 is at the wall time of the start"


def test_the_wall_clock_does_not_move_the_runs_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now, jump = [1000], [0]
    fake(monkeypatch, lambda: now[0], lambda: BASE + now[0] + jump[0])
    made = LiveClock()
    made.start()
    for step, jump[0] in enumerate((HOUR, -HOUR, 5, -5, -2 * HOUR), 1):
        now[0] = 1000 + step
        assert made.now_ns() == step and made.wall_start_ns == BASE + 1000


def test_waiting_ends_at_its_time_whatever_the_wall_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now, jump = [0], [0]
    slept = fake(monkeypatch, lambda: now[0], lambda: BASE + now[0] + jump[0])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        jump[0] += HOUR
        now[0] += round(seconds * 1e9)

    clock.time.sleep = sleep
    made, stop = LiveClock(), threading.Event()
    made.start()
    assert made.wait_until(30 * MS, stop) and now[0] == 30 * MS and slept == [0.03]
    assert made.wait_until(30 * MS, stop) and made.wait_until(5, stop) and slept == [0.03]

    class Slices(threading.Event):
        """Every wait passes its time."""

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            sleep(timeout)
            return False

    slept.clear()
    assert made.wait_until(1030 * MS, Slices())
    assert now[0] == 1030 * MS and max(slept) <= 0.05 and len(slept) >= 20
    stop.set()
    assert not made.wait_until(2000 * MS, stop) and now[0] == 1030 * MS


def test_the_wall_offset_is_the_tightest_of_its_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    now, offset = [0], BASE
    pauses = iter([400, 400, 90, 10, 700, 0, 3, 5, 2000, 2000])  # before and after each reading of the wall clock

    def monotonic_ns() -> int:
        shown = now[0]
        now[0] += next(pauses) if monotonic_ns.first else 0  # type: ignore[attr-defined]
        monotonic_ns.first = not monotonic_ns.first  # type: ignore[attr-defined]
        return shown

    def time_ns() -> int:
        shown = offset + now[0]
        now[0] += next(pauses)
        return shown

    monotonic_ns.first = True  # type: ignore[attr-defined]
    fake(monkeypatch, monotonic_ns, time_ns)
    found = wall_offset()
    assert found.sigma_ns == 4 and abs(found.offset_ns - offset) <= found.sigma_ns
    assert next(pauses, None) is None, "five readings"


def test_the_wall_offset_of_this_computer_bears_itself_out() -> None:
    """Its readings lie between ours, so its offset is within both uncertainties of each of ours."""
    before, found, after = wall_offset(), wall_offset(), wall_offset()
    for other in (before, after):
        assert isinstance(other, WallOffset) and other.sigma_ns >= 0
        # NTP slews by at most 500 ppm; the three were read within one another's neighbourhood
        assert abs(found.offset_ns - other.offset_ns) <= found.sigma_ns + other.sigma_ns + MS


def test_simulated_time_never_runs_backwards() -> None:
    made = VirtualClock(BASE)
    made.advance(7)
    made.advance(3)
    assert made.now_ns() == 7 and made.wall_start_ns == BASE
    assert made.wait_until(9, threading.Event()) and made.now_ns() == 9


def test_only_the_clock_reads_the_computers_time() -> None:
    """Clocks by `time`; `datetime` to name a folder, in the commands only."""
    folder = Path(foveate.__file__).parent
    readers = set()
    for path in folder.rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in item.names] if isinstance(item, ast.Import) else []
            names += [item.module or ""] if isinstance(item, ast.ImportFrom) else []
            if "time" in names:
                readers.add(path.relative_to(folder).as_posix())
    assert readers == {"clock.py"}


# A live run -----------------------------------------------------------------------------------------------------


class Wall:
    """A wall clock that somebody sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jump_ns = 0
        self.jumps = 0
        self.base_ns = time.time_ns() - time.monotonic_ns()
        there = SimpleNamespace(monotonic_ns=time.monotonic_ns, time_ns=self.time_ns, sleep=time.sleep)
        monkeypatch.setattr(clock, "time", there)

    def time_ns(self) -> int:
        return self.base_ns + time.monotonic_ns() + self.jump_ns

    def jump(self) -> None:
        """An hour on, an hour back, then back before the start, and so on."""
        self.jumps += 1
        self.jump_ns = (HOUR, -HOUR, -2 * HOUR, 0, 24 * HOUR, -17)[self.jumps % 6]


class Jumping(Node):
    """A number every `period_ms`; the wall clock jumps with each. `late_ms`: they come so long after their stamp."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self, wall: Wall, count: int, period_ms: int = 5, late_ms: int = 0, stamp_ms: int = 0) -> None:
        self.wall, self.count, self.next = wall, count, 0
        self.period_ms, self.late_ms, self.stamp_ms = period_ms, late_ms, stamp_ms

    def due_ns(self) -> int:
        if self.next == self.count:
            raise EndOfStream
        return (10 + self.next * self.period_ms + self.late_ms) * MS

    def step(self) -> ProbabilityMap:
        self.wall.jump()
        self.next += 1
        return number(self.next, (10 + (self.next - 1) * self.period_ms + self.stamp_ms) * MS)


class Pair(Node):
    """Keeps whether a partner was there."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        self.got: list[tuple[int, bool]] = []

    def step(self, a: ProbabilityMap, b: ProbabilityMap | None) -> ProbabilityMap:
        self.got.append((value_of(a), b is not None))
        return a


class Failing(Node):
    """Fails at 3, 6 and 9; notes when it was given up and made anew."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        self.failed_ns: list[int] = []
        self.opened_ns: list[int] = []

    def open(self) -> None:
        self.opened_ns.append(time.monotonic_ns())

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if value_of(value) in (3, 6, 9):
            self.failed_ns.append(time.monotonic_ns())
            raise ValueError("told to fail")
        return value


def changed(graph: Graph, **nodes: dict[str, Any]) -> Graph:
    return replace(graph, nodes=graph.nodes | {n: replace(graph.nodes[n], **more) for n, more in nodes.items()})


DEADLINE_NS, BACKOFF_NS, AGE_NS = 20 * MS, 8 * MS, 10_000 * MS


@pytest.fixture
def jumped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Result, dict[str, Any], Wall, Run]:
    """A recorded live run through which the wall clock jumps; every batch says how the clocks stand."""
    monkeypatch.setattr(recorder, "_HEALTH_NS", 0)
    wall = Wall(monkeypatch)
    nodes: dict[str, Any] = {
        "a": Jumping(wall, 24), "late": Jumping(wall, 24, late_ms=400), "old": Jumping(wall, 24, stamp_ms=-20_000),
        "pair": Pair(), "failing": Failing(), "fresh": Collect(), "stale": Collect(),
    }  # fmt: skip
    graph = graph_of(
        nodes,
        ["a.out -> pair.a fifo(64)", "late.out -> pair.b fifo(64)", "a.out -> failing.value block(64)",
         "a.out -> fresh.value block(64)", "old.out -> stale.value block(64)"],
        record=("a.out", "late.out", "pair.out", "failing.out"),
    )  # fmt: skip
    aged = {"fresh", "stale"}
    wires = tuple(
        replace(w, policy=Policy(w.policy.kind, w.policy.size, AGE_NS)) if w.target in aged else w for w in graph.wires
    )
    graph = changed(
        replace(graph, wires=wires), pair={"sync": SyncSpec("a", {"b": "nearest"}, MS, DEADLINE_NS)},
        failing={"on_fault": FaultPolicy("restart", times=5, backoff_ns=BACKOFF_NS)},
    )  # fmt: skip
    made = Run(graph, "live", replace=nodes)
    writer = McapRecorder(tmp_path / "run.mcap", graph, provenance(graph, "live"))
    made.add_recorder(writer)
    result = made.execute(60_000 * MS)
    assert result.failure is None and result.balanced and result.stopped_by == "end"
    writer.end(end_facts(result))
    assert wall.jumps == 72
    return tmp_path / "run.mcap", result, nodes, wall, made


def test_flw9_jumps_of_the_wall_clock(jumped: tuple[Path, Result, dict[str, Any], Wall, Run]) -> None:
    path, result, nodes, wall, run = jumped
    # the deadline: nothing comes in time, and no set was given up before it was due
    assert nodes["pair"].got == [(n, False) for n in range(1, 25)]
    # an age of 10 s: nothing was an hour old, and what was 20 s old was no hour young
    assert nodes["fresh"].got == list(range(1, 25)) and nodes["stale"].got == []
    assert result.wires[4].dropped == {"expired": 24} and result.wires[3].dropped == {}
    # the back-off
    failing = nodes["failing"]
    assert len(failing.failed_ns) == 3 and len(failing.opened_ns) == 4
    for times, (failed, opened) in enumerate(zip(failing.failed_ns, failing.opened_ns[1:], strict=True)):
        assert opened - failed >= BACKOFF_NS << times
    assert result.stations["failing"].supervisor.restarts == 3

    with Recording(path) as log:
        assert log.file.closed and not log.notes()
        start_ns = run.clock.wall_start_ns
        assert log.wall_start_ns == start_ns
        assert log.seal["clocks"]["pipeline"]["wall_start_ns"] == start_ns
        opened = wall.base_ns + nodes["failing"].opened_ns[0]
        assert abs(start_ns - opened) < 60_000 * MS, "before the first jump"
        before = 0
        for topic in ("/a.out", "/late.out", "/pair.out", "/failing.out"):
            raws = list(log.raw(topic))
            logged, stamps = [r.log_ns for r in raws], [r.publish_ns for r in raws]
            assert logged == sorted(logged) and stamps == sorted(set(stamps))
            assert start_ns <= logged[0] and logged[-1] <= start_ns + result.duration_ns
            before += len(raws)
        assert before == 24 + 24 + 24 + 21
        names = log.seal["nodes"]
        steps: dict[str, list[Step]] = {name: [] for name in names}
        for item in log.decisions():
            if isinstance(item, Step):
                steps[names[item.node]].append(item)
        for name, taken in steps.items():
            assert all(0 <= s.since_ns <= s.begun_ns <= s.done_ns <= result.duration_ns for s in taken), name
            assert [s.begun_ns for s in taken] == sorted(s.begun_ns for s in taken), name
        assert len(steps["pair"]) == 24
        assert all(s.begun_ns >= s.since_ns + DEADLINE_NS for s in steps["pair"])
        clocks = [state["clock"] for state in log.health()]
        offsets = {round((c["wall_offset_ns"] - wall.base_ns) / HOUR) for c in clocks}
        assert len(offsets) >= 2, "the recording tells that the wall clock was set"
        end = log.end["clock"]
        assert abs(end["wall_offset_ns"] - wall.base_ns - wall.jump_ns) <= end["sigma_ns"] + 1
