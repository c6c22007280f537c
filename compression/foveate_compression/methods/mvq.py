"""MVQ: N of M weights are kept, and a codebook is found for those alone (arXiv 2412.10261)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from foveate_compression.coding import book_of, normalised
from foveate_compression.kmeans import clustered
from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer, unrows
from foveate_compression.placement import chosen
from foveate_compression.reconstruction import Schedule, reconstructed
from foveate_compression.vectors import Cut
from foveate_compression.weights import Coded, Sparse
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Mvq:
    """Vectors of `size` output channels; `keep` of every `of` entries, the largest, stay (0: all, which is plain VQ).

    `masked`: distances and means count what stays alone; without it, all do, and the mask comes afterwards (the
    baseline). `adapt`: iterations in which what stays learns to do without the rest, block by block, before codewords
    are found. `tune`: iterations of codewords, block by block. `reach`: the greatest level of a codeword; 63 does not
    overflow on x86 without VNNI. Layers that vectors do not fit, and `skip`, are left to later steps.
    """

    size: Annotated[int, Ge(2), Le(64)] = 8
    codewords: Annotated[int, Ge(2), Le(65536)] = 256
    keep: Annotated[int, Ge(0), Le(64)] = 4
    of: Annotated[int, Ge(1), Le(64)] = 8
    masked: bool = True
    along: Literal["outputs", "inputs"] = "outputs"
    iterations: Annotated[int, Gt(0)] = 50
    adapt: Annotated[int, Ge(0)] = 0
    tune: Annotated[int, Ge(0)] = 200
    reach: Annotated[int, Ge(1), Le(127)] = 63
    skip: tuple[str, ...] = field(default=())
    seed: Annotated[int, Ge(0)] = 0

    def apply(self, work: Work, progress: Progress) -> None:
        """A codebook for each layer that vectors fit."""
        cut = Cut(self.size, self.along)
        skipped = {layer.name for layer in chosen(work, self.skip)}
        layers = [
            layer for layer in work.network.layers if layer.name not in skipped and layer.weight not in work.forms
        ]
        layers = [layer for layer in layers if cut.fits(work.rows(layer)) and self._pays(work, layer)]
        masks = {layer.weight: self._mask(work, layer, cut) for layer in layers} if self.keep else {}
        if masks and self.adapt:
            for layer in layers:
                mask = unrows(cut.rows(masks[layer.weight], tuple(work.rows(layer).shape)), layer)
                work.forms[layer.weight] = Sparse(layer, work.weight(layer).detach(), mask)
            reconstructed(work, Schedule(iterations=self.adapt, drop=0.0, seed=self.seed), progress)
        for i, layer in enumerate(layers):
            work.forms[layer.weight] = self._coded(work, layer, cut, masks.get(layer.weight))
            progress("codebooks", i + 1, len(layers))
        if self.tune:
            work.gains += reconstructed(work, Schedule(iterations=self.tune, drop=0.0, seed=self.seed), progress)

    def _pays(self, work: Work, layer: Layer) -> bool:
        """Whether the codebook itself takes less than a quarter of what int8 would."""
        return 4 * self.codewords * self.size <= work.rows(layer).numel()

    def _mask(self, work: Work, layer: Layer, cut: Cut) -> Tensor:
        return kept(cut.vectors(work.rows(layer).detach()), self.keep, self.of)

    def _coded(self, work: Work, layer: Layer, cut: Cut, mask: Tensor | None) -> Coded:
        weight = work.weight(layer).detach()
        found = normalised(work.rows(layer).detach())
        vectors = cut.vectors(found.rows)
        counted = mask if self.masked else None
        clusters = clustered(vectors, self.codewords, counted, iterations=self.iterations, seed=self.seed)
        book, scale = book_of(clusters.codebook, found.scale, self.reach)
        return Coded(layer, weight, cut, book, clusters.codes, scale, None if mask is None else mask.to(vectors.dtype))


def kept(vectors: Tensor, keep: int, of: int) -> Tensor:
    """n x d: the `keep` largest of every `of` entries of each vector (all that there are, if vectors are shorter)."""
    size = vectors.shape[1]
    group = min(of, size)
    parts = vectors.abs().reshape(len(vectors), -1, group) if size % group == 0 else vectors.abs()[:, None]
    best = parts.topk(min(keep, parts.shape[2]), dim=2).indices
    mask = torch.zeros_like(parts, dtype=torch.bool).scatter_(2, best, True)
    return mask.reshape(vectors.shape)
