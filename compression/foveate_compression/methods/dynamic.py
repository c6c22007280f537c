"""Products whose inputs' range is found anew at every run: dynamic int8, with which transformers run fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from foveate.errors import ModelError
from foveate_compression import observers, spec
from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer
from foveate_compression.placement import chosen
from foveate_compression.quantizers import Dynamic as Levels
from foveate_compression.weights import Integers
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Dynamic:
    """`weights` in bits, inputs in eight; layers in `skip`, and convolutions, are left to later steps.

    Needs no calibration, and outliers of one sample do not coarsen another's levels. Codebooks of earlier steps stay.
    """

    weights: Annotated[int, Ge(2), Le(8)] = 7
    weight_range: observers.Method = "error"
    skip: tuple[str, ...] = field(default=())

    def apply(self, work: Work, progress: Progress) -> None:
        """Every product with a constant weight, unless something else reads its input. Raises ModelError."""
        skipped = {layer.name for layer in chosen(work, self.skip)}
        products = [
            layer for layer in work.network.layers if layer.kind in ("MatMul", "Gemm") and layer.name not in skipped
        ]
        layers = [layer for layer in products if self._alone(work, layer, products)]
        if not layers:
            raise ModelError(work.network.who, "find products with inputs of their own", "'plain' is for convolutions")
        levels = spec.weights(self.weights)
        for i, layer in enumerate(layers):
            if layer.weight not in work.forms:
                low, high = observers.of_channels(work.rows(layer), levels, self.weight_range)
                work.forms[layer.weight] = Integers(layer, work.weight(layer).detach(), levels, low, high)
            work.levels[layer.input] = Levels()
            progress("products", i + 1, len(layers))

    def _alone(self, work: Work, layer: Layer, products: list[Layer]) -> bool:
        names = {each.name for each in products}
        return all(step.name in names for step in work.network.graph.readers()[layer.input])
