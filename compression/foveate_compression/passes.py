"""Changes of a network that leave its function as it is, and make it easier to quantize (extra compress)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate_compression.network import Layer, rows, unrows
from foveate_compression.work import Work
from foveate_drivers.backends.torch_graph import Step


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm that multiplies and adds by channel, and the products that alone read what it gives."""

    scale: str  # names of constants
    shift: str
    output: str
    readers: tuple[Layer, ...]


def norms(work: Work) -> list[Norm]:
    """Layer norms, whole or as older exporters write them, that only products read."""
    graph = work.network.graph
    readers, makers = graph.readers(), graph.makers()
    of_input: dict[str, list[Layer]] = {}
    for layer in work.network.layers:
        if layer.kind in ("Gemm", "MatMul"):
            of_input.setdefault(layer.input, []).append(layer)
    found = []
    for output, layers in of_input.items():
        affine = _affine(makers.get(output), makers, readers, work)
        if affine is not None and len(readers[output]) == len(layers) and output not in graph.outputs:
            found.append(Norm(*affine, output, tuple(layers)))
    return found


def _affine(
    step: Step | None, makers: dict[str, Step], readers: dict[str, list[Step]], work: Work
) -> tuple[str, str] | None:  # fmt: skip
    """The constants that a norm multiplies by and adds."""
    constants = work.network.graph.constants
    if step is None:
        return None
    if step.kind == "LayerNormalization":
        return (step.inputs[1], step.inputs[2]) if len(step.inputs) > 2 else None
    if step.kind != "Add":
        return None
    shift = next((name for name in step.inputs if name in constants and constants[name].ndim == 1), None)
    before = next((makers.get(name) for name in step.inputs if name not in constants), None)
    if shift is None or before is None or before.kind != "Mul" or len(readers[before.outputs[0]]) > 1:
        return None
    scale = next((name for name in before.inputs if name in constants and constants[name].ndim == 1), None)
    return None if scale is None else (scale, shift)


@torch.no_grad()
def changed_basis(work: Work, norm: Norm, factor: Tensor, offset: Tensor) -> None:
    """The norm gives y / factor - offset instead of y (both by channel), and its readers expect that.

    One step holds them all: a shift (factor 1) and a scale (offset 0) of Outlier Suppression+ (arXiv 2304.09145), and
    the change from channels to one scale of RepQuant (arXiv 2402.05628).
    """
    for layer in norm.readers:
        if layer.bias is None and bool(offset.any()):
            layer = work.network.with_bias(layer)
        weight = rows(work.constant(layer.weight), layer) * factor
        work.constants[layer.weight] = unrows(weight, layer).contiguous()
        if layer.bias is not None:
            bias = work.constant(layer.bias)
            work.constants[layer.bias] = bias + (weight @ offset).reshape(bias.shape)
    work.constants[norm.scale] = work.constant(norm.scale) / factor
    work.constants[norm.shift] = work.constant(norm.shift) / factor - offset


@dataclass(frozen=True, slots=True)
class Attention:
    """A product of queries and keys whose channels are traced back to the products that made them."""

    name: str
    query: Layer
    key: Layer
    query_channels: Tensor  # heads x depth: which output channel of `query`
    key_channels: Tensor
    keys: str  # the tensor that the product reads
    weights: str  # the tensor behind the softmax
    values: str


_MOVING = ("Reshape", "Transpose", "Split", "Slice", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def attentions(work: Work, sample: dict[str, Tensor]) -> list[Attention]:
    """Softmax(Q K) V wherever only moves, and factors, lie between Q, K and the layers that give them."""
    graph = work.network.graph
    makers, readers = graph.makers(), graph.readers()
    found = []
    for softmax in (step for step in graph.steps if step.kind == "Softmax"):
        product = _product(softmax.inputs[0], makers, graph.constants)
        behind = [step for step in readers.get(softmax.outputs[0], []) if step.kind == "MatMul"]
        if product is None or len(behind) != 1:
            continue
        traced = [_traced(work, name, sample) for name in product.inputs]
        if None in traced:
            continue
        (query, query_channels), (key, key_channels) = traced  # type: ignore[misc]
        values = next(name for name in behind[0].inputs if name != softmax.outputs[0])
        channels = _by_head(query_channels, key_channels)
        if channels is not None:
            found.append(Attention(product.name, query, key, *channels, product.inputs[1], softmax.outputs[0], values))
    return found


def _product(name: str, makers: dict[str, Step], constants: dict[str, Tensor]) -> Step | None:
    """The product of two tensors behind which only a factor or a mask comes."""
    step = makers.get(name)
    while step is not None and step.kind in ("Mul", "Div", "Add"):
        data = [each for each in step.inputs if each not in constants]
        step = makers.get(data[0]) if len(data) == 1 else None
    both = step is not None and step.kind == "MatMul" and not set(step.inputs) & constants.keys()
    return step if both else None


def _traced(work: Work, name: str, sample: dict[str, Tensor]) -> tuple[Layer, Tensor] | None:
    """The layer whose output a tensor is made of by moves alone, and the channel that each of its values is."""
    graph, of_output = work.network.graph, {layer.output: layer for layer in work.network.layers}
    makers = graph.makers()
    at, altered = name, {}
    while at not in of_output:
        step = makers.get(at)
        if step is None:
            return None
        data = [each for each in step.inputs if each and each not in graph.constants]
        if len(data) != 1 or step.kind not in (*_MOVING, "Mul", "Div"):
            return None
        if step.kind in ("Mul", "Div"):
            altered[at] = data[0]
        at = data[0]
    layer = of_output[at]
    values = graph.run(sample, [layer.output])[layer.output]
    channels = torch.arange(values.shape[-1], dtype=values.dtype).expand(values.shape)
    undo = {made: lambda value, given=given: value for made, given in altered.items()}
    found = _moved(work, layer.output, name, channels, undo)
    return layer, found


def _moved(work: Work, start: str, end: str, channels: Tensor, skipped: Mapping[str, object]) -> Tensor:
    """`channels` through the moves from `start` to `end`; factors are passed over."""
    graph = work.network.graph
    makers, path = graph.makers(), []
    at = end
    while at != start:
        step = makers[at]
        path.append((step, at))
        at = next(each for each in step.inputs if each and each not in graph.constants)
    values = {start: channels}
    for step, output in reversed(path):
        data = next(each for each in step.inputs if each in values)
        if output in skipped:
            values[output] = values[data]
            continue
        made = step.operator([values.get(each, graph.constants.get(each)) for each in step.inputs], step.attributes)
        each_made = (made,) if isinstance(made, Tensor) else made
        values |= dict(zip(step.outputs, each_made, strict=False))
    return values[end]


def _by_head(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor] | None:
    """Of B x heads x rows x depth and B x heads x depth x rows: each head's channels, if all rows have the same."""
    if query.ndim < 3 or key.ndim != query.ndim:
        return None
    of_query = query[0].reshape(-1, *query.shape[-2:])
    of_key = key[0].reshape(-1, *key.shape[-2:]).transpose(1, 2)
    same = all(bool((each == each[:, :1]).all()) for each in (of_query, of_key))
    if not same or of_query.shape[-1] != of_key.shape[-1]:
        return None
    return of_query[:, 0].long(), of_key[:, 0].long()


@torch.no_grad()
def flipped(work: Work, attention: Attention, signs: Tensor) -> None:
    """Queries and keys times signs (heads x depth, 1 or -1): their products stay (PTQ4SAM, CVPR 2024, section 3.1)."""
    for layer, channels in ((attention.query, attention.query_channels), (attention.key, attention.key_channels)):
        every = torch.ones(len(rows(work.constant(layer.weight), layer)))
        every[channels.reshape(-1)] = signs.reshape(-1).to(every.dtype)
        weight = rows(work.constant(layer.weight), layer)
        work.constants[layer.weight] = unrows(weight * every.reshape(-1, *[1] * (weight.ndim - 1)), layer).contiguous()
        if layer.bias is not None:
            bias = work.constant(layer.bias)
            work.constants[layer.bias] = bias * every.reshape(bias.shape)
