"""PTQ4SAM: keys of two peaks become one, and each softmax gets the powers that suit it (CVPR 2024; any attention)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from foveate_compression.methods.method import Progress
from foveate_compression.passes import Attention, attentions, flipped
from foveate_compression.quantizers import Powers
from foveate_compression.work import Work, batches

_POINTS, _DISTANCE, _HEIGHT = 128, 32, 0.01  # of the density that peaks are looked for in
_TAUS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Ptq4Sam:
    """`bits` of what softmaxes give; 0 leaves those, and only keys are made easier."""

    bits: Annotated[int, Ge(0), Le(8)] = 4
    integrate: bool = True

    @torch.no_grad()
    def apply(self, work: Work, progress: Progress) -> None:
        """Signs of keys and queries change together; levels for softmaxes."""
        found = attentions(work, next(iter(batches(work.samples, 1))))
        for i, attention in enumerate(found):
            names = [attention.keys, attention.weights, attention.values]
            seen = list(work.seen(names))
            if self.integrate:
                _integrate(work, attention, torch.cat([batch[attention.keys] for batch in seen]))
            if self.bits:
                pairs = [(batch[attention.weights], batch[attention.values]) for batch in seen[:4]]
                work.levels[attention.weights] = best_powers(pairs, self.bits)
            progress("attentions", i + 1, len(found))


def _integrate(work: Work, attention: Attention, keys: Tensor) -> None:
    """Channels of keys (B x heads x depth x rows) whose mean is negative change their sign, if there are two peaks."""
    if peaks(keys.reshape(-1).numpy()) == 2:
        means = keys.mean((0, -1)).reshape(attention.key_channels.shape)
        flipped(work, attention, torch.where(means < 0, -1.0, 1.0))


def peaks(values: np.ndarray) -> int:
    """How many peaks the density of values has: Gaussians of Scott's width on 128 points, peaks 32 of them apart."""
    some = values[:: max(1, len(values) // 5000)].astype(np.float64)
    width = float(some.std()) * len(some) ** -0.2
    if width == 0:
        return 1
    points = np.linspace(some.min(), some.max(), _POINTS)
    density = np.exp(-0.5 * ((points[:, None] - some) / width) ** 2).sum(1)
    around = np.concatenate([[0.0], density, [0.0]])
    tops = [i for i in range(_POINTS) if around[i] < density[i] >= around[i + 2]]
    kept: list[int] = []
    for i in sorted(tops, key=lambda i: -density[i]):
        if density[i] >= _HEIGHT * density.sum() and all(abs(i - other) >= _DISTANCE for other in kept):
            kept.append(i)
    return len(kept)


def best_powers(pairs: list[tuple[Tensor, Tensor]], bits: int) -> Powers:
    """Of (softmax, values) the levels with the least error of their product: tau of 1, 2, 4, and a scale up to the
    greatest value."""
    most = max(float(weights.max()) for weights, _ in pairs)
    best, chosen = float("inf"), Powers(bits, _TAUS[0], most)
    for tau in _TAUS:
        for share in np.linspace(0.5, 1.0, 11):
            level = Powers(bits, tau, most * float(share))
            error = sum(float(((level(weights) - weights) @ values).square().sum()) for weights, values in pairs)
            if error < best:
                best, chosen = error, level
    return chosen
