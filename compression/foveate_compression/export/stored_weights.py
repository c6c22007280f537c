"""Weights as a file has them, and the nodes that make them what a kernel reads: onnxruntime runs these once, at load
(extra compress)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foveate_compression.network import Layer
from foveate_compression.weights import Stored


@dataclass(slots=True)
class Added:
    """What an export adds to a graph, and the initialisers that it replaces."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initialisers: list[onnx.TensorProto] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    held: dict[tuple[tuple[int, ...], bytes], str] = field(default_factory=dict)  # names of what layers share

    def constant(self, name: str, value: NDArray[Any], instead: str = "") -> str:
        """An initialiser; `instead` of another."""
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        self.replaced |= {instead} - {""}
        return name

    def shared(self, name: str, value: NDArray[Any]) -> str:
        """An initialiser, one for all layers that have the same."""
        key = (value.shape, value.tobytes())
        if key not in self.held:
            self.held[key] = self.constant(name, value)
        return self.held[key]

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node, named for its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{output}.{kind}", **attributes))
        return output


def weight_nodes(layer: Layer, stored: Stored, added: Added, *, integers: bool, int4: bool) -> None:
    """Make the tensor `layer.weight` of what is stored.

    `integers`: its layer runs in integers. Else a cast and a product make it, which onnxruntime does once, at load:
    of a DequantizeLinear before a MatMul it would make a MatMulNBits, that rounds activations and is slow.
    """
    name = layer.weight
    held = integers_of(layer, stored, added, int4=int4)
    if not integers:
        whole = added.node("Cast", [held], f"{name}.whole", to=TensorProto.FLOAT)
        along = stored.scale.reshape([-1 if i == layer.axis else 1 for i in range(len(stored.shape))])
        added.node("Mul", [whole, added.constant(f"{name}.scale", along.astype(np.float32))], name)
        return
    scale = added.constant(f"{name}.scale", stored.scale.astype(np.float32))
    zero = added.constant(f"{name}.zero", np.zeros(len(stored.scale), np.int8))
    added.node("DequantizeLinear", [held, scale, zero], name, axis=layer.axis)


def integers_of(layer: Layer, stored: Stored, added: Added, *, int4: bool) -> str:
    """The weight's levels as int8, in its layout; nothing is left of the weight itself."""
    added.replaced.add(layer.weight)
    if stored.levels is not None:
        return _levels(layer.weight, stored.levels, added, int4)
    return _coded(layer, stored, added)


def _levels(name: str, levels: NDArray[np.int8], added: Added, int4: bool) -> str:
    """int8, or two of four bits in a byte and a cast: kernels fuse with int8 alone."""
    if not int4 or levels.min() < -8 or levels.max() > 7:
        return added.constant(f"{name}.int8", levels)
    flat = levels.reshape(-1)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.int8))
    packed = ((flat[0::2] & 0xF) | ((flat[1::2] & 0xF) << 4)).astype(np.uint8)
    tensor = TensorProto(name=f"{name}.int4", data_type=TensorProto.INT4, dims=levels.shape, raw_data=packed.tobytes())
    added.initialisers.append(tensor)
    return added.node("Cast", [tensor.name], f"{name}.int8", to=TensorProto.INT8)


def _coded(layer: Layer, stored: Stored, added: Added) -> str:
    """Codewords by their numbers, masked, in the weight's layout."""
    name, cut = layer.weight, stored.cut
    assert stored.codebook is not None and stored.codes is not None and cut is not None
    book = added.shared(f"{name}.codebook", stored.codebook)
    vectors = added.node("Gather", [book, _numbers(f"{name}.codes", stored.codes, added)], f"{name}.vectors", axis=0)
    if stored.mask is not None:
        none = added.constant(f"{name}.none", np.zeros((), np.int8))
        vectors = added.node("Where", [_mask(name, stored.mask, added), vectors, none], f"{name}.kept")
    shape = stored.shape
    if cut.along == "outputs":
        groups = shape[0] // cut.size
        parts = added.constant(f"{name}.parts", np.array([groups, -1, cut.size], np.int64))
        vectors = added.node("Reshape", [vectors, parts], f"{name}.groups")
        vectors = added.node("Transpose", [vectors], f"{name}.turned", perm=[0, 2, 1])
    rows = added.node("Reshape", [vectors, added.constant(f"{name}.rows", np.array(shape, np.int64))], f"{name}.shaped")
    if layer.axis == 0:
        return rows
    order = list(range(1, len(shape)))
    order.insert(layer.axis, 0)
    return added.node("Transpose", [rows], f"{name}.int8", perm=order)


def _mask(name: str, mask: NDArray[np.bool_], added: Added) -> str:
    """A bit for each entry, eight in a byte; a table of all bytes, one for all layers, makes eight of one again."""
    table = added.shared("masks", np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.bool_))
    packed = np.packbits(mask)
    eights = added.node("Gather", [table, _numbers(f"{name}.mask", packed, added)], f"{name}.eights", axis=0)
    if mask.size % 8:
        flat = added.node("Reshape", [eights, added.constant(f"{name}.flat", np.array([-1], np.int64))], f"{name}.bits")
        ends = [
            added.constant(f"{name}.{end}", np.array([at], np.int64)) for end, at in (("from", 0), ("to", mask.size))
        ]
        eights = added.node("Slice", [flat, *ends], f"{name}.own")
    shape = added.constant(f"{name}.mask.shape", np.array(mask.shape, np.int64))
    return added.node("Reshape", [eights, shape], f"{name}.masks")


def _numbers(name: str, numbers: NDArray[Any], added: Added) -> str:
    """Codes in as few bytes as their greatest needs, and what Gather reads."""
    greatest = int(numbers.max(initial=0))
    kind = np.uint8 if greatest < 2**8 else np.uint16 if greatest < 2**16 else np.int32
    held = added.constant(f"{name}.held", numbers.astype(kind))
    return held if kind == np.int32 else added.node("Cast", [held], name, to=TensorProto.INT32)
