"""The expanded graph means the same as the graph it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveate.checking import load_graph
from foveate.errors import GraphError
from foveate.graph import BudgetSpec, Graph, Record, Ring, SyncSpec
from foveate.supervision import FaultPolicy
from tests.contract.test_mutants import PART, SMALL

STRINGS = (
    "", " ", "~", "null", "no", "yes", "true", "1", "-1", "+1", "1.5", "1e3", "1E5", ".5", "5.", "0x1F", "0o17", "017",
    "1_0", "1:30", "1" * 50, ".inf", ".nan", "=", "<<", "*a", "&a", "!a", "- a", "a: b", "a #b", "'", '"', "\\", "a\nb",
    "a\n\n  b\n", "\t", "\x07", "\x7f", "\x85", "\u2028", "\ufeff", "ü", "\U0001f600", "2024-01-01", "x " * 200, "{",
    "]", "%", "@", "`",
)  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_an_expanded_graph_is_read_as_the_same_graph(name: str, tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(PART, encoding="utf-8")
    first = tmp_path / "graph.yaml"
    first.write_text(SMALL[name], encoding="utf-8")
    graph = load_graph(first)
    second = tmp_path / "again.yaml"
    second.write_text(graph.text, encoding="utf-8")
    again = load_graph(second)
    assert again.text == graph.text
    assert list(again.nodes) == list(graph.nodes)
    assert set(again.wires) == set(graph.wires)
    for node, spec in graph.nodes.items():
        assert again.nodes[node].parameters == spec.parameters
    assert {n: (d.uri, dict(d.options)) for n, d in again.devices.items()} == {
        n: (d.uri, dict(d.options)) for n, d in graph.devices.items()
    }


@pytest.mark.parametrize("text", STRINGS, ids=ascii)
def test_a_text_stays_that_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    quoted = json.dumps(text) if max(text, default="") < "\U00010000" else f'"{text}"'
    path.write_text(
        f"foveate: 1\nnodes: {{a: {{use: options, params: {{label: {quoted}, words: [{quoted}]}}}}}}\n",
        encoding="utf-8",
    )
    graph = load_graph(path)
    assert graph.nodes["a"].parameters["label"] == text
    again = tmp_path / "again.yaml"
    again.write_text(graph.text, encoding="utf-8")
    found = load_graph(again).nodes["a"].parameters
    assert (found["label"], found["words"]) == (text, (text,))


@pytest.mark.parametrize("number", ["1e-5", "1e20", "123456789.125", "0.1", "1000", "3e2"])
def test_a_number_stays_that_number(number: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(
        f"foveate: 1\nnodes: {{a: {{use: options, params: {{pair: [{number}, -{number}]}}}}}}\n", encoding="utf-8"
    )
    graph = load_graph(path)
    path.write_text(graph.text, encoding="utf-8")
    assert load_graph(path).nodes["a"].parameters["pair"] == (float(number), -float(number))


FUSE = """\
foveate: 1
nodes:
  s: {use: sensors}
  f:
    use: fuse
    inputs: {frame: s.frame, pose: {from: s.pose, queue: fifo(7), max_age: 1.5ms}, events: s.events, map: s.map}
"""
CHAIN = """\
foveate: 1
nodes:
  a: {use: numbers}
  b: {use: relay, inputs: {value: a.out}}
"""
MS = 1_000_000


def twice(text: str, folder: Path) -> tuple[Graph, Graph]:
    """The graph of a text, and the graph of its expansion."""
    first, second = folder / "graph.yaml", folder / "again.yaml"
    first.write_text(text, encoding="utf-8")
    graph = load_graph(first)
    second.write_text(graph.text, encoding="utf-8")
    again = load_graph(second)
    assert again.text == graph.text
    return graph, again


def alike(graph: Graph, again: Graph) -> bool:
    """Whether both mean the same: nodes with all they say, wires, record, budgets."""
    return (
        graph.nodes == again.nodes
        and set(graph.wires) == set(again.wires)
        and graph.record == again.record
        and graph.budgets == again.budgets
        and graph.devices == again.devices
    )


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("restart", FaultPolicy("restart")),
        ("ignore", FaultPolicy("ignore")),
        ("stop", FaultPolicy()),
        ("{do: restart, times: 1}", FaultPolicy("restart", 1)),
        ("{do: restart, times: 1000000, within: 15min, backoff: 1.5us}",
         FaultPolicy("restart", 10**6, 900 * 10**9, 1500)),
        ("{do: restart, within: 0.5s, backoff: 0ms}", FaultPolicy("restart", 5, 500 * MS, 0)),
    ],
)  # fmt: skip
def test_what_happens_on_a_fault_stays(written: str, policy: FaultPolicy, tmp_path: Path) -> None:
    graph, again = twice(CHAIN.replace("a.out}}", f"a.out}}, on_fault: {written}}}"), tmp_path)
    assert graph.nodes["b"].on_fault == policy and graph.nodes["a"].on_fault == FaultPolicy()
    assert alike(graph, again)


@pytest.mark.parametrize(
    ("written", "sync"),
    [
        ("{window: 8ms}",
         SyncSpec("frame", {"pose": "nearest", "events": "interval", "map": "nearest"}, 8 * MS, None, None)),
        ("{reference: pose, window: 1.5us, deadline: 30ms, stale: 1s, match: {frame: exact, map: exact}}",
         SyncSpec("pose", {"frame": "exact", "events": "interval", "map": "exact"}, 1500, 30 * MS, 1000 * MS)),
        ("{window: 0ms, deadline: 0ms, match: {pose: interpolate}}",
         SyncSpec("frame", {"pose": "interpolate", "events": "interval", "map": "nearest"}, 0, 0, None)),
        ("{match: {pose: exact, map: exact}}",
         SyncSpec("frame", {"pose": "exact", "events": "interval", "map": "exact"}, 0, None, None)),
    ],
)  # fmt: skip
def test_what_belongs_together_stays(written: str, sync: SyncSpec, tmp_path: Path) -> None:
    graph, again = twice(f"{FUSE}    sync: {written}\n", tmp_path)
    assert graph.nodes["f"].sync == sync
    assert alike(graph, again)
    queues = {wire.input: str(wire.policy) for wire in again.wires}
    assert queues == {"frame": "fifo(64)", "pose": "fifo(7)", "events": "fifo(64)", "map": "fifo(64)"}
    assert {wire.input: wire.policy.max_age_ns for wire in again.wires}["pose"] == 1_500_000


def test_budgets_stay(tmp_path: Path) -> None:
    limits = "p50: 1ms, p99.9: 2.5us, max: 20ms"
    ends = "from: a.out, to: b.out"
    graph, again = twice(f"{CHAIN}budgets: [{{{ends}, {limits}}}, {{{ends}, p99.999: 10min}}]\n", tmp_path)
    assert graph.budgets == (
        BudgetSpec("a.out", "b.out", 0.5, MS),
        BudgetSpec("a.out", "b.out", pytest.approx(0.999), 2500),  # type: ignore[arg-type]
        BudgetSpec("a.out", "b.out", 1.0, 20 * MS),
        BudgetSpec("a.out", "b.out", pytest.approx(0.99999), 600 * 10**9),  # type: ignore[arg-type]
    )
    assert [(b.source, b.target, b.limit_ns) for b in again.budgets] == [
        (b.source, b.target, b.limit_ns) for b in graph.budgets
    ]
    assert [b.quantile for b in again.budgets] == [b.quantile for b in graph.budgets]


def test_every_quantile_stays(tmp_path: Path) -> None:
    ends = "from: a.out, to: b.out"
    texts = [f"p{n}" for n in range(1, 100)] + ["p0.001", "p0.5", "p12.345", "p99.5", "p99.99", "p99.995"]
    listed = ", ".join(f"{{{ends}, {text}: 1ms}}" for text in texts)
    graph, again = twice(f"{CHAIN}budgets: [{listed}]\n", tmp_path)
    assert len(graph.budgets) == len(texts) and again.budgets == graph.budgets


@pytest.mark.parametrize(
    ("written", "ring"),
    [
        ("ring: 10s", Ring(10_000 * MS)),
        ("ring: 1ms, on_fault: keep", Ring(MS, dump_on_fault=False)),
        ("ring: 1.5min, on_fault: dump, memory: 512MB", Ring(90_000 * MS, most_bytes=512 * 10**6)),
        ("ring: 20ms, memory: 3GiB", Ring(20 * MS, most_bytes=3 * 2**30)),
        ("ring: 20ms, memory: 1000.001kB", Ring(20 * MS, most_bytes=1_000_001)),
    ],
)
def test_a_ring_stays(written: str, ring: Ring, tmp_path: Path) -> None:
    graph, again = twice(f"{CHAIN}record: {{{written}, streams: [a.out]}}\n", tmp_path)
    assert graph.record is not None and graph.record.ring == ring
    assert alike(graph, again)


def test_tolerances_stay(tmp_path: Path) -> None:
    streams = "{from: a.out, tolerance: 1e-6}, {from: b.out, tolerance: 0, queue: every(3)}"
    graph, again = twice(f"{CHAIN}record: {{streams: [{streams}]}}\n", tmp_path)
    assert isinstance(graph.record, Record) and graph.record.tolerances == {"a.out": 1e-6, "b.out": 0.0}
    assert [str(policy) for _, _, policy in graph.record.streams] == ["fifo(256)", "every(3)"]
    assert alike(graph, again)


@pytest.mark.parametrize(
    "text",
    [
        CHAIN.replace("a.out}}", "a.out}, on_fault: {do: restart, within: 1h}}"),
        CHAIN.replace("value: a.out", "value: {from: a.out, max_age: 1000s}"),
        f"{FUSE}    sync: {{window: 8ms, stale: 20min}}\n",
        f"{CHAIN}budgets: [{{from: a.out, to: b.out, max: 1h}}]\n",
        f"{CHAIN}record: {{ring: 1h, streams: [a.out]}}\n",
    ],
    ids=["on_fault", "max_age", "sync", "budgets", "ring"],
)
def test_a_long_duration_stays(text: str, tmp_path: Path) -> None:
    assert alike(*twice(text, tmp_path))


def faults_of_text(text: str, folder: Path) -> list[str]:
    path = folder / "graph.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GraphError) as caught:
        load_graph(path)
    return [fault.text for fault in caught.value.faults]


@pytest.mark.parametrize("reference", ["[frame]", "{frame: 1}"])
def test_a_reference_that_is_no_text_is_a_fault(reference: str, tmp_path: Path) -> None:
    found = faults_of_text(f"{FUSE}    sync: {{reference: {reference}, window: 8ms}}\n", tmp_path)
    assert len(found) == 1 and found[0].startswith("the reference must be an input that is not optional")


def test_a_method_for_the_reference_is_not_answered_with_itself(tmp_path: Path) -> None:
    (found,) = faults_of_text(f"{FUSE}    sync: {{window: 8ms, match: {{frame: nearest}}}}\n", tmp_path)
    assert "did you mean 'frame'" not in found


def test_a_window_that_is_no_duration_is_one_fault(tmp_path: Path) -> None:
    (found,) = faults_of_text(f"{FUSE}    sync: {{window: 8}}\n", tmp_path)
    assert found.startswith("window: not a duration")
