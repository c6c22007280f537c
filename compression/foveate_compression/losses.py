"""What a network that learns from another is measured by (extra compress)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_TEMPERATURE = 4.0


def distilled(found: Tensor, whole: Tensor, temperature: float = _TEMPERATURE) -> Tensor:
    """Of logits (N x classes) Kullback and Leibler's divergence at a temperature, times its square (arXiv 1503.02531);
    of anything else the mean squared error, relative to the mean square."""
    if found.ndim == 2:
        ours, theirs = (functional.log_softmax(each / temperature, 1) for each in (found, whole))
        return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2
    return (found - whole).square().mean() / whole.square().mean().clamp(min=1e-12)
