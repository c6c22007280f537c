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
_SHRINKS = 80  # ranges tried, down to a fifth
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
    """By row, the share of its range with the least sum of errors to the power of 2.4; scalars for one row."""
    low, high = rows.amin(1), rows.amax(1)
    best = torch.full_like(low, float("inf"))
    chosen = torch.ones_like(low)
    for i in range(_SHRINKS):
        share = 1.0 - i / _SHRINKS * 0.8
        scale, zero = scale_and_zero(share * low, share * high, spec)
        error = (uniform(rows, scale[:, None], zero[:, None], spec) - rows).abs().pow(_POWER).sum(1)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, torch.full_like(low, share), chosen)
    low, high = chosen * low, chosen * high
    return (low[0], high[0]) if len(rows) == 1 else (low, high)


def thinned(values: Tensor, most: int = _MOST) -> Tensor:
    """Not more than `most` of them, evenly; with the extremes."""
    flat = values.reshape(-1)
    if len(flat) <= most:
        return flat
    step = -(-len(flat) // most)
    return torch.cat([flat[::step], flat.min()[None], flat.max()[None]])
