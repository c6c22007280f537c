"""The node: a plain class whose constructor is its parameters and whose `step` is its ports."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from foveate.device import Device
from foveate.errors import FoveateError
from foveate.messages import Message


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a parameter: `rate: Annotated[float, Unit("Hz"), Gt(0)]`."""

    name: str


@dataclass(frozen=True, slots=True)
class Folder:
    """Marks a path that names a folder: `address: Annotated[Path, Folder()]`; other paths name files.

    `or_file`: a file will do as well.
    """

    or_file: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """What a node's own `check` finds wrong with a parameter."""

    parameter: str
    text: str


class Node:
    """One step of a pipeline.

    Subclasses declare parameters in `__init__` (keyword-only, annotated), inputs in `step`'s arguments
    and outputs in a class `Outputs`. An input annotated `X` triggers the step; `X | None` gives the
    newest value or None. `step` returns a message (one output), a mapping from output names to messages
    (several), or None. A node holds no clock, no thread and no queue.
    """

    class Outputs:
        pass

    cost_ns: ClassVar[int] = 0  # what a step takes in simulated time, unless the graph says otherwise
    drives_hardware: ClassVar[bool] = False  # a replay takes its outputs from the recording
    state: ClassVar[tuple[str, ...]] = ()  # attributes that a restart gives back
    wired: frozenset[str] = frozenset()  # the outputs that other nodes take; known before `open`

    @classmethod
    def check(cls, **parameters: Any) -> Iterator[Problem]:
        """Faults of valid parameters that need a look at files; touches no hardware."""
        yield from ()

    def open(self) -> None:
        """Load what the node needs; called where it will run, before the first step."""

    def due_ns(self) -> int | None:
        """For a source: when its next message is ready (run time); None where only the device knows."""
        return None

    def close(self) -> None:
        """Called once after the last step, also after a failure."""

    def on_upstream(self, input: str, state: str) -> None:
        """Told, before the next step, that the node behind an input has "restarted" or "failed"."""

    def after_step(self, took_ns: int) -> str:
        """Told how long a step took; a word that it returns is a decision: `adapt` gets it before the next step."""
        return ""

    def adapt(self, word: str) -> None:
        """What `after_step` had returned, in the run and, from the recording, in every replay."""

    def state_dict(self) -> Any:
        """What a restarted node needs to go on as before; None: it starts anew. Copied after every step."""
        return {name: getattr(self, name) for name in self.state} or None

    def load_state_dict(self, state: Any) -> None:
        """Take over what `state_dict` gave; called once after `open`."""
        for name, value in state.items():
            setattr(self, name, value)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a node class."""

    name: str
    type: type[Message]
    required: bool = True
    many: bool = False  # takes a tuple of messages: those of an interval


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constructor argument of a node or a driver."""

    name: str
    annotation: Any  # with its Annotated metadata
    type: Any  # the bare type
    default: Any
    unit: str

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def device(self) -> type[Device] | None:
        """The device family this parameter takes, if it takes a device."""
        for part in (self.type, *typing.get_args(self.type)):
            if isinstance(part, type) and issubclass(part, Device):
                return part
        return None

    @property
    def folder(self) -> Folder | None:
        """The mark of a path that names a folder."""
        return next((item for item in getattr(self.annotation, "__metadata__", ()) if isinstance(item, Folder)), None)

    def type_text(self) -> str:
        """The type as a person writes it."""
        return type_text(self.type)

    def bounds_text(self) -> str:
        """Constraints such as `> 0, <= 1`."""
        signs = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
        parts = []
        for item in getattr(self.annotation, "__metadata__", ()):
            sign = signs.get(type(item).__name__)
            if sign:
                parts.append(f"{sign} {next(iter(vars_of(item).values())):g}")
        return ", ".join(parts)


def vars_of(item: Any) -> dict[str, Any]:
    """The fields of a small dataclass, slotted or not."""
    return {name: getattr(item, name) for name in getattr(item, "__dataclass_fields__", {})}


def type_text(kind: Any) -> str:
    """A type as a person writes it: `float`, `Path | None`, `'a' | 'b'`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " | ".join(repr(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_text(part) for part in arguments)
    if kind is type(None):
        return "None"
    if origin is not None:
        inner = ", ".join("..." if part is Ellipsis else type_text(part) for part in arguments)
        return f"{origin.__name__}[{inner}]"
    return getattr(kind, "__name__", str(kind))


@dataclass(frozen=True, slots=True)
class Schema:
    """What a node or driver class takes and gives."""

    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]

    @property
    def is_source(self) -> bool:
        return not self.inputs

    @property
    def required_inputs(self) -> list[str]:
        return [port.name for port in self.inputs.values() if port.required]


class SchemaError(FoveateError):
    """A node class whose declaration cannot be read."""


@cache
def parameters_of(cls: type) -> Mapping[str, Parameter]:
    """The constructor's arguments of a node or driver class, in order."""
    init = cls.__init__  # type: ignore[misc]
    if init is object.__init__:
        return {}
    hints = typing.get_type_hints(init, include_extras=True)
    bare = typing.get_type_hints(init)
    found = {}
    for name, item in list(inspect.signature(init).parameters.items())[1:]:
        if item.kind not in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            raise SchemaError(f"{cls.__qualname__}.__init__: '{name}' must be a named argument")
        if name not in hints:
            raise SchemaError(f"{cls.__qualname__}.__init__: '{name}' has no annotation")
        metadata = getattr(hints[name], "__metadata__", ())
        unit = next((m.name for m in metadata if isinstance(m, Unit)), "")
        found[name] = Parameter(name, hints[name], bare[name], item.default, unit)
    return found


@cache
def schema_of(cls: type[Node]) -> Schema:
    """Parameters and ports of a node class. Raises SchemaError naming what is not declared."""
    step = getattr(cls, "step", None)
    if step is None:
        raise SchemaError(f"{cls.__qualname__} has no method 'step'")
    hints = typing.get_type_hints(step)
    inputs = {}
    for name in list(inspect.signature(step).parameters)[1:]:
        kind, required, many = _port_type(cls, f"step: '{name}'", hints.get(name))
        inputs[name] = Port(name, kind, required, many)
    outputs = {}
    for name, hint in typing.get_type_hints(cls.Outputs).items():
        kind, _, many = _port_type(cls, f"Outputs: '{name}'", hint)
        if many:
            raise SchemaError(f"{cls.__qualname__}.Outputs: '{name}' must be annotated with a message type")
        outputs[name] = Port(name, kind)
    if inputs and not any(port.required for port in inputs.values()):
        raise SchemaError(f"{cls.__qualname__}.step: no input triggers it; one must not be '| None'")
    return Schema(parameters_of(cls), inputs, outputs)  # type: ignore[arg-type]


def _port_type(cls: type, where: str, hint: Any) -> tuple[type[Message], bool, bool]:
    """The message type of a port, whether it must be there, whether it takes a tuple of them."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [part for part in parts if part is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else None
    many = typing.get_origin(kind) is tuple and typing.get_args(kind)[1:] == (Ellipsis,)
    if many:
        kind = typing.get_args(kind)[0]
    if not isinstance(kind, type) or not issubclass(kind, Message):
        raise SchemaError(f"{cls.__qualname__}.{where} must be annotated with a message type")
    return kind, len(kinds) == len(parts), many
