"""A network to compress: the graph of an ONNX file, its layers and its blocks, run by torch (extra compress)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate_compression import preparation
from foveate_compression.dequantization import dequantized
from foveate_drivers.backends.torch_graph import Step, TorchGraph

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or product with a constant weight."""

    name: str
    kind: str  # Conv, ConvTranspose, Gemm, MatMul
    weight: str  # names of constants
    bias: str | None
    input: str  # names of tensors
    output: str  # behind the bias, where a MatMul has one
    axis: int  # of the weight: its output channels; of a ConvTranspose's, those of a group
    groups: int


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the graph between tensors through which everything passes."""

    name: str
    inputs: tuple[str, ...]
    output: str
    layers: tuple[Layer, ...]


class Network:
    """`graph` is whole and in floating point; `model` is the ONNX it came from, for any batch size where it can be."""

    def __init__(self, model: onnx.ModelProto, who: str) -> None:
        """Raises ModelError that names `who` and the node."""
        self.who = who
        self.model = preparation.prepared(dequantized(model, who), who)
        self.graph = TorchGraph(self.model, who)
        self.batched = all(self.graph.shapes[name][:1] == (None,) for name in self.graph.inputs)
        self.layers = list(_layers(self.graph))
        self.biased: list[str] = []  # layers that were given a bias
        if not self.layers:
            raise ModelError(who, "compress", "it has no convolution and no product with a constant weight")

    @classmethod
    def load(cls, path: Path) -> Network:
        """Raises ModelError."""
        try:
            model = onnx.load(str(path))
        except Exception as error:  # protobuf raises whatever a broken file leads it to
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(str(path), "load", text) from None
        return cls(model, str(path))

    @classmethod
    def of_module(cls, module: nn.Module, sample: Tensor, who: str = "module") -> Network:
        """Any torch module that takes one tensor like `sample` (its first axis is the batch)."""
        return cls(preparation.exported(module, sample), who)

    def layer(self, name: str) -> Layer:
        """Raises ModelError with the names there are."""
        for each in self.layers:
            if name in (each.name, each.weight):
                return each
        raise ModelError(self.who, f"find the layer '{name}'", f"it has {', '.join(each.name for each in self.layers)}")

    def weight(self, layer: Layer) -> Tensor:
        """The constant itself."""
        return self.graph.constants[layer.weight]

    def with_bias(self, layer: Layer) -> Layer:
        """The layer, a product that had none, with a bias of zeros."""
        node = next(node for node in self.model.graph.node if node.name == layer.name)
        name = f"{layer.name}.bias"
        zeros = np.zeros(self.weight(layer).shape[layer.axis], np.float32)
        self.model.graph.initializer.append(numpy_helper.from_array(zeros, name))
        if layer.kind == "Gemm":
            node.input[:] = [*node.input[:2], name]
        else:
            node.output[0] = f"{layer.output}.product"
            at = list(self.model.graph.node).index(node) + 1
            added = onnx.helper.make_node("Add", [node.output[0], name], [layer.output], f"{layer.name}.bias.Add")
            self.model.graph.node.insert(at, added)
        self.graph = TorchGraph(self.model, self.who)
        self.layers = list(_layers(self.graph))
        self.biased.append(layer.name)
        return self.layer(layer.name)

    def run(
        self, given: Mapping[str, Tensor], wanted: Sequence[str] | None = None, **changes: Any
    ) -> dict[str, Tensor]:
        """As `TorchGraph.run`; one sample after the other where the file has a fixed batch of one."""
        if self.batched or len(next(iter(given.values()))) == 1:
            return self.graph.run(given, wanted, **changes)
        count = len(next(iter(given.values())))
        parts = [
            self.graph.run({name: value[i : i + 1] for name, value in given.items()}, wanted, **changes)
            for i in range(count)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def blocks(self, most: int = 8) -> list[Block]:
        """The parts between cuts in the order in which they run; a part of more than `most` layers is one block a
        layer instead, as is what lies before the first cut or behind the last."""
        found: list[Block] = []
        for number, (begin, end, layers) in enumerate(_parts(self)):
            if not layers:
                continue
            if end is not None and len(layers) <= most:
                found.append(Block(f"block {number} ({layers[0].name})", (begin,), end, layers))
            else:
                found += [Block(layer.name, (layer.input,), layer.output, (layer,)) for layer in layers]
        return found


def rows(weight: Tensor, layer: Layer) -> Tensor:
    """Output channels first, all else behind: channels x (inputs of a group, kernel)."""
    return weight.movedim(layer.axis, 0)


def unrows(value: Tensor, layer: Layer) -> Tensor:
    """The inverse of `rows`."""
    return value.movedim(0, layer.axis)


def _layers(graph: TorchGraph) -> Iterator[Layer]:
    readers = graph.readers()
    for step in graph.steps:
        if step.kind not in _WEIGHTED or len(step.inputs) < 2 or step.inputs[1] not in graph.constants:
            continue
        if step.inputs[0] in graph.constants:
            continue
        weight = graph.constants[step.inputs[1]]
        if not weight.is_floating_point() or weight.ndim < 2:
            continue
        bias = step.inputs[2] if len(step.inputs) > 2 and step.inputs[2] else None
        output = step.outputs[0]
        if step.kind == "MatMul":
            bias, output = _added(graph, readers.get(output, []), output, weight.shape[-1])
        yield Layer(step.name, step.kind, step.inputs[1], bias, step.inputs[0], output, _axis(step, weight),
                    step.attributes.get("group", 1))  # fmt: skip


def _axis(step: Step, weight: Tensor) -> int:
    if step.kind == "Conv":
        return 0
    if step.kind == "Gemm":
        return 0 if step.attributes.get("transB") else 1
    return 1 if step.kind == "ConvTranspose" else weight.ndim - 1


def _added(graph: TorchGraph, readers: list[Step], output: str, size: int) -> tuple[str | None, str]:
    """The bias that is added behind a product, and where the sum is."""
    if len(readers) == 1 and readers[0].kind == "Add":
        for name in readers[0].inputs:
            if name != output and name in graph.constants and graph.constants[name].numel() == size:
                return name, readers[0].outputs[0]
    return None, output


def _parts(network: Network) -> Iterator[tuple[str, str | None, tuple[Layer, ...]]]:
    """(tensor at its begin, tensor at its end, layers) of every part between two cuts."""
    graph = network.graph
    of_output = {layer.output: layer for layer in network.layers}
    last: dict[str, int] = {name: len(graph.steps) for name in graph.outputs}
    for i, step in enumerate(graph.steps):
        for name in step.inputs:
            last[name] = max(last.get(name, -1), i)
    live = set(graph.inputs)
    begin = graph.inputs[0] if len(graph.inputs) == 1 else ""
    layers: list[Layer] = []
    for i, step in enumerate(graph.steps):
        live |= {name for name in step.outputs if last.get(name, -1) > i}
        live = {name for name in live if last.get(name, -1) > i and name not in graph.constants}
        layers += [of_output[name] for name in step.outputs if name in of_output]
        if len(live) == 1 and step.outputs[0] in live and begin and _ends(graph, i, layers):
            yield begin, step.outputs[0], tuple(layers)
            begin, layers = step.outputs[0], []
    if layers:
        yield begin, None, tuple(layers)


_BEHIND = ("Relu", "Clip", "Add", "BatchNormalization", "Sigmoid", "Mul", "HardSwish", "LeakyRelu", "PRelu", "Gelu")


def _ends(graph: TorchGraph, i: int, layers: list[Layer]) -> bool:
    """Whether a block ends behind step `i`: it has layers, and no activation follows at once."""
    follows = graph.steps[i + 1].kind if i + 1 < len(graph.steps) else ""
    return bool(layers) and follows not in _BEHIND


def with_constants(model: onnx.ModelProto, changed: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of a model with other values for some of its constants."""
    made = copy.deepcopy(model)
    for item in made.graph.initializer:
        if item.name in changed:
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed[item.name]), item.name))
    return made
