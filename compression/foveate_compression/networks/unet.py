"""A U-Net that says of each pixel what it shows (extra train).

Ronneberger et al., U-Net, MICCAI 2015, with padded convolutions, norms, and nearest upsampling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate_compression.networks.standardisation import Standardisation


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with a norm and a ReLU."""
    made: list[nn.Module] = []
    for count in (inputs, outputs):
        made += [nn.Conv2d(count, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*made)


class UNet(nn.Module):
    """B x 3 x H x W, RGB of 0 to 1, sides a multiple of 2^depth, to B x classes x H x W: logits."""

    def __init__(self, classes: int, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        sizes = [width << i for i in range(depth + 1)]
        self.standardisation = Standardisation()
        self.down = nn.ModuleList(
            _pair(before, after) for before, after in zip([3, *sizes[:-2]], sizes[:-1], strict=True)
        )
        self.bottom = _pair(sizes[-2], sizes[-1])
        self.up = nn.ModuleList(_pair(3 * size, size) for size in reversed(sizes[:-1]))
        self.smaller = nn.MaxPool2d(2)
        self.larger = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.standardisation(x)
        kept = []
        for part in self.down:
            x = part(x)
            kept.append(x)
            x = self.smaller(x)
        x = self.bottom(x)
        for part in self.up:
            x = part(torch.cat([self.larger(x), kept.pop()], 1))
        return self.head(x)
