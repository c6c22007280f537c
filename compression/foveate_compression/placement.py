"""Which tensors are quantized, and with what range (extra compress)."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from foveate.errors import ModelError
from foveate_compression import observers
from foveate_compression.network import Layer
from foveate_compression.quantizers import Uniform
from foveate_compression.spec import Spec
from foveate_compression.work import Work
from foveate_drivers.backends.torch_graph import Step

# What has integer kernels for what it gives, and what gives the levels that it is given.
_JOINING = ("Add", "Concat", "GlobalAveragePool", "AveragePool", "Mul", "Sigmoid", "LeakyRelu")
_PASSING = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Gather",
            "DepthToSpace", "Resize")  # fmt: skip
_AT_ONCE = ("Relu", "Clip")  # taken into the kernel before them
_KEPT = 2**14  # values of a batch that ranges are found from


def chosen(work: Work, patterns: Sequence[str]) -> list[Layer]:
    """The layers whose names match a pattern such as `head*`. Raises ModelError where one matches nothing."""
    found: list[Layer] = []
    for pattern in patterns:
        matching = [layer for layer in work.network.layers if fnmatch.fnmatchcase(layer.name, pattern)]
        if not matching:
            names = ", ".join(layer.name for layer in work.network.layers[:12])
            raise ModelError(work.network.who, f"find the layer '{pattern}'", f"it has {names} ...")
        found += matching
    return found


def quantized_tensors(work: Work, layers: Iterable[Layer]) -> tuple[list[str], dict[str, str]]:
    """(tensors with levels of their own, tensors that have those of another) where these layers run in integers.

    What no layer reads any more has none: one scale for all that a head gives would cost more than its kernel saves.
    """
    graph = work.network.graph
    layers = list(layers)
    readers, of_layer = graph.readers(), {layer.output: layer for layer in layers}
    own = dict.fromkeys(layer.input for layer in of_layer.values())
    for layer in of_layer.values():
        if layer.kind in ("Conv", "ConvTranspose"):
            own[_activated(layer.output, readers)] = None
    own = {name: None for name in own if name not in graph.outputs}
    same: dict[str, str] = {}
    for step in graph.steps:
        data = [name for name in step.inputs if name and name not in graph.constants]
        if not data or set(data) - own.keys() - same.keys() or step.attributes.get("mode", "nearest") != "nearest":
            continue
        for output in set(step.outputs) - set(graph.outputs) - same.keys():
            if step.kind in _JOINING:
                own[_activated(output, readers)] = None
            elif step.kind in _PASSING:
                own.pop(output, None)
                same[output] = same.get(data[0], data[0])
    read = _read_on(work, layers)
    return [name for name in own if name in read], {name: other for name, other in same.items() if name in read}


def _read_on(work: Work, layers: list[Layer]) -> set[str]:
    """The tensors that go into one of these layers, through whatever is between."""
    named = {layer.name for layer in layers}
    found: set[str] = set()
    for step in reversed(work.network.graph.steps):
        if step.name in named or found & set(step.outputs):
            found |= set(step.inputs)
    return found - set(work.network.graph.outputs)


def _activated(output: str, readers: dict[str, list[Step]]) -> str:
    """Behind the activation that the kernel takes in."""
    behind = readers.get(output, [])
    return behind[0].outputs[0] if len(behind) == 1 and behind[0].kind in _AT_ONCE else output


def attention_tensors(work: Work) -> list[str]:
    """What products of two tensors read: queries, keys, attention and values."""
    graph = work.network.graph
    products = [step for step in graph.steps if step.kind == "MatMul" and not graph.constants.keys() & set(step.inputs)]
    return list(dict.fromkeys(name for step in products for name in step.inputs))


@torch.no_grad()
def calibrate(work: Work, tensors: Sequence[str], spec: Spec, method: observers.Method = "minmax") -> None:
    """Give each tensor that has none yet levels from what the calibration samples make of it."""
    missing = [name for name in tensors if name not in work.levels]
    if not missing:
        return
    values: dict[str, list[Tensor]] = {name: [] for name in missing}
    for batch in work.seen(missing):
        for name, value in batch.items():
            values[name].append(observers.thinned(value.float(), _KEPT))
    for name, seen in values.items():
        if not all(bool(torch.isfinite(each).all()) for each in seen):
            raise ModelError(work.network.who, "calibrate", f"tensor '{name}' is not finite on the calibration samples")
        work.levels[name] = Uniform(spec, *observers.observed(seen, spec, method)).eval()
