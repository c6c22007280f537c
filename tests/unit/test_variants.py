"""Variants of a model: which one runs is decided by what steps take, is recorded, and is repeated by replays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from foveate.cli import main
from foveate.decisions import Step
from foveate.errors import ModelError
from foveate.messages import ProbabilityMap
from foveate.node import Node
from foveate.paths import launch_folder
from foveate.recording import Recording
from foveate_drivers.backends.loading import load
from foveate_drivers.backends.variants import Pacer, Variants
from tests.unit import test_replay as replays

MODELS = launch_folder() / "models"
MS = 1_000_000


class Restless(Node):
    """Changes what it multiplies by as the nanoseconds of its steps fall."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        self._factor = 1.0

    def after_step(self, took_ns: int) -> str:
        return str(took_ns % 7) if took_ns % 2 else ""

    def adapt(self, word: str) -> None:
        self._factor = 1.0 + int(word)

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        return replays.values(value.stamp.t_ns, self._factor * value.expected[0])


GRAPH = """\
foveate: 1
nodes:
  left: {use: ticks, params: {count: 200, period: 50000}}
  restless: {use: restless, inputs: {value: {from: left.out, queue: fifo(300)}}}
record: {streams: [left.out, restless.out]}
"""


@pytest.mark.live
def test_what_a_node_decides_by_its_own_times_is_repeated_by_a_replay(tmp_path: Path, capsys: Any) -> None:
    with patch.dict(replays.OURS, {"restless": Restless}), replays.known_nodes():
        log, _ = replays.record(tmp_path, GRAPH, "live")
        with Recording(log) as recording:
            told = [step.notices for step in recording.decisions() if isinstance(step, Step) and step.notices]
        words = {notice for notices in told for notice in notices}
        assert len(told) > 20 and len(words) > 2 and all(word.startswith(". ") for word in words)
        assert main(["replay", str(log), "--verify", "--no-record"]) == 0, capsys.readouterr()
        with patch.object(Restless, "adapt", lambda self, word: None):
            assert (
                main(["replay", str(log), "--verify", "--no-record"]) == 4
            )  # without what was decided it is another run


def steps(pacer: Pacer, took: Any, count: int) -> list[int | None]:
    return [pacer.note(took(pacer.number)) for _ in range(count)]


def test_a_faster_variant_is_taken_where_the_budget_is_missed_and_left_where_there_is_room() -> None:
    pacer, factor = Pacer(3, 10 * MS), [1.0]

    def took(number: int) -> int:
        return int(factor[0] * (9, 5, 2)[number] * MS)

    assert set(steps(pacer, took, 100)) == {None} and pacer.number == 0
    factor[0] = 1.5  # the board throttles: 13.5, 7.5, 3 ms
    steps(pacer, took, 100)
    assert pacer.number == 1
    factor[0] = 2.5  # 22, 12.5, 5 ms
    steps(pacer, took, 100)
    assert pacer.number == 2
    factor[0] = 0.8  # 7.2, 4, 1.6 ms: room for the first
    steps(pacer, took, 200)
    assert pacer.number == 0


@pytest.mark.parametrize("times", [(10.5, 9.5), (12.0, 4.0), (30.0, 20.0)])
def test_a_steady_board_does_not_make_it_go_to_and_fro(times: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    pacer = Pacer(2, 10 * MS)
    changes = [
        n for n in steps(pacer, lambda number: int(times[number] * rng.uniform(0.8, 1.25) * MS), 3000) if n is not None
    ]
    assert changes == [1]


def test_a_single_slow_step_changes_nothing() -> None:
    pacer = Pacer(2, 10 * MS)
    assert not [n for i in range(300) if (n := pacer.note(100 * MS if i % 10 == 0 else 5 * MS)) is not None]


def variants_of(folder: Path, *names: str) -> list[Path]:
    made = []
    for i, name in enumerate(names):
        for suffix in (".onnx", ".json", ".golden.npz"):
            shutil.copy((MODELS / name).with_suffix(suffix), (folder / f"{i}.onnx").with_suffix(suffix))
        made.append(folder / f"{i}.onnx")
    return made


def test_variants_are_all_proven_and_run_one_at_a_time(tmp_path: Path) -> None:
    one, two = variants_of(tmp_path, "edges.onnx", "edges.onnx")
    held = Variants(load(one), [two], threads=1)
    held.prove()
    image = {held.inputs[0].name: np.zeros((1, 1, 64, 64), np.float32)}
    first = held.run(image)[0]
    held.use(1)
    assert np.array_equal(held.run(image)[0], first) and held.number == 1
    held.close()


def test_models_that_are_not_alike_are_no_variants(tmp_path: Path) -> None:
    one, two = variants_of(tmp_path, "edges.onnx", "vehicles_people.onnx")
    with pytest.raises(
        ModelError, match=r"1\.onnx: cannot be a variant: its inputs and outputs are not those of 0\.onnx"
    ):
        Variants(load(one), [two])


def test_variants_name_the_same_classes_in_the_same_order(tmp_path: Path) -> None:
    one, two = variants_of(tmp_path, "vehicles_people.onnx", "vehicles_people.onnx")
    said = json.loads(two.with_suffix(".json").read_text())
    two.with_suffix(".json").write_text(json.dumps(said | {"classes": ["person", "vehicle"]}))
    with pytest.raises(
        ModelError, match=r"1\.onnx: cannot be a variant: its classes \(person, vehicle\) are not those of 0\.onnx"
    ):
        Variants(load(one), [two])


def test_a_graph_lists_variants_by_file_and_the_seal_has_their_hashes(tmp_path: Path, capsys: Any) -> None:
    [one, two] = variants_of(tmp_path, "vehicles_people.onnx", "vehicles_people.onnx")
    graph = "wide_area"
    settings = ["--set", f"find.variants=[{one},{two}]", "--set", "find.budget=0.004"]
    log = tmp_path / "log"
    assert main(["run", graph, "--executor", "virtual", "--duration", "400ms", "--output", str(log), *settings]) == 0
    capsys.readouterr()
    with Recording(next(log.rglob("*.mcap"))) as recording:
        named = str(recording.seal["files"])
    assert one.name in named and two.name in named
    assert main(["check", graph, "--set", f"find.variants=[{tmp_path / 'none.onnx'}]"]) == 2
    assert "no file" in capsys.readouterr().out
