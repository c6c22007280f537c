"""YML4: a graph runs no code and names no file outside its folders, unless the command line says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from foveate import catalog
from foveate.checking import load_graph
from foveate.errors import GraphError
from foveate.paths import launch_folder

MODEL = "models/vehicles_people.onnx"
OUTSIDE = "lies outside the graph's folder; allow its folder with --data FOLDER"
DETECT = (
    "foveate: 1\nnodes:\n  in: {{use: frames}}\n"
    "  find: {{use: detect, inputs: {{frame: in.out}}, params: {{model: {model}}}}}\n"
)
CODE = {
    "a tag that applies a function": ("a: !!python/object/apply:os.system ['true']", "tags "),
    "a tag of an object": ("a: !!python/object:subprocess.Popen {}", "tags "),
    "a tag that makes an object": ("a: !!python/object/new:os.system ['true']", "tags "),
    "a tag of a name": ("a: !!python/name:os.system", "tags "),
    "a tag of a module": ("a: !!python/module:os", "tags "),
    "a tag written out": ("a: !<tag:yaml.org,2002:python/object/apply:os.system> ['true']", "tags "),
    "a tag of a binary": ("a: {use: !!binary bnVtYmVycw==}", "tags "),
    "a tag of one's own": ("a: !mine {use: numbers}", "tags "),
    "a module's function": ("a: {use: os.system}", "unknown node type 'os.system'"),
    "a path of an import": ("a: {use: 'foveate_nodes.detection.train:main'}", "unknown node type 'foveate_nodes.det"),
    "an installed class by its path": (
        "a: {use: 'foveate_nodes.devices.camera:Camera'}",
        "unknown node type 'foveate_n",
    ),
    "a class of this test": ("a: {use: 'tests.contract.sample_nodes:Numbers'}", "unknown node type 'tests.contract.s"),
    "a dunder": ("a: {use: __import__}", "unknown node type '__import__'"),
    "a driver as a node": ("a: {use: camera.sim}", "unknown node type 'camera.sim'"),
    "a report as a node": ("a: {use: search_report}", "unknown node type 'search_report'"),
    "an expression": ("a: {use: numbers, cost: \"${__import__('os')}\"}", "unknown reference"),
}
PATHS = {
    "up": "../outside/model.onnx",
    "up and down": "../outside/../outside/model.onnx",
    "down and up": "models/../../outside/model.onnx",
    "absolute": "{above}/outside/model.onnx",
    "absolute in the system": "/etc/passwd",
    "a link to a file": "link.onnx",
    "a link to a folder": "linked/model.onnx",
    "a link to a link": "second.onnx",
    "a file beside launch": "../pyproject.toml",
    "the graph's folder is a part of its name": "../graphs_too/model.onnx",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for graphs, with links that leave it for folders that hold a good model."""
    inside = tmp_path / "graphs"
    inside.mkdir()
    for name in ("outside", "graphs_too"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").symlink_to(launch_folder() / MODEL)
    copied = tmp_path / "outside" / "copy.onnx"
    copied.write_bytes((launch_folder() / MODEL).read_bytes())
    copied.with_suffix(".json").write_bytes((launch_folder() / MODEL).with_suffix(".json").read_bytes())
    for name in ("outside", "graphs_too"):
        (tmp_path / name / "model.onnx").unlink()
        (tmp_path / name / "model.onnx").hardlink_to(copied)
        (tmp_path / name / "model.json").write_bytes(copied.with_suffix(".json").read_bytes())
    (inside / "linked").symlink_to(tmp_path / "outside")
    (inside / "link.onnx").symlink_to(tmp_path / "outside/model.onnx")
    (inside / "second.onnx").symlink_to(inside / "link.onnx")
    yield inside


def graph_in(folder: Path, text: str) -> Path:
    path = folder / "graph.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CODE)
def test_no_code_comes_from_yaml(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(os, "system", ran.append)
    before = set(sys.modules)
    line, text = CODE[name]
    with pytest.raises(GraphError) as caught:
        load_graph(graph_in(folder, f"foveate: 1\nnodes:\n  {line}\n"))
    (fault,) = caught.value.faults
    assert fault.text.startswith(text)
    assert fault.line == 3
    assert not ran
    assert not {module for module in set(sys.modules) - before if module.startswith(("foveate_nodes", "subprocess"))}


def test_every_use_is_an_entry_point(folder: Path) -> None:
    load_graph(graph_in(folder, "foveate: 1\nnodes: {a: {use: numbers}}\n"))
    assert "numbers" in catalog.listing("nodes")


@pytest.mark.parametrize("name", PATHS)
def test_a_path_outside_is_refused(name: str, folder: Path) -> None:
    model = PATHS[name].format(above=folder.parent)
    with pytest.raises(GraphError) as caught:
        load_graph(graph_in(folder, DETECT.format(model=model)))
    (fault,) = caught.value.faults
    assert fault.text == f"'{model if len(model) <= 60 else model[:57] + '...'}' {OUTSIDE}"
    assert (fault.line, fault.column) == (4, 64)


@pytest.mark.parametrize("key", ["rig", "include"])
@pytest.mark.parametrize("path", ["../outside/part.yaml", "linked/part.yaml", "/etc/hostname"])
def test_a_rig_or_an_include_outside_is_refused(key: str, path: str, folder: Path) -> None:
    (folder.parent / "outside/part.yaml").write_text("foveate: 1\nnodes: {b: {use: numbers}}\n", encoding="utf-8")
    body = f"rig: {path}\nnodes: {{a: {{use: numbers}}}}" if key == "rig" else f"nodes: {{a: {{include: {path}}}}}"
    with pytest.raises(GraphError, match=OUTSIDE):
        load_graph(graph_in(folder, f"foveate: 1\n{body}\n"))


def test_an_included_graph_reaches_no_farther_than_its_includer(folder: Path) -> None:
    (folder / "parts").mkdir()
    part = DETECT.format(model="../../outside/model.onnx")
    (folder / "parts/part.yaml").write_text(part, encoding="utf-8")
    with pytest.raises(GraphError, match=OUTSIDE):
        load_graph(graph_in(folder, "foveate: 1\nnodes: {p: {include: parts/part.yaml}}\n"))


def test_files_in_the_folder_and_in_launch_are_found(folder: Path) -> None:
    graph = load_graph(graph_in(folder, DETECT.format(model=MODEL)))
    assert graph.nodes["find"].parameters["model"] == (launch_folder() / MODEL).resolve()
    (folder / "own.onnx").write_bytes((launch_folder() / MODEL).read_bytes())
    (folder / "own.json").write_bytes((launch_folder() / MODEL).with_suffix(".json").read_bytes())
    graph = load_graph(graph_in(folder, DETECT.format(model="own.onnx")))
    assert graph.nodes["find"].parameters["model"] == (folder / "own.onnx").resolve()


@pytest.mark.parametrize("model", ["../outside/model.onnx", "{above}/outside/model.onnx", "link.onnx", "model.onnx"])
def test_data_allows_a_folder(model: str, folder: Path) -> None:
    path = graph_in(folder, DETECT.format(model=model.format(above=folder.parent)))
    with pytest.raises(GraphError):
        load_graph(path)
    graph = load_graph(path, allowed=[folder.parent / "outside"])
    assert graph.nodes["find"].parameters["model"] == (folder.parent / "outside/model.onnx").resolve()
    with pytest.raises(GraphError):
        load_graph(path, allowed=[folder.parent / "elsewhere"])


def test_a_setting_may_point_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    path = graph_in(folder, DETECT.format(model=MODEL))
    for model in (f"{folder.parent}/outside/model.onnx", "outside/model.onnx", "graphs/link.onnx"):
        graph = load_graph(path, [f"find.model={model}"])
        assert graph.nodes["find"].parameters["model"] == (folder.parent / "outside/model.onnx").resolve()
        assert graph.nodes["find"].origins["model"] == "--set"


def test_a_setting_of_a_parameter_may_point_anywhere(folder: Path) -> None:
    text = DETECT.format(model='"${params.model}"').replace("nodes:", f"params: {{model: {MODEL}}}\nnodes:")
    graph = load_graph(graph_in(folder, text), [f"model={folder.parent}/outside/model.onnx"])
    assert graph.nodes["find"].parameters["model"].parent.name == "outside"


def test_a_setting_inside_a_text_of_the_graph_does_not(folder: Path) -> None:
    text = DETECT.format(model='"models/${params.name}.onnx"').replace("nodes:", "params: {name: regions}\nnodes:")
    with pytest.raises(GraphError, match=OUTSIDE):
        load_graph(graph_in(folder, text), ["name=../../outside/model"])
    with pytest.raises(GraphError, match=r"link\.onnx' lies outside"):
        load_graph(graph_in(folder, text.replace("models/", "")), ["name=link"])
