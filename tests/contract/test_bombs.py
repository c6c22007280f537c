"""YML3: files that are large inside, or no text at all, are refused with one-line faults; harmless ones are read."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from foveate.checking import load_graph
from foveate.errors import GraphError
from tests.contract.bombs import HARMLESS, REFUSED

LINE = re.compile(r"[^\n]+:[1-9][0-9]*:[1-9][0-9]*: [^\n]{1,500}")
MOST_MIB = 64
TEXTS = {
    "aliases that multiply": "1:5: anchors (&name) are not allowed; use ${params.name}",
    "merge keys that multiply": "1:5: anchors (&name) are not allowed; use ${params.name}",
    "100,000 open lists": "1:14: nested deeper than 12 levels",
    "1 MB of text": "1:1: longer than 256 KiB",
    "a list of 1.2 MB": "1:1: longer than 256 KiB",
    "a list of 100,000 in 200 KB": "2:39994: more than 20000 elements",
    "a NUL": "2:15: character #x0000 is not allowed",
    "a control character": "2:15: character #x001b is not allowed",
    "a byte that is not UTF-8": "2:17: not UTF-8: byte 0xe9",
    "a lone surrogate": "2:14: not UTF-8: byte 0xed",
    "1e999999": "3:36: 'a.rate' = inf Hz: it should be a finite number",
    "100,000 digits of a version": f"1:10: format version '{'1' * 57}...' is not known; this is foveate: 1",
    "a reference that never closes": "2:14: '${' without its '}'; write ${params.name} or ${rig.device}",
    "references that multiply a text": "3:14: a text with ${...} becomes longer than 4096 characters",
    "references that multiply a list": "6:38: references repeat more than 20000 elements",
    "1,001 nodes": "1003:3: more than 1000 nodes and includes",
}


def faults_of(path: Path) -> list[str]:
    with pytest.raises(GraphError) as caught:
        load_graph(path)
    return str(caught.value).split("\n")


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    bomb = REFUSED[name]
    path.write_bytes(bomb if isinstance(bomb, bytes) else bomb.encode("utf-8"))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = faults_of(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024 < MOST_MIB
    assert len(lines) <= 101
    for line in lines:
        assert LINE.fullmatch(line)
        assert line.isprintable()
    if name in TEXTS:
        assert f"{path}:{TEXTS[name]}" in lines


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_bytes(HARMLESS[name].encode("utf-8"))
    assert load_graph(path).nodes


def test_includes_that_multiply_are_refused(tmp_path: Path) -> None:
    """Eight levels of ten includes each would be 10^8 nodes."""
    for level in range(8):
        names = "".join(f"  p{i}: {{include: level{level + 1}.yaml}}\n" for i in range(10))
        (tmp_path / f"level{level}.yaml").write_text(f"foveate: 1\nnodes:\n{names}", encoding="utf-8")
    (tmp_path / "level8.yaml").write_text("foveate: 1\nnodes: {a: {use: numbers}}\n", encoding="utf-8")
    assert any("more than 1000 nodes and includes" in line for line in faults_of(tmp_path / "level0.yaml"))


def test_large_includes_that_repeat_are_refused(tmp_path: Path) -> None:
    names = "".join(f"  p{i}: {{include: part.yaml}}\n" for i in range(900))
    (tmp_path / "graph.yaml").write_text(f"foveate: 1\nnodes:\n{names}", encoding="utf-8")
    (tmp_path / "part.yaml").write_text("#" * 200_000 + "\nfoveate: 1\nnodes: {a: {use: numbers}}\n", encoding="utf-8")
    (line,) = faults_of(tmp_path / "graph.yaml")
    assert line.endswith(":23:18: the included files have more than 4096 KiB together")


def test_includes_that_nest_without_end_are_refused(tmp_path: Path) -> None:
    for level in range(20):
        text = f"foveate: 1\nnodes: {{p: {{include: level{level + 1}.yaml}}}}\n"
        (tmp_path / f"level{level}.yaml").write_text(text, encoding="utf-8")
    lines = faults_of(tmp_path / "level0.yaml")
    assert lines == [f"{tmp_path}/level8.yaml:2:22: includes nested deeper than 8"]


def test_a_setting_is_read_with_the_same_limits(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text("foveate: 1\nnodes: {a: {use: options}}\n", encoding="utf-8")
    for value in ("[" * 50_000, "&a [*a]", "x" * 300_000, "\x00", "\udcff", "{a: 1, a: 2}", "1\n--- \n2"):
        with pytest.raises(GraphError) as caught:
            load_graph(path, [f"a.label={value}"])
        (line,) = str(caught.value).split("\n")
        assert LINE.fullmatch(line)
        assert line.isprintable()
