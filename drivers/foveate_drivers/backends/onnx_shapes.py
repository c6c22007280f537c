"""An ONNX graph with the shapes of all its tensors, and which nodes a run-time does in one go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foveate_drivers.backends.onnx_costs import VIEWS, Tensor

_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 17: 8, 18: 8, 19: 8,
    20: 8, 21: 4, 22: 4,
}  # fmt: skip
_FUSES = {"Relu", "Clip", "LeakyRelu", "HardSigmoid"}  # behind a convolution or a product
_HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_QUANTIZES = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True, slots=True)
class Step:
    """One node."""

    name: str
    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    domain: str = ""


class Graph:
    """Nodes in order, shapes of their tensors, and what is fused."""

    def __init__(self, nodes: list[Step], tensors: dict[str, Tensor], constants: set[str], kept: set[str]) -> None:
        self.nodes, self._tensors, self._constants = nodes, tensors, constants
        self._producer = {name: node for node in nodes for name in node.outputs}
        self._consumers: dict[str, list[Step]] = {}
        for node in nodes:
            for name in node.inputs:
                self._consumers.setdefault(name, []).append(node)
        self._kept = kept  # outputs of the graph
        for node in nodes:
            if node.inputs and all(name in constants or not name for name in node.inputs):
                constants.update(node.outputs)
        self._last = {node.name: self._end(node) for node in nodes}
        self.free = self._freed()

    @classmethod
    def of(cls, model: Any) -> Graph:
        """Of an onnx ModelProto whose inputs have fixed sizes."""
        import onnx

        try:
            graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception:  # operators of a run-time's own stop it; what the file says must do
            graph = model.graph
        tensors = {item.name: found for item in (*graph.value_info, *graph.input, *graph.output)
                   if (found := _of_type(item.type)) is not None}  # fmt: skip
        tensors |= {item.name: Tensor(tuple(item.dims), _size(item.data_type)) for item in graph.initializer}
        nodes = [
            Step(node.name or f"{node.op_type}_{i}", node.op_type, list(node.input), list(node.output),
                 {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}, node.domain)
            for i, node in enumerate(graph.node)
        ]  # fmt: skip
        for node in nodes:
            node.attributes.update({k: v.decode() for k, v in node.attributes.items() if isinstance(v, bytes)})
        constants = {item.name for item in graph.initializer}
        constants |= {name for node in nodes if node.operator in ("Constant", "Shape") for name in node.outputs}
        return cls(nodes, tensors, constants, {item.name for item in graph.output})

    def tensor(self, name: str) -> Tensor | None:
        return self._tensors.get(name)

    def learn(self, tensors: Mapping[str, Tensor]) -> None:
        """Shapes from elsewhere, such as a run."""
        self._tensors.update(tensors)

    def is_constant(self, name: str) -> bool:
        return name in self._constants

    def last_of(self, node: Step) -> Step:
        """The activation that is fused into a node, or the node itself."""
        return self._last[node.name]

    def before_dequantize(self, name: str) -> str:
        """The integers that a tensor is made from; itself where it is from none."""
        maker = self._producer.get(name)
        return maker.inputs[0] if maker is not None and maker.operator == "DequantizeLinear" else name

    def after_quantize(self, name: str) -> str:
        """The integers that all who take a tensor make of it; itself where one takes it as it is."""
        users = self._consumers.get(name, [])
        if name in self._kept or not users or any(user.operator != "QuantizeLinear" for user in users):
            return name
        return users[0].outputs[0]

    def _end(self, node: Step) -> Step:
        if node.operator not in _HEAVY:
            return node
        users = self._consumers.get(node.outputs[0], [])
        fits = len(users) == 1 and users[0].operator in _FUSES and node.outputs[0] not in self._kept
        return users[0] if fits else node

    def _freed(self) -> set[str]:
        """Nodes that cost nothing: views, constants, what is fused into others, quantizing that a layer does itself."""
        free = set()
        for node in self.nodes:
            if node.operator in VIEWS or all(name in self._constants for name in node.outputs):
                free.add(node.name)
            if self._last[node.name] is not node:
                free.add(self._last[node.name].name)
        for node in self.nodes:
            if node.operator not in _QUANTIZES or node.name in free:
                continue
            other = self._consumers.get(node.outputs[0], []) if node.operator == "DequantizeLinear" else [
                step for step in [self._producer.get(node.inputs[0])] if step is not None
            ]  # fmt: skip
            if other and all(step.operator not in _QUANTIZES for step in other):
                free.add(node.name)
        return free


def _of_type(kind: Any) -> Tensor | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    sizes = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.tensor_type.shape.dim]
    return Tensor(tuple(sizes), _size(kind.tensor_type.elem_type))


def _size(code: int) -> int:
    """Bytes of an element; what is smaller than a byte counts as one."""
    return max(_BITS.get(code, 32) // 8, 1)
