"""Matched sets in a replay: the same messages, the same holes, the same interpolated values, live or simulated."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from foveate import catalog
from foveate.checking import load_graph
from foveate.cli import main
from foveate.commands.run import execute
from foveate.errors import EndOfStream
from foveate.messages import Events, Imu, ProbabilityMap, Stamp
from foveate.node import Node
from foveate.recording import Recording
from foveate.run import ExecutorName

MS = 1_000_000


class Jittery(Node):
    """Messages about every `period`, whose stamps lie up to `late` before they come."""

    class Outputs:
        map: ProbabilityMap
        imu: Imu
        events: Events

    def __init__(self, *, kind: str = "map", period: int = 4, late: int = 0, count: int = 60, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._kind = kind
        self._due = (np.cumsum(rng.integers(period * MS // 2, period * MS * 3 // 2, count))).tolist()
        self._stamps = np.maximum.accumulate(np.array(self._due) - rng.integers(0, late * MS + 1, count)).tolist()
        self._values = rng.random((count, 4))
        self._next = 0

    def due_ns(self) -> int:
        if self._next == len(self._due):
            raise EndOfStream
        return int(self._due[self._next])

    def step(self) -> dict[str, object]:
        t_ns, value = int(self._stamps[self._next]), self._values[self._next]
        self._next += 1
        if self._kind == "imu":
            return {"imu": Imu(Stamp(t_ns), value[:3].copy(), value[1:].copy())}
        if self._kind == "events":
            times = t_ns - np.arange(20, dtype=np.int64)[::-1] * MS // 10
            zeros = np.zeros(20, np.uint16)
            stamp = Stamp(int(times[0] + times[-1]) // 2, int(times[-1] - times[0]))
            return {"events": Events(stamp, times, zeros, zeros, (times % 2).astype(np.uint8), 2, 2)}
        return {"map": ProbabilityMap(Stamp(t_ns, 2 * MS), value.astype(np.float32)[None], 0.0, 0.0, 1.0)}


class Fuse(Node):
    """All that belongs together, in one map."""

    class Outputs:
        out: ProbabilityMap

    def step(self, a: ProbabilityMap, imu: Imu, events: tuple[Events, ...], b: ProbabilityMap | None) -> ProbabilityMap:
        numbers = [len(events), sum(len(e.t_ns) for e in events), sum(int(e.t_ns.sum()) for e in events)]
        numbers += [-1, -1] if b is None else [b.stamp.t_ns, float(b.expected[0, 0])]
        content = np.array([[*numbers, imu.stamp.t_ns, *imu.angular_velocity_rad_s]], np.float32)
        return ProbabilityMap(a.stamp, content, 0.0, 0.0, 1.0)


class Double(Node):
    """Twice what comes."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        return ProbabilityMap(value.stamp, 2 * value.expected, 0.0, 0.0, 1.0)


OURS = {"jittery": Jittery, "fuse": Fuse, "double": Double}
GRAPH = """\
foveate: 1
nodes:
  a: {use: jittery, params: {period: 5, seed: 1}}
  b: {use: jittery, params: {period: 6, late: 3, seed: 2, count: 30}}
  imu: {use: jittery, params: {kind: imu, period: 2, late: 1, seed: 3, count: 200}}
  dvs: {use: jittery, params: {kind: events, period: 3, seed: 4, count: 110}}
  fuse:
    use: fuse
    inputs: {a: a.map, b: b.map, imu: imu.imu, events: dvs.events}
    sync: {reference: a, window: 3ms, deadline: 12ms, stale: 40ms, match: {imu: interpolate, events: interval}}
record: {to: logs, streams: [a.map, b.map, imu.imu, dvs.events, fuse.out]}
"""


@pytest.fixture(autouse=True)
def our_nodes() -> Iterator[None]:
    listing, load = catalog.listing, catalog.load
    points = {name: EntryPoint(name, f"{__name__}:{kind.__name__}", "foveate.nodes") for name, kind in OURS.items()}
    with (
        patch.object(catalog, "listing", lambda g: {**listing(g), **points} if g == "nodes" else listing(g)),
        patch.object(catalog, "load", lambda g, n: OURS[n] if g == "nodes" and n in OURS else load(g, n)),
    ):
        yield


@pytest.mark.parametrize("executor", ["virtual", "live"])
def test_a_replay_matches_the_same_sets(
    executor: ExecutorName, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "graph.yaml").write_text(GRAPH, encoding="utf-8")
    result = execute(
        load_graph(tmp_path / "graph.yaml"), executor, None, tmp_path / "run.mcap", threading.Event(), False
    )
    assert result.failure is None and result.balanced
    with Recording(tmp_path / "run.mcap") as log:
        sets = [m.expected[0] for _, m in log.messages("fuse.out", ProbabilityMap)]  # type: ignore[attr-defined]
    assert len(sets) > 30
    holes = sum(row[3] == -1 for row in sets)
    assert 0 < holes < len(sets) and any(row[0] > 1 for row in sets)  # partial sets, and exposures over two packets
    assert main(["replay", str(tmp_path / "run.mcap"), "--verify", "--no-record", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"]["good"] and f"fuse.out  {len(sets)} equal" in told["report"]
    wires = {w["wire"]: w for w in told["wires"]}
    assert all(w["missing"] == 0 for w in wires.values())
    live = {w.wire: w.delivered for w in result.wires}
    assert wires["imu.imu -> fuse.imu"]["delivered"] == live["imu.imu -> fuse.imu"]


def test_a_node_that_matches_can_be_fed_from_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = GRAPH.replace("record:", "  double: {use: double, inputs: {value: fuse.out}}\nrecord:")
    (tmp_path / "graph.yaml").write_text(graph.replace("fuse.out]", "fuse.out, double.out]"), encoding="utf-8")
    log = tmp_path / "run.mcap"
    assert execute(load_graph(tmp_path / "graph.yaml"), "virtual", None, log, threading.Event(), False).balanced
    assert main(["replay", str(log), "--nodes", "double", "--verify", "--no-record", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"]["good"] and any("double.out" in line for line in told["report"])
