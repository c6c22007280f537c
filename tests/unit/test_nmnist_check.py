"""The segmentation network's blocks learn digits from real events. Needs torch and the recordings."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'train'")

import torch

pytestmark = [pytest.mark.heavy, pytest.mark.data, pytest.mark.timeout(300)]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DIGITS = (0, 1, 7)


@pytest.fixture
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module("nmnist")
    torch.set_num_threads(threads)
    sys.path.remove(str(BENCHMARKS))


def test_spiking_blocks_learn_three_digits_and_the_same_seed_gives_the_same_weights(
    benchmark: ModuleType, shared_data: Path
) -> None:
    folder = shared_data / "events" / "nmnist_small" / "NMNISTsmall"
    if not folder.is_dir():
        pytest.skip(f"needs {folder.relative_to(shared_data)} in the folder of shared data")
    held = [(recording, DIGITS.index(digit)) for recording, digit in benchmark.recordings(folder) if digit in DIGITS]
    digits = np.array([digit for _, digit in held])
    grids = np.stack([benchmark.grids_of(recording, benchmark.SLICES) for recording, _ in held])
    asked = benchmark.folds_of(digits, 3) == 0

    def learnt(steps: int) -> torch.nn.Module:
        torch.manual_seed(4)
        net = benchmark.spiking(len(DIGITS))
        return benchmark.trained(net, grids[~asked], digits[~asked], steps=steps, seed=4)

    given, rate = benchmark.answers(learnt(60), grids[asked])
    assert np.mean(given == digits[asked]) > 0.7  # chance: 0.4, the most frequent digit's share
    assert 0.02 < rate < 0.5
    one, other = learnt(3).state_dict(), learnt(3).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
