"""A quantized ONNX file as the network in floating point whose levels it holds, so that it can be compressed otherwise
(extra compress).

Weights are those of the file, whose rounding stays; tensors are rounded no more. A range that begins at 0 is a Relu as
well, which quantizers leave out where levels do its work.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from foveate.errors import ModelError

_POSITIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt")
_PASSING = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat", "Reshape", "Transpose", "Flatten",
            "Add", "Resize", "Slice", "Split", "Squeeze", "Unsqueeze", "Identity", "ReduceMean")  # fmt: skip


def dequantized(model: onnx.ModelProto, who: str) -> onnx.ModelProto:
    """A copy without QuantizeLinear on what depends on the inputs; the same model if it has none.

    Raises ModelError where it is quantized by operators of their own (QLinearConv, MatMulInteger, ...).
    """
    kinds = {node.op_type for node in model.graph.node}
    own = sorted(kind for kind in kinds if kind.startswith("QLinear") or kind.endswith("Integer") or "Dynamic" in kind)
    if own:
        text = f"it is quantized by {', '.join(own)}; give it in floating point, or with QuantizeLinear"
        raise ModelError(who, "compress", text)
    return _Unrounded(copy.deepcopy(model), who).model if "QuantizeLinear" in kinds else model


class _Unrounded:
    """A model whose pairs are taken out."""

    def __init__(self, model: onnx.ModelProto, who: str) -> None:
        self.model, self.who = model, who
        nodes = list(model.graph.node)
        self.constants = {item.name: item for item in model.graph.initializer}
        self.makers = {name: node for node in nodes for name in node.output}
        self.outputs = {item.name for item in model.graph.output}
        known = set(self.constants)
        for node in nodes:
            if all(name in known for name in node.input if name):
                known |= set(node.output)
        pairs = [node for node in nodes if node.op_type == "DequantizeLinear" and node.input[0] not in known]
        for node in pairs:
            self._taken_out(node)
        read = {name for node in model.graph.node for name in node.input} | self.outputs
        while unread := [node for node in model.graph.node if not read & set(node.output)]:
            for node in unread:
                model.graph.node.remove(node)
            read = {name for node in model.graph.node for name in node.input} | self.outputs

    def _taken_out(self, read: onnx.NodeProto) -> None:
        """What DequantizeLinear gives is what QuantizeLinear was given."""
        levels = self.makers.get(read.input[0])
        if levels is not None and levels.op_type == "Clip":
            levels = self.makers.get(levels.input[0])
        if levels is None or levels.op_type != "QuantizeLinear":
            kind = levels.op_type if levels is not None else "the input"
            raise ModelError(self.who, "take it as floating point", f"{read.name or 'a node'} reads levels of {kind}")
        exact, output = levels.input[0], read.output[0]
        floor = self._begins_at_zero(levels) and not self._positive(exact)
        if floor or output in self.outputs:
            place = list(self.model.graph.node).index(read)
            made = helper.make_node("Relu" if floor else "Identity", [exact], [output], f"{output}.unrounded")
            self.model.graph.node.insert(place, made)
            self.makers[output] = made
        else:
            for node in self.model.graph.node:
                node.input[:] = [exact if name == output else name for name in node.input]
        self.model.graph.node.remove(read)

    def _begins_at_zero(self, levels: onnx.NodeProto) -> bool:
        """Whether the zero point is the least level."""
        if len(levels.input) < 3 or levels.input[2] not in self.constants:
            return len(levels.input) < 3  # uint8 with a zero point of 0
        zero = numpy_helper.to_array(self.constants[levels.input[2]])
        return bool(np.all(zero == np.iinfo(zero.dtype).min))

    def _positive(self, name: str) -> bool:
        """Whether a tensor is never below 0, by what makes it."""
        node = self.makers.get(name)
        if node is None or node.op_type in _POSITIVE:
            return node is not None
        if node.op_type == "Clip":
            least = self.constants.get(node.input[1]) if len(node.input) > 1 else None
            return least is not None and float(numpy_helper.to_array(least)) >= 0
        if node.op_type not in _PASSING:
            return False
        return all(
            self._positive(each) for each in node.input[: len(node.input) if node.op_type in ("Add", "Concat") else 1]
        )
