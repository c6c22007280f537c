"""How numbers are kept: bits, sign, and what shares a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Granularity = Literal["tensor", "channel"]


@dataclass(frozen=True, slots=True)
class Spec:
    """Integers of `bits` with a scale (and a zero point, if not `symmetric`) for a tensor or each output channel."""

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    granularity: Granularity = "tensor"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits: {self.bits}; it must be 1 to 8")
        if self.symmetric and not self.signed:
            raise ValueError("symmetric integers are signed")

    @property
    def low(self) -> int:
        """The least level; symmetric ones leave out the one that has no opposite."""
        if not self.signed:
            return 0
        return -(2 ** (self.bits - 1)) + (1 if self.symmetric and self.bits > 1 else 0)

    @property
    def high(self) -> int:
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1


def weights(bits: int) -> Spec:
    """Signed, symmetric, a scale for each output channel: what integer kernels take."""
    return Spec(bits, True, True, "channel")


def activations(bits: int) -> Spec:
    """Unsigned with a zero point, one scale: the fast form on x86 beside signed weights."""
    return Spec(bits, False, False, "tensor")
