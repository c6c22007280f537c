"""Outlier Suppression+: what is far out behind a norm is shifted and scaled into the products (arXiv 2304.09145)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from foveate_compression import observers, spec
from foveate_compression.methods.method import Progress
from foveate_compression.network import rows, unrows
from foveate_compression.passes import Attention, Norm, attentions, changed_basis, norms
from foveate_compression.quantizers import scale_and_zero, uniform
from foveate_compression.work import Work, batches


@dataclass(frozen=True, slots=True)
class OutlierSuppression:
    """Channels are centred, and those beyond one threshold scaled to it; the threshold is the one of `steps` whose
    consumer loses least with `weights` and `activations` of so many bits."""

    weights: Annotated[int, Ge(2), Le(8)] = 4
    activations: Annotated[int, Ge(2), Le(8)] = 4
    steps: Annotated[int, Ge(2), Le(1000)] = 40

    @torch.no_grad()
    def apply(self, work: Work, progress: Progress) -> None:
        """The function stays as it is."""
        found = norms(work)
        seen = attentions(work, next(iter(batches(work.samples, 1))))
        for i, norm in enumerate(found):
            x = torch.cat([batch[norm.output] for batch in work.seen([norm.output])])
            flat = x.reshape(-1, x.shape[-1])
            middle = (flat.amax(0) + flat.amin(0)) / 2
            changed_basis(work, norm, torch.ones_like(middle), middle)
            centred = x - middle
            most = centred.reshape(-1, x.shape[-1]).abs().amax(0)
            threshold = self._threshold(work, norm, centred, most, _consumer(norm, seen, work))
            changed_basis(work, norm, (most / threshold).clamp(min=1.0), torch.zeros_like(middle))
            progress("norms", i + 1, len(found))

    def _threshold(self, work: Work, norm: Norm, x: Tensor, most: Tensor, wanted: list[str]) -> float:
        """The one with the least error of what the consumers give; the median channel is never scaled."""
        whole = work.run({norm.output: x}, wanted)
        top, least = float(most.max()), float(most.median().clamp(min=1e-6))
        best, chosen = float("inf"), top
        for i in range(self.steps):
            threshold = top * (least / top) ** (i / (self.steps - 1))
            factor = (most / threshold).clamp(min=1.0)
            found = self._rounded(work, norm, x / factor, factor, wanted)
            error = sum(float((found[name] - whole[name]).square().sum()) for name in wanted)
            if error < best:
                best, chosen = error, threshold
        return chosen

    def _rounded(self, work: Work, norm: Norm, x: Tensor, factor: Tensor, wanted: list[str]) -> dict[str, Tensor]:
        """What the consumers give of rounded inputs and weights."""
        level = spec.activations(self.activations)
        x = uniform(x, *scale_and_zero(x.min(), x.max(), level), level)
        constants = dict(work.constants)
        for layer in norm.readers:
            weight = rows(work.constant(layer.weight), layer) * factor
            levels = spec.weights(self.weights)
            scale, zero = scale_and_zero(*observers.of_channels(weight, levels), levels)
            constants[layer.weight] = unrows(uniform(weight, scale[:, None], zero[:, None], levels), layer)
        return work.network.run({norm.output: x}, wanted, constants=constants)


def _consumer(norm: Norm, seen: list[Attention], work: Work) -> list[str]:
    """What an attention gives where the norm's readers make one, else what they give themselves."""
    for attention in seen:
        if attention.query in norm.readers and attention.key in norm.readers:
            reader = work.network.graph.readers()[attention.weights][0]
            return [reader.outputs[0]]
    return [layer.output for layer in norm.readers]
