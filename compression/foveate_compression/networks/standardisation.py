"""What the first layer of a network does to an image (extra train)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet's red, green and blue: what released weights were trained with
_DEVIATION = (0.229, 0.224, 0.225)


class Standardisation(nn.Module):
    """B x 3 x H x W, RGB of 0 to 1, to about zero mean and unit variance; one Sub and one Div of an ONNX graph.

    The zeros with which the next layer pads are the mean colour then, so it cannot be folded into that layer exactly.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation
