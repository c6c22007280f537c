"""How good a compressed network is: by labels, or by how like the whole one it is (extra compress)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foveate_compression.work import Samples, Work


@dataclass(frozen=True, slots=True)
class Score:
    """`name` says of what; `value` is better when greater."""

    name: str
    value: float

    def __str__(self) -> str:
        return f"{self.name} {self.value:.1%}"


def score(work: Work, samples: Samples, labels: Tensor | None, *, whole: bool = False) -> Score:
    """Top-1 accuracy of classifiers with labels; without, the share of equal classes where the first output is classes
    (N x C) or a map of them (N x C x H x W); of anything else 1 less the relative error."""
    found = next(iter(work.outputs(samples, whole=whole).values()))
    if labels is not None and found.ndim == 2:
        return Score("accuracy", float((found.argmax(1) == labels).float().mean()))
    reference = next(iter(work.outputs(samples, whole=True).values()))
    return agreement(found, reference)


def agreement(found: Tensor, reference: Tensor) -> Score:
    """How like two outputs are."""
    if found.ndim in (2, 4) and found.shape[1] > 1:
        return Score("same class", float((found.argmax(1) == reference.argmax(1)).float().mean()))
    error = (found - reference).square().mean().sqrt() / reference.square().mean().sqrt().clamp(min=1e-12)
    return Score("likeness", max(0.0, 1.0 - float(error)))


@torch.no_grad()
def weight_errors(work: Work) -> dict[str, float]:
    """By layer: the squared error of its weight, relative to its square; 0 where it is whole."""
    errors = {}
    for layer in work.network.layers:
        whole = work.network.weight(layer)
        size = float(whole.square().sum().clamp(min=1e-20))
        errors[layer.name] = float((work.weight(layer) - whole).square().sum()) / size
    return errors
