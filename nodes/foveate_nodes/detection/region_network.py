"""The region network: which class of ground each part of the wide image shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate_nodes.models.blocks import block

CLASSES = ("vegetation", "road", "pavement", "roof", "ground", "vehicle", "person")
UNKNOWN = 255


class Regions(nn.Module):
    """BGR images (B x 3 x H x W, 0 to 255) to class probabilities at a quarter of the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 12, 2), block(12, 24, 2), block(24, 24))
        self.level8 = nn.Sequential(block(24, 32, 2), block(32, 32))
        self.level16 = nn.Sequential(block(32, 48, 2), block(48, 48), block(48, 48))
        self.down16 = nn.Conv2d(48, 32, 1)
        self.down8 = nn.Conv2d(32, 24, 1)
        self.merge = block(24, 24)
        self.head = nn.Conv2d(24, len(CLASSES), 1)

    def forward(self, image: Tensor) -> Tensor:
        x4 = self.stem(image / 128.0 - 1.0)
        x8 = self.level8(x4)
        x16 = self.down16(self.level16(x8))
        x8 = self.down8(x8 + nn.functional.interpolate(x16, scale_factor=2.0))
        logits = self.head(self.merge(x4 + nn.functional.interpolate(x8, scale_factor=2.0)))
        return logits if self.training else logits.softmax(dim=1)


def loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy where the class is known; where only the objects are (code 254: no vehicle), that."""
    known = classes < len(CLASSES)
    total = nn.functional.cross_entropy(
        logits, torch.where(known, classes, UNKNOWN), ignore_index=UNKNOWN,
        weight=torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 4.0]),
    ) if known.any() else logits.sum() * 0.0  # fmt: skip
    clear = classes == 254
    if clear.any():
        vehicle = logits.softmax(dim=1)[:, 5]
        total = total - torch.log((1 - vehicle[clear]).clamp(min=1e-4)).mean()
    return total
