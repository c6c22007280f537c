"""YML1: every fault of the hand-made graphs, with its exact place and text; the command's exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveate.checking import load_graph
from foveate.cli import main
from foveate.errors import GraphError
from tests.contract.golden import GOLDEN, Case, faults_of, fits, lay_out, read_cases

CASES = read_cases(GOLDEN.read_text(encoding="utf-8"))
LINE = r"[^\n]+:[1-9][0-9]*:[1-9][0-9]*: [^\n]+"
MANY = next(case for case in CASES if case.name.startswith("many faults"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_faults_are_those_expected(case: Case, tmp_path: Path) -> None:
    found = faults_of(case, tmp_path / "case")
    assert fits(case.faults, found), "\n".join(["found:", *found])


def test_there_are_many_cases_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.faults for case in CASES)


def test_faults_of_one_file_are_in_the_order_of_its_lines(tmp_path: Path) -> None:
    graph = lay_out(MANY, tmp_path / "case")
    with pytest.raises(GraphError) as caught:
        load_graph(graph)
    places = [(fault.line, fault.column) for fault in caught.value.faults]
    assert len(places) > 8
    assert places == sorted(places)


@pytest.mark.parametrize("command", [["check"], ["run", "--no-record", "--quiet"], ["graph"]])
def test_the_command_prints_every_fault_and_ends_with_2(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = lay_out(MANY, tmp_path / "case")
    monkeypatch.chdir(graph.parent)
    assert main([*command, "graph.yaml"]) == 2
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).splitlines()
    assert [line for line in lines if line.startswith("graph.yaml:")] == MANY.faults


def test_check_prints_faults_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = lay_out(MANY, tmp_path / "case")
    assert main(["check", "--json", str(graph)]) == 2
    rows = json.loads(capsys.readouterr().out)["faults"]
    assert [f"graph.yaml:{row['line']}:{row['column']}: {row['text']}" for row in rows] == MANY.faults


def test_a_good_graph_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = tmp_path / "good.yaml"
    graph.write_text("foveate: 1\nnodes: {a: {use: numbers}}\n", encoding="utf-8")
    assert main(["check", str(graph)]) == 0
    assert "good: 1 nodes, 0 wires" in capsys.readouterr().out


def test_a_graph_that_is_absent_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wide_aera"]) == 2
    assert "did you mean 'wide_area'?" in capsys.readouterr().out


def test_a_hundred_faults_are_enough(tmp_path: Path) -> None:
    graph = tmp_path / "many.yaml"
    nodes = "".join(f"  n{i}: {{use: relay, inputs: {{value: x{i}.out}}}}\n" for i in range(900))
    graph.write_text(f"foveate: 1\nnodes:\n{nodes}", encoding="utf-8")
    with pytest.raises(GraphError) as caught:
        load_graph(graph)
    assert len(caught.value.faults) == 101
    assert "100 faults; the rest is not checked" in str(caught.value)
