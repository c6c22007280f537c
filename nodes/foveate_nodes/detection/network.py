"""The detector's network: a small convolutional pyramid whose boxes carry their own uncertainty.

Outputs follow the YOLOX export (Ge et al. 2021): per cell dx, dy, log w, log h (units of the stride),
objectness, class scores; then four log standard deviations of the box terms (Gaussian head:
Choi et al. 2019, He et al. 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate_nodes.models.blocks import block

STRIDES = (8, 16, 32)
INPUT_PX = 256


class Detector(nn.Module):
    """Grey images (B x 1 x H x W, 0 to 255) to B x cells x (9 + classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(block(1, 16, 2), block(16, 24, 2))
        self.level8 = nn.Sequential(block(24, 48, 2), block(48, 48))
        self.level16 = nn.Sequential(block(48, 80, 2), block(80, 80))
        self.level32 = nn.Sequential(block(80, 112, 2), block(112, 112), block(112, 112))
        self.down32 = nn.Conv2d(112, 80, 1)
        self.down16 = nn.Conv2d(80, 48, 1)
        self.merge16 = block(80, 80)
        self.merge8 = block(48, 48)
        widths = (48, 80, 112)
        self.neck = nn.ModuleList([block(w, 64) for w in widths])
        self.heads = nn.ModuleList([nn.Conv2d(64, 9 + classes, 1) for _ in widths])
        for head in self.heads:
            nn.init.constant_(head.bias, 0.0)  # type: ignore[arg-type]
            nn.init.constant_(head.bias[4], -4.0)  # type: ignore[index]

    def forward(self, image: Tensor) -> Tensor:
        x8 = self.level8(self.stem(image / 128.0 - 1.0))
        x16 = self.level16(x8)
        x32 = self.level32(x16)
        x16 = self.merge16(x16 + nn.functional.interpolate(self.down32(x32), scale_factor=2.0))
        x8 = self.merge8(x8 + nn.functional.interpolate(self.down16(x16), scale_factor=2.0))
        cells = []
        for neck, head, x in zip(self.neck, self.heads, (x8, x16, x32), strict=True):
            raw = head(neck(x)).flatten(2).transpose(1, 2)
            box, score, spread = raw.split([4, 1 + self.classes, 4], dim=2)
            if not self.training:
                score = score.sigmoid()
            cells.append(torch.cat([box, score, spread], dim=2))
        return torch.cat(cells, dim=1)


def grid(height: int, width: int) -> Tensor:
    """Cells x 3: x, y (cell units) and stride, in the order of `Detector`'s output."""
    parts = []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        parts.append(torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), stride)], 1))
    return torch.cat(parts).float()


def assign(boxes: Tensor, count: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """(positive, index): which cells answer for which box.

    `boxes` B x M x 4 (x0, y0, x1, y1, pixels), `count` B valid boxes each. A cell is positive when it
    is of the stride that fits the box's longer side and lies within 1.5 cells of its centre.
    """
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).amax(-1)
    stride = torch.where(side < 44, 8, torch.where(side < 120, 16, 32)).float()
    place = (cells[:, :2] + 0.5) * cells[:, 2:]
    gap = (place[None, :, None] - center[:, None]).abs().amax(-1)  # B x cells x M
    fits = cells[None, :, 2, None] == stride[:, None]
    near = gap <= torch.minimum(1.5 * stride, (side / 2).clamp(min=5.0))[:, None]
    valid = torch.arange(boxes.shape[1])[None, None] < count[:, None, None]
    gap = torch.where(fits & near & valid, gap, torch.inf)
    best, index = gap.min(dim=2)
    return torch.isfinite(best), index


def loss(raw: Tensor, boxes: Tensor, labels: Tensor, count: Tensor, cells: Tensor) -> Tensor:
    """Objectness and class cross-entropy, GIoU, and the Gaussian likelihood of the box terms."""
    positive, index = assign(boxes, count, cells)
    bce = nn.functional.binary_cross_entropy_with_logits
    classes = raw.shape[2] - 9
    logits = raw[..., 4]
    chance = logits.sigmoid()
    focal = torch.where(positive, (1 - chance), chance) ** 1.5
    total = (focal * bce(logits, positive.float(), reduction="none")).sum() * 1.5
    batch, cell = positive.nonzero(as_tuple=True)
    scale = max(len(batch), 1)
    if len(batch):
        box = boxes[batch, index[batch, cell]]
        label = labels[batch, index[batch, cell]]
        out = raw[batch, cell]
        stride = cells[cell, 2:]
        corner = cells[cell, :2]
        target = torch.cat(
            [(box[:, :2] + box[:, 2:]) / 2 / stride - corner,
             ((box[:, 2:] - box[:, :2]) / stride).clamp(min=0.05).log()], 1
        )  # fmt: skip
        spread = out[:, 5 + classes :].clamp(-5, 3)
        error = (out[:, :4] - target).abs().clamp(max=8.0)
        likelihood = 0.5 * (error / spread.exp()) ** 2 + spread
        total = total + 0.25 * likelihood.clamp(max=30.0).sum() + 0.5 * error.clamp(max=4.0).sum()
        hot = nn.functional.one_hot(label, classes).float()
        total = total + bce(out[:, 5 : 5 + classes], hot, reduction="none").sum()
        center = (out[:, :2] + corner) * stride
        half = out[:, 2:4].clamp(-4, 5).exp() * stride / 2
        total = total + 2.0 * (1 - _giou(torch.cat([center - half, center + half], 1), box)).sum()
    return total / scale


def _giou(a: Tensor, b: Tensor) -> Tensor:
    inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return inter / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
