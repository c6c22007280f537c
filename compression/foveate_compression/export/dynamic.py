"""Products that find their inputs' range at every run: DynamicQuantizeLinear and MatMulInteger, of which onnxruntime
makes one kernel (extra compress)."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from foveate_compression.export.stored_weights import Added, integers_of
from foveate_compression.network import Layer
from foveate_compression.weights import Stored


def product_nodes(model: onnx.ModelProto, layer: Layer, stored: Stored, added: Added, *, int4: bool) -> None:
    """Put these nodes in the place of the layer's own; its bias, which follows a MatMul, stays in floating point."""
    weight = integers_of(layer, stored, added, int4=int4)
    if layer.axis == 0:
        weight = added.node("Transpose", [weight], f"{layer.weight}.across", perm=[1, 0])
    levels = f"{layer.input}.dynamic"
    made = [levels, f"{levels}.scale", f"{levels}.zero"]
    if levels not in {output for node in added.nodes for output in node.output}:
        added.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", [layer.input], made, f"{levels}.quantize"))
    scale = added.constant(f"{layer.weight}.scale", stored.scale)
    sums = added.node("MatMulInteger", [levels, weight, made[2]], f"{layer.weight}.sums")
    whole = added.node("Cast", [sums], f"{layer.weight}.whole", to=TensorProto.FLOAT)
    unit = added.node("Mul", [made[1], scale], f"{layer.weight}.unit")
    old = next(node for node in model.graph.node if node.name == layer.name)
    model.graph.node.remove(old)
    if layer.kind == "Gemm" and layer.bias is not None:
        product = added.node("Mul", [whole, unit], f"{layer.weight}.product")
        added.node("Add", [product, layer.bias], old.output[0])
    else:
        added.node("Mul", [whole, unit], old.output[0])
