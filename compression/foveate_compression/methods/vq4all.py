"""VQ4ALL: one codebook, sampled once from the weights of several networks and never trained (arXiv 2412.06875)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from foveate_compression.coding import book_of, normalised
from foveate_compression.kmeans import nearest
from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer
from foveate_compression.placement import chosen
from foveate_compression.reconstruction import Schedule, reconstructed
from foveate_compression.vectors import Cut
from foveate_compression.weights import Book, Candidates
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Vq4All:
    """`codewords` of `size` entries drawn from the density of all networks' vectors (a Gaussian of width `bandwidth` at
    each, in units of a channel's root mean square); each vector then chooses among its `candidates` nearest."""

    size: Annotated[int, Ge(2), Le(64)] = 8
    codewords: Annotated[int, Ge(2), Le(65536)] = 4096
    candidates: Annotated[int, Ge(1), Le(64)] = 4
    bandwidth: Annotated[float, Ge(0), Le(10)] = 0.01
    iterations: Annotated[int, Gt(0)] = 200
    skip: tuple[str, ...] = field(default=())
    reach: Annotated[int, Ge(1), Le(127)] = 63
    seed: Annotated[int, Ge(0)] = 0

    def apply(self, work: Work, progress: Progress) -> None:
        """With a codebook of this network alone."""
        self.apply_to([work], progress)

    def apply_to(self, works: Sequence[Work], progress: Progress) -> None:
        """All of them share one codebook."""
        cut = Cut(self.size, "outputs")
        layers = [self._layers(work, cut) for work in works]
        book, unit = self.codebook([self._vectors(work, found, cut) for work, found in zip(works, layers, strict=True)])
        for work, found in zip(works, layers, strict=True):
            for layer in found:
                work.forms[layer.weight] = self._candidates(work, layer, cut, book, unit)
            work.gains += reconstructed(work, Schedule(iterations=self.iterations, drop=0.0, seed=self.seed), progress)
            for layer in found:
                form = work.forms[layer.weight]
                assert isinstance(form, Candidates)
                work.forms[layer.weight] = form.decided()

    def codebook(self, vectors: Sequence[Tensor]) -> tuple[Book, float]:
        """The codebook, frozen, of vectors of each network, as many of each; and what a level is."""
        random = torch.Generator().manual_seed(self.seed)
        share = -(-self.codewords // len(vectors))
        drawn = torch.cat([each[torch.randint(len(each), (share,), generator=random)] for each in vectors])
        drawn = drawn[torch.randperm(len(drawn), generator=random)[: self.codewords]]
        drawn = drawn + self.bandwidth * torch.randn(drawn.shape, generator=random)
        book, scale = book_of(drawn, torch.ones(1), self.reach)
        book.codewords.requires_grad_(False)
        return book, float(scale)

    def _layers(self, work: Work, cut: Cut) -> list[Layer]:
        skipped = {layer.name for layer in chosen(work, self.skip)}
        free = [layer for layer in work.network.layers if layer.weight not in work.forms and layer.name not in skipped]
        return [layer for layer in free if cut.fits(work.rows(layer))]

    def _vectors(self, work: Work, layers: list[Layer], cut: Cut) -> Tensor:
        return torch.cat([cut.vectors(normalised(work.rows(layer).detach()).rows) for layer in layers])

    def _candidates(self, work: Work, layer: Layer, cut: Cut, book: Book, unit: float) -> Candidates:
        found = normalised(work.rows(layer).detach())
        with torch.no_grad():
            codes, costs = nearest(cut.vectors(found.rows), book() * unit, self.candidates)
        weight = work.weight(layer).detach()
        return Candidates(layer, weight, cut, book, codes, found.scale * unit, costs, shared=True)
