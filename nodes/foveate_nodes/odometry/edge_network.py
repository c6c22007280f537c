"""The edge network: a small convolutional pyramid that works at a half, a quarter and an eighth of the resolution.

Its scale is that of TEED (Soria et al. 2023), 58 thousand parameters, one run a frame; all its activations are ReLU,
so that it loses little as integers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate_nodes.models.blocks import block
from foveate_nodes.odometry.training_views import UNCLEAR

_WIDTHS = (16, 32, 40)  # channels at a half, a quarter, an eighth
_RARE = 2.5  # times a non-edge's weight is an edge's: of ten pixels about one is an edge


class EdgeNetwork(nn.Module):
    """Grey images (B x 1 x H x W, 0 to 255, sides multiples of 8) to the chance of an edge (B x 1 x H x W, 0 to 1)."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth = _WIDTHS
        self.level2 = nn.Sequential(block(1, half, 2), block(half, half))
        self.level4 = nn.Sequential(block(half, quarter, 2), block(quarter, quarter))
        self.level8 = nn.Sequential(block(quarter, eighth, 2), block(eighth, eighth))
        self.down8 = nn.Conv2d(eighth, quarter, 1)
        self.down4 = nn.Conv2d(quarter, half, 1)
        self.merge4 = block(quarter, quarter)
        self.merge2 = block(half, half)
        self.head = nn.Conv2d(half, 4, 1)  # the four pixels of a pixel at half the resolution
        nn.init.constant_(self.head.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        x2 = self.level2(image / 128.0 - 1.0)
        x4 = self.level4(x2)
        x8 = self.level8(x4)
        x4 = self.merge4(x4 + nn.functional.interpolate(self.down8(x8), scale_factor=2.0))
        x2 = self.merge2(x2 + nn.functional.interpolate(self.down4(x4), scale_factor=2.0))
        logits = nn.functional.pixel_shuffle(self.head(x2), 2)
        return logits if self.training else logits.sigmoid()


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Weighted cross-entropy and, for thin lines, one minus Dice's overlap (Deng et al. 2018), where the label is
    clear. `logits`: B x 1 x H x W; `labels`: B x H x W of 0, 1, 255."""
    clear = (labels != UNCLEAR).float()
    edge = (labels == 1).float()
    logits = logits[:, 0]
    each = nn.functional.binary_cross_entropy_with_logits(logits, edge, reduction="none")
    weight = clear * (1 + (_RARE - 1) * edge)
    entropy = (each * weight).sum() / weight.sum().clamp(min=1)
    chance = logits.sigmoid() * clear
    shared = (chance * edge).sum(dim=(1, 2))
    either = (chance**2).sum(dim=(1, 2)) + edge.sum(dim=(1, 2))
    dice = 1 - ((2 * shared + 1) / (either + 1)).mean()
    return torch.add(entropy, dice, alpha=1.0)
