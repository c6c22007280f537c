"""A compression as an ONNX model: QuantizeLinear and DequantizeLinear around what runs in integers, weights as they are
stored (extra compress)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.version_converter
from onnx import helper, numpy_helper

from foveate.errors import ModelError
from foveate_compression.export.dynamic import product_nodes
from foveate_compression.export.stored_weights import Added, weight_nodes
from foveate_compression.network import Layer
from foveate_compression.quantizers import Dynamic, Powers, Uniform
from foveate_compression.work import Work

_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Profile:
    """What a target takes. `int4`: levels of up to four bits are stored as such, and cast at load."""

    signed_activations: bool = False  # x86 is fast with unsigned ones, Arm with signed
    int4: bool = False


X86, ARM = Profile(), Profile(signed_activations=True)
PROFILES = {"x86": X86, "arm": ARM}


def model_of(work: Work, profile: Profile = X86) -> onnx.ModelProto:
    """The model as onnxruntime shall run it. Raises ModelError."""
    model = copy.deepcopy(work.network.model)
    if profile.int4:
        model = onnx.version_converter.convert_version(model, 21)
    added = Added()
    for layer in work.network.layers:
        _store(work, layer, model, added, profile)
    for name, level in work.levels.items():
        if not isinstance(level, Dynamic):
            _level(model, name, level, added, profile)
    changed = {name: value.detach().numpy() for name, value in work.constants.items()}
    replaced = added.replaced | changed.keys()
    kept = [item for item in model.graph.initializer if item.name not in replaced]
    kept += [numpy_helper.from_array(value, name) for name, value in changed.items() if name not in added.replaced]
    nodes = [*added.nodes, *model.graph.node]
    read = {name for node in nodes for name in node.input} | {item.name for item in model.graph.output}
    del model.graph.initializer[:]
    model.graph.initializer.extend(item for item in (*kept, *added.initialisers) if item.name in read)
    nodes = _sorted(nodes, model)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.producer_name = "foveate"
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(work.network.who, "export", " ".join(str(error).split())[:200]) from None
    return model


def _store(work: Work, layer: Layer, model: onnx.ModelProto, added: Added, profile: Profile) -> None:
    """A layer's weight, and its bias in the unit of its products."""
    form = work.forms.get(layer.weight)
    stored = form.stored() if form is not None else None
    if form is not None and stored is None:
        added.constant(layer.weight, form().detach().numpy(), instead=layer.weight)
    if stored is None:
        return
    if isinstance(work.levels.get(layer.input), Dynamic):
        product_nodes(model, layer, stored, added, int4=profile.int4)
        return
    weight_nodes(layer, stored, added, integers=work.in_integers(layer), int4=profile.int4)
    units = work.unit(layer)
    if layer.bias is None or units is None:
        return
    unit = units.detach().numpy()
    bias = work.constant(layer.bias).detach().numpy()
    whole = np.clip(np.round(bias / unit), -_INT32, _INT32).astype(np.int32)
    held = f"{layer.bias}.int32"
    added.constant(held, whole, instead=layer.bias)
    added.constant(f"{held}.scale", unit)
    added.constant(f"{held}.zero", np.zeros(len(unit), np.int32))
    inputs = [held, f"{held}.scale", f"{held}.zero"]
    added.nodes.append(helper.make_node("DequantizeLinear", inputs, [layer.bias], f"{held}.read", axis=0))


def _level(model: onnx.ModelProto, name: str, level: object, added: Added, profile: Profile) -> None:
    """All that reads the tensor reads its levels; an output of the network keeps its name and gives its levels."""
    exact = name
    outputs = [item.name for item in model.graph.output]
    if name in outputs:
        exact = f"{name}.exact"
        for node in model.graph.node:
            node.output[:] = [exact if each == name else each for each in node.output]
    read = name if name in outputs else f"{name}.levels"
    for node in model.graph.node:
        node.input[:] = [read if each == name else each for each in node.input]
    if isinstance(level, Uniform):
        _uniform(_before_clip(model, exact, level), read, level, added, profile)
    elif isinstance(level, Powers):
        _powers(exact, read, level, added)
    else:
        raise TypeError(type(level).__name__)


def _before_clip(model: onnx.ModelProto, exact: str, level: Uniform) -> str:
    """What a Clip (a ReLU6) was given, where levels of fewer than eight bits clip as much: onnxruntime would keep it in
    floating point, and fuse nothing around it."""
    node = next((node for node in model.graph.node if exact in node.output), None)
    if node is None or node.op_type != "Clip" or level.spec.bits >= 8:
        return exact
    held = {item.name: item for item in model.graph.initializer}
    bounds = [float(numpy_helper.to_array(held[name])) if name in held else None for name in node.input[1:]]
    if len(bounds) != 2 or None in bounds:
        return exact
    scale, zero = float(level.scale.detach()), int(level.zero)
    least, most = (round(bound / scale) + zero for bound in bounds if bound is not None)
    if least > level.spec.low or most < level.spec.high:
        return exact
    model.graph.node.remove(node)
    return str(node.input[0])


def _uniform(exact: str, read: str, level: Uniform, added: Added, profile: Profile) -> None:
    """QuantizeLinear, a Clip where there are fewer than eight bits (kernels stay integer), DequantizeLinear."""
    spec = level.spec
    kind, shift = (np.int8, 0) if spec.signed else (np.uint8, 0)
    if profile.signed_activations and not spec.signed:
        kind, shift = np.int8, -128 if spec.bits == 8 else 0
    scale = level.scale.detach().numpy().astype(np.float32)
    zero = np.asarray(int(level.zero) + shift, kind)
    own = f"{read}.q"
    added.constant(f"{own}.scale", scale.reshape(()))
    added.constant(f"{own}.zero", zero)
    parameters = [f"{own}.scale", f"{own}.zero"]
    added.nodes.append(helper.make_node("QuantizeLinear", [exact, *parameters], [own], f"{own}.quantize"))
    limits = np.iinfo(kind)
    if spec.low + shift > limits.min or spec.high + shift < limits.max:
        added.constant(f"{own}.least", np.asarray(spec.low + shift, kind))
        added.constant(f"{own}.most", np.asarray(spec.high + shift, kind))
        clip = helper.make_node("Clip", [own, f"{own}.least", f"{own}.most"], [f"{own}.clipped"], f"{own}.clip")
        added.nodes.append(clip)
        own = f"{own}.clipped"
    added.nodes.append(helper.make_node("DequantizeLinear", [own, *parameters], [read], f"{own}.dequantize"))


def _powers(exact: str, read: str, level: Powers, added: Added) -> None:
    """s 2^(-q / tau) by Log, Round and Exp: no integer kernel has it."""
    ln2 = float(np.log(2.0))
    constants = {
        "scale": level.scale.numpy(), "least": np.float32(1e-30), "to": np.float32(-level.tau / ln2),
        "none": np.float32(0.0), "end": np.float32(2**level.bits), "from": np.float32(-ln2 / level.tau),
    }  # fmt: skip
    for name, value in constants.items():
        added.constant(f"{read}.{name}", np.asarray(value, np.float32))
    steps = [
        ("Div", [exact, "scale"], "share"), ("Max", ["share", "least"], "some"), ("Log", ["some"], "log"),
        ("Mul", ["log", "to"], "place"), ("Round", ["place"], "round"), ("Max", ["round", "none"], "level"),
        ("Mul", ["level", "from"], "power"), ("Exp", ["power"], "part"), ("Mul", ["part", "scale"], "value"),
        ("Less", ["level", "end"], "near"), ("Where", ["near", "value", "none"], ""),
    ]  # fmt: skip
    for kind, inputs, output in steps:
        named = [each if each == exact else f"{read}.{each}" for each in inputs]
        result = f"{read}.{output}" if output else read
        added.nodes.append(helper.make_node(kind, named, [result], f"{result}.{kind}"))


def _sorted(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every node behind those that make what it reads; otherwise in the given order."""
    made = {item.name for item in model.graph.initializer} | {item.name for item in model.graph.input} | {""}
    found: list[onnx.NodeProto] = []
    waiting = list(nodes)
    while waiting:
        rest = []
        for node in waiting:
            if made.issuperset(node.input):
                found.append(node)
                made |= set(node.output)
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            raise ModelError("model", "export", f"nothing makes what {rest[0].op_type} reads: {list(rest[0].input)}")
        waiting = rest
    return found
