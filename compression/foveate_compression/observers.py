"""From values that were seen to the range that is kept of them (extra compress)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from foveate_compression.quantizers import scale_and_zero, uniform
from foveate_compression.spec import Spec

Range = tuple[Tensor, Tensor]  # low and high
Method = Literal["minmax", "average", "percentile", "error"]
_SHRINKS, _LEAST = 80, 0.2  # ranges tried, down to a fifth
_BELOW = (1.0, 0.5, 0.25)  # shares of the lower end alone
_POWER = 2.4  # of errors that are minimised: a little more than squares against clipping (as in LAPQ, BRECQ)
_MOST = 2**17  # values looked at


def observed(batches: Iterable[Tensor], spec: Spec, method: Method = "minmax", share: float = 0.9999) -> Range:
    """(low, high) of a tensor that was seen in `batches`.

    minmax: all of it; average: the mean of the batches' extremes; percentile: all but 1 - `share` on either side;
    error: the range, shrunk on both sides alike, whose rounding and clipping lose least.
    """
    seen = [batch.detach().float() for batch in batches]
    low = torch.stack([batch.min() for batch in seen])
    high = torch.stack([batch.max() for batch in seen])
    if method == "average":
        return low.mean(), high.mean()
    if method == "minmax":
        return low.min(), high.max()
    values = thinned(torch.cat([batch.reshape(-1) for batch in seen]))
    if method == "percentile":
        return torch.quantile(values, 1 - share), torch.quantile(values, share)
    return _least_error(values[None], spec)


def of_channels(rows: Tensor, spec: Spec, method: Method = "minmax") -> Range:
    """(low, high) of every row of a matrix: (channels,) each."""
    flat = rows.detach().reshape(len(rows), -1).float()
    if method == "error":
        low, high = _least_error(flat, spec)
        return low.reshape(-1), high.reshape(-1)
    return flat.amin(1), flat.amax(1)


def _least_error(rows: Tensor, spec: Spec) -> Range:
    """By row, the shares of its two ends with the least sum of errors to the power of 2.4; scalars for one row.

    Ends are shrunk alike, and where levels have a zero point also each for itself: four bits over what a GELU gives
    have no level below 0 once its short end is shrunk, and the error has a mean.
    """
    low, high = rows.amin(1), rows.amax(1)
    best = torch.full_like(low, float("inf"))
    chosen = torch.stack([low, high])
    pairs = [(share, share) for share in torch.linspace(1.0, _LEAST, _SHRINKS).tolist()]
    if not spec.symmetric:
        pairs += [(below, above) for below in _BELOW for above in torch.linspace(1.0, _LEAST, _SHRINKS // 4).tolist()]
    for below, above in pairs:
        ends = torch.stack([below * low, above * high])
        scale, zero = scale_and_zero(ends[0], ends[1], spec)
        error = (uniform(rows, scale[:, None], zero[:, None], spec) - rows).abs().pow(_POWER).sum(1)
        chosen = torch.where(error < best, ends, chosen)
        best = torch.minimum(error, best)
    return (chosen[0, 0], chosen[1, 0]) if len(rows) == 1 else (chosen[0], chosen[1])


def thinned(values: Tensor, most: int = _MOST) -> Tensor:
    """Not more than `most` of them, evenly; with the extremes."""
    flat = values.reshape(-1)
    if len(flat) <= most:
        return flat
    step = -(-len(flat) // most)
    return torch.cat([flat[::step], flat.min()[None], flat.max()[None]])
