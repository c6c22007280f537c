"""A small vision transformer made as hard to quantize as large ones are (extra train).

Large transformers have a few channels behind their norms that are tens of times larger than the others, or far from
zero (Li et al., RepQ-ViT, ICCV 2023, figure 1). Here such are put into a network without changing what it gives.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from foveate_compression.networks.vit import Layer, ViT

_SHIFTED = 2  # every second of the channels is shifted, too


@torch.no_grad()
def inject(net: ViT, seed: int, channels: int = 4, factor: tuple[float, float] = (20.0, 60.0)) -> ViT:
    """A copy with the same outputs (to 1e-4), behind whose norms `channels` channels are larger.

    Each is larger by a factor of its own, drawn evenly from `factor`; half of them are shifted as well, by one to two
    of their deviations. The product that reads the norm takes both back. The norm before the head is left as it is.
    """
    made = copy.deepcopy(net)
    draw = torch.Generator().manual_seed(seed)
    for layer in made.layers:
        assert isinstance(layer, Layer)
        for norm, reader in ((layer.norm1, layer.attention.qkv), (layer.norm2, layer.mlp.fc1)):
            _enlarge(norm, reader, torch.randperm(len(norm.weight), generator=draw)[:channels], factor, draw)
    return made


def _enlarge(
    norm: nn.LayerNorm, reader: nn.Linear, which: Tensor, factor: tuple[float, float], draw: torch.Generator
) -> None:
    low, high = factor
    by = low + (high - low) * torch.rand(len(which), generator=draw)
    sign = torch.randint(2, (len(which),), generator=draw).mul(2).sub(1)
    deviations = sign * torch.rand(len(which), generator=draw).add(1)
    deviations[1::_SHIFTED] = 0
    norm.weight[which] *= by
    norm.bias[which] *= by
    reader.weight[:, which] /= by
    shift = deviations * norm.weight[which].abs()  # behind a norm, a channel's deviation is about its weight
    norm.bias[which] += shift
    reader.bias.sub_((reader.weight[:, which].double() @ shift.double()).float())
