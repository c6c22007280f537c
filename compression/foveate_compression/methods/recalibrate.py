"""Each output channel has the mean and deviation again that it has in the whole network: what running batch norms anew
does, where they are folded already (bias correction and its scale: Nagel et al., arXiv 1906.04721, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer
from foveate_compression.weights import Coded, Integers
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Recalibrate:
    """After codebooks, before levels for activations. `most`: how far a channel's scale is changed at most."""

    most: Annotated[float, Gt(1)] = 4.0

    @torch.no_grad()
    def apply(self, work: Work, progress: Progress) -> None:
        """Layer by layer, in their order, for each is fed by those before it."""
        layers = [layer for layer in work.network.layers if isinstance(work.forms.get(layer.weight), (Coded, Integers))]
        layers = [layer for layer in layers if layer.bias is not None]
        names = [layer.output for layer in layers]
        whole = _moments(list(work.seen(names, whole=True)), layers) if layers else {}
        for i, layer in enumerate(layers):
            now = _moments(list(work.seen([layer.output])), [layer])[layer.output]
            self._matched(work, layer, whole[layer.output], now)
            progress("channels", i + 1, len(layers))

    def _matched(self, work: Work, layer: Layer, whole: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> None:
        form = work.forms[layer.weight]
        assert isinstance(form, (Coded, Integers)) and layer.bias is not None
        factor = (whole[1] / now[1].clamp(min=1e-12)).clamp(1 / self.most, self.most)
        factor = torch.where(now[1] > 1e-8, factor, torch.ones_like(factor))
        form.scale *= factor
        bias = work.constant(layer.bias).detach()
        new = whole[0] - factor * (now[0] - bias.reshape(-1))
        work.constants[layer.bias] = new.reshape(bias.shape)


def _moments(batches: list[dict[str, Tensor]], layers: list[Layer]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and deviation of every output channel: the second axis of an image, the last of a product."""
    found = {}
    for layer in layers:
        values = torch.cat([batch[layer.output] for batch in batches])
        axis = 1 if layer.kind in ("Conv", "ConvTranspose") else values.ndim - 1
        rows = values.movedim(axis, 0).reshape(values.shape[axis], -1)
        found[layer.output] = (rows.mean(1), rows.std(1))
    return found
