"""The spiking neuron: it leaks, fires above its threshold, and starts again from zero (extra train).

Names and numbers are those of snntorch (`Leaky`, `beta`, `threshold`, `spike_grad`, `mem`), with the reset at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

SpikeGrad = Callable[[Tensor], Tensor]  # 1 where its argument, membrane less threshold, is above 0; with a derivative


def _with_gradient(derivative: Callable[[Tensor], Tensor]) -> SpikeGrad:
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, over: Tensor) -> Tensor:
            ctx.save_for_backward(over)
            return (over > 0).to(over.dtype)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            return grads[0] * derivative(ctx.saved_tensors[0])

    def spike(over: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return Spike.apply(over)  # type: ignore[no-any-return, no-untyped-call]
        return (over > 0).to(over.dtype)  # what an exporter sees

    return spike


def tanh_window(slope: float = 3.0, width: float = 1.0) -> SpikeGrad:
    """The derivative of a tanh scaled to rise from 0 to 1 over `width`, 0 beyond it (SLTNet's; arXiv 2412.12843).

    A neuron whose membrane is far from its threshold learns nothing, and one that never fires dies.
    """
    scale = slope / (2 * math.tanh(slope / 2) * width)

    def derivative(over: Tensor) -> Tensor:
        inside = (over.abs() <= width / 2).to(over.dtype)
        return scale * (1 - torch.tanh(slope * over / width) ** 2) * inside

    return _with_gradient(derivative)


def fast_sigmoid(slope: float = 4.0) -> SpikeGrad:
    """1 / (1 + slope |over|)^2: tails that reach silent neurons (Zenke and Ganguli 2018)."""
    return _with_gradient(lambda over: 1 / (1 + slope * over.abs()) ** 2)


class Leaky(nn.Module):
    """mem <- beta mem + input; fires where mem is above `threshold`, and is 0 there afterwards.

    `mem` is None before the first step (as if it were zeros) and then has the input's shape.
    """

    def __init__(self, beta: float = 0.25, threshold: float = 0.5, spike_grad: SpikeGrad | None = None) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold
        self.spike_grad = spike_grad or tanh_window()
        self.mem: Tensor | None = None

    def forward(self, input_: Tensor) -> Tensor:
        mem = input_ if self.mem is None else self.beta * self.mem + input_
        spikes = self.spike_grad(mem - self.threshold)
        self.mem = mem * (1 - spikes)
        return spikes


def neurons(net: nn.Module) -> Iterator[tuple[str, Leaky]]:
    """The neurons of a network with their names, in a fixed order."""
    return ((name, module) for name, module in net.named_modules() if isinstance(module, Leaky))


def reset(net: nn.Module) -> None:
    """Forget all membranes: the next step is the first."""
    for _, neuron in neurons(net):
        neuron.mem = None
