"""How a network learns: the one loop that every training runs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Progress = Callable[[int, int, float], None]  # step, of how many, loss


def fit(
    net: torch.nn.Module, loss: Callable[[], torch.Tensor], *, steps: int, peak: float, weight_decay: float,
    progress: Progress, clip: float = math.inf,
) -> None:  # fmt: skip
    """`steps` of AdamW on what `loss` gives for the next batch; leaves the network in evaluation mode.

    `peak` is the highest rate (see `_set_rate`), `clip` the largest norm of a gradient.
    """
    optimizer = torch.optim.AdamW(net.parameters(), peak, weight_decay=weight_decay)
    net.train()
    for step in range(steps):
        _set_rate(optimizer, peak, step, steps)
        total = loss()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        if math.isfinite(clip):
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        progress(step + 1, steps, float(total.detach()))
    net.eval()


def _set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Linear warm-up over 3 % of the steps, then a half cosine to 2 %."""
    warm = min(1.0, (step + 1) / (0.03 * steps + 1))
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
