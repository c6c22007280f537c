"""The spiking neuron: it leaks, fires above its threshold, and starts again from zero (extra train).

Names and numbers are those of snntorch (`Leaky`, `beta`, `threshold`, `spike_grad`, `mem`), with the reset at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

SpikeGrad = Callable[[Tensor, Tensor], Tensor]  # a gradient and membranes less the threshold to the gradient behind


def tanh_window(slope: float = 3.0, width: float = 1.0) -> SpikeGrad:
    """The derivative of a tanh scaled to rise from 0 to 1 over `width`, 0 beyond it (SLTNet's; arXiv 2412.12843).

    A neuron whose membrane is far from its threshold learns nothing, and one that never fires dies.
    """
    scale = slope / (2 * math.tanh(slope / 2) * width)

    def through(gradient: Tensor, over: Tensor) -> Tensor:
        inside = (over.abs() <= width / 2).to(over.dtype)
        return gradient * (scale * (1 - torch.tanh(slope * over / width) ** 2) * inside)

    return through


def fast_sigmoid(slope: float = 4.0) -> SpikeGrad:
    """1 / (1 + slope |over|)^2: tails that reach silent neurons (Zenke and Ganguli 2018)."""
    return lambda gradient, over: gradient / over.abs().mul_(slope).add_(1).square_()


class _Steps(torch.autograd.Function):
    """All steps of a layer as one operation: done by autograd's own, it took half of a training's time."""

    @staticmethod
    def forward(ctx: Any, input_: Tensor, mem: Tensor | None, neuron: Leaky) -> tuple[Tensor, Tensor]:
        charged = torch.empty_like(input_)
        steps = neuron.steps
        for now, new in zip(charged.chunk(steps), input_.chunk(steps), strict=True):
            if mem is None:
                now.copy_(new)
            else:
                torch.add(new, mem, alpha=neuron.beta, out=now)
            mem = now.masked_fill(now > neuron.threshold, 0.0)
        assert mem is not None
        ctx.save_for_backward(charged)
        ctx.neuron, ctx.steps = neuron, steps
        return (charged > neuron.threshold).to(charged.dtype), mem

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        of_spikes, of_mem = grads
        neuron, over = ctx.neuron, ctx.saved_tensors[0] - ctx.neuron.threshold
        gradient = neuron.spike_grad(of_spikes, over)
        fired = over > 0
        for now, silent in zip(reversed(gradient.chunk(ctx.steps)), reversed(fired.chunk(ctx.steps)), strict=True):
            now.add_(of_mem.masked_fill(silent, 0.0))
            of_mem = neuron.beta * now
        return gradient, of_mem if ctx.needs_input_grad[1] else None, None


class Leaky(nn.Module):
    """mem <- beta mem + input; fires where mem is above `threshold`, and is 0 there afterwards.

    `mem` is None before the first step (as if it were zeros) and then has the shape of one step's input. With `steps`
    above 1 the first axis holds that many steps, the first step's samples first; all other layers see more samples.
    Gradients do not flow through the reset, as in snntorch.
    """

    def __init__(self, beta: float = 0.25, threshold: float = 0.5, spike_grad: SpikeGrad | None = None) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold
        self.spike_grad = spike_grad or tanh_window()
        self.mem: Tensor | None = None
        self.steps = 1

    def forward(self, input_: Tensor) -> Tensor:
        if torch.is_grad_enabled() or self.steps > 1:
            spikes, self.mem = _Steps.apply(input_, self.mem, self)  # type: ignore[no-untyped-call]
            return spikes
        charged = input_ if self.mem is None else self.beta * self.mem + input_
        fired = charged > self.threshold
        self.mem = charged.masked_fill(fired, 0.0)
        return fired.to(charged.dtype)


class Integrator(Leaky):
    """A neuron that never fires: it gives its membrane. What reads a spiking network out loses less by it."""

    def forward(self, input_: Tensor) -> Tensor:
        given = []
        for new in input_.chunk(self.steps):
            self.mem = new if self.mem is None else self.beta * self.mem + new
            given.append(self.mem)
        return torch.cat(given) if self.steps > 1 else given[0]


def neurons(net: nn.Module) -> Iterator[tuple[str, Leaky]]:
    """The neurons of a network with their names, in a fixed order."""
    return ((name, module) for name, module in net.named_modules() if isinstance(module, Leaky))


def reset(net: nn.Module) -> None:
    """Forget all membranes: the next step is the first."""
    for _, neuron in neurons(net):
        neuron.mem = None


@contextlib.contextmanager
def many_steps(net: nn.Module, steps: int) -> Iterator[None]:
    """Within it, the first axis of the network's input holds `steps` steps, the first step's samples first."""
    held = [neuron for _, neuron in neurons(net)]
    for neuron in held:
        neuron.steps = steps
    try:
        yield
    finally:
        for neuron in held:
            neuron.steps = 1
