"""A residual network for small images (extra train).

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate.errors import ModelError
from foveate_compression.networks.standardisation import Standardisation

SHORTCUTS = ("projection", "padding")


class Padding(nn.Module):
    """The shortcut without weights (option A of the paper): every `stride`-th pixel, and channels of zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.behind = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


class Basic(nn.Module):
    """Two 3 x 3 convolutions and what goes round them."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = (
                Padding(inputs, outputs, stride)
                if shortcut == "padding"
                else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """B x 3 x H x W, RGB of 0 to 1, to B x classes: logits. Stages of width 1, 2, 4, .. times `width`; all but the
    first halve the image."""

    def __init__(
        self, classes: int = 10, width: int = 32, blocks: Sequence[int] = (1, 1, 1), shortcut: str = "projection"
    ) -> None:
        """`blocks` of each stage; `shortcut`: one of SHORTCUTS. Raises ValueError."""
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut '{shortcut}'; one of {', '.join(SHORTCUTS)}")
        self.standardisation = Standardisation()
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        stages, inputs = [], width
        for i, count in enumerate(blocks):
            stage = []
            for j in range(count):
                stage.append(Basic(inputs, width << i, 2 if i and not j else 1, shortcut))
                inputs = width << i
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.conv(self.standardisation(x))))
        return self.head(self.stages(x).mean((2, 3)))


def released(path: Path) -> ResNet:
    """A network of github.com/akamaster/pytorch_resnet_cifar10 (`.th`) in evaluation mode. Raises ModelError."""
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        weights = {_ours(name): value for name, value in found.items()}
        net = ResNet(**_sizes(weights), shortcut="padding")
        net.load_state_dict(weights)
    except FileNotFoundError:
        raise ModelError(str(path), "load", "no such file") from None
    except Exception as error:  # torch raises whatever a broken file leads it to
        text = f"damaged, or no network of pytorch_resnet_cifar10 ({type(error).__name__})"
        raise ModelError(str(path), "load", text) from None
    return net.eval()


def _ours(name: str) -> str:
    """module.layer1.0.bn1.weight -> stages.0.0.norm1.weight."""
    name = name.removeprefix("module.").replace("linear.", "head.").replace("bn", "norm")
    name = re.sub(r"^(conv|norm)1\.", r"\1.", name)
    return re.sub(r"^layer(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.", name)


def _sizes(weights: dict[str, Tensor]) -> dict[str, Any]:
    places = {tuple(map(int, name.split(".")[1:3])) for name in weights if name.startswith("stages.")}
    stages = max(stage for stage, _ in places) + 1
    blocks = tuple(sum(each == stage for each, _ in places) for stage in range(stages))
    return {"classes": len(weights["head.bias"]), "width": len(weights["norm.bias"]), "blocks": blocks}
