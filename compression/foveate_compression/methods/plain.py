"""Post-training integers: nearest levels for weights, ranges that were seen for activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from foveate_compression import observers, spec
from foveate_compression.methods.method import Progress
from foveate_compression.placement import attention_tensors, calibrate, chosen, quantized_tensors
from foveate_compression.weights import Integers
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Plain:
    """`weights` and `activations` in bits; 0 leaves activations in floating point.

    `ends`: bits of the first and the last layer, which suffer most; `keep`: layers that stay in floating point;
    `attention`: products of two tensors in integers too. Weights of at most 7 bits do not overflow on x86 without VNNI.
    What earlier steps have quantized stays.
    """

    weights: Annotated[int, Ge(2), Le(8)] = 7
    activations: Annotated[int, Ge(0), Le(8)] = 8
    ends: Annotated[int, Ge(2), Le(8)] = 7
    weight_range: observers.Method = "error"
    activation_range: observers.Method | None = None  # None: minmax with eight bits, error with fewer
    keep: tuple[str, ...] = ()
    attention: bool = False

    def apply(self, work: Work, progress: Progress) -> None:
        """Levels for every layer that has none."""
        kept = {layer.name for layer in chosen(work, self.keep)}
        layers = [layer for layer in work.network.layers if layer.name not in kept]
        ends = {work.network.layers[0].name, work.network.layers[-1].name}
        for i, layer in enumerate(layers):
            if layer.weight not in work.forms:
                bits = max(self.weights, self.ends) if layer.name in ends else self.weights
                levels = spec.weights(bits)
                weight = work.weight(layer).detach()
                low, high = observers.of_channels(work.rows(layer), levels, self.weight_range)
                work.forms[layer.weight] = Integers(layer, weight, levels, low, high)
            progress("weights", i + 1, len(layers))
        if self.activations:
            own, same = quantized_tensors(work, layers)
            range_ = self.activation_range or ("minmax" if self.activations == 8 else "error")
            outer = [layer.input for layer in layers if layer.name in ends]
            finer = spec.activations(max(self.activations, min(self.ends + 1, 8)))
            calibrate(work, [name for name in own if name in outer], finer, self.activation_range or "minmax")
            levels = spec.activations(self.activations)
            calibrate(work, own, levels, range_)
            work.levels |= {name: work.levels[other] for name, other in same.items() if name not in work.levels}
            if self.attention:
                calibrate(work, attention_tensors(work), levels, range_)
