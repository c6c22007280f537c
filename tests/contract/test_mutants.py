"""YML2: graphs that were damaged at random are valid or refused with one line a fault; nothing else."""

from __future__ import annotations

import random
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foveate.checking import load_graph
from foveate.errors import GraphError
from foveate.paths import launch_folder

LINE = re.compile(r"[^\n]+:[1-9][0-9]*:[1-9][0-9]*: [^\n]+")
MOST_MIB = 64
SPECIAL = (
    *"&*!|>%@`'\"{}[],:?#-~\t\n\0\r", "<<: ", "- ", ": ", "? ", "--- \n", "...\n", "!!python/object:os.system ", "${",
    "}", "${params.", "${rig.", "${params.rate}", "../", "/", "1e999999", "\xff", "\u2028", "\ufeff", "null", "[[[[",
    "9" * 50,
)  # fmt: skip
SMALL = {
    "wires": """\
foveate: 1
description: a ring, an option of every kind
params: {rate: 20.0, word: dog, both: [1.5, 2.5]}
nodes:
  in: {use: numbers, cost: 2ms}
  set:
    use: options
    params: {rate: "${params.rate}", count: 3, loud: true, label: "a ${params.word}", mode: exact,
             words: [x, y], pair: "${params.both}", weights: {a: 1.0, b: 2}}
  sum: {use: merge, inputs: {value: {from: in.out, queue: block(4), max_age: 50ms}, back: lag.out}}
  lag:
    use: relay
    inputs:
      value: {from: sum.out, queue: fifo(3)}
record: {to: logs, streams: [in.out, {from: sum.out, queue: every(4)}]}
report:
  use: search_report
  compare: {other: {lag: {use: relay}}}
""",
    "devices": """\
foveate: 1
rig:
  world: {uri: "sim:town", scene: procedural, seed: 1, range: 150.0}
  mirror: {uri: "sim:galvo", scanner: saccade30, limit: 0.24}
  wide: {uri: "sim:wide", world: "${rig.world}", width: 64, height: 48, rate: 5.0, encoding: BGR8}
  search: {uri: "sim:search", world: "${rig.world}", through: "${rig.mirror}"}
  web: opencv:0
nodes:
  wide: {use: camera, device: "${rig.wide}"}
  search: {use: camera, device: "${rig.search}", mirror: "${rig.mirror}"}
  web: {use: camera, device: "${rig.web}"}
  truth: {use: ground_truth, device: "${rig.world}", params: {rate: 10}}
""",
    "parts": """\
foveate: 1
params: {rate: 20.0}
nodes:
  in: {use: numbers}
  left: {include: part.yaml, params: {rate: "${params.rate}"}, inputs: {value: in.out}}
  right: {include: part.yaml, inputs: {value: {from: left.out, queue: fifo(2)}}}
  out: {use: relay, inputs: {value: right.out}}
""",
}
PART = """\
foveate: 1
params: {rate: 5.0}
inputs: {value: lag.value}
outputs: {out: lag.out, own: set.out}
nodes:
  lag: {use: relay}
  set: {use: options, params: {rate: "${params.rate}"}}
"""


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _delete(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 1, 2, 5, 30))]


def _duplicate(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice((1, 3, 10, 60))] * rng.choice((1, 1, 2, 20))


def _swap_lines(rng: random.Random, data: bytearray) -> None:
    lines = bytes(data).split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    data[:] = b"\n".join(lines)


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(SPECIAL).encode("utf-8")


def _replace_word(rng: random.Random, data: bytearray) -> None:
    """One value or key takes the place of another."""
    words = list(re.finditer(rb"[^\s,{}\[\]]+", data))
    if len(words) > 1:
        a, b = rng.sample(words, 2)
        data[a.start() : a.end()] = b[0]


DAMAGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip, _delete, _duplicate, _swap_lines, _insert, _insert, _replace_word, _replace_word,
)  # fmt: skip


def mutants(text: str, count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged copies of `text`."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(text.encode("utf-8"))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if data:
                rng.choice(DAMAGES)(rng, data)
        yield bytes(data)


def is_valid(path: Path) -> bool:
    """Whether the graph is valid; if not, its faults are lines with a place and a text."""
    try:
        load_graph(path)
    except GraphError as error:
        lines = str(error).split("\n")
        assert lines == [str(fault) for fault in error.faults]
        for line in lines:
            assert LINE.fullmatch(line), f"not one line: {line!r}"
            assert line.isprintable(), f"not printable: {line!r}"
        return False
    return True


def run(path: Path, text: str, count: int, seed: int) -> int:
    """How many of the mutants of `text`, written to `path`, are valid."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    valid = 0
    for data in mutants(text, count, seed):
        path.write_bytes(data)
        try:
            valid += is_valid(path)
        except BaseException as error:
            error.add_note(f"the graph was:\n{data!r}")
            raise
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    print(f"{count} mutants, {valid} valid, {grown_mib:.1f} MiB more memory")
    assert grown_mib < MOST_MIB
    return valid


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "devices" else pytest.mark.heavy) for name in SMALL]
)
def test_mutants_of_small_graphs(name: str, tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(PART, encoding="utf-8")
    path = tmp_path / "graph.yaml"
    path.write_text(SMALL[name], encoding="utf-8")
    assert is_valid(path)
    assert 50 < run(path, SMALL[name], 2900, seed=1) < 2000


def test_mutants_of_an_included_graph(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(SMALL["parts"], encoding="utf-8")
    part = tmp_path / "part.yaml"
    for data in mutants(PART, 1000, seed=2):
        part.write_bytes(data)
        is_valid(path)


def test_mutants_of_the_shipped_rig(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text('foveate: 1\nrig: rig.yaml\nnodes: {a: {use: camera, device: "${rig.search}"}}\n', encoding="utf-8")
    for data in mutants((launch_folder() / "rigs/sim_procedural.yaml").read_text(encoding="utf-8"), 500, seed=3):
        (tmp_path / "rig.yaml").write_bytes(data)
        is_valid(path)


def test_mutants_of_the_shipped_graph(tmp_path: Path) -> None:
    """With its models, which each valid `model:` loads: fewer of them."""
    text = (launch_folder() / "graphs/wide_area.yaml").read_text(encoding="utf-8")
    run(tmp_path / "graph.yaml", text, 150, seed=4)
