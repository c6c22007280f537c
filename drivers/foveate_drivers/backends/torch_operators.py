"""ONNX operators as torch functions: each takes the tensors of a node's inputs (None where one is left out) and its
attributes, and gives the tensors of its outputs (extra train).

Semantics: the ONNX operator reference, opsets 9 to 22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from foveate_drivers.backends import torch_moves as moves
from foveate_drivers.backends.torch_arguments import (
    Attributes,
    Given,
    Operator,
    Unsupported,
    ints,
    listed,
    present,
    second,
)
from foveate_drivers.backends.torch_resize import resized


def _of(function: Callable[..., Tensor]) -> Operator:
    return lambda given, attributes: function(*present(given))


def _padding(attributes: Attributes, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Of every axis of the image: how much before and behind."""
    axes = len(kernel)
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID", ""):
        pads = attributes.get("pads", [0] * (2 * axes)) if automatic != "VALID" else [0] * (2 * axes)
        return list(zip(pads[:axes], pads[axes:], strict=True))
    strides, dilations = attributes.get("strides", [1] * axes), attributes.get("dilations", [1] * axes)
    found = []
    for size, side, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + dilation * (side - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if automatic == "SAME_UPPER" else (more, less))
    return found


def _padded(x: Tensor, pads: list[tuple[int, int]], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """What is left to a torch function that pads both sides alike."""
    if all(before == behind for before, behind in pads):
        return x, [before for before, _ in pads]
    flat = [side for pair in reversed(pads) for side in pair]
    return functional.pad(x, flat, value=value), [0] * len(pads)


def _conv(given: Given, attributes: Attributes) -> Tensor:
    x, weight, *rest = given
    assert x is not None and weight is not None
    axes = weight.ndim - 2
    x, padding = _padded(x, _padding(attributes, x.shape[2:], weight.shape[2:]))
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    ones = [1] * axes
    return function(x, weight, rest[0] if rest else None, attributes.get("strides", ones), padding,
                    attributes.get("dilations", ones), attributes.get("group", 1))  # fmt: skip


def _conv_transpose(given: Given, attributes: Attributes) -> Tensor:
    x, weight, *rest = given
    assert x is not None and weight is not None
    axes = weight.ndim - 2
    if "output_shape" in attributes or attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unsupported("output_shape or auto_pad")
    pads = attributes.get("pads", [0] * (2 * axes))
    if pads[:axes] != pads[axes:]:
        raise Unsupported(f"pads {pads}")
    function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[axes - 1]
    ones = [1] * axes
    return function(x, weight, rest[0] if rest else None, attributes.get("strides", ones), pads[:axes],
                    attributes.get("output_padding", [0] * axes), attributes.get("group", 1),
                    attributes.get("dilations", ones))  # fmt: skip


def _gemm(given: Given, attributes: Attributes) -> Tensor:
    a, b, *rest = given
    assert a is not None and b is not None
    a, b = (a.T if attributes.get("transA") else a), (b.T if attributes.get("transB") else b)
    product = attributes.get("alpha", 1.0) * (a @ b) if attributes.get("alpha", 1.0) != 1.0 else a @ b
    return product if not rest or rest[0] is None else product + attributes.get("beta", 1.0) * rest[0]


def _pool(kind: str, given: Given, attributes: Attributes) -> Tensor:
    x = given[0]
    assert x is not None
    kernel = attributes["kernel_shape"]
    axes = len(kernel)
    strides, ceil = attributes.get("strides", [1] * axes), bool(attributes.get("ceil_mode", 0))
    pads = _padding(attributes, x.shape[2:], kernel)
    if kind == "max":
        x, padding = _padded(x, pads, float("-inf"))
        function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[axes - 1]
        return function(x, kernel, strides, padding, attributes.get("dilations", [1] * axes), ceil)
    counted = bool(attributes.get("count_include_pad", 0))
    if any(before != behind for before, behind in pads) and not counted:
        raise Unsupported(f"pads {pads} that are not counted")
    x, padding = _padded(x, pads)
    average = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1]
    return average(x, kernel, strides, padding, ceil, counted)


def _batch_norm(given: Given, attributes: Attributes) -> Tensor:
    x, scale, bias, mean, variance = present(given)
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def _layer_norm(given: Given, attributes: Attributes) -> Tensor:
    x, scale, *rest = given
    assert x is not None and scale is not None
    axis = attributes.get("axis", -1) % x.ndim
    return functional.layer_norm(x, x.shape[axis:], scale, rest[0] if rest else None, attributes.get("epsilon", 1e-5))


def _instance_norm(given: Given, attributes: Attributes) -> Tensor:
    x, scale, bias = present(given)
    return functional.instance_norm(x, None, None, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _group_norm(given: Given, attributes: Attributes) -> Tensor:
    x, scale, bias = present(given)
    return functional.group_norm(x, attributes["num_groups"], scale, bias, attributes.get("epsilon", 1e-5))


def _softmax(function: Callable[..., Tensor], given: Given, attributes: Attributes) -> Tensor:
    x = given[0]
    assert x is not None
    if attributes["opset"] >= 13:
        return function(x, attributes.get("axis", -1))
    axis = attributes.get("axis", 1) % x.ndim  # before opset 13, over all axes from this one
    return function(x.flatten(axis), axis).reshape(x.shape)


def _clip(given: Given, attributes: Attributes) -> Tensor:
    x, low, high = (*given, None, None)[:3]
    assert x is not None
    least = low.item() if low is not None else attributes.get("min")
    most = high.item() if high is not None else attributes.get("max")
    return x if least is None and most is None else x.clamp(least, most)


def _gelu(given: Given, attributes: Attributes) -> Tensor:
    approximate = attributes.get("approximate", "none")
    return functional.gelu(present(given)[0], approximate=approximate)


def _reduced(function: Callable[..., Tensor], given: Given, attributes: Attributes) -> Tensor:
    x = given[0]
    assert x is not None
    axes = second(given, attributes, "axes")
    if not axes and attributes.get("noop_with_empty_axes", 0):
        return x
    return function(x, axes or list(range(x.ndim)), bool(attributes.get("keepdims", 1)))


def _argued(function: Callable[..., Tensor], given: Given, attributes: Attributes) -> Tensor:
    x = given[0]
    assert x is not None
    if attributes.get("select_last_index", 0):
        raise Unsupported("select_last_index")
    return function(x, attributes.get("axis", 0), bool(attributes.get("keepdims", 1)))


def _resize(given: Given, attributes: Attributes) -> Tensor:
    x, *rest = given
    assert x is not None
    if attributes["opset"] < 11:
        scales, sizes = rest[0], None
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} | attributes
    else:
        _, scales, sizes = (*rest, None, None, None)[:3]
    try:
        return resized(
            x, scales.tolist() if scales is not None and scales.numel() else None,
            ints(sizes) if sizes is not None and sizes.numel() else None, attributes,
        )  # fmt: skip
    except ValueError as error:
        raise Unsupported(str(error)) from None


def _div(given: Given, attributes: Attributes) -> Tensor:
    a, b = present(given)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _prelu(given: Given, attributes: Attributes) -> Tensor:
    x, slope = present(given)
    return torch.where(x < 0, x * slope, x)


def _hard_sigmoid(given: Given, attributes: Attributes) -> Tensor:
    return (attributes.get("alpha", 0.2) * present(given)[0] + attributes.get("beta", 0.5)).clamp(0, 1)


def _along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point by channel, in the shape of `x`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _quantize(given: Given, attributes: Attributes) -> Tensor:
    x, scale, zero = (*given, None)[:3]
    assert x is not None and scale is not None
    kind = zero.dtype if zero is not None else torch.uint8
    axis = attributes.get("axis", 1)
    level = torch.round(x / _along(scale, x, axis)) + (_along(zero, x, axis).to(x.dtype) if zero is not None else 0)
    limits = torch.iinfo(kind)
    return level.clamp(limits.min, limits.max).to(kind)


def _dequantize(given: Given, attributes: Attributes) -> Tensor:
    x, scale, zero = (*given, None)[:3]
    assert x is not None and scale is not None
    axis = attributes.get("axis", 1)
    levels = x.to(torch.int32)
    if zero is not None:
        levels = levels - _along(zero, x, axis).to(torch.int32)
    return levels.to(scale.dtype) * _along(scale, x, axis)


def _dynamic_quantize(given: Given, attributes: Attributes) -> tuple[Tensor, ...]:
    x = present(given)[0]
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(-low / scale).clamp(0, 255)
    return (torch.round(x / scale) + zero).clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def _matmul_integer(given: Given, attributes: Attributes) -> Tensor:
    a, b, a_zero, b_zero = (*given, None, None)[:4]
    assert a is not None and b is not None
    a, b = a.to(torch.int32), b.to(torch.int32)
    if a_zero is not None:
        a = a - a_zero.to(torch.int32)
    if b_zero is not None:
        b = b - b_zero.to(torch.int32)
    return a @ b


def _where(given: Given, attributes: Attributes) -> Tensor:
    condition, yes, no = present(given)
    return torch.where(condition, yes, no)


def _folded(function: Callable[[Tensor, Tensor], Tensor], given: Given, attributes: Attributes) -> Tensor:
    first, *rest = present(given)
    for each in rest:
        first = function(first, each)
    return first


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.square().sum(axes, keep).sqrt()


OPERATORS: dict[str, Operator] = {
    "Abs": _of(torch.abs), "Add": _of(torch.add), "And": _of(torch.logical_and), "Ceil": _of(torch.ceil),
    "Cos": _of(torch.cos), "Equal": _of(torch.eq), "Erf": _of(torch.erf), "Exp": _of(torch.exp),
    "Floor": _of(torch.floor), "Greater": _of(torch.gt), "GreaterOrEqual": _of(torch.ge), "Identity": _of(lambda x: x),
    "Less": _of(torch.lt), "LessOrEqual": _of(torch.le), "Log": _of(torch.log), "MatMul": _of(torch.matmul),
    "Mul": _of(torch.mul), "Neg": _of(torch.neg), "Not": _of(torch.logical_not), "Or": _of(torch.logical_or),
    "Pow": _of(torch.pow), "Reciprocal": _of(torch.reciprocal), "Relu": _of(torch.relu), "Round": _of(torch.round),
    "Sigmoid": _of(torch.sigmoid), "Sign": _of(torch.sign), "Sin": _of(torch.sin), "Softplus": _of(functional.softplus),
    "Sqrt": _of(torch.sqrt), "Sub": _of(torch.sub), "Tanh": _of(torch.tanh),
    "HardSwish": _of(functional.hardswish), "Mish": _of(functional.mish),
    "Div": _div, "Max": partial(_folded, torch.maximum), "Min": partial(_folded, torch.minimum),
    "Sum": partial(_folded, torch.add), "Where": _where,
    "Clip": _clip, "Gelu": _gelu, "PRelu": _prelu, "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda given, a: functional.leaky_relu(present(given)[0], a.get("alpha", 0.01)),
    "Elu": lambda given, a: functional.elu(present(given)[0], a.get("alpha", 1.0)),
    "Softmax": partial(_softmax, torch.softmax), "LogSoftmax": partial(_softmax, torch.log_softmax),
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm,
    "MaxPool": partial(_pool, "max"), "AveragePool": partial(_pool, "average"),
    "GlobalAveragePool": lambda given, a: present(given)[0].mean(tuple(range(2, present(given)[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda given, a: present(given)[0].amax(tuple(range(2, present(given)[0].ndim)), keepdim=True),
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "ReduceMean": partial(_reduced, torch.mean), "ReduceSum": partial(_reduced, torch.sum),
    "ReduceMax": partial(_reduced, torch.amax), "ReduceMin": partial(_reduced, torch.amin),
    "ReduceL2": partial(_reduced, _l2),
    "ArgMax": partial(_argued, torch.argmax), "ArgMin": partial(_argued, torch.argmin),
    "Reshape": moves.reshape, "Flatten": moves.flatten, "Transpose": moves.transpose, "Squeeze": moves.squeeze,
    "Unsqueeze": moves.unsqueeze, "Slice": moves.sliced, "Split": moves.split, "Gather": moves.gather,
    "Expand": moves.expand, "Pad": moves.pad, "Shape": moves.shape, "ConstantOfShape": moves.constant_of_shape,
    "Cast": moves.cast, "Range": moves.ranged, "DepthToSpace": moves.depth_to_space,
    "Resize": _resize, "Upsample": _resize,
    "Concat": lambda given, a: torch.cat(present(given), a["axis"]),
    "Tile": lambda given, a: present(given)[0].repeat(listed(given[1])),
    "Dropout": lambda given, a: present(given)[0],
    "Constant": lambda given, a: a["value"],
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "DynamicQuantizeLinear": _dynamic_quantize,
    "MatMulInteger": _matmul_integer,
}  # fmt: skip
