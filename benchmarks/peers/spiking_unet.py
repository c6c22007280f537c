"""A plain spiking U-Net to compare with: three levels of 3 x 3 convolutions, batch norms and leaky neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate_nodes.segmentation.neuron import Integrator, Leaky, fast_sigmoid
from foveate_nodes.segmentation.recipe import Net
from foveate_nodes.segmentation.sltnet import Layout


class SpikingUnet(nn.Module):
    """B x bins x H x W, one time step, to logits, twice: it has no early head."""

    def __init__(
        self, bins: int, classes: int, width: int, neuron: Callable[[], Any], readout: Callable[[], Any]
    ) -> None:
        super().__init__()
        self.layout = Layout(bins=bins, classes=classes, width=width)

        def block(inputs: int, outputs: int, last: Callable[[], Any] = neuron) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), neuron(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), last(),
            )  # fmt: skip

        self.one, self.two, self.four = block(bins, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.up_two, self.up_one = block(6 * width, 2 * width), block(3 * width, width, readout)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, slice_: Tensor) -> tuple[Tensor, Tensor]:
        one = self.one(slice_)
        two = self.two(functional.max_pool2d(one, 2, ceil_mode=True))
        four = self.four(functional.max_pool2d(two, 2, ceil_mode=True))
        two = self.up_two(torch.cat([two, functional.interpolate(four, size=tuple(two.shape[2:]))], 1))
        one = self.up_one(torch.cat([one, functional.interpolate(two, size=tuple(one.shape[2:]))], 1))
        logits = self.classifier(one)
        return logits, logits


def of_size(net: Net, bins: int, classes: int) -> SpikingUnet:
    """One with about as many parameters as SLTNet of this width."""

    def neuron() -> Leaky:
        return Leaky(spike_grad=fast_sigmoid(net.slope))

    made = SpikingUnet(bins, classes, round(net.width * 14 / 16), neuron, Integrator)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, net.gain)
    return made
