"""k-means of weight vectors of which only some entries count (extra compress).

What does not count (a mask of 0) costs nothing and pulls no codeword: arXiv 2412.10261 (MVQ). With a mask of ones it is
Lloyd's algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 2**20  # distances at a time: 4 MB, which caches hold: 16 MB take 1.6 to 2.2 times as long


@dataclass(frozen=True, slots=True)
class Clusters:
    """`codebook` k x d, `codes` n (int64), `errors`: the sum of squares after every iteration, which never rises."""

    codebook: Tensor
    codes: Tensor
    errors: list[float]


def clustered(
    vectors: Tensor, k: int, mask: Tensor | None = None, *, iterations: int = 50, seed: int = 0, tolerance: float = 1e-4
) -> Clusters:
    """Codewords for vectors (n x d), ends early where an iteration gains less than `tolerance` of the error.

    Codewords that nobody chose go to the vectors that are farthest from theirs.
    """
    k = min(k, len(vectors))
    mask = torch.ones_like(vectors) if mask is None else mask.to(vectors.dtype)
    kept = vectors * mask
    generator = torch.Generator().manual_seed(seed)
    codebook = _seeded(kept, k, generator)
    errors: list[float] = []
    codes, costs = assigned(kept, mask, codebook)
    for _ in range(iterations):
        codebook = _means(kept, mask, codes, codebook)
        codebook = _refilled(codebook, kept, codes, costs)
        codes, costs = assigned(kept, mask, codebook)
        errors.append(float(costs.sum()))
        if len(errors) > 1 and errors[-2] - errors[-1] <= tolerance * errors[-2]:
            break
    return Clusters(codebook, codes, errors)


def assigned(kept: Tensor, mask: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest codeword of each vector, and its squared distance, over what counts (`kept` is 0 elsewhere)."""
    kept, codebook = kept.detach(), codebook.detach()
    squares = codebook.square().T
    whole = bool((mask == 1).all())
    table = torch.cat([-2 * codebook.T, squares.sum(0)[None] if whole else squares])
    given = torch.cat([kept, mask[:, :1] if whole else mask], 1)
    codes = torch.empty(len(kept), dtype=torch.int64)
    size = max(1, _CHUNK // len(codebook))
    room = torch.empty(min(size, len(kept)), len(codebook), dtype=kept.dtype)
    for begin in range(0, len(kept), size):
        part = slice(begin, begin + size)
        far = torch.mm(given[part], table, out=room[: len(given[part])])  # less the vector's own square
        # numpy's argmin is vectorised, torch's minimum with its place is not: 0.5 ms of 4 MB, and 2.5
        codes[part] = torch.from_numpy(far.numpy().argmin(1))
    return codes, (kept - mask * codebook[codes]).square_().sum(1)


def nearest(kept: Tensor, codebook: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` nearest codewords of each vector, the nearest first, and their squared distances: n x count."""
    codes, costs = [], []
    size = max(1, _CHUNK // len(codebook))
    for begin in range(0, len(kept), size):
        part = kept[begin : begin + size]
        far = torch.addmm(codebook.square().sum(1)[None].expand(len(part), -1), part, codebook.T, alpha=-2)
        found = far.topk(min(count, len(codebook)), largest=False)
        codes.append(found.indices)
        costs.append((found.values + part.square().sum(1, keepdim=True)).clamp(min=0))
    return torch.cat(codes), torch.cat(costs)


def _seeded(kept: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ on some of the vectors (Arthur and Vassilvitskii 2007)."""
    some = kept[torch.randperm(len(kept), generator=generator)[: max(16 * k, 4096)]]
    entries = some.T.contiguous()
    chosen = [int(torch.randint(len(some), (1,), generator=generator))]
    far = torch.full((len(some),), torch.inf, dtype=some.dtype)
    for _ in range(k - 1):
        latest = entries[:, chosen[-1], None]
        far = torch.minimum(far, (entries - latest).square_().sum(0))
        chances = far.cumsum(0, dtype=torch.float64)  # torch.multinomial takes 9 times as long
        drawn = torch.rand(1, generator=generator, dtype=torch.float64) * chances[-1]
        found = int(torch.searchsorted(chances, drawn, right=True))
        chosen.append(found if found < len(some) else len(chosen) % len(some))  # all may be chosen already
    return some[chosen].clone()


def _means(kept: Tensor, mask: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """Entry by entry the mean of what counts; what never counts stays."""
    sums = torch.zeros_like(codebook).index_add_(0, codes, kept)
    counts = torch.zeros_like(codebook).index_add_(0, codes, mask)
    return torch.where(counts > 0, sums / counts.clamp(min=1), codebook)


def _refilled(codebook: Tensor, kept: Tensor, codes: Tensor, costs: Tensor) -> Tensor:
    used = torch.zeros(len(codebook), dtype=torch.bool)
    used[codes] = True
    empty = (~used).nonzero()[:, 0]
    if not len(empty):
        return codebook
    far = costs.topk(min(len(empty), len(costs)))
    codebook = codebook.clone()
    codebook[empty[: len(far.indices)]] = kept[far.indices]
    return codebook
