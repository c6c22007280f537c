"""A compression under way: a network, what its weights and tensors have become, and what it has changed (extra
compress). Every method takes one and changes it; the export writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate_compression.network import Block, Layer, Network, rows
from foveate_compression.quantizers import Dynamic, Uniform, rounded
from foveate_compression.weights import Coded, Form, Integers

Samples = dict[str, Tensor]  # by input: N x ...


@dataclass(frozen=True, slots=True)
class Gain:
    """A block's mean squared error on the calibration samples, relative to its outputs' mean square."""

    block: str
    before: float
    after: float


class Work:
    """`forms` by the name of a weight, `levels` by the name of a tensor, `constants` that are no longer the file's."""

    def __init__(self, network: Network, samples: Samples) -> None:
        """`samples`: what it is calibrated with."""
        self.network, self.samples = network, samples
        self.constants: dict[str, Tensor] = {}
        self.forms: dict[str, Form] = {}
        self.levels: dict[str, nn.Module] = {}
        self.gains: list[Gain] = []  # of blocks that were learnt

    def constant(self, name: str) -> Tensor:
        """A constant as it is now."""
        return self.constants[name] if name in self.constants else self.network.graph.constants[name]

    def weight(self, layer: Layer) -> Tensor:
        """A layer's weight as it is now, with its gradient where a form has one."""
        return self.forms[layer.weight]() if layer.weight in self.forms else self.constant(layer.weight)

    def rows(self, layer: Layer) -> Tensor:
        """The same, output channels first."""
        return rows(self.weight(layer), layer)

    def in_integers(self, layer: Layer) -> bool:
        """Whether an integer kernel runs a layer: its weight and what it reads have levels, and what a convolution
        gives has some, too. No kernel is there for transposed convolutions."""
        form, level = self.forms.get(layer.weight), self.levels.get(layer.input)
        if not isinstance(form, (Integers, Coded)) or not isinstance(level, (Uniform, Dynamic)):
            return False
        if layer.kind != "Conv":
            return layer.kind != "ConvTranspose"
        readers = self.network.graph.readers().get(layer.output, [])
        behind = readers[0].outputs[0] if len(readers) == 1 else layer.output
        return layer.output in self.levels or behind in self.levels

    def unit(self, layer: Layer) -> Tensor | None:
        """Of a layer's products where it runs in integers, by output channel: its bias is a whole number of these."""
        form, level = self.forms.get(layer.weight), self.levels.get(layer.input)
        if layer.kind == "MatMul" or not isinstance(level, Uniform) or not self.in_integers(layer):
            return None
        assert isinstance(form, (Integers, Coded))
        return level.scale * form.scale

    def bias(self, layer: Layer) -> Tensor | None:
        """A layer's bias as kernels add it; None where it has none."""
        if layer.bias is None:
            return None
        bias, unit = self.constant(layer.bias), self.unit(layer)
        return bias if unit is None else rounded(bias / unit) * unit

    def run(
        self, given: Mapping[str, Tensor], wanted: Sequence[str] | None = None, *, block: Block | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The network as it is now; of `block` alone where that is given, whose inputs are `given`."""
        layers = self.network.layers if block is None else block.layers
        forms = {layer.weight: self.forms[layer.weight]() for layer in layers if layer.weight in self.forms}
        forms |= {layer.bias: bias for layer in layers if layer.bias and (bias := self.bias(layer)) is not None}
        altered = {name: level for name, level in self.levels.items() if block is None or name not in block.inputs}
        return self.network.run(given, wanted, constants={**self.constants, **forms}, altered=altered)

    @torch.no_grad()
    def seen(self, names: Sequence[str], *, whole: bool = False, batch: int = 32) -> Iterator[dict[str, Tensor]]:
        """Tensors of the calibration samples, batch by batch; `whole`: of the network as the file has it."""
        for part in batches(self.samples, batch):
            yield self.network.run(part, names) if whole else self.run(part, names)

    @torch.no_grad()
    def outputs(self, samples: Samples, *, whole: bool = False, batch: int = 64) -> dict[str, Tensor]:
        """What comes out, for all samples."""
        for form in (*self.forms.values(), *self.levels.values()):
            form.eval()
        found = [self.network.run(part) if whole else self.run(part) for part in batches(samples, batch)]
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    def bits(self) -> float:
        """Of all weights that layers have, as they would be packed."""
        whole = sum(
            32.0 * self.network.weight(layer).numel() for layer in self.network.layers if layer.weight not in self.forms
        )
        return whole + sum(form.bits() for form in self.forms.values())


def batches(samples: Samples, size: int) -> Iterator[Samples]:
    """Parts of `size` samples."""
    count = len(next(iter(samples.values())))
    for begin in range(0, count, size):
        yield {name: value[begin : begin + size] for name, value in samples.items()}
