"""Operations and bytes of every node of an ONNX graph, of onnxruntime's own operators too.

A multiply-add is two operations. Bytes are each input, weight and output once, as after LLM-Viewer (Yuan et al. 2024,
arXiv 2402.16363), here over any graph. Needs the package `onnx` where a whole model is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and bytes of an element."""

    shape: tuple[int, ...]
    size: int = 4

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * self.size


@dataclass(frozen=True, slots=True)
class Cost:
    """What one node has to do. `family` says which kernels it is like, `features` where it lies among them."""

    name: str
    operator: str
    family: str
    operations: int
    weight_bytes: int
    moved_bytes: int  # inputs and outputs
    integer: bool
    features: tuple[float, ...]

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.moved_bytes

    @property
    def computes(self) -> bool:
        """Multiply-adds of weights or matrices; others are measured by the bytes they move."""
        return self.family.split()[0].lstrip("q") in ("conv", "depthwise", "gemm", "deconv")


_CURVES = {
    "Sigmoid", "Tanh", "Exp", "Log", "Erf", "Gelu", "QuickGelu", "FastGelu", "BiasGelu", "Softplus", "HardSwish",
    "Mish", "Sin", "Cos", "Pow", "Sqrt", "Elu", "Selu", "HardSigmoid", "QLinearSigmoid", "Reciprocal",
}  # fmt: skip
_MOVES = {
    "Transpose", "Concat", "Slice", "Split", "Gather", "GatherElements", "GatherND", "ScatterND", "Pad", "Tile",
    "Expand", "ReorderInput", "ReorderOutput", "DepthToSpace", "SpaceToDepth", "Cast", "QLinearConcat", "Identity",
    "Where", "Upsample", "Resize",
}  # fmt: skip
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Constant", "Identity", "Dropout"}
_NORMS = {
    "LayerNormalization": 8, "SimplifiedLayerNormalization": 6, "SkipLayerNormalization": 9, "InstanceNormalization": 8,
    "GroupNormalization": 8, "BatchNormalization": 2, "Softmax": 5, "LogSoftmax": 6, "LpNormalization": 4,
    "QLinearSoftmax": 5, "DynamicQuantizeLinear": 4, "QuantizeLinear": 2, "DequantizeLinear": 2,
}  # fmt: skip
_POOLS = {"MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"}
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = {
    "MatMul": 1, "FusedMatMul": 1, "MatMulInteger": 1, "MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3, "MatMulNBits": 1, "Gemm": 1, "FusedGemm": 1, "QGemm": 3,
}  # fmt: skip
_INTEGER = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul")

Attributes = Mapping[str, Any]


def cost(
    name: str, operator: str, attributes: Attributes, given: Sequence[Tensor | None], out: Sequence[Tensor],
    weights: frozenset[int] = frozenset(), blocked: bool = False,
) -> Cost:  # fmt: skip
    """Of one node. `given`: its inputs, None where one is left out or unknown; `weights`: which of them are constant;
    `blocked`: its tensors are in onnxruntime's layout of blocks of channels."""
    held = sum(t.bytes for i, t in enumerate(given) if t is not None and i in weights)
    moved = sum(t.bytes for i, t in enumerate(given) if t is not None and i not in weights) + sum(t.bytes for t in out)
    first = next((t for t in given if t is not None), Tensor(()))
    made = out[0] if out else Tensor(())
    integer = operator.startswith(_INTEGER)
    at = _CONVOLUTIONS.get(operator, _PRODUCTS.get(operator, 1))
    second = given[at] if len(given) > at else None
    work: _Work | None = None
    if operator in _CONVOLUTIONS and second is not None:
        integer = integer or second.size == 1
        family, operations, features = _convolution(attributes, first, second, made, integer)
        plain = not blocked and not integer  # onnxruntime's slow way, where channels or weights keep it from blocks
        work = f"{family}{' plain' if plain else ''}", operations, features
    elif operator == "ConvTranspose" and second is not None:
        macs = first.count * math.prod(second.shape[1:])
        work = "deconv", 2 * macs, (_log(second.shape[0]), _log(second.shape[1]), _log(made.count))
    elif operator in _PRODUCTS and second is not None:
        integer = integer or second.size == 1
        work = _product(operator, attributes, first, second, made, integer)
    if work is None:
        family, operations, features = _light(operator, attributes, first, given, made)
        narrow = min(first.size, made.size) == 1 and first.count > 1
        work = f"{family}{' blocked' if blocked else ''}{' 8-bit' if narrow else ''}", operations, features
        if operator in VIEWS:
            held = moved = 0
        elif operator in ("Slice", "Gather"):  # they read what they give
            moved = 2 * made.bytes
    family, operations, features = work
    return Cost(name, operator, family, operations, held, moved, integer, features)


_Work = tuple[str, int, tuple[float, ...]]


def _convolution(attributes: Attributes, x: Tensor, w: Tensor, out: Tensor, integer: bool) -> _Work:
    group = int(attributes.get("group", 1))
    taps = math.prod(w.shape[2:])
    stride = math.prod(attributes.get("strides", [1]))
    kind = ("q" if integer else "") + ("depthwise" if group > 1 and w.shape[1] == 1 else "conv")
    pixels = out.count / max(w.shape[0], 1)
    features: tuple[float, ...] = (
        _log(w.shape[1]),
        _log(w.shape[0] / group),
        0.4 * _log(pixels),  # how many there are matters less than channels
        _log(taps),
        _log(stride),
        _log(group),
    )
    if kind.endswith("depthwise"):
        features = (_log(w.shape[0]), _log(pixels), 2 * _log(taps), _log(stride))
    return kind, 2 * out.count * w.shape[1] * taps, features


def _product(operator: str, attributes: Attributes, a: Tensor, b: Tensor, out: Tensor, integer: bool) -> _Work:
    if operator == "MatMulNBits":
        inner = int(attributes["K"])
    elif operator in ("Gemm", "FusedGemm", "QGemm", "FusedMatMul") and attributes.get("transA"):
        inner = a.shape[-2]
    else:
        inner = a.shape[-1] if a.shape else 1
    columns = out.shape[-1] if out.shape else 1
    rows = out.count / max(columns, 1)
    return ("q" if integer else "") + "gemm", 2 * out.count * inner, (_log(rows), _log(inner), _log(columns))


def _light(operator: str, attributes: Attributes, x: Tensor, given: Sequence[Tensor | None], out: Tensor) -> _Work:
    """What has no matrix in it: its family is the operator, with the way it broadcasts or turns axes."""
    there = [t for t in given if t is not None]
    size = (_log(max(x.count, out.count)),)
    if operator in VIEWS:
        return "view", 0, (0.0,)
    if operator in _POOLS:
        taps = math.prod(attributes.get("kernel_shape", [1]))
        return operator, out.count * taps, (*size, _log(taps))
    if operator.startswith(("Global", "QLinearGlobal", "Reduce", "ArgM")):
        return operator, x.count, size
    if operator in _NORMS:
        axis = attributes.get("axis", -1) % max(len(x.shape), 1)
        inner = "Softmax" in operator and math.prod(x.shape[axis + 1 :]) > 1
        length = x.shape[axis] if "Softmax" in operator and x.shape else 1
        done = _NORMS[operator] * max(x.count, out.count)
        return f"{operator}{' inner' if inner else ''}", done, (*size, _log(length))
    if operator == "Transpose":
        ends = (_log(x.shape[-1]), _log(out.shape[-1])) if x.shape and out.shape else (0.0, 0.0)
        return f"Transpose {_turn(attributes, x)}", 0, (*size, *ends)
    if operator in ("Concat", "Split"):
        axis = attributes.get("axis", 0) % max(len(x.shape), 1)
        return operator, 0, (*size, _log(math.prod(min(x.shape, out.shape)[axis:])))
    if operator in ("Slice", "Gather"):
        inner = operator == "Slice" and x.shape[-1:] != out.shape[-1:]
        return f"{operator}{' inner' if inner else ''}", 0, (_log(out.count), _log(out.shape[-1] if out.shape else 1))
    if operator in _MOVES:
        way = f"{attributes.get('mode', 'nearest')} {attributes.get('coordinate_transformation_mode', 'half_pixel')}"
        way += " inner" if x.shape[-1:] == out.shape[-1:] else ""  # channels are the last axis
        return f"{operator} {way}" if operator == "Resize" else operator, 0, size
    if operator in ("Attention", "MultiHeadAttention"):
        rows, width = out.count // max(out.shape[-1], 1), out.shape[-1]
        held = given[1].count * rows if operator == "Attention" and len(given) > 1 and given[1] is not None else 0
        length = out.shape[1] if len(out.shape) > 2 else rows
        return "gemm", 2 * held + 4 * rows * length * width, (_log(rows), _log(width), _log(length))
    if operator in ("LSTM", "GRU", "RNN"):
        parts = there[1].count + there[2].count if len(there) > 2 else 0
        return "gemm", 2 * parts * (x.shape[0] if x.shape else 1), (0.0, _log(parts), 5.0)
    if operator in _CURVES:
        return operator, 10 * out.count, size
    wide = [t for t in there if t.count > 1]
    spread = any(t.count < out.count for t in wide)
    return f"{operator}{' spread' if spread else ''}", max(len(there) - 1, 1) * out.count, size


def _turn(attributes: Attributes, x: Tensor) -> str:
    """How a transposition moves axes, those of length 1 left out: `012` stays as it is, `021` turns the last two."""
    perm = list(attributes.get("perm", range(len(x.shape))[::-1]))
    axes = [axis for axis in perm if axis < len(x.shape) and x.shape[axis] > 1]
    rank = {axis: place for place, axis in enumerate(sorted(axes))}
    runs: list[int] = []
    for axis in axes:  # axes that stay neighbours are as one
        if runs and rank[axis] == runs[-1] + 1:
            runs[-1] = rank[axis]
        else:
            runs.append(rank[axis])
    order = sorted(runs)
    return "".join(str(order.index(axis)) for axis in runs) or "0"


def _log(value: float) -> float:
    return math.log2(max(value, 1.0))


def graph_costs(model: Any) -> list[Cost]:
    """Costs of an onnx ModelProto with fixed input sizes, layer by layer, as a run-time that fuses would do them.

    Quantize and dequantize nodes around a layer belong to it: it moves bytes of integers. An activation right behind a
    convolution or product belongs to it too. Nodes that are computed from constants alone are free.
    """
    from foveate_drivers.backends.onnx_shapes import Graph

    graph = Graph.of(model)
    costs = []
    for node in graph.nodes:
        if node.name in graph.free or not node.outputs:
            continue
        last = graph.last_of(node)
        given = [graph.tensor(graph.before_dequantize(name)) for name in node.inputs]
        out = [graph.tensor(graph.after_quantize(name)) for name in last.outputs[:1] + node.outputs[1:]]
        held = frozenset(i for i, name in enumerate(node.inputs) if graph.is_constant(name))
        costs.append(cost(node.name, node.operator, node.attributes, given, [t for t in out if t is not None], held))
    return costs
