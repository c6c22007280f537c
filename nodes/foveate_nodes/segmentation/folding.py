"""A network for inference: batch norms folded into the convolutions before them (extra train)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from foveate_nodes.segmentation.sltnet import ConvSpike, FeatureEnhance, RepConv, SltNet, SpikeMlp


def folded(net: SltNet) -> SltNet:
    """A copy that gives the same in evaluation mode, to rounding; norms with no convolution before them stay."""
    made = copy.deepcopy(net).eval()
    for name, module in list(made.named_modules()):
        if isinstance(module, ConvSpike):
            module.conv, module.out.norm = _joined(module.conv, module.out.norm), nn.Identity()  # type: ignore[assignment]
        elif isinstance(module, FeatureEnhance):
            module.place, module.norm = _joined(module.place, module.norm), nn.Identity()  # type: ignore[assignment]
        elif isinstance(module, SpikeMlp):
            module.widen, module.widened = _joined(module.widen, module.widened), nn.Identity()  # type: ignore[assignment]
            module.narrow, module.narrowed = _joined(module.narrow, module.narrowed), nn.Identity()  # type: ignore[assignment]
        elif isinstance(module, RepConv):
            parent, _, own = name.rpartition(".")
            setattr(made.get_submodule(parent), own, _one(module))
    return made


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a norm multiplies by and adds, by channel, in double precision."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _joined(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    scale, shift = _affine(norm)
    bias = 0 if conv.bias is None else conv.bias.double()
    return _conv(conv.weight.double() * scale[:, None, None, None], shift + bias * scale, conv)


def _one(rep: RepConv) -> nn.Conv2d:
    """The 3 x 3 convolution that a RepConv is: zeros around its input are what its first norm makes of them inside."""
    inner, inner_shift = _affine(rep.inner)
    norm, norm_shift = _affine(rep.norm)
    outer, outer_shift = _affine(rep.outer)
    first, last = rep.first.weight.double()[:, :, 0, 0], rep.last.weight.double()[:, :, 0, 0]
    depthwise = rep.depthwise.weight.double()[:, 0]
    scale = outer * norm
    weight = torch.einsum("o,oc,cyx,c,ci->oiyx", scale, last, depthwise, inner, first)
    bias = scale * (last @ (depthwise.sum((1, 2)) * inner_shift)) + outer * norm_shift + outer_shift
    like = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    return _conv(weight, bias, like)


@torch.no_grad()
def _conv(weight: Tensor, bias: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    made = copy.deepcopy(like)
    made.weight = nn.Parameter(torch.empty_like(weight, dtype=like.weight.dtype))
    made.bias = nn.Parameter(torch.empty_like(bias, dtype=like.weight.dtype))
    made.weight.copy_(weight)
    made.bias.copy_(bias)
    return made
