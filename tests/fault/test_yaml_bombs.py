"""YML2, YML3: how long a damaged or malicious graph may keep the checker; the figures are printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foveate.checking import load_graph
from foveate.errors import GraphError
from tests.contract.bombs import REFUSED
from tests.contract.sample_nodes import fixed_catalog
from tests.contract.test_mutants import SMALL, mutants

BOMB_MS = 200.0
MUTANT_MS = 500.0
TRIES = 3


@pytest.fixture(autouse=True)
def catalogue() -> Iterator[None]:
    with fixed_catalog():
        yield


def check(path: Path) -> float:
    """Milliseconds of the processor that holding a graph against the code takes."""
    start_ns = time.process_time_ns()
    try:
        load_graph(path)
    except GraphError:
        pass
    return (time.process_time_ns() - start_ns) / 1e6


def best_of(measure: Callable[[], float], limit_ms: float) -> float:
    """The smallest of up to three measurements; the first within the limit ends it."""
    best = measure()
    for _ in range(TRIES - 1):
        if best < limit_ms:
            break
        best = min(best, measure())
    return best


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text("foveate: 1\nnodes: {a: {use: options, params: {rate: 1}}}\n", encoding="utf-8")
    check(path)  # imports
    bomb = REFUSED[name]
    path.write_bytes(bomb if isinstance(bomb, bytes) else bomb.encode("utf-8"))
    taken_ms = best_of(lambda: check(path), BOMB_MS)
    print(f"{name}: {taken_ms:.1f} ms")
    assert taken_ms < BOMB_MS


def test_no_mutant_takes_long(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    slowest_ms = 0.0
    for data in mutants(SMALL["wires"], 500, seed=5):
        path.write_bytes(data)
        slowest_ms = max(slowest_ms, best_of(lambda: check(path), MUTANT_MS))
    print(f"the slowest of 500 mutants: {slowest_ms:.1f} ms")
    assert slowest_ms < MUTANT_MS
