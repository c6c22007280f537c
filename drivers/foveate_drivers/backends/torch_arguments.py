"""What a node of an ONNX graph is given, as its operator reads it (extra train)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Attributes = dict[str, Any]
Given = Sequence[Tensor | None]
Operator = Callable[[Given, Attributes], Tensor | tuple[Tensor, ...]]


class Unsupported(Exception):
    """What of an operator is not there."""


def ints(value: Tensor | Sequence[int] | int | None) -> list[int] | None:
    if value is None:
        return None
    if isinstance(value, Tensor):
        return [int(each) for each in value.reshape(-1).tolist()]
    return [int(value)] if isinstance(value, int) else [int(each) for each in value]


def listed(value: Tensor | Sequence[int] | int | None) -> list[int]:
    found = ints(value)
    if found is None:
        raise Unsupported("a missing input")
    return found


def second(given: Given, attributes: Attributes, name: str, index: int = 1) -> list[int] | None:
    """An argument that newer opsets have as an input and older ones as an attribute."""
    if len(given) > index and given[index] is not None:
        return ints(given[index])
    return ints(attributes.get(name))


def present(given: Given) -> list[Tensor]:
    return [each for each in given if each is not None]
