"""What keeps a node waiting: hand-made pictures, real runs, `foveate why`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foveate import health
from foveate.cli import main
from foveate.commands.run import end_facts
from foveate.graph import Record
from foveate.health import StatusFile, explain, snapshot, status_folder
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.queues import Policy
from foveate.recording import McapRecorder
from foveate.recording.seal import provenance
from foveate.run import ExecutorName, Run
from foveate.supervision import FaultPolicy
from tests.conftest import Collect, MemoryRecorder, Numbers, Pass, graph_of

MS = 1_000_000
AT = 5000 * MS


def node(state: str, steps: int = 3, **more: Any) -> dict[str, Any]:
    plain = {"source": False, "begun_ns": AT - 20 * MS, "ended_ns": AT - 50 * MS, "blocked_by": "", "problem": ""}
    return {"state": state, "steps": steps, **plain, **more}


def wire(text: str, waiting: int = 0, produced: int = 3, trigger: bool = True) -> dict[str, Any]:
    source, _, target = text.partition(" -> ")
    ends = {"from": source.rpartition(".")[0], "to": target.rpartition(".")[0]}
    return {"wire": text, **ends, "waiting": waiting, "trigger": trigger, "produced": produced}


def picture(nodes: dict[str, Any], *wires: dict[str, Any]) -> dict[str, Any]:
    return {"t_ns": AT, "nodes": nodes, "wires": list(wires)}


# Hand-made pictures ---------------------------------------------------------------------------------------------


def test_a_node_that_works() -> None:
    assert explain(picture({"a": node("working")}), "a") == ["a is in its step 4 since 20 ms"]
    late = node("working", 0, begun_ns=AT + 5, problem="gets nothing from b, which failed")
    assert explain(picture({"a": late}), "a") == [
        "a is in its step 1 since 0 ns (gets nothing from b, which failed)"
    ]  # fmt: skip


def test_a_node_that_is_blocked_through_two_others() -> None:
    nodes = {
        "cam": node("blocked", source=True, blocked_by="cam.frame -> find.frame"),
        "find": node("blocked", blocked_by="find.boxes -> part/track.boxes"),
        "part/track": node("working", 7, begun_ns=AT - 3000 * MS),
    }
    assert explain(picture(nodes), "cam") == [
        "cam has a message that cam.frame -> find.frame has no room for, because of find",
        "find has a message that find.boxes -> part/track.boxes has no room for, because of part/track",
        "part/track is in its step 8 since 3 s",
    ]


def test_a_chain_that_waits_back_to_its_source() -> None:
    nodes = {"cam": node("waiting", 12, source=True), "find": node("waiting"), "aim": node("waiting", 0)}
    found = explain(
        picture(
            nodes, wire("cam.frame -> find.frame", produced=12), wire("find.boxes -> aim.boxes", produced=0),
            wire("cam.frame -> aim.frame", 2, 12), wire("old.map -> aim.map", 0, 0, trigger=False),
        ), "aim",
    )  # fmt: skip
    assert found == [
        "aim waits for a message on find.boxes -> aim.boxes (none has ever come)",
        "find waits since 50 ms for a message on cam.frame -> find.frame (12 have come)",
        "cam waits for its device or its time, after 12 messages",
    ]


def test_of_several_empty_inputs_the_one_with_the_fewest_is_named() -> None:
    nodes = {"a": node("waiting", source=True), "b": node("finished", 9, source=True), "c": node("waiting")}
    found = explain(picture(nodes, wire("a.out -> c.x", produced=30), wire("b.out -> c.y", produced=9)), "c")
    assert found == ["c waits since 50 ms for a message on b.out -> c.y (9 have come)", "b is finished after 9 steps"]


def test_a_node_whose_inputs_are_there() -> None:
    found = explain(picture({"c": node("waiting")}, wire("a.out -> c.x", 1), wire("b.out -> c.y", 0, 0, False)), "c")
    assert found == ["c is about to run: all its inputs are there"]


def test_nodes_that_wait_in_a_circle() -> None:
    nodes = {name: node("waiting", 0) for name in "abc"}
    wires = [wire("b.out -> a.in", produced=0), wire("c.out -> b.in", produced=0), wire("a.out -> c.in", produced=0)]
    assert explain(picture(nodes, *wires), "a") == [
        "a waits for a message on b.out -> a.in (none has ever come)",
        "b waits for a message on c.out -> b.in (none has ever come)",
        "c waits for a message on a.out -> c.in (none has ever come)",
        "a again: a waits for b waits for c waits for a: a circle",
    ]
    nodes["d"] = node("blocked", blocked_by="d.out -> a.side")
    assert explain(picture(nodes, *wires), "d")[-1] == "a again: a waits for b waits for c waits for a: a circle"


def test_a_node_that_is_blocked_by_itself() -> None:
    nodes = {"a": node("blocked", blocked_by="a.out -> a.back")}
    assert explain(picture(nodes), "a") == [
        "a has a message that a.out -> a.back has no room for, because of a",
        "a again: a waits for a: a circle",
    ]


def test_a_node_behind_one_that_restarts_or_failed() -> None:
    nodes = {
        "cam": node("restarting", 5, source=True, problem="Timeout: no frame"),
        "imu": node("failed", 0, source=True, problem="NotFound: no device"),
        "fuse": node("waiting", 0, problem="gets nothing from imu, which failed"),
        "find": node("waiting", 5),
    }
    wires = [wire("imu.sample -> fuse.imu", produced=0), wire("cam.frame -> find.frame", produced=5)]
    assert explain(picture(nodes, *wires), "find") == [
        "find waits since 50 ms for a message on cam.frame -> find.frame (5 have come)",
        "cam is restarting after 5 steps (Timeout: no frame)",
    ]
    assert explain(picture(nodes, *wires), "fuse") == [
        "fuse waits for a message on imu.sample -> fuse.imu (none has ever come) (gets nothing from imu, which failed)",
        "imu is failed after 0 steps (NotFound: no device)",
    ]


def test_a_node_that_is_blocked_by_the_recorder() -> None:
    nodes = {"cam": node("blocked", source=True, blocked_by="cam.frame -> record.cam.frame"), "record": node("working")}
    found = explain(picture(nodes), "cam")
    assert (
        len(found) == 2
        and found[0].endswith("because of record")
        and found[1].startswith(("record is in its step", "record is about"))
    )


def test_a_node_that_is_blocked_by_nothing_any_more() -> None:
    assert len(explain(picture({"a": node("blocked", blocked_by="")}), "a")) == 1


# Real runs ------------------------------------------------------------------------------------------------------


class Stuck(Collect):
    """Waits in its second step until told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def step(self, value: ProbabilityMap) -> None:
        if self.got:
            self.go_on.wait(30)
        super().step(value)


def states(made: Any) -> dict[str, str]:
    return {name: station.stats.state for name, station in made.items()}


@contextmanager
def stuck_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A live run whose last node stands still, with its status as a live run leaves it."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(health, "_STATUS_S", 0.005)
    stuck = Stuck()
    nodes: dict[str, Node] = {"source": Numbers(count=100, period_ns=0), "mid": Pass(), "sink": stuck}
    graph = graph_of(nodes, ["source.out -> mid.value block(2)", "mid.out -> sink.value block(2)"])
    run = Run(graph, "live", replace=nodes)
    looks, told = [0], threading.Event()

    def now_ns() -> int:
        wanted = {"source": "blocked", "mid": "blocked", "sink": "working"}
        looks[0] = looks[0] + 1 if states(run.stations) == wanted and stuck.got else 0
        if looks[0] >= 3:  # what was seen before is in the file
            told.set()
        return run.clock.now_ns()

    thread = threading.Thread(target=run.execute, args=(None,))
    thread.start()
    try:
        with StatusFile(run.stations, now_ns, graph.name):
            assert told.wait(20)
            yield run
    finally:
        stuck.go_on.set()
        thread.join(20)


CHAIN = [
    "source has a message that source.out -> mid.value has no room for, because of mid",
    "mid has a message that mid.out -> sink.value has no room for, because of sink",
    "sink is in its step 2 since ",
]


def said(lines: list[str]) -> list[str]:
    """The lines, without the durations."""
    return [line.partition("since ")[0] + "since " if "since " in line else line for line in lines]


def test_why_explains_a_live_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stuck_run(tmp_path, monkeypatch) as run:
        file = status_folder() / f"{os.getpid()}.json"
        assert status_folder().parent == tmp_path and file.exists()
        assert status_folder().stat().st_mode & 0o777 == 0o700
        assert said(explain(snapshot(run.stations, run.clock.now_ns()), "source")) == CHAIN

        assert main(["why", "source", "--json"]) == 0
        out = json.loads(capsys.readouterr().out)
        assert out["where"] == f"test (pid {os.getpid()})" and out["t_s"] > 0
        assert list(out["why"]) == ["source"] and said(out["why"]["source"]) == CHAIN

        assert main(["why", "mid", "--pid", str(os.getpid())]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.startswith(f"test (pid {os.getpid()}), at ")
        assert said(lines) == ["  " + CHAIN[1], "    " + CHAIN[2]]

        assert main(["why"]) == 0
        lines = said(capsys.readouterr().out.splitlines()[1:])
        assert [line for line in lines if not line.startswith("   ")] == ["  " + line for line in CHAIN]

        assert main(["why", "suorce"]) == 1
        told = capsys.readouterr().err
        assert "has no node 'suorce'; did you mean 'source'?" in told and told.count("\n") == 1

        assert main(["why", "--pid", "1"]) == 1
        assert "no live run with the pid 1;" in capsys.readouterr().err
    assert not file.exists(), "an ended run leaves nothing"


def test_why_without_a_live_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["why"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err == (
        "foveate: no live run of this user; of a run that has ended: foveate why NODE --log logs/RUN/run.mcap\n"
    )


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_status_of_a_killed_run_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    status_folder().mkdir()
    stale = status_folder() / f"{dead_pid()}.json"
    stale.write_text(json.dumps({"pid": 1, "graph": "old", **picture({"a": node("working")})}))
    assert main(["why", "a"]) == 1
    assert "no live run of this user" in capsys.readouterr().err and not stale.exists()


def test_of_two_live_runs_the_newest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    status_folder().mkdir()
    for age, pid, name in ((10, os.getpid(), "old"), (0, os.getppid(), "new")):
        path = status_folder() / f"{pid}.json"
        path.write_text(json.dumps({"pid": pid, "graph": name, **picture({name: node("working")})}))
        os.utime(path, ns=(AT - age, AT - age))
    assert main(["why"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"new (pid {os.getppid()}), at 5 s\n") and "2 live runs" in err
    assert main(["why", "--pid", str(os.getpid())]) == 0
    assert capsys.readouterr().out.startswith("old ")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"pid": 1, "graph": "g", "t_ns": 0}'),
    ],
)
def test_a_status_that_cannot_be_read_is_one_line(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    status_folder().mkdir()
    (status_folder() / f"{os.getpid()}.json").write_bytes(content)
    assert main(["why"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("foveate: ") and err.count("\n") == 1


def test_a_status_that_is_a_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (status_folder() / f"{os.getpid()}.json").mkdir(parents=True)
    assert main(["why"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("foveate: ") and err.count("\n") == 1


def test_a_full_disk_costs_the_status_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(health, "_STATUS_S", 0.001)
    tries, enough = [0], threading.Event()

    def refuse(self: Path, *args: Any, **more: Any) -> int:
        tries[0] += 1
        if tries[0] >= 3:
            enough.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", refuse)
    with StatusFile({}, lambda: 0, "g") as status:
        assert enough.wait(20) and not status.path.exists()


# Recordings -----------------------------------------------------------------------------------------------------


def record(path: Path, executor: ExecutorName, change: Callable[[Any], Any] = lambda g: g) -> Path:
    nodes: dict[str, Node] = {"source": Numbers(count=30, period_ns=MS), "mid": Pass(), "sink": Collect()}
    graph = change(
        graph_of(nodes, ["source.out -> mid.value block(4)", "mid.out -> sink.value block(4)"], record=("mid.out",))
    )
    run = Run(graph, executor, replace=nodes)
    recorder = McapRecorder(path, graph, provenance(graph, executor))
    run.add_recorder(recorder)
    result = run.execute()
    recorder.end(end_facts(result))
    assert result.failure is None and result.balanced
    return path


def test_why_of_a_live_runs_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = record(tmp_path / "run.mcap", "live")
    assert main(["why", "sink", "--log", str(log), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["where"] == str(log) and 0 <= out["t_s"] < 60
    assert out["why"]["sink"][0].startswith("sink ")
    assert main(["why", "--log", str(log)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{log}, at ")
    told = [line.split()[0] for line in text.splitlines()[1:] if not line.startswith("    ")]
    assert told == ["source", "mid", "sink", "record"]
    assert main(["why", "snik", "--log", str(log)]) == 1
    assert "did you mean 'sink'?" in capsys.readouterr().err


def test_why_of_a_simulated_runs_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = record(tmp_path / "run.mcap", "virtual")
    assert main(["why", "--log", str(log)]) == 1
    assert capsys.readouterr() == ("", f"foveate: {log}: holds no states; only live runs write them\n")


class HeldUp(MemoryRecorder):
    """Its first message takes until it is told to go on."""

    def __init__(self, begun: Callable[[], None]) -> None:
        super().__init__()
        self.begun = begun
        self.go_on = threading.Event()

    def record(self, **given: Any) -> None:  # type: ignore[override]
        self.begun()
        self.go_on.wait(30)
        super().record(**given)


def test_a_snapshot_counts_as_the_ledgers_do(tmp_path: Path) -> None:
    nodes: dict[str, Node] = {"source": Numbers(count=10, period_ns=MS), "slow": Pass(), "sink": Collect()}
    graph = graph_of(
        nodes, ["source.out -> slow.value fifo(2)", "slow.out -> sink.value"], {"slow": 4 * MS}, ("source.out",)
    )
    run = Run(graph, "virtual", replace=nodes)
    run.add_recorder(MemoryRecorder())
    result = run.execute()
    found = json.loads(json.dumps(snapshot(run.stations, run.clock.now_ns())))
    assert found["t_ns"] == result.duration_ns
    assert list(found["nodes"]) == ["source", "slow", "sink", "record"]
    assert [found["nodes"][n]["source"] for n in found["nodes"]] == [True, False, False, False]
    assert {n: s["steps"] for n, s in found["nodes"].items() if n != "record"} == {
        n: result.stations[n].stats.steps for n in ("source", "slow", "sink")
    }
    first = found["wires"][0]
    assert (first["wire"], first["from"], first["to"], first["queue"]) == (
        "source.out -> slow.value", "source", "slow", "fifo(2)",
    )  # fmt: skip
    assert first["produced"] == 10 and first["dropped"]["full"] > 0 and first["trigger"]
    for shown, wire in zip(found["wires"], result.wires, strict=True):
        assert shown["wire"] == wire.wire
        assert (shown["produced"], shown["delivered"]) == (wire.produced, wire.delivered)
        assert shown["dropped"] == dict(wire.dropped) and shown["waiting"] == wire.in_flight


def test_a_source_that_a_slow_recorder_holds_up_is_explained() -> None:
    nodes: dict[str, Node] = {"source": Numbers(count=100, period_ns=0)}
    streams = (("source", "out", Policy("block", 1)),)
    graph = replace(graph_of(nodes, []), record=Record(Path("logs"), streams))
    begun, blocked = threading.Event(), threading.Event()

    def look() -> None:
        """Called whenever something changes: from now on nothing moves."""
        if begun.is_set() and source.stats.blocked_by and len(run.stations["record"].inlets[0].queue):
            blocked.set()

    def begin() -> None:
        begun.set()
        look()

    run, recorder = Run(graph, "live", replace=nodes), HeldUp(begin)
    run.add_recorder(recorder)
    source = run.stations["source"]

    class Watched(type(source.stats)):  # type: ignore[misc]
        """Tells when the source is blocked."""

        __slots__ = ()

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "blocked_by":
                look()

    source.stats = Watched()
    thread = threading.Thread(target=run.execute, args=(None,))
    thread.start()
    try:
        assert blocked.wait(20)
        found = explain(snapshot(run.stations, run.clock.now_ns()), "source")
    finally:
        recorder.go_on.set()
        run.stop.set()
        thread.join(20)
    assert found[0].endswith("because of record") and found[1].startswith("record is in its step 1 since ")


def test_a_restarting_node_is_told_with_its_problem(tmp_path: Path) -> None:
    """The picture is taken by the node that is made anew."""

    class Once(Pass):
        failed = False
        seen: list[str] = []  # noqa: RUF012

        def step(self, value: ProbabilityMap) -> ProbabilityMap:
            if not Once.failed:
                Once.failed = True
                raise ValueError("told to")
            return super().step(value)

        def close(self) -> None:
            if not Once.seen:
                Once.seen = explain(snapshot(run.stations, run.clock.now_ns()), "sink")

    nodes: dict[str, Node] = {"source": Numbers(count=3, period_ns=MS), "once": Once(), "sink": Collect()}
    graph = graph_of(nodes, ["source.out -> once.value block(4)", "once.out -> sink.value block(4)"])
    policy = FaultPolicy("restart", backoff_ns=0)
    graph = replace(graph, nodes={**graph.nodes, "once": replace(graph.nodes["once"], on_fault=policy)})
    run = Run(graph, "live", replace=nodes)
    assert run.execute().failure is None
    assert Once.seen == [
        "sink waits for a message on once.out -> sink.value (none has ever come)",
        "once is restarting after 1 steps (ValueError: told to)",
    ]
