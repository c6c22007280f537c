"""Replays: one seed gives one recording, a replay gives the recorded bytes, and what is not as it was is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from foveate import catalog
from foveate.checking import load_graph
from foveate.cli import main
from foveate.commands.run import execute, exit_code
from foveate.decisions import Step
from foveate.errors import EndOfStream
from foveate.messages import MirrorState, ProbabilityMap, Stamp
from foveate.node import Node
from foveate.queues import Drop
from foveate.recording import Recording
from foveate.recording import mcap_format as mcap
from foveate.recording.recorder import DECISIONS, HEALTH
from foveate.recording.writer import ChannelSpec, McapWriter
from foveate.run import ExecutorName, Result

ROOT = Path(__file__).resolve().parents[2]
heavy = pytest.mark.heavy
STEPS: list[str] = []  # classes whose step or open has run


def values(stamp_ns: int, numbers: np.ndarray) -> ProbabilityMap:
    return ProbabilityMap(Stamp(stamp_ns), np.asarray(numbers, np.float32).reshape(1, -1), 0.0, 0.0, 1.0)


class Ticks(Node):
    """Random numbers from a seed, `burst` at one moment, at uneven times."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self, *, count: int = 256, period: int = 1_000_000, seed: int = 0, burst: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self._numbers = rng.random((count, 4))
        self._times = np.cumsum(rng.integers(period // 2, period * 2, count)).repeat(burst)[:count].tolist()
        self._next = 0

    def due_ns(self) -> int:
        if self._next >= len(self._times):
            raise EndOfStream
        return int(self._times[self._next])

    def step(self) -> ProbabilityMap:
        STEPS.append("Ticks")
        self._next += 1
        return values(self._times[self._next - 1], self._numbers[self._next - 1])


class Stereo(Node):
    """Two outputs: `a` each time, `b` every third time with it."""

    class Outputs:
        a: ProbabilityMap
        b: MirrorState

    def __init__(self, *, count: int = 256, period: int = 1_300_000, seed: int = 0) -> None:
        self._numbers = np.random.default_rng(seed).random((count, 4))
        self._period = period
        self._next = 0

    def due_ns(self) -> int:
        if self._next >= len(self._numbers):
            raise EndOfStream
        return self._next * self._period

    def step(self) -> dict[str, Any]:
        STEPS.append("Stereo")
        t_ns, numbers = self.due_ns(), self._numbers[self._next]
        self._next += 1
        given: dict[str, Any] = {"a": values(t_ns, numbers)}
        if self._next % 3 == 0:
            given["b"] = MirrorState(Stamp(t_ns), numbers[:2].copy(), False, "model")
        return given


class Sum(Node):
    """Everything that came so far, added up; a step takes `work` hashes of a megabyte, and step `trip` fails."""

    class Outputs:
        out: ProbabilityMap

    def __init__(
        self, *, gain: float = 1.0, noise: float = 0.0, work: int = 0, trip: int = 0, model: Path | None = None
    ) -> None:
        self._left = trip
        self._gain, self._noise, self._work, self._model = gain, noise, work, model
        self._sum = np.zeros(4)
        self._offset = 0.0

    def open(self) -> None:
        STEPS.append("Sum.open")
        if self._model is not None:
            self._offset = float(self._model.read_text())

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        STEPS.append("Sum")
        self._left -= 1
        if not self._left:
            raise RuntimeError("out of order")
        for _ in range(self._work):
            hashlib.sha256(bytes(1_000_000))
        self._sum = (self._sum + self._gain * value.expected[0] + self._offset) % 100
        return values(value.stamp.t_ns, self._sum + self._noise)


class Shaky(Sum):
    """A Sum that fails on some values; `keep`: a restart goes on with its sum."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self, *, keep: bool = True) -> None:
        super().__init__()
        self._keep = keep

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        if float(value.expected[0, 0]) % 1 < 0.1:
            raise RuntimeError("out of order")
        return super().step(value)

    def state_dict(self) -> Any:
        return {"sum": self._sum.copy()} if self._keep else None

    def load_state_dict(self, state: Any) -> None:
        self._sum = state["sum"]


class Twice(Node):
    """Has a Sum's ports and gives something else."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        STEPS.append("Twice")
        return values(value.stamp.t_ns, 2 * value.expected[0])


class Mute(Node):
    """Has a Sum's ports and gives nothing."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap) -> None:
        STEPS.append("Mute")


class Join(Node):
    """A value, the newest of another that is held, and what came round the loop."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap, held: ProbabilityMap | None, back: ProbabilityMap | None) -> ProbabilityMap:
        STEPS.append("Join")
        numbers = value.expected[0].astype(np.float64)
        numbers = numbers + (held.expected[0] if held is not None else -1)
        return values(value.stamp.t_ns, numbers + (0.5 * back.expected[0] if back is not None else -2))


class Split(Node):
    """`low`, `high`, both or nothing, as the value says."""

    class Outputs:
        low: ProbabilityMap
        high: ProbabilityMap

    def step(self, value: ProbabilityMap) -> dict[str, ProbabilityMap] | None:
        STEPS.append("Split")
        share = float(value.expected[0, 0]) % 1
        if share < 0.2:
            return None
        given = {"low": values(value.stamp.t_ns, np.sin(value.expected[0]))} if share < 0.7 else {}
        return given | ({"high": value} if share > 0.4 else {})


OURS = {
    "ticks": Ticks,
    "stereo": Stereo,
    "sum": Sum,
    "twice": Twice,
    "shaky": Shaky,
    "mute": Mute,
    "join": Join,
    "split": Split,
}


@pytest.fixture(autouse=True)
def our_nodes() -> Iterator[None]:
    with known_nodes():
        yield


class known_nodes:  # noqa: N801 - a context
    """While it holds, graphs may use the nodes of this file too."""

    def __enter__(self) -> None:
        listing, load = catalog.listing, catalog.load
        points = {name: EntryPoint(name, f"{__name__}:{kind.__name__}", "foveate.nodes") for name, kind in OURS.items()}
        self._patches = [
            patch.object(catalog, "listing", lambda g: {**listing(g), **points} if g == "nodes" else listing(g)),
            patch.object(catalog, "load", lambda g, n: OURS[n] if g == "nodes" and n in OURS else load(g, n)),
        ]
        for item in self._patches:
            item.start()
        STEPS.clear()

    def __exit__(self, *_: object) -> None:
        for item in self._patches:
            item.stop()


# Every kind of queue, optional inputs (one with an age), a closed loop, several outputs, outputs that say nothing.
GRAPH = """\
foveate: 1
nodes:
  left:   {{use: ticks, params: {{count: {count}, seed: {seed}}}}}
  rare:   {{use: ticks, params: {{count: 9, period: 30000000, seed: {seed}}}}}
  stereo: {{use: stereo, params: {{count: {count}, seed: {seed}}}}}
  sum:    {{use: sum, cost: 1700us, inputs: {{value: {{from: left.out, queue: fifo(4)}}}}}}
  join:
    use: join
    cost: 900us
    inputs:
      value: {{from: stereo.a, queue: block(2)}}
      held: {{from: sum.out, max_age: 4ms}}
      back: split.low
  split:  {{use: split, cost: 300us, inputs: {{value: {{from: join.out, queue: fifo(2)}}}}}}
  tenth:  {{use: sum, inputs: {{value: {{from: left.out, queue: every(10)}}}}}}
  steady: {{use: join, cost: 200us, inputs: {{value: left.out, held: rare.out}}}}
  slow:   {{use: sum, cost: 9ms, params: {{work: {work}}}, inputs: {{value: split.high}}}}
record:
  streams:
    - left.out
    - rare.out
    - stereo.a
    - stereo.b
    - sum.out
    - join.out
    - {{from: split.low, queue: every(3)}}
    - split.high
    - tenth.out
    - steady.out
    - slow.out
"""


def record(
    folder: Path, text: str, executor: ExecutorName = "virtual", duration_ns: int | None = None
) -> tuple[Path, Result]:
    """A run of the graph as the command does it; its recording."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.yaml"
    path.write_text(text, encoding="utf-8")
    log = folder / "run.mcap"
    result = execute(load_graph(path), executor, duration_ns, log, threading.Event(), False)
    assert exit_code(result) == 0 and result.balanced, result.failure
    return log, result


def contents(path: Path, decisions: bool = True) -> dict[str, list[tuple[int, int, int, bytes]]]:
    """Number, log time, publish time and bytes of every message, by topic; without the health of live runs."""
    with Recording(path) as log:
        assert log.file.closed and not log.notes()
        topics = [c.topic for c in log.file.channels.values() if c.topic != HEALTH]
        return {t: [(raw.sequence, raw.log_ns, raw.publish_ns, bytes(raw.data)) for raw in log.raw(t)]
                for t in topics if decisions or t != DECISIONS}  # fmt: skip


def run_replay(
    capsys: pytest.CaptureFixture[str], log: Path, *arguments: str, record_to: Path | None = None
) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON result (empty where there is none), and what was said on stderr."""
    STEPS.clear()
    capsys.readouterr()
    to = ["--output", str(record_to)] if record_to else ["--no-record"]
    code = main(["replay", str(log), "--json", "--verify", *to, *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, json.loads(out) if out else {}, err


def drops(result: Result) -> set[str]:
    return {reason for wire in result.wires for reason in wire.dropped}


# RPL1: the same seed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [5, pytest.param(20, marks=heavy)])
def test_rpl1_one_seed_gives_one_recording(seeds: int, tmp_path: Path) -> None:
    seen = set()
    for seed in range(seeds):
        text = GRAPH.format(count=256, seed=seed, work=0)
        logs = [record(tmp_path / f"{seed}{name}", text) for name in "ab"]
        a, b = (contents(log) for log, _ in logs)
        assert a == b
        assert len(a["/left.out"]) == 256 and len(a[DECISIONS]) > 2
        assert drops(logs[0][1]) >= {"full", "replaced", "skipped"}
        seen.add(digest(logs[0][0]))
    assert len(seen) == seeds, "another seed gives something else"


def digest(log: Path) -> str:
    return hashlib.sha256(repr(sorted(contents(log).items())).encode()).hexdigest()


def record_and_tell(folder: str) -> None:
    """Run in a process of its own: the digest of a recording."""
    with known_nodes():
        print(digest(record(Path(folder), GRAPH.format(count=256, seed=3, work=0))[0]))


def test_rpl1_the_order_of_hashes_changes_nothing(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.unit.test_replay import record_and_tell; "
    told = []
    for seed in ("0", "12345"):
        command = [sys.executable, "-c", f"{script} record_and_tell({str(tmp_path / seed)!r})"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        told.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(told[0]) > 60 and told[0] == told[1]


@heavy
def test_rpl1_rpl2_the_wide_area_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        command = ["run", "wide_area", "--executor", "virtual", "--duration", "250ms", "--quiet", "--no-report"]
        command += ["--set", "rig.world.vehicles=6", "--set", "rig.world.people=0"]
        assert main([*command, "--output", str(tmp_path / name)]) == 0
    a, b = (contents(tmp_path / name / "run.mcap") for name in ("a", "b"))
    assert a == b and len(a["/find.boxes"]) > 20
    code, result, _ = run_replay(capsys, tmp_path / "a" / "run.mcap", record_to=tmp_path / "c")
    assert code == 0 and result["verified"] == {"good": True, "first": None}
    c = contents(tmp_path / "c" / "replay.mcap", decisions=False)
    assert all(c[topic] == a[topic] for topic in c) and {"/find.boxes", "/aim.target", "/track.objects"} <= c.keys()


# RPL2: a replay gives what was recorded ---------------------------------------------------------------------------


def check_replayed(recorded: Path, replayed: Path, result: dict[str, Any]) -> None:
    """Every message of every recorded output, byte by byte, with its number and its times."""
    assert result["verified"] == {"good": True, "first": None}, result["report"]
    assert result["balanced"] and not result["unrecorded"]
    a, b = contents(recorded, decisions=False), contents(replayed, decisions=False)
    assert set(a) == set(b)
    for topic in a:
        if topic == "/split.low":  # its queue holds one message: a recorder that was late has let some go
            numbers = {number for number, *_ in a[topic]}
            b[topic] = [message for message in b[topic] if message[0] in numbers]
        assert b[topic] == a[topic], topic


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rpl2_a_simulated_run(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, run = record(tmp_path / "a", GRAPH.format(count=200, seed=seed, work=0))
    assert drops(run) >= {"full", "replaced", "skipped"}
    code, result, told = run_replay(capsys, log, record_to=tmp_path / "b")
    assert code == 0 and not told
    check_replayed(log, tmp_path / "b" / "replay.mcap", result)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run in real time whose slow node, and with it the others, cannot keep up."""
    with known_nodes():
        return record(tmp_path_factory.mktemp("live"), GRAPH.format(count=250, seed=8, work=5), "live")


@pytest.mark.parametrize("speed", [[], ["--speed", "1"], ["--speed", "10"]])
def test_rpl2_a_live_run_at_any_speed(
    speed: list[str], live: tuple[Path, Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, run = live
    assert drops(run) >= {"replaced", "skipped"}
    code, result, told = run_replay(capsys, log, *speed, record_to=tmp_path)
    assert code == 0 and not told
    check_replayed(log, tmp_path / "replay.mcap", result)


def test_rpl2_the_steps_of_a_replay_consume_what_they_consumed(
    live: tuple[Path, Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = run_replay(capsys, live[0], record_to=tmp_path)
    assert code == 0
    a, b = steps(live[0]), steps(tmp_path / "replay.mcap")
    assert set(a) == {"sum", "join", "split", "tenth", "steady", "slow"} and a == b


def steps(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """By node that has inputs: wires and numbers that each step consumed, and when it began and ended."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with Recording(path) as log:
        nodes, wires = log.seal["nodes"], [entry["wire"] for entry in log.seal["wires"]]
        for item in log.decisions():
            if isinstance(item, Step) and item.inputs:
                pairs = zip(item.inputs[::2], item.inputs[1::2], strict=True)
                consumed = sorted((wires[w], n) for w, n in pairs)
                found.setdefault(nodes[item.node], []).append((consumed, item.begun_ns, item.done_ns, item.outputs))
    return found


def test_rpl2_the_decisions_agree_with_the_ledger(live: tuple[Path, Result]) -> None:
    """Messages that steps name as consumed, and drops, are as many as the wires counted."""
    log_path, run = live
    taken: dict[str, set[int]] = {}
    fell: dict[str, dict[str, int]] = {}
    with Recording(log_path) as log:
        wires = [entry["wire"] for entry in log.seal["wires"]]
        for item in log.decisions():
            if isinstance(item, Drop):
                if item.wire < len(wires):
                    reasons = fell.setdefault(wires[item.wire], {})
                    reasons[item.reason] = reasons.get(item.reason, 0) + 1
            else:
                for wire, number in zip(item.inputs[::2], item.inputs[1::2], strict=True):
                    taken.setdefault(wires[wire], set()).update([number] if number else [])
    for wire in run.wires:
        if "-> record." not in wire.wire:
            assert fell.get(wire.wire, {}) == dict(wire.dropped), wire.wire
            if wire.wire.rpartition(".")[2] == "value":  # of an optional input only the newest is named
                assert len(taken[wire.wire]) == wire.delivered, wire.wire


def test_rpl2_an_input_is_held_over_many_steps(live: tuple[Path, Result]) -> None:
    held = [dict(consumed)["rare.out -> steady.held"] for consumed, *_ in steps(live[0])["steady"]]
    assert held == sorted(held) and held[0] == 0 and 3 <= len(set(held)) <= 10 < len(held)


@pytest.mark.parametrize("options", [[], ["--allow-changes"]])
def test_rpl2_a_replay_of_a_replay_is_the_same(
    options: list[str], live: tuple[Path, Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = live[0]
    for name in ("b", "c"):
        code, result, told = run_replay(capsys, log, *(options if name == "c" else []), record_to=tmp_path / name)
        assert code == 0, (name, told)
        check_replayed(log, tmp_path / name / "replay.mcap", result)
        log = tmp_path / name / "replay.mcap"
    check_replayed(live[0], log, result)


SHAKY = """\
foveate: 1
nodes:
  left: {{use: ticks, params: {{count: 60, seed: 5}}}}
  sum:  {{use: shaky, cost: 2ms, params: {{keep: {keep}}}, on_fault: {fault}, inputs: {{value: left.out}}}}
  last: {{use: sum, cost: 100us, inputs: {{value: {{from: sum.out, queue: fifo(99)}}}}}}
record:
  streams: [left.out, sum.out, last.out]
"""
RESTART = "{do: restart, times: 99, backoff: 5ms}"


@pytest.mark.parametrize(
    ("executor", "fault", "keep"),
    [
        ("virtual", "ignore", "true"), ("virtual", RESTART, "true"), ("virtual", RESTART, "false"),
        ("live", "ignore", "true"), ("live", RESTART, "true"), ("live", RESTART, "false"),
    ],
)  # fmt: skip
def test_rpl2_a_node_that_failed_now_and_then(
    executor: ExecutorName, fault: str, keep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, run = record(tmp_path, SHAKY.format(fault=fault, keep=keep), executor)
    with Recording(log) as recording:
        faults = [item for item in recording.decisions() if isinstance(item, Step) and item.fault]
    assert faults and run.stations["sum"].stats.steps > len(faults)
    code, result, _ = run_replay(capsys, log, record_to=tmp_path)
    assert code == 0
    check_replayed(log, tmp_path / "replay.mcap", result)


@pytest.mark.parametrize("executor", ["virtual", "live"])
def test_rpl2_a_run_that_was_ended_while_nodes_worked(
    executor: ExecutorName, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, run = record(tmp_path, GRAPH.format(count=250, seed=4, work=3), executor, 101_234_567)
    assert run.stopped_by == "duration"
    code, result, _ = run_replay(capsys, log, record_to=tmp_path)
    assert code == 0
    check_replayed(log, tmp_path / "replay.mcap", result)


def failed_run(folder: Path) -> tuple[Path, Result]:
    """Node `sum` fails in its 16th step."""
    (folder / "graph.yaml").write_text(plain(params=", params: {trip: 16}"), encoding="utf-8")
    log = folder / "run.mcap"
    run = execute(load_graph(folder / "graph.yaml"), "virtual", None, log, threading.Event(), False)
    assert exit_code(run) == 1 and run.balanced and "node 'sum' failed in step" in str(run.failure)
    return log, run


def test_rpl2_a_run_that_failed_is_replayed_up_to_its_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = failed_run(tmp_path)
    code, result, _ = run_replay(capsys, log)
    assert code == 0 and result["verified"]["good"]
    assert {"sum.out   15 equal", "last.out  15 equal"} <= set(result["report"]), result["report"]
    with Recording(log) as recording:
        faults = [item.fault for item in recording.decisions() if isinstance(item, Step) and item.fault]
    assert faults == ["RuntimeError: out of order"]


def test_the_message_that_a_node_failed_on_is_recorded(tmp_path: Path) -> None:
    log, run = failed_run(tmp_path)
    sent = next(w.produced for w in run.wires if w.wire == "left.out -> sum.value")
    assert sent == 16 and len(contents(log)["/left.out"]) == 16


def test_a_replay_that_fails_where_the_run_did_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    code, result, _ = run_replay(capsys, log, "--set", "sum.trip=5")
    assert code == 1 and "node 'sum' failed in step" in result["failure"]
    equal = {line.split(",")[0] for line in result["report"]}
    assert {"sum.out   4 equal", "last.out  4 equal"} <= equal, result["report"]


def test_a_replay_that_failed_verifies_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    _, result, _ = run_replay(capsys, log, "--set", "sum.trip=5")
    assert not result["verified"]["good"]


@pytest.mark.parametrize("nodes", [["join", "split"], ["sum"], ["slow"], ["tenth", "steady", "sum"]])
def test_rpl2_some_nodes_alone(nodes: list[str], live: tuple[Path, Result], capsys: pytest.CaptureFixture[str]) -> None:
    STEPS.clear()
    if "join" in nodes:  # its loop needs every message of split.low, of which a third is recorded
        nodes = [*nodes, "slow"]
    code, result, _ = run_replay(capsys, live[0], "--nodes", ",".join(nodes))
    assert code == 0 and result["verified"]["good"]
    ran = {name for name in result["nodes"] if result["nodes"][name]["steps"] and name in nodes}
    assert ran == set(nodes)
    assert {line.split()[0].rpartition(".")[0] for line in result["report"] if line.endswith(" equal")} == set(nodes)
    classes = {"join": "Join", "split": "Split", "steady": "Join"}
    assert {name.partition(".")[0] for name in STEPS} == {classes.get(name, "Sum") for name in nodes}


def test_rpl2_nodes_that_lack_a_recorded_input_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GRAPH.format(count=30, seed=1, work=0).replace("    - sum.out\n", "")
    log, _ = record(tmp_path, text)
    code, result, told = run_replay(capsys, log, "--nodes", "join,split")
    assert code == 1 and not result and not STEPS
    assert told.splitlines() == [
        f"foveate: {log}: 'sum.out' was not recorded, and the graph needs it; add it to the graph's record.streams"
    ]
    code, _, told = run_replay(capsys, log, "--nodes", "jion")
    assert code == 1 and not STEPS and "the graph has no node 'jion'" in told


# What is not as it was --------------------------------------------------------------------------------------------

PLAIN = """\
foveate: 1
nodes:
  left: {{use: ticks, params: {{count: 40, seed: 5{more}}}}}
  sum:  {{use: sum, cost: 200us, inputs: {{value: {{from: left.out, queue: fifo(99)}}}}{params}}}
  last: {{use: sum, cost: 100us, inputs: {{value: {{from: sum.out, queue: fifo(99)}}}}}}
record:
  streams: [{left}, {{from: sum.out{tolerance}}}, last.out]
"""


def plain(**parts: str) -> str:
    return PLAIN.format(**{"more": "", "params": "", "left": "left.out", "tolerance": "", **parts})


def test_a_changed_parameter_is_shown_with_the_first_message_that_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = record(tmp_path, plain())
    code, result, _ = run_replay(capsys, log, "--set", "last.gain=2.0")
    assert code == 4 and result["verified"]["good"] is False
    first = result["verified"]["first"]
    assert first["stream"] == "last.out" and first["number"] == 1 and first["inputs"] == ["value = sum.out #1"]
    step = next(s for s in steps(log)["last"])
    lines = result["report"]
    assert lines[0] == "changed: parameter last.gain: was 1.0, is 2.0"
    assert "last.out  0 equal, 40 different" in lines and "sum.out   40 equal" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("first difference"))
    assert lines[at].startswith("first difference: last.out #1 differs in expected: recorded ")
    assert ", replayed " in lines[at] and lines[at].endswith("])") and "4 of 4 values, by up to " in lines[at]
    assert lines[at + 1] == f"  made by last in step 1 at {step[1] / 1e9:.6f} s"
    assert lines[at + 2] == "  from value = sum.out #1"
    assert lines[-1] == "NOT VERIFIED"


def test_a_swapped_node_runs_in_the_place_of_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    code, result, _ = run_replay(capsys, log, "--swap", "sum=twice")
    assert code == 4 and "Twice" in STEPS
    assert result["report"][0] == "changed: node sum: was sum, is twice"
    first = result["verified"]["first"]
    assert (first["stream"], first["number"], first["inputs"]) == ("sum.out", 1, ["value = left.out #1"])
    code, _, told = run_replay(capsys, log, "--swap", "sum=twise")
    assert code == 2 and not STEPS and "did you mean 'twice'?" in told
    code, _, told = run_replay(capsys, log, "--swap", "smu=twice")
    assert code == 2 and not STEPS and "the graph has no node 'smu'; did you mean 'sum'?" in told


def test_messages_that_do_not_come_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    code, result, _ = run_replay(capsys, log, "--swap", "sum=mute")
    lines = result["report"]
    assert code == 4 and STEPS.count("Mute") == 40 and "Sum" not in STEPS
    assert "sum.out   0 equal, 40 missing" in lines and "last.out  0 equal, 40 missing" in lines
    assert "first difference: sum.out #1 did not come; the recorded run gave it" in lines
    begun = steps(log)["last"][0][1]
    assert f"last step 1 at {begun / 1e9:.6f} s was not repeated: sum.out #1 did not come" in lines


def test_messages_that_came_in_no_recorded_run_are_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain().replace("sum:  {use: sum", "sum:  {use: mute"))
    assert contents(log)["/sum.out"] == []
    code, result, _ = run_replay(capsys, log, "--swap", "sum=twice")
    assert code == 4 and STEPS.count("Twice") == 40
    assert "sum.out   0 equal, 40 extra" in result["report"]
    assert "first difference: a message of sum.out came, and the recorded run gave nothing" in result["report"]
    wire = next(w for w in result["wires"] if w["wire"] == "sum.out -> last.value")
    assert wire["dropped"] == {"not in the recorded run": 40} and result["balanced"]


def test_verifying_nothing_is_not_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    code, result, _ = run_replay(capsys, log, "--nodes", "left")
    assert code and not (result and result["verified"]["good"])


@pytest.mark.parametrize(("tolerance", "good"), [("1e-3", True), ("1e-6", False), ("", False)])
@pytest.mark.parametrize("where", ["option", "graph"])
def test_a_tolerance_lets_numbers_differ_by_so_much(
    where: str, tolerance: str, good: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_graph = f", tolerance: {float(tolerance):.7f}" if where == "graph" and tolerance else ""
    log, _ = record(tmp_path, plain(tolerance=in_graph))
    options = ["--tolerance", f"sum.out={tolerance}"] if where == "option" and tolerance else []
    code, result, _ = run_replay(capsys, log, "--nodes", "sum", "--set", "sum.noise=0.0001", *options)
    assert code == (0 if good else 4)
    line = next(line for line in result["report"] if line.startswith("sum.out "))
    assert line.split("  ")[1] == (f"0 equal, 40 within {float(tolerance):g}" if good else "0 equal, 40 different")


def test_a_tolerance_that_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    for text in ("sum.out=wide", "sum.out=-1", "sum.out=nan", "sum.out"):
        code, _, told = run_replay(capsys, log, "--tolerance", text)
        assert code == 2 and len(told.splitlines()) == 1 and not STEPS, text


def test_a_tolerance_of_an_unknown_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    code, _, told = run_replay(capsys, log, "--tolerance", "sun.out=1")
    assert code and "sun.out" in told and not STEPS


@pytest.mark.parametrize("speed", ["-1", "nan"])
def test_a_speed_that_is_none(speed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    code, _, told = run_replay(capsys, log, "--speed", speed)
    assert code and "--speed" in told and not STEPS


def refused(capsys: pytest.CaptureFixture[str], log: Path, *arguments: str, code: int = 1) -> str:
    """What is said by a replay that does not begin: no node has been opened or has run."""
    before = contents(log)
    got, result, told = run_replay(capsys, log, *arguments)
    assert got == code and not result, told
    assert STEPS == [] and contents(log) == before
    return told


def test_rpl3_a_changed_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "offset.txt"
    model.write_text("0.25")
    log, _ = record(tmp_path, plain(params=", params: {model: offset.txt}"))
    code, result, _ = run_replay(capsys, log, "--data", str(tmp_path))
    assert code == 0 and result["verified"]["good"]
    model.write_text("0.26")
    told = refused(capsys, log, "--data", str(tmp_path))
    assert "what would run is not what was recorded; --allow-changes replays it all the same" in told
    assert f"  file {model}: was sha256 " in told
    code, result, _ = run_replay(capsys, log, "--data", str(tmp_path), "--allow-changes")
    assert code == 4 and "Sum" in STEPS
    assert result["report"][0].startswith(f"changed: file {model}: was sha256 ")
    assert result["verified"]["first"]["stream"] == "sum.out"


def test_rpl3_a_changed_model_is_named_without_more_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "offset.txt").write_text("0.25")
    log, _ = record(tmp_path, plain(params=", params: {model: offset.txt}"))
    code, result, _ = run_replay(capsys, log)
    assert code == 0 and result["verified"]["good"]
    (tmp_path / "offset.txt").write_text("0.26")
    assert "was sha256" in refused(capsys, log)


def test_rpl3_a_graph_that_is_not_the_recorded_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = record(tmp_path, plain())
    other = tmp_path / "other.yaml"
    cases = {
        "parameter": (plain(params=", params: {gain: 3.0}"), "parameter sum.gain: was 1.0, is 3.0"),
        "node": (plain().replace("sum:  {use: sum", "sum:  {use: twice"), "node sum: was sum, is twice"),
        "wires": (plain().replace("from: sum.out, queue", "from: left.out, queue"),
                  "wires last: was sum.out -> last.value, is left.out -> last.value"),
    }  # fmt: skip
    for name, (text, expected) in cases.items():
        other.write_text(text, encoding="utf-8")
        told = refused(capsys, log, "--graph", str(other))
        assert f"  {expected}" in told, name
        code, result, _ = run_replay(capsys, log, "--graph", str(other), "--allow-changes")
        assert code in (0, 4) and f"changed: {expected}" in result["report"] and STEPS, name
    other.write_text(plain().replace("left", "right"), encoding="utf-8")
    assert "'right.out' was not recorded" in refused(capsys, log, "--graph", str(other), "--allow-changes")


def test_rpl3_a_node_more_is_not_the_recorded_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, plain())
    other = tmp_path / "other.yaml"
    more = "  more: {use: sum, inputs: {value: left.out}}\nrecord:"
    other.write_text(plain().replace("record:", more), encoding="utf-8")
    assert "more" in refused(capsys, log, "--graph", str(other))


GAPPY = {"more": ", burst: 8", "left": "{from: left.out, queue: fifo(3)}"}


def test_rpl3_messages_that_steps_worked_on_and_that_are_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorder's queue let 5 of 8 go; the node behind a longer queue took all."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "graph.yaml").write_text(plain(**GAPPY), encoding="utf-8")
    log = folder / "run.mcap"
    run = execute(load_graph(folder / "graph.yaml"), "virtual", None, log, threading.Event(), False)
    assert exit_code(run) == 3 and run.unrecorded == 25
    begun = steps(log)["sum"][0][1]
    told = refused(capsys, log)
    assert told.splitlines() == [
        f"foveate: {log}: 25 messages of 'left.out' that the run worked on are not in the recording, "
        f"first #1 at {begun / 1e9:.3f} s; --allow-gaps replays the rest"
    ]
    code, result, _ = run_replay(capsys, log, "--allow-gaps")
    assert code == 4
    assert any("was not repeated" in line and "left.out #1" in line for line in result["report"]), result["report"]


def test_rpl3_what_has_no_gap_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each burst of 8 the last 3 are recorded: 15 steps have their message."""
    (tmp_path / "graph.yaml").write_text(plain(**GAPPY), encoding="utf-8")
    log = tmp_path / "run.mcap"
    execute(load_graph(tmp_path / "graph.yaml"), "virtual", None, log, threading.Event(), False)
    assert [n for n, *_ in contents(log)["/left.out"]][:4] == [6, 7, 8, 14]
    _, result, _ = run_replay(capsys, log, "--allow-gaps")
    assert result["nodes"]["sum"]["steps"] == 15
    assert sum("was not repeated" in line for line in result["report"]) >= 20


def rewritten(log_path: Path, to: Path, keep: Callable[[str, int], bool]) -> Path:
    """The recording without the messages (topic, number) that `keep` refuses, closed in order."""
    with Recording(log_path) as log:
        channels = [c for _, c in sorted(log.file.channels.items())]
        specs = [ChannelSpec(c.topic, c.encoding, c.metadata, c.schema_name, c.schema_encoding, c.schema_data)
                 for c in channels]  # fmt: skip
        first = {n: ("application/json", d) for n, d in log.file.attachments.items() if n != "end.json"}
        writer = McapWriter(to, specs, first, {})
        for raw in log.file.messages():
            if keep(log.file.channels[raw.channel].topic, raw.sequence):
                writer.add(raw.channel, raw.sequence, raw.log_ns, raw.publish_ns, [bytes(raw.data)])
        writer.finish({"end.json": ("application/json", log.file.attachments["end.json"])})
        writer.close()
    return to


def test_rpl3_a_recording_written_again_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = record(tmp_path, GRAPH.format(count=200, seed=3, work=0))
    again = rewritten(log, tmp_path / "again.mcap", lambda topic, number: True)
    code, result, _ = run_replay(capsys, again)
    assert code == 0 and result["verified"]["good"] and contents(again) == contents(log)


def test_rpl3_missing_decisions_are_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a full disk leaves it; the messages are all there."""
    log, _ = record(tmp_path, GRAPH.format(count=200, seed=3, work=0))
    gappy = rewritten(log, tmp_path / "gappy.mcap", lambda topic, number: (topic, number) != (DECISIONS, 2))
    assert len(contents(gappy)[DECISIONS]) == len(contents(log)[DECISIONS]) - 1 >= 2
    assert "--allow-gaps" in refused(capsys, gappy)


def test_rpl3_a_damaged_chunk_is_a_gap(
    live: tuple[Path, Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = live[0].read_bytes(), tmp_path / "damaged.mcap"
    begins = [m.start() for m in re.finditer(re.escape(mcap.MARKER), data)]
    assert len(begins) > 8
    refusals = 0
    for begin in begins[3:-2]:
        path.write_bytes(data[: begin + 300] + bytes([data[begin + 300] ^ 1]) + data[begin + 301 :])
        code, result, told = run_replay(capsys, path)
        if code == 1:
            assert "--allow-gaps" in told and STEPS == []
            refusals += 1
        else:  # a chunk of outputs alone, which the replay gives again
            assert code == 3 and result["verified"]["good"], f"the chunk at {begin}: {result['report'][:4]}"
    assert refusals > len(begins) // 2


def test_rpl3_a_gap_that_no_step_worked_on_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The node takes the newest of each burst as the recorder does."""
    text = plain(more=", burst: 8", left="{from: left.out, queue: latest}").replace(
        "queue: fifo(99)", "queue: latest", 1
    )
    log, run = record(tmp_path, text)
    assert 0 < len(contents(log)["/left.out"]) < 40 and drops(run) == {"replaced"}
    code, result, _ = run_replay(capsys, log)
    assert code == 0 and result["verified"]["good"]


def test_a_step_that_fails_in_a_replay_ends_it_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = record(tmp_path, plain())
    with patch.object(Sum, "step", broken_step):
        code, result, _ = run_replay(capsys, log)
    assert code == 1 and "node 'sum' failed in step" in result["failure"] and "out of order" in result["failure"]


def broken_step(self: Sum, value: ProbabilityMap) -> ProbabilityMap:
    raise RuntimeError("out of order")
