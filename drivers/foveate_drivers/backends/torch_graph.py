"""An ONNX graph run by torch, tensor by tensor: any part of it, with constants replaced and tensors altered on the way
(extra train). So a network can be changed, measured and learnt without leaving the file's own graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from foveate.errors import ModelError
from foveate_drivers.backends.torch_arguments import Operator, Unsupported
from foveate_drivers.backends.torch_operators import OPERATORS

Altered = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """A node of the graph."""

    name: str
    kind: str
    inputs: tuple[str, ...]  # "" where an optional one is left out
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    operator: Operator


class TorchGraph:
    """`steps` in the order in which they run, `constants` by name, the names of `inputs` and `outputs`."""

    def __init__(self, model: onnx.ModelProto, who: str) -> None:
        """`who`: is named in errors. Raises ModelError with the operators that are not there."""
        self.who = who
        graph = model.graph
        self.opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
        self.constants: dict[str, Tensor] = {item.name: _tensor(item) for item in graph.initializer}
        self.shapes = {item.name: _shape(item) for item in (*graph.input, *graph.output)}
        self.inputs = [item.name for item in graph.input if item.name not in self.constants]
        self.outputs = [item.name for item in graph.output]
        self.steps: list[Step] = []
        missing: dict[str, str] = {}
        for i, node in enumerate(graph.node):
            name = node.name or f"{node.op_type}_{i}"
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                missing.setdefault(f"{node.domain}.{node.op_type}".lstrip("."), name)
                continue
            attributes = {item.name: _attribute(item) for item in node.attribute}
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _constant(attributes)
                continue
            attributes |= {"opset": self.opset, "outputs": len(node.output)}
            found = Step(name, node.op_type, tuple(node.input), tuple(node.output), attributes, OPERATORS[node.op_type])
            self.steps.append(found)
        if missing:
            named = ", ".join(f"{kind} (of {name})" for kind, name in missing.items())
            raise ModelError(who, "load", f"torch has no {named}; choose another backend")
        self._read = {name for step in self.steps for name in step.inputs}
        self._schedules: dict[tuple[frozenset[str], tuple[str, ...]], list[tuple[Step, tuple[str, ...]]]] = {}

    @classmethod
    def load(cls, path: Path) -> TorchGraph:
        """The graph of a file. Raises ModelError."""
        try:
            model = onnx.load(str(path))
            if not model.graph.output:
                raise ValueError("it has no graph")
        except Exception as error:  # protobuf raises whatever a broken file leads it to
            raise ModelError(str(path), "load", " ".join(str(error).split())[:200] or type(error).__name__) from None
        return cls(model, str(path))

    def run(
        self, given: Mapping[str, Tensor], wanted: Sequence[str] | None = None, *,
        constants: Mapping[str, Tensor] | None = None, altered: Mapping[str, Altered] | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The tensors `wanted` (the outputs) from those `given`, which may lie anywhere in the graph.

        `constants` stand in for the graph's own; `altered` says what to make of a tensor before anything reads it.
        Raises ModelError where something that is needed is neither given nor made, or a step fails.
        """
        wanted = tuple(self.outputs if wanted is None else wanted)
        values: dict[str, Tensor] = {**self.constants, **(constants or {})}
        altered = altered or {}
        for name, value in given.items():
            values[name] = altered[name](value) if name in altered else value
        for step, done in self._schedule(frozenset(given), wanted):
            try:
                found = step.operator([values[name] if name else None for name in step.inputs], step.attributes)
                made = (found,) if isinstance(found, Tensor) else found
                if lost := {name for name in step.outputs[len(made) :] if name in self._read or name in wanted}:
                    raise Unsupported(f"the output {', '.join(sorted(lost))}")
            except (Unsupported, RuntimeError, KeyError, IndexError, ValueError, TypeError) as error:
                text = f"{step.kind} '{step.name}': {' '.join(str(error).split())[:200]}"
                raise ModelError(self.who, "run with torch", text) from None
            for name, value in zip(step.outputs, made, strict=False):
                if name not in given:
                    values[name] = altered[name](value) if name in altered else value
            for name in done:
                values.pop(name, None)  # outputs that can be left out are not made
        return {name: values[name] for name in wanted}

    def _schedule(self, given: frozenset[str], wanted: tuple[str, ...]) -> list[tuple[Step, tuple[str, ...]]]:
        """What is to run, and which tensors nobody needs after each step."""
        if (given, wanted) not in self._schedules:
            needed, chosen = set(wanted) - given, []
            for step in reversed(self.steps):
                if needed.intersection(step.outputs):
                    chosen.append(step)
                    needed -= set(step.outputs)
                    needed |= {name for name in step.inputs if name} - given
            if lost := needed - self.constants.keys():
                raise ModelError(self.who, f"make {', '.join(wanted)}", f"{', '.join(sorted(lost))} is not given")
            kept, found = set(wanted) | self.constants.keys(), []
            for step in chosen:  # from the last to the first
                done = tuple({name for name in (*step.inputs, *step.outputs) if name} - kept)
                kept |= set(done)
                found.append((step, tuple(name for name in done if name)))
            self._schedules[given, wanted] = found[::-1]
        return self._schedules[given, wanted]

    def makers(self) -> dict[str, Step]:
        """Which step makes a tensor."""
        return {name: step for step in self.steps for name in step.outputs}

    def readers(self) -> dict[str, list[Step]]:
        """Which steps read a tensor."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            for name in dict.fromkeys(step.inputs):
                if name:
                    found.setdefault(name, []).append(step)
        return found


def _tensor(item: onnx.TensorProto) -> Tensor:
    array = numpy_helper.to_array(item)
    return torch.from_numpy(array.copy() if array.flags.writeable is False or array.ndim == 0 else array)


def _shape(item: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = item.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _attribute(item: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(item)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return value.decode() if isinstance(value, bytes) else value


def _constant(attributes: dict[str, Any]) -> Tensor:
    """The value of a Constant node, whichever attribute has it."""
    [value] = attributes.values()
    return value if isinstance(value, Tensor) else torch.tensor(value)
