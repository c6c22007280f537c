"""As many bits for each layer as its sensitivity asks for, within a size: HAWQ's idea (arXiv 1911.03852) with measured
losses in the place of curvatures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from foveate.errors import ModelError
from foveate_compression import observers, spec
from foveate_compression.losses import distilled
from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer
from foveate_compression.placement import chosen
from foveate_compression.weights import Integers
from foveate_compression.work import Work

Bits = Annotated[int, Ge(2), Le(8)]


@dataclass(frozen=True, slots=True)
class Mixed:
    """`average` bits of all weights at most; each layer has one of `choices`. Sensitivity: how far the outputs are from
    the whole network's when that layer alone is rounded, on `samples` of the calibration samples."""

    average: Annotated[float, Gt(1), Le(8)] = 4.0
    choices: tuple[Bits, ...] = (3, 4, 7)
    samples: Annotated[int, Ge(1)] = 64
    skip: tuple[str, ...] = field(default=())

    @torch.no_grad()
    def apply(self, work: Work, progress: Progress) -> None:
        """Integers of the chosen bits."""
        skipped = {layer.name for layer in chosen(work, self.skip)}
        free = [layer for layer in work.network.layers if layer.weight not in work.forms]
        layers = [layer for layer in free if layer.name not in skipped]
        bits = sorted(self.choices)
        if bits[0] > self.average:
            text = f"an average of {self.average:g} is below the fewest of its choices, {bits[0]}"
            raise ModelError(work.network.who, "choose bits", text)
        losses = [self._losses(work, layer, bits, i, len(layers), progress) for i, layer in enumerate(layers)]
        sizes = [work.weight(layer).numel() for layer in layers]
        for layer, found in zip(layers, allotted(losses, sizes, bits, self.average), strict=True):
            work.forms[layer.weight] = _rounded(work, layer, found)

    def _losses(
        self, work: Work, layer: Layer, bits: list[int], i: int, count: int, progress: Progress
    ) -> list[float]:  # fmt: skip
        samples = {name: value[: self.samples] for name, value in work.samples.items()}
        whole = work.outputs(samples)
        found = []
        for each in bits:
            work.forms[layer.weight] = _rounded(work, layer, each)
            now = work.outputs(samples)
            found.append(sum(float(distilled(now[name], whole[name])) for name in whole))
            del work.forms[layer.weight]
        progress("sensitivity", i + 1, count)
        return found


def _rounded(work: Work, layer: Layer, bits: int) -> Integers:
    levels = spec.weights(bits)
    low, high = observers.of_channels(work.rows(layer), levels, "error")
    return Integers(layer, work.weight(layer).detach(), levels, low, high)


def allotted(losses: list[list[float]], sizes: list[int], bits: list[int], average: float) -> list[int]:
    """By layer the bits with the least sum of losses among what fits: from the fewest, each time the step up that gains
    most for its size, as long as one fits (on the lower convex hull of each layer's losses)."""
    at = [0] * len(sizes)
    left = average * sum(sizes) - bits[0] * sum(sizes)
    while True:
        best, step = 0.0, None
        for i, size in enumerate(sizes):
            for up in range(at[i] + 1, len(bits)):
                cost = (bits[up] - bits[at[i]]) * size
                gain = (losses[i][at[i]] - losses[i][up]) / cost
                if cost <= left and gain > best:
                    best, step = gain, (i, up, cost)
        if step is None:
            return [bits[each] for each in at]
        at[step[0]] = step[1]
        left -= step[2]
