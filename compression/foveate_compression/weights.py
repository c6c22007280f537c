"""The forms that a weight can take while it is compressed (extra compress).

A form gives the weight that the network sees, with gradients to what of it is learnt, and says how it is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate_compression.network import Layer, rows, unrows
from foveate_compression.quantizers import rounded, scale_and_zero
from foveate_compression.spec import Spec
from foveate_compression.vectors import Cut

_GAMMA, _ZETA = -0.1, 1.1  # of AdaRound's stretched sigmoid (arXiv 2004.10568)


@dataclass(frozen=True, slots=True)
class Stored:
    """How a weight lies in a file: `levels` int8 in the weight's own layout, or codewords and codes; their scales."""

    scale: NDArray[np.float32]  # of each output channel
    bits: float  # of all of it, as an archive that packs them would have
    levels: NDArray[np.int8] | None = None
    codebook: NDArray[np.int8] | None = None  # k x d
    codes: NDArray[np.int64] | None = None  # n
    mask: NDArray[np.bool_] | None = None  # n x d
    cut: Cut | None = None
    shape: tuple[int, ...] = ()  # of the weight's rows


class Form(nn.Module):
    """A weight of `layer`."""

    def __init__(self, layer: Layer, weight: Tensor) -> None:
        super().__init__()
        self.layer, self.shape = layer, tuple(rows(weight, layer).shape)

    def forward(self) -> Tensor:
        """The weight, in the layout of the file."""
        raise NotImplementedError

    def stored(self) -> Stored | None:
        """None: in floating point."""
        return None

    def bits(self) -> float:
        """Of all of it, as an archive that packs them would have."""
        stored = self.stored()
        return stored.bits if stored is not None else 32.0 * math.prod(self.shape)

    def _scaled(self, levels: Tensor, scale: Tensor) -> Tensor:
        """Rows of levels in the weight's unit and layout."""
        return unrows(levels * scale.reshape(-1, *[1] * (len(self.shape) - 1)), self.layer)


class Integers(Form):
    """Levels of `spec`, each the nearest, or learnt to be the one below or above (AdaRound, arXiv 2004.10568).

    What is 0 stays 0: a sparse weight stays sparse.
    """

    def __init__(self, layer: Layer, weight: Tensor, spec: Spec, low: Tensor, high: Tensor) -> None:
        """`low` and `high` of each output channel."""
        super().__init__(layer, weight)
        scale, _ = scale_and_zero(low, high, spec)
        self.spec = spec
        self.register_buffer("scale", scale.float())
        self.register_buffer("exact", rows(weight, layer) / scale.reshape(-1, *[1] * (len(self.shape) - 1)))
        self.scale: Tensor
        self.exact: Tensor
        self.choice: nn.Parameter | None = None

    def learn_rounding(self) -> None:
        """From here on rounding is learnt, from where the values lie."""
        rest = (self.exact - self.exact.floor()).clamp(0.01, 0.99)
        self.choice = nn.Parameter(-torch.log((_ZETA - _GAMMA) / (rest - _GAMMA) - 1))

    def up(self) -> Tensor:
        """How far up each value goes: 0 to 1."""
        assert self.choice is not None
        return (torch.sigmoid(self.choice) * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)

    def levels(self) -> Tensor:
        """As float, rows first."""
        if self.choice is None:
            level = torch.round(self.exact)
        else:
            up = self.up()
            level = self.exact.floor() + (up if self.training else (up >= 0.5).to(up.dtype))
        return level.clamp(self.spec.low, self.spec.high) * (self.exact != 0)

    def forward(self) -> Tensor:
        return self._scaled(self.levels(), self.scale)

    @torch.no_grad()
    def stored(self) -> Stored:
        self.eval()
        levels = self.levels()
        held = unrows(levels, self.layer).to(torch.int8).contiguous().numpy()
        return Stored(self.scale.numpy(), self.spec.bits * levels.numel() + 32 * len(levels), held, shape=self.shape)


class Book(nn.Module):
    """Codewords, k x d, in levels of int8; one weight's, or that of several networks."""

    def __init__(self, codewords: Tensor, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.codewords = nn.Parameter(codewords)

    def forward(self) -> Tensor:
        return rounded(self.codewords).clamp(-self.reach, self.reach)


class Coded(Form):
    """Codewords by their number, times a scale of each output channel; where there is a mask, 0 beside it."""

    def __init__(
        self, layer: Layer, weight: Tensor, cut: Cut, book: Book, codes: Tensor, scale: Tensor,
        mask: Tensor | None = None, shared: bool = False,
    ) -> None:  # fmt: skip
        """`codes` n; `scale` of each output channel; `mask` n x d; `shared`: the book counts elsewhere."""
        super().__init__(layer, weight)
        self.cut, self.book, self.shared = cut, book, shared
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale.float())
        self.register_buffer("mask", mask)
        self.codes: Tensor
        self.scale: Tensor
        self.mask: Tensor | None

    def vectors(self) -> Tensor:
        """n x d."""
        found = self.book()[self.codes]
        return found if self.mask is None else found * self.mask

    def forward(self) -> Tensor:
        return self._scaled(self.cut.rows(self.vectors(), self.shape), self.scale)

    @torch.no_grad()
    def stored(self) -> Stored:
        book = self.book()
        n, (k, d) = len(self.codes), book.shape
        bits = n * math.ceil(math.log2(max(k, 2))) + 32 * len(self.scale) + (0 if self.shared else 8 * k * d)
        mask = None if self.mask is None else self.mask.bool().numpy()
        if mask is not None:
            kinds = len(np.unique(np.packbits(mask, axis=1), axis=0))
            bits += n * math.ceil(math.log2(max(kinds, 2)))
        return Stored(self.scale.numpy(), bits, codebook=book.to(torch.int8).numpy(), codes=self.codes.numpy(),
                      mask=mask, cut=self.cut, shape=self.shape)  # fmt: skip


class Candidates(Coded):
    """Some codewords for each vector, mixed by learnt ratios until one of them is chosen (VQ4DiT, arXiv 2408.17131).

    `codes` n x m, the nearest first.
    """

    def __init__(
        self, layer: Layer, weight: Tensor, cut: Cut, book: Book, codes: Tensor, scale: Tensor, costs: Tensor,
        shared: bool = False,
    ) -> None:  # fmt: skip
        """`costs` n x m: squared distances, from which the ratios begin."""
        super().__init__(layer, weight, cut, book, codes, scale, None, shared)
        self.mixing = nn.Parameter(torch.log(costs[:, -1:].clamp(min=1e-9).sqrt() / costs.clamp(min=1e-9).sqrt()))
        self.register_buffer("chosen", torch.zeros(len(codes), dtype=torch.bool))
        self.chosen: Tensor

    def ratios(self) -> Tensor:
        """n x m; of those that are chosen, 1 and 0."""
        found = self.mixing.softmax(1)
        best = torch.zeros_like(found).scatter_(1, found.argmax(1, keepdim=True), 1.0)
        return torch.where(self.chosen[:, None], best, found)

    def vectors(self) -> Tensor:
        if self.training:
            return torch.einsum("nm,nmd->nd", self.ratios(), self.book()[self.codes])
        return self.book()[self._best()]

    def undecided(self) -> Tensor:
        """The mean of 1 - |2 r - 1|: 0 where every ratio is 0 or 1."""
        return (1 - (2 * self.ratios() - 1).abs()).mean()

    @torch.no_grad()
    def choose(self, sure: float = 0.99) -> float:
        """Fix the vectors whose best ratio is above `sure`; the share that is fixed, which never falls."""
        self.chosen |= self.mixing.softmax(1).amax(1) > sure
        return float(self.chosen.float().mean())

    def _best(self) -> Tensor:
        best = self.ratios().argmax(1, keepdim=True)
        return self.codes.gather(1, best)[:, 0]

    @torch.no_grad()
    def decided(self) -> Coded:
        """With the best codeword of each vector."""
        like = unrows(torch.empty(self.shape), self.layer)
        return Coded(self.layer, like, self.cut, self.book, self._best(), self.scale, None, self.shared)

    def stored(self) -> Stored:
        return self.decided().stored()


class Sparse(Form):
    """A weight in floating point of which a mask leaves a part."""

    def __init__(self, layer: Layer, weight: Tensor, mask: Tensor) -> None:
        """`mask` of the weight's shape."""
        super().__init__(layer, weight)
        self.weight = nn.Parameter(weight.clone())
        self.register_buffer("mask", mask.to(weight.dtype))
        self.mask: Tensor

    def forward(self) -> Tensor:
        return self.weight * self.mask

    def size(self) -> float:
        """The root mean square of what the mask leaves."""
        left = self.mask.sum().clamp(min=1)
        return float(((self.weight.detach() * self.mask).square().sum() / left).sqrt())

    def bits(self) -> float:
        """A bit for each entry, and 32 for each that is not 0."""
        return float(self.mask.numel() + 32 * self.mask.sum())
