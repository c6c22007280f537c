"""Training of SLTNet on labelled events, so that its blocks stay alive (extra train)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveate.errors import ModelError
from foveate_nodes.models.fitting import Progress, checkpoint_at, fit
from foveate_nodes.segmentation import liveness
from foveate_nodes.segmentation import recipe as recipes
from foveate_nodes.segmentation.clips import Clip, Clips, Slicing
from foveate_nodes.segmentation.energy import Energy, Meter, Rates
from foveate_nodes.segmentation.labelled import UNLABELLED
from foveate_nodes.segmentation.neuron import Integrator, Leaky, fast_sigmoid, many_steps, reset, tanh_window
from foveate_nodes.segmentation.recipe import Net, Recipe
from foveate_nodes.segmentation.scores import Confusion
from foveate_nodes.segmentation.sltnet import Layout, SltNet
from foveate_nodes.segmentation.sources import Tell, recordings

_SURE = 0.7  # a pixel this sure of its class is learnt from only if there are few others (OHEM)
_LEAST_SHARE = 1 / 16  # of the pixels, that are always learnt from


class Rectified(nn.ReLU):
    """In the place of a neuron: the network of the same size without spikes."""


def made(net: Net, bins: int, classes: int) -> SltNet:
    """A fresh network."""
    surrogate = {"fast_sigmoid": fast_sigmoid, "tanh_window": tanh_window}.get(net.neuron)
    neuron: Callable[[], Any] = Rectified if surrogate is None else lambda: Leaky(spike_grad=surrogate(net.slope))
    readout = Integrator if net.readout == "membranes" and surrogate is not None else None
    fresh = SltNet(Layout(bins=bins, classes=classes, width=net.width, neuron=neuron, readout=readout))
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, net.gain)
    return fresh


def of_checkpoint(path: Path) -> SltNet:
    """The network of a training that `train` kept. Raises ModelError."""
    state = checkpoint_at(path)
    try:
        recipe = recipes.of_values(json.loads(state["said"]), str(path))
        net = made(recipe.net, recipe.slices.bins, len(state["net"]["classifier.weight"]))
        net.load_state_dict(state["net"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        text = f"no checkpoint of 'foveate train sltnet' ({type(error).__name__})"
        raise ModelError(str(path), "read", text) from None
    return net.eval()


def train(
    recipe: Recipe, folder: Path, data: Path, *, progress: Progress, tell: Tell,
    network: Callable[[Net, int, int], nn.Module] = made,
) -> tuple[nn.Module, dict[str, Any], Clips]:  # fmt: skip
    """The network, what it reached, and the clips that it was measured on; `folder` keeps the checkpoint and the log.

    The same recipe gives the same weights on the same computer, interrupted or not. `network`: makes another one of a
    recipe's sizes, to compare with. Raises ModelError, RecordingError, NotFound.
    """
    learnt, measured = clips_of(recipe, data, tell)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.learning.seed)
    net = network(recipe.net, recipe.slices.bins, len(learnt.classes))
    loss = _Loss(net, learnt, recipe)
    decays = (lambda name: True) if recipe.learning.decay_all else _is_convolution(net)
    log = folder / "log.jsonl"

    def logged(step: int, steps: int, value: float) -> None:
        if step % 20 == 0 or step == steps:
            dead = len(liveness.dead(net)) if isinstance(net, SltNet) and loss.spikes else 0
            line = {"step": step, "loss": value, "entropy": loss.entropy, "firing_rate": loss.rate, "dead_blocks": dead}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        progress(step, steps, value)

    learning = recipe.learning
    fit(net, loss, steps=learning.steps, peak=learning.rate, weight_decay=learning.weight_decay, progress=logged,
        clip=5.0, decays=decays, coupled=learning.decay_all, checkpoint=folder / "checkpoint.pt",
        said=recipe.said())  # fmt: skip
    reached = measure(net, measured, carried=recipe.slices.carried)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(reached) + "\n")
    return net, reached, measured


def _is_convolution(net: nn.Module) -> Callable[[str], bool]:
    """Of a parameter: whether it is a convolution's weight; norms and biases do not decay."""
    decaying = {
        f"{name}.weight" for name, m in net.named_modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d))
    }
    return lambda name: name in decaying


class _Loss:
    """The loss of the batch of a step, which the step's number and the seed alone choose."""

    def __init__(self, net: nn.Module, clips: Clips, recipe: Recipe) -> None:
        self._net, self._clips, self._recipe = net, clips, recipe
        self._weights = torch.from_numpy(class_weights(clips))
        self.entropy = self.rate = 0.0
        self.spikes = recipe.net.neuron != "relu"

    def __call__(self, step: int) -> Tensor:
        learning = self._recipe.learning
        grids, labels = self._batch(np.random.default_rng([learning.seed, step]))
        reset(self._net)
        steps = grids.shape[1]
        slices, truth = grids.transpose(0, 1).flatten(0, 1), labels.transpose(0, 1).flatten(0, 1)
        with Rates(self._net) as rates, many_steps(self._net, steps if self._recipe.slices.carried else 1):
            logits, early = self._net(slices)
        total = self._hard(logits, truth) + learning.early * self._plain(early, truth)
        self.entropy = float(total.detach())
        if self.spikes:
            self.rate = float(np.mean(list(rates.layers().values())))
            total = total + learning.push * rates.below(max(learning.floor, 1e-6))
        reset(self._net)
        return total

    def _batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        chosen = rng.choice(
            len(self._clips), self._recipe.learning.batch, replace=len(self._clips) < self._recipe.learning.batch
        )
        clips = [mirrored(self._clips[int(i)]) if rng.random() < 0.5 else self._clips[int(i)] for i in chosen]
        grids = torch.from_numpy(np.stack([clip.grids for clip in clips]))
        return grids, torch.from_numpy(np.stack([clip.labels for clip in clips])).long()

    def _plain(self, logits: Tensor, labels: Tensor) -> Tensor:
        if not bool((labels != UNLABELLED).any()):
            return 0.0 * logits.sum()
        return functional.cross_entropy(logits, labels, self._weights, ignore_index=UNLABELLED)

    def _hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the pixels that are not sure yet (Shrivastava et al. 2016)."""
        with torch.no_grad():
            said = labels != UNLABELLED
            chance = logits.softmax(1).gather(1, labels.masked_fill(~said, 0)[:, None])[:, 0]
            least = max(int(_LEAST_SHARE * labels.numel()), 1)
            known = chance[said]
            limit = max(_SURE, float(known.kthvalue(min(least, len(known))).values)) if len(known) else _SURE
            kept = said & (chance < limit)
        return self._plain(logits, labels.masked_fill(~kept, UNLABELLED))


def mirrored(clip: Clip) -> Clip:
    """Left and right changed."""
    return Clip(np.ascontiguousarray(clip.grids[..., ::-1]), np.ascontiguousarray(clip.labels[..., ::-1]))


def class_weights(clips: Clips, looks: int = 100) -> NDArray[np.float32]:
    """What a pixel of each class counts: 1 / ln(1.02 + its share), mean 1 (arXiv 1606.02147); of some of the clips."""
    counts = np.zeros(len(clips.classes))
    for i in np.linspace(0, len(clips) - 1, min(looks, len(clips))).astype(int):
        label = clips[int(i)].labels
        counts += np.bincount(label[label != UNLABELLED], minlength=len(counts))[: len(counts)]
    weights = 1 / np.log(1.02 + counts / max(counts.sum(), 1))
    return (weights / weights.mean()).astype(np.float32)


@torch.no_grad()
def measure(net: nn.Module, clips: Clips, *, carried: bool, metered: int = 8) -> dict[str, Any]:
    """IoU over all clips, slice by slice as a stream; energy and firing rates of the first `metered`."""
    net.eval()
    every, last = Confusion(len(clips.classes)), Confusion(len(clips.classes))
    for i in range(len(clips)):
        clip = clips[i]
        reset(net)
        for t, grid in enumerate(torch.from_numpy(clip.grids)):
            if not carried:
                reset(net)
            given = net(grid[None])[0][0].argmax(0).numpy().astype(np.uint8)
            every.add(clip.labels[t], given)
            if t == len(clip.grids) - 1:
                last.add(clip.labels[t], given)
    reset(net)
    energy = metered_energy(net, [clips[i] for i in range(min(metered, len(clips)))], carried=carried)
    named = {name: round(float(value), 5) for name, value in zip(clips.classes, every.iou, strict=True)}
    return {
        "miou": every.miou, "miou_last_slice": last.miou, "accuracy": every.accuracy, "iou": named,
        "firing_rate": energy.firing_rate, "literature_mj": energy.literature_mj, "honest_mj": energy.honest_mj,
        "dense_mj": energy.dense_mj, "clips": len(clips),
        "dead_blocks": liveness.dead(net) if isinstance(net, SltNet) and energy.rates else [],
    }  # fmt: skip


@torch.no_grad()
def metered_energy(net: nn.Module, clips: Sequence[Clip], *, carried: bool) -> Energy:
    """Energy and firing rates of some clips."""
    with Rates(net) as rates, Meter() as meter:
        for clip in clips:
            reset(net)
            for grid in torch.from_numpy(clip.grids):
                if not carried:
                    reset(net)
                slice_ = grid[None].contiguous()
                meter.begin(slice_)
                net(slice_)
    reset(net)
    meter.energy.rates = rates.layers()
    return meter.energy


def clips_of(recipe: Recipe, data: Path, tell: Tell) -> tuple[Clips, Clips]:
    """What is learnt from and what is measured on; rendered ones are kept in `data`."""
    learnt, measured = recordings(recipe, data, tell)
    cut = recipe.slices
    slicing = Slicing(cut.steps, cut.bins, cut.duration_ns, cut.count)
    return Clips(learnt, slicing, recipe.net.size), Clips(measured, slicing, recipe.net.size)
