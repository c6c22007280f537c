"""A network as a function of a slice and a state: what segments a stream, and what is exported (extra train)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate_nodes.segmentation.neuron import neurons, reset
from foveate_nodes.segmentation.sltnet import SltNet


class Stepping(nn.Module):
    """One slice and the membranes in; logits, and the membranes out: their number and order are those of `neurons`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, slice_: Tensor, *membranes: Tensor) -> tuple[Tensor, ...]:
        held = [neuron for _, neuron in neurons(self.net)]
        for neuron, membrane in zip(held, membranes, strict=True):
            neuron.mem = membrane
        logits, _ = self.net(slice_)
        after = []
        for neuron in held:
            assert neuron.mem is not None
            after.append(neuron.mem)
        reset(self.net)
        return (logits, *after)


@torch.no_grad()
def at_rest(net: SltNet, batch: int, height: int, width: int) -> list[Tensor]:
    """The membranes before the first slice: zeros, of the shapes that images of this size need."""
    reset(net)
    net(torch.zeros(batch, net.layout.bins, height, width))
    shapes = [neuron.mem for _, neuron in neurons(net)]
    reset(net)
    return [torch.zeros_like(membrane) for membrane in shapes if membrane is not None]
