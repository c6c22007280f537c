"""What is done to an ONNX graph before it is compressed: constants made initialisers, shapes folded, norms taken into
the layers before them, any batch size (extra compress). The function stays the same, which is measured."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate_drivers.backends.torch_graph import TorchGraph

_LEAST_OPSET, _OPSET = 13, 17
_SAME = 1e-3  # of the largest output: how far a prepared network may be from the file's


def exported(module: nn.Module, sample: Tensor) -> onnx.ModelProto:
    """A torch module in evaluation mode as ONNX, for a batch of one like the first of `sample`."""
    written: Any = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # sizes are fixed on purpose
        torch.onnx.export(module.eval(), (sample[:1],), written, dynamo=False, opset_version=17,
                          input_names=["input"], output_names=["output"])  # fmt: skip
    return onnx.load_from_string(written.getvalue())


def prepared(model: onnx.ModelProto, who: str) -> onnx.ModelProto:
    """A copy that gives the same. Raises ModelError."""
    given = copy.deepcopy(model)
    _without_constant_inputs(given)
    original = TorchGraph(given, who)
    sample = {name: _sample(original.shapes[name], name, who) for name in original.inputs}
    wanted = original.run(sample)
    made = _folded(_of_opset(given, who), who, sample)
    _named(made)
    _factors_taken_in(made)
    _norms_taken_in(made)
    _unshared(made)
    _pruned(made)
    _same(TorchGraph(made, who).run(sample), wanted, who)
    return _for_any_batch(made, who, sample, wanted)


def _sample(shape: tuple[int | None, ...], name: str, who: str) -> Tensor:
    """Something to run: what is free is 1 for the batch, and refused elsewhere unless it is an image's side."""
    sides = [side if side is not None else (1 if i == 0 else 64) for i, side in enumerate(shape)]
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random(sides, dtype=np.float32))


def _of_opset(model: onnx.ModelProto, who: str) -> onnx.ModelProto:
    """Of an opset in which weights can have a scale for each channel."""
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), _OPSET)
    if opset >= _LEAST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, _OPSET)
    except Exception as error:  # the converter raises whatever an operator leads it to
        text = " ".join(str(error).split())[:200]
        raise ModelError(who, f"bring it from opset {opset} to {_OPSET}", text or type(error).__name__) from None


def _without_constant_inputs(model: onnx.ModelProto) -> None:
    """Older exporters list initialisers as inputs."""
    constants = {item.name for item in model.graph.initializer}
    kept = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _folded(model: onnx.ModelProto, who: str, sample: dict[str, Tensor]) -> onnx.ModelProto:
    """All that does not depend on the inputs' values is an initialiser; what depends on their shape alone, too, where
    all shapes are fixed."""
    graph = TorchGraph(model, who)
    fixed = all(None not in graph.shapes[name][1:] for name in graph.inputs)
    known = set(graph.constants)
    values: list[str] = []
    for step in graph.steps:
        if all(name in known for name in step.inputs if name) or (step.kind == "Shape" and fixed):
            known |= set(step.outputs)
            values += [name for name in step.outputs if name]
    computed = graph.run(sample, values) if values else {}
    computed |= {name: value for name, value in graph.constants.items() if name not in _initialisers(model)}
    needed = {name for node in model.graph.node for name in node.input} | {item.name for item in model.graph.output}
    kept = [node for node in model.graph.node if not all(name in computed for name in node.output)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for name, value in computed.items():
        if name in needed:
            model.graph.initializer.append(numpy_helper.from_array(value.numpy(), name))
    return model


def _initialisers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {item.name: item for item in model.graph.initializer}


def _named(model: onnx.ModelProto) -> None:
    """Every node has a name of its own."""
    taken: set[str] = set()
    for i, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{i}"
        node.name = name if name not in taken else f"{name}_{i}"
        taken.add(node.name)


def _factors_taken_in(model: onnx.ModelProto) -> None:
    """A Gemm multiplies its constant weight and bias by nothing: what changes a layer need not know of factors."""
    constants = _initialisers(model)
    for node in model.graph.node:
        for i, name in ((1, "alpha"), (2, "beta")):
            factor = _attribute(node, name, 1.0) if node.op_type == "Gemm" else 1.0
            if factor == 1.0 or i >= len(node.input) or node.input[i] not in constants:
                continue
            value = numpy_helper.to_array(constants[node.input[i]]) * np.float32(factor)
            node.input[i] = f"{node.name}.{name}"
            model.graph.initializer.append(numpy_helper.from_array(value, node.input[i]))
            kept = [item for item in node.attribute if item.name != name]
            del node.attribute[:]
            node.attribute.extend(kept)


def _norms_taken_in(model: onnx.ModelProto) -> None:
    """Batch norms directly behind a convolution or product whose result nothing else reads."""
    constants = {name: numpy_helper.to_array(item) for name, item in _initialisers(model).items()}
    makers = {name: node for node in model.graph.node for name in node.output}
    count: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            count[name] = count.get(name, 0) + 1
    outputs = {item.name for item in model.graph.output}
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        layer = makers.get(norm.input[0])
        if layer is None or layer.op_type not in ("Conv", "ConvTranspose", "Gemm") or norm.input[0] in outputs:
            continue
        weight = constants.get(layer.input[1])
        given = [name for name in layer.input[2:] if name]
        if weight is None or count[norm.input[0]] > 1 or count[layer.input[1]] > 1 or set(given) - constants.keys():
            continue
        if layer.op_type == "ConvTranspose" and _attribute(layer, "group", 1) != 1:
            continue
        scale, shift, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:5])
        factor = scale / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
        axis = {"Conv": 0, "ConvTranspose": 1}.get(layer.op_type, 0 if _attribute(layer, "transB", 0) else 1)
        along = [-1 if i == axis else 1 for i in range(weight.ndim)]
        bias = constants[layer.input[2]].astype(np.float64) if len(layer.input) > 2 and layer.input[2] else 0.0
        new = {
            f"{layer.name}.weight.folded": weight * factor.reshape(along),
            f"{layer.name}.bias.folded": (bias - mean) * factor + shift,
        }
        for name, value in new.items():
            constants[name] = value.astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(constants[name], name))
        inputs = [layer.input[0], *new]
        del layer.input[:]
        layer.input.extend(inputs)
        layer.output[0] = norm.output[0]
        model.graph.node.remove(norm)
        makers[layer.output[0]] = layer


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _unshared(model: onnx.ModelProto) -> None:
    """Each layer has constants of its own: exporters join equal ones, and what is learnt for one is not for another."""
    constants, seen = _initialisers(model), set()
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in constants and name in seen and constants[name].data_type == onnx.TensorProto.FLOAT:
                own = f"{name}.of.{node.name}"
                item = copy.deepcopy(constants[name])
                item.name = own
                model.graph.initializer.append(item)
                node.input[i] = own
            seen.add(name)


def _pruned(model: onnx.ModelProto) -> None:
    """Without initialisers that nothing reads, and with no stale shapes."""
    read = {name for node in model.graph.node for name in node.input} | {item.name for item in model.graph.output}
    kept = [item for item in model.graph.initializer if item.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]


def _for_any_batch(
    model: onnx.ModelProto, who: str, sample: dict[str, Tensor], wanted: dict[str, Tensor]
) -> onnx.ModelProto:
    """The model with a free batch where that gives two samples what it gives each; else as it is."""
    made = copy.deepcopy(model)
    constants = _initialisers(made)
    for item in (*made.graph.input, *made.graph.output):
        dims = item.type.tensor_type.shape.dim
        if not dims:
            return model
        if dims[0].HasField("dim_value") and dims[0].dim_value != 1:
            return model
        dims[0].dim_param = "batch"
    for node in made.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if len(shape) and shape[0] == 1 and not _attribute(node, "allowzero", 0):
                shape[0] = 0  # as large as it comes in
                name = f"{node.name}.shape"
                made.graph.initializer.append(numpy_helper.from_array(shape, name))
                node.input[1] = name
    _pruned(made)
    graph = TorchGraph(made, who)
    other = {name: value.flip(-1) for name, value in sample.items()}
    try:
        alone = TorchGraph(model, who).run(other)
        both = graph.run({name: torch.cat([value, other[name]]) for name, value in sample.items()})
        _same(both, {name: torch.cat([value, alone[name]]) for name, value in wanted.items()}, who)
    except ModelError:
        return model
    return made


def _same(found: dict[str, Tensor], wanted: dict[str, Tensor], who: str) -> None:
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            raise ModelError(who, "prepare", f"output '{name}' changed its shape to {tuple(found[name].shape)}")
        if value.is_floating_point():
            off = float((found[name] - value).abs().max()) if value.numel() else 0.0
            if not off <= _SAME * max(float(value.abs().max()), 1.0):
                raise ModelError(who, "prepare", f"output '{name}' changed by {off:.3g}")
