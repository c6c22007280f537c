"""Rounding that gradients pass through: uniform levels, and levels that are powers (extra compress)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveate_compression.spec import Spec

_LEAST = 1e-12  # a scale is never 0


class _Round(torch.autograd.Function):
    """Rounds half to even, as ONNX does; its gradient is that of the identity (straight through)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def rounded(x: Tensor) -> Tensor:
    """Straight-through rounding."""
    return _Round.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def scale_and_zero(low: Tensor, high: Tensor, spec: Spec) -> tuple[Tensor, Tensor]:
    """Of ranges (any shape) in float32: 0 is always a level, as padding needs."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    if spec.symmetric:
        scale = torch.maximum(-low, high) / spec.high if spec.high else torch.maximum(-low, high)
        return scale.clamp(min=_LEAST), torch.zeros_like(scale)
    scale = ((high - low) / (spec.high - spec.low)).clamp(min=_LEAST)
    return scale, (spec.low - torch.round(low / scale)).clamp(spec.low, spec.high)


def uniform(x: Tensor, scale: Tensor, zero: Tensor, spec: Spec) -> Tensor:
    """`x` at the nearest level, in its own unit: what QuantizeLinear and DequantizeLinear make of it."""
    level = (rounded(x / scale) + zero).clamp(spec.low, spec.high)
    return (level - zero) * scale


class Uniform(nn.Module):
    """Uniform levels of one scale for a tensor; `scale` can be learnt (LSQ, arXiv 1902.08153).

    `drop`: while it learns, the share of values left in floating point (QDrop, arXiv 2203.05740).
    """

    def __init__(self, spec: Spec, low: Tensor, high: Tensor) -> None:
        super().__init__()
        scale, zero = scale_and_zero(low.float(), high.float(), spec)
        self.spec, self.drop = spec, 0.0
        self.scale = nn.Parameter(scale)
        self.register_buffer("zero", zero)
        self.zero: Tensor

    def forward(self, x: Tensor) -> Tensor:
        found = uniform(x, self.scale, self.zero, self.spec)
        if self.training and self.drop:
            return torch.where(torch.rand_like(x) < self.drop, x, found)
        return found


class Dynamic(nn.Module):
    """Levels of eight bits whose range is that of the sample at hand, and 0: what DynamicQuantizeLinear does."""

    spec = Spec(8, False, False)

    def forward(self, x: Tensor) -> Tensor:
        values = x.detach().reshape(len(x), -1)
        along = [-1] + [1] * (x.ndim - 1)
        scale, zero = scale_and_zero(values.amin(1), values.amax(1), self.spec)
        return uniform(x, scale.reshape(along), zero.reshape(along), self.spec)


class Powers(nn.Module):
    """Levels s 2^(-q / tau), q of `bits`, and 0 beyond them: for what lies in 0 to 1 and is mostly small, as attention.

    tau 2 are RepQuant's log-sqrt2 levels (arXiv 2402.05628), tau of 1, 2 or 4 those of PTQ4SAM (CVPR 2024).
    """

    def __init__(self, bits: int, tau: int, scale: float) -> None:
        super().__init__()
        self.bits, self.tau = bits, tau
        self.register_buffer("scale", torch.tensor(max(scale, _LEAST)))
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        level = torch.round(-self.tau * torch.log2((x / self.scale).clamp(min=1e-30)))
        found = self.scale * torch.exp2(-level.clamp(min=0) / self.tau)
        found = torch.where(level < 2**self.bits, found, torch.zeros_like(found))
        return x + (found - x).detach()
