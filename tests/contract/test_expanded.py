"""The expanded graph means the same as the graph it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveate.checking import load_graph
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
