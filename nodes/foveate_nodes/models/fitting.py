"""How a network learns: the one loop that every training runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from foveate.errors import ModelError

Progress = Callable[[int, int, float], None]  # step, of how many, loss


_KEPT_EVERY = 50  # steps between two checkpoints


def fit(
    net: torch.nn.Module, loss: Callable[[], torch.Tensor] | Callable[[int], torch.Tensor], *, steps: int, peak: float,
    weight_decay: float, progress: Progress, clip: float = math.inf, decays: Callable[[str], bool] = lambda name: True,
    checkpoint: Path | None = None, said: str = "", coupled: bool = False,
) -> None:  # fmt: skip
    """`steps` of AdamW on what `loss` gives for the next batch; leaves the network in evaluation mode.

    `peak` is the highest rate (see `_set_rate`), `clip` the largest norm of a gradient, `decays` says of a parameter's
    name whether its weight decays; `coupled`: within the gradient, as Adam without W does. With a `checkpoint`, `loss`
    is given the number of the step, and what an interrupted training had reached is gone on from, if it had the same
    `said`: its recipe. Raises ModelError.
    """
    groups = [[p for name, p in net.named_parameters() if decays(name) == decay] for decay in (True, False)]
    optimizer = (torch.optim.Adam if coupled else torch.optim.AdamW)(
        [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (weight_decay, 0.0), strict=True)],
        peak,
    )
    first = _resumed(net, optimizer, checkpoint, said) if checkpoint is not None else 0
    net.train()
    for step in range(first, steps):
        _set_rate(optimizer, peak, step, steps)
        total = loss(step) if checkpoint is not None else loss()  # type: ignore[call-arg]
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        if math.isfinite(clip):
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        progress(step + 1, steps, float(total.detach()))
        if checkpoint is not None and ((step + 1) % _KEPT_EVERY == 0 or step + 1 == steps):
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "said": said}
            fresh = checkpoint.with_suffix(".new")
            torch.save(state, fresh)
            fresh.replace(checkpoint)
    net.eval()


def _resumed(net: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path, said: str) -> int:
    """Steps done before; 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    state = checkpoint_at(path)
    if state["said"] != said:
        text = "it was made with another recipe; choose another --output, or remove it to begin anew"
        raise ModelError(str(path), "go on from it", text)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def checkpoint_at(path: Path) -> dict[str, Any]:
    """What `fit` kept: net, optimizer, step, said. Raises ModelError."""
    try:
        state = torch.load(path, weights_only=True)
        if not isinstance(state, dict) or not {"net", "optimizer", "step", "said"} <= state.keys():
            raise ValueError("something else")
    except FileNotFoundError:
        raise ModelError(str(path), "read the checkpoint", "no such file") from None
    except Exception as error:  # torch raises whatever a broken file leads it to
        text = f"damaged, or none of 'foveate train' ({type(error).__name__}); remove it to begin anew"
        raise ModelError(str(path), "read the checkpoint", text) from None
    return state


def _set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Linear warm-up over 3 % of the steps, then a half cosine to 2 %."""
    warm = min(1.0, (step + 1) / (0.03 * steps + 1))
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
