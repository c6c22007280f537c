"""How fast a network learns as its training goes on."""

from __future__ import annotations

import math

import torch


def set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Linear warm-up over 3 % of the steps, then a half cosine to 2 %."""
    warm = min(1.0, (step + 1) / (0.03 * steps + 1))
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
