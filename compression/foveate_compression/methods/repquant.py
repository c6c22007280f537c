"""RepQuant: scales by channel behind layer norms become one, softmaxes get log-sqrt2 levels (arXiv 2402.05628)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from foveate_compression import spec
from foveate_compression.methods.method import Progress
from foveate_compression.network import rows
from foveate_compression.passes import Norm, attentions, changed_basis, norms
from foveate_compression.quantizers import Powers, Uniform, scale_and_zero, uniform
from foveate_compression.spec import Spec
from foveate_compression.work import Work, batches

_SHARES = (1.0, 0.99999, 0.9999, 0.999)  # of a channel's values that its range holds


@dataclass(frozen=True, slots=True)
class RepQuant:
    """`bits` of what norms and softmaxes give; `clip`: iterations in which each channel's lower and upper end are
    learnt (dual clipping). Weights and all else are left to later steps."""

    bits: Annotated[int, Ge(2), Le(8)] = 4
    clip: Annotated[int, Ge(0), Le(10_000)] = 0
    softmax: bool = True

    def apply(self, work: Work, progress: Progress) -> None:
        """Levels for norms and softmaxes; the function itself stays as it is."""
        level = spec.activations(self.bits)
        found = norms(work)
        for i, norm in enumerate(found):
            x = torch.cat(
                [batch[norm.output].reshape(-1, batch[norm.output].shape[-1]) for batch in work.seen([norm.output])]
            )
            low, high = _of_channels(x, level)
            if self.clip:
                low, high = self._clipped(work, norm, x, low, high, level)
            scale, zero = scale_and_zero(low, high, level)
            one, at = scale.mean(), torch.round(zero.mean())
            factor = scale / one
            changed_basis(work, norm, factor, -zero * scale / factor + at * one)
            work.levels[norm.output] = Uniform(level, (level.low - at) * one, (level.high - at) * one).eval()
            progress("norms", i + 1, len(found))
        if self.softmax:
            for attention in attentions(work, next(iter(batches(work.samples, 1)))):
                most = max(float(batch[attention.weights].max()) for batch in work.seen([attention.weights]))
                work.levels[attention.weights] = Powers(self.bits, 2, most)

    def _clipped(
        self, work: Work, norm: Norm, x: Tensor, low: Tensor, high: Tensor, level: Spec
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Ends of channels, learnt so that the products lose least."""
        weights = torch.cat([rows(work.constant(layer.weight), layer) for layer in norm.readers])
        x = x[torch.linspace(0, len(x) - 1, min(len(x), 4096)).long()]
        target = x @ weights.T
        ends = nn.Parameter(torch.full((2, len(low)), 6.0))  # a sigmoid of nearly 1
        optimizer = torch.optim.Adam([ends], 5e-2)
        best, chosen = float("inf"), (low, high)
        for _ in range(self.clip + 1):
            now = (low * torch.sigmoid(ends[0]), high * torch.sigmoid(ends[1]))
            error = (uniform(x, *scale_and_zero(*now, level), level) @ weights.T - target).square().mean()
            if float(error.detach()) < best:
                best, chosen = float(error.detach()), (now[0].detach(), now[1].detach())
            optimizer.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return chosen


def _of_channels(x: Tensor, level: Spec) -> tuple[Tensor, Tensor]:
    """The range of each column that holds all but a share of it, of several shares the one that loses least."""
    best = torch.full_like(x[0], float("inf"))
    chosen = torch.stack([x.amin(0), x.amax(0)])
    for share in _SHARES:
        some = x[:: max(1, x.numel() // 2**24)]
        ends = torch.stack([torch.quantile(some, 1 - share, dim=0), torch.quantile(some, share, dim=0)])
        error = (uniform(x, *scale_and_zero(ends[0], ends[1], level), level) - x).square().sum(0)
        chosen = torch.where(error < best, ends, chosen)
        best = torch.minimum(error, best)
    return chosen[0], chosen[1]
