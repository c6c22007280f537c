"""Digits of N-MNIST, real events, by the segmentation network's own blocks: do they learn from what a sensor has seen?

A small classifier of ConvSpike, Down, SpikeBlock and NormSpike sees five slices of a recording one after another, with
membranes carried, and answers with the mean of its logits. Beside it: the same network with ReLU in the place of
neurons, the same with all events in one slice, and the nearest neighbours of events counted by pixel.

There are 199 recordings (../shared/data/events), dealt to the folds in turn, digit by digit: each fold tests 40, so one
recording is 2.5 % of a fold, and two ways that differ by less than 6 % in the mean cannot be told apart. Settings were
chosen on the first of five folds alone, those of the spiking network, which the other networks share, and those of the
neighbours; `fresh folds` is the mean over the other folds. Recordings are shifted by up to 2 px while they are learnt,
for the neighbours too. Seconds are of the processor's time for one training, on one thread.

    python benchmarks/nmnist.py                              five folds, about 7 minutes
    python benchmarks/nmnist.py --seed 1 --folder DIR
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveate_nodes.models.fitting import fit
from foveate_nodes.segmentation.energy import Rates
from foveate_nodes.segmentation.labelled import Slice
from foveate_nodes.segmentation.neuron import Leaky, fast_sigmoid, many_steps, reset
from foveate_nodes.segmentation.nmnist import CLASSES, HEIGHT, WIDTH, recordings
from foveate_nodes.segmentation.representations import event_count, voxel_grid
from foveate_nodes.segmentation.sltnet import ConvSpike, Down, NormSpike, SpikeBlock
from foveate_nodes.segmentation.train_sltnet import Rectified

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "events" / "nmnist_small" / "NMNISTsmall"
SLICES, BINS, CHANNELS = 5, 5, 8
STEPS, BATCH, RATE, DECAY, DROP = 200, 16, 4e-3, 1e-2, 0.3
FLOOR, PUSH = 0.03, 0.1  # neurons that fire less are pushed up, as in the training of the segmentation network
SHIFT = 2  # px: recordings are moved by up to so many while they are learnt
NEIGHBOURS = 5


class Classifier(nn.Module):
    """B x S x bins x H x W, slices in the order of time, to B x digits: the mean over the slices of the logits."""

    def __init__(self, digits: int, neuron: Callable[[], Any], gain: float) -> None:
        super().__init__()
        width = CHANNELS
        self.body = nn.Sequential(
            ConvSpike(nn.Conv2d(BINS, width, 3, padding=1, bias=False), neuron),
            Down(width, 2 * width), SpikeBlock(2 * width, 1, neuron), NormSpike(2 * width, neuron),
            Down(2 * width, 4 * width), SpikeBlock(4 * width, 2, neuron), NormSpike(4 * width, neuron),
        )  # fmt: skip
        self.drop, self.head = nn.Dropout(DROP), nn.Linear(4 * width * 9 * 9, digits)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, gain)

    def forward(self, slices: Tensor) -> Tensor:
        steps = slices.shape[1]
        reset(self)
        with many_steps(self, steps):
            seen = self.body(slices.transpose(0, 1).flatten(0, 1))
        reset(self)
        return self.head(self.drop(seen.flatten(1))).unflatten(0, (steps, -1)).mean(0)


def spiking(digits: int) -> Classifier:
    return Classifier(digits, lambda: Leaky(spike_grad=fast_sigmoid()), gain=0.5)


def rectified(digits: int) -> Classifier:
    return Classifier(digits, Rectified, gain=1.0)


NETWORKS: dict[str, tuple[Callable[[int], Classifier], int]] = {
    "spiking, five slices": (spiking, SLICES),
    "ReLU, five slices": (rectified, SLICES),
    "spiking, all in one slice": (spiking, 1),
}


def grids_of(recording: Slice, slices: int) -> NDArray[np.float32]:
    """S x bins x H x W: voxel grids of slices of equal length in time, from the first event to the last."""
    grids = np.zeros((slices, BINS, HEIGHT, WIDTH), np.float32)
    bounds = np.searchsorted(recording.t_ns, np.linspace(recording.t_ns[0], recording.t_ns[-1] + 1, slices + 1))
    for grid, first, last in zip(grids, bounds[:-1], bounds[1:], strict=True):
        part = slice(first, last)
        columns = recording.t_ns[part], recording.x[part], recording.y[part], recording.polarity[part]
        voxel_grid(*columns, grid.shape, out=grid)
    return grids


def counts_of(recording: Slice) -> NDArray[np.float32]:
    """2 x H x W."""
    return event_count(recording.x, recording.y, recording.polarity, (HEIGHT, WIDTH))[0]


def moved(arrays: NDArray[np.float32], right: int, down: int) -> NDArray[np.float32]:
    """... x H x W, shifted by whole pixels; zeros come in."""
    out = np.zeros_like(arrays)
    height, width = arrays.shape[-2:]
    to_y, to_x = (slice(max(by, 0), size + min(by, 0)) for by, size in ((down, height), (right, width)))
    from_y, from_x = (slice(max(-by, 0), size + min(-by, 0)) for by, size in ((down, height), (right, width)))
    out[..., to_y, to_x] = arrays[..., from_y, from_x]
    return out


def folds_of(digits: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Which fold tests each recording: dealt in turn, digit by digit, in the order of the recordings."""
    fold = np.empty(len(digits), np.int64)
    fold[np.argsort(digits, kind="stable")] = np.arange(len(digits)) % folds
    return fold


def trained(
    net: Classifier, grids: NDArray[np.float32], digits: NDArray[np.int64], *, steps: int, seed: int
) -> Classifier:
    """`net`, in evaluation mode; the same seed draws the same batches and shifts."""
    rng = np.random.default_rng(seed)
    waiting: list[int] = []

    def loss() -> Tensor:
        while len(waiting) < BATCH:
            waiting.extend(rng.permutation(len(digits)).tolist())
        chosen = [waiting.pop(0) for _ in range(BATCH)]
        batch = np.stack([moved(grids[i], *rng.integers(-SHIFT, SHIFT + 1, 2)) for i in chosen])
        with Rates(net) as rates:
            entropy = functional.cross_entropy(net(torch.from_numpy(batch)), torch.from_numpy(digits[chosen]))
        return entropy + PUSH * rates.below(FLOOR) if rates.layers() else entropy

    fit(net, loss, steps=steps, peak=RATE, weight_decay=DECAY, progress=lambda *_: None, clip=5.0)
    return net


@torch.no_grad()
def answers(net: Classifier, grids: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """The digit of each recording, and the share of neurons that fire, mean over their layers (NaN without neurons)."""
    with Rates(net) as rates:
        given = net(torch.from_numpy(grids)).argmax(1).numpy()
    layers = rates.layers()
    return given, statistics.mean(layers.values()) if layers else float("nan")


def nearest(learnt: NDArray[np.float32], digits: NDArray[np.int64], asked: NDArray[np.float32]) -> NDArray[np.int64]:
    """The digit that most of the nearest recordings have, the nearer counting more; N x 2 x H x W, by Euclidean
    distance, at the shift of each learnt recording that is nearest."""
    shifts = range(-SHIFT, SHIFT + 1)
    known = np.concatenate([moved(learnt, right, down) for right in shifts for down in shifts])
    known, asked = known.reshape(len(known), -1), asked.reshape(len(asked), -1)
    square = (asked**2).sum(1)[:, None] - 2 * asked @ known.T + (known**2).sum(1)
    shifted = square.reshape(len(asked), -1, len(learnt)).min(1)
    order = np.argsort(shifted, axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = np.zeros((len(asked), len(CLASSES)))
    weights = 1 / np.sqrt(np.maximum(np.take_along_axis(shifted, order, 1), 1e-9))
    np.add.at(votes, (np.arange(len(asked))[:, None], digits[order]), weights)
    return votes.argmax(1)


@dataclass
class Reached:
    """One line of the table."""

    accuracy: list[float] = field(default_factory=list)  # by fold
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, right: NDArray[np.bool_], seconds: float, rate: float) -> None:
        self.accuracy.append(float(right.mean()))
        self.seconds.append(seconds)
        self.rates.append(rate)

    def line(self, name: str) -> str:
        fresh = statistics.mean(self.accuracy[1:])
        rate = "-" if np.isnan(self.rates[0]) else f"{statistics.mean(self.rates):.1%}"
        seconds = f"{statistics.mean(self.seconds):.1f}"
        by_fold = ", ".join(f"{100 * each:.1f}" for each in self.accuracy)
        return f"| {name} | {statistics.mean(self.accuracy):.1%} | {fresh:.1%} | {by_fold} | {rate} | {seconds} |"


def measured(held: Sequence[tuple[Slice, int]], folds: int, seed: int, steps: int) -> dict[str, Reached]:
    """By name: what each way of telling digits reaches on each fold, after learning from the others."""
    digits = np.array([digit for _, digit in held])
    fold = folds_of(digits, folds)
    counts = np.stack([counts_of(recording) for recording, _ in held])
    grids = {slices: np.stack([grids_of(recording, slices) for recording, _ in held]) for slices in (SLICES, 1)}
    found: dict[str, Reached] = {}
    for number in range(folds):
        learnt, asked = fold != number, fold == number
        for name, (make, slices) in NETWORKS.items():
            begin = time.process_time()
            torch.manual_seed(seed)
            net = trained(make(len(CLASSES)), grids[slices][learnt], digits[learnt], steps=steps, seed=seed)
            seconds = time.process_time() - begin
            given, rate = answers(net, grids[slices][asked])
            found.setdefault(name, Reached()).add(given == digits[asked], seconds, rate)
        begin = time.process_time()
        given = nearest(counts[learnt], digits[learnt], counts[asked])
        seconds = time.process_time() - begin
        found.setdefault("nearest neighbours, counts", Reached()).add(given == digits[asked], seconds, float("nan"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="holds 1.bs2, 2.bs2, ... and a list of digits")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and shifts; folds are always the same")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    options = parser.parse_args()
    if options.folds < 2:
        parser.error(f"--folds is {options.folds}; give 2 or more: one is tested, the others are learnt from")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    found = measured(recordings(options.folder), options.folds, options.seed, options.steps)
    print("| | accuracy, mean | fresh folds | by fold, % | neurons that fire | s a training |")
    print("|---|---|---|---|---|---|")
    for name, reached in found.items():
        print(reached.line(name))


if __name__ == "__main__":
    main()
