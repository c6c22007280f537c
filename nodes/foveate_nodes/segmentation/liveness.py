"""Which blocks of a network can never fire, and the network without them (extra train).

All released SLTNet weights have dead blocks: weight decay drove their first norm to zero, and what never fires never
learns. A dead block adds nothing to its shortcut.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from foveate_nodes.segmentation.sltnet import ConvSpike, NormSpike, SltNet, SpikeBlock

_MOST = 1e6  # size of what comes into a block: sums of spikes and products with weights are far below


def blocks(net: SltNet) -> list[tuple[str, SpikeBlock]]:
    """The spiking blocks with their names."""
    return [(name, module) for name, module in net.named_modules() if isinstance(module, SpikeBlock)]


def is_dead(block: SpikeBlock) -> bool:
    """Whether no input can make a neuron of its entrance fire, nor the shifts of its norms alone one behind: membranes
    add up for ever what never reaches the threshold."""
    behind = [module.out for module in block.modules() if isinstance(module, ConvSpike)]
    silent = [_highest(block.enter, _MOST), *(_highest(each, 0.0) for each in [*behind, block.leave])]
    return all(bool((highest <= 0).all()) for highest in silent)


def _highest(norm_spike: NormSpike, most: float) -> torch.Tensor:
    """By channel: the highest membrane less the threshold, of inputs up to `most`."""
    norm, neuron = norm_spike.norm, norm_spike.spike
    assert norm.running_var is not None and norm.running_mean is not None
    scale = (norm.weight * torch.rsqrt(norm.running_var + norm.eps)).double()
    highest = norm.bias.double() - norm.running_mean.double() * scale + scale.abs() * most
    return highest.clamp(min=0) / (1 - neuron.beta) - neuron.threshold


def dead(net: SltNet) -> list[str]:
    """The names of the dead blocks."""
    return [name for name, block in blocks(net) if is_dead(block)]


def without_dead(net: SltNet) -> SltNet:
    """A copy whose dead blocks are identities: its outputs are those of `net`, bit for bit."""
    made = copy.deepcopy(net)
    for name in dead(made):
        parent, _, own = name.rpartition(".")
        setattr(made.get_submodule(parent), own, nn.Identity())
    return made
