"""VQ4DiT: each vector chooses among its nearest codewords, block by block, without data (arXiv 2408.17131)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le

from foveate_compression.coding import book_of, normalised
from foveate_compression.kmeans import clustered, nearest
from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer
from foveate_compression.placement import chosen
from foveate_compression.reconstruction import Schedule, reconstructed
from foveate_compression.vectors import Cut
from foveate_compression.weights import Candidates
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Vq4Dit:
    """Vectors of `size`, `codewords` (fewer where a layer is small), `candidates` for each; `iterations` a block.

    `zero_data`: calibrated on noise instead of samples. `kinds`: of layers, those of a transformer's blocks by default.
    """

    size: Annotated[int, Ge(2), Le(64)] = 4
    codewords: Annotated[int, Ge(2), Le(65536)] = 256
    candidates: Annotated[int, Ge(1), Le(16)] = 3
    iterations: Annotated[int, Gt(0)] = 200
    along: Literal["outputs", "inputs"] = "inputs"
    zero_data: bool = True
    samples: Annotated[int, Ge(1), Le(4096)] = 128
    skip: tuple[str, ...] = field(default=())
    kinds: tuple[Literal["Conv", "Gemm", "MatMul"], ...] = ("Gemm", "MatMul")
    reach: Annotated[int, Ge(1), Le(127)] = 63
    seed: Annotated[int, Ge(0)] = 0

    def apply(self, work: Work, progress: Progress) -> None:
        """Codewords, codes and biases; what was not chosen by the end is the likeliest."""
        cut = Cut(self.size, self.along)
        skipped = {layer.name for layer in chosen(work, self.skip)}
        layers = [layer for layer in work.network.layers if layer.kind in self.kinds and layer.name not in skipped]
        layers = [layer for layer in layers if layer.weight not in work.forms and cut.fits(work.rows(layer))]
        for i, layer in enumerate(layers):
            work.forms[layer.weight] = self._candidates(work, layer, cut)
            progress("codebooks", i + 1, len(layers))
        given = work.samples
        if self.zero_data:
            random = torch.Generator().manual_seed(self.seed)
            work.samples = {
                name: torch.randn(self.samples, *value.shape[1:], generator=random) for name, value in given.items()
            }
        try:
            work.gains += reconstructed(work, Schedule(iterations=self.iterations, drop=0.0, seed=self.seed), progress)
        finally:
            work.samples = given
        for layer in layers:
            form = work.forms[layer.weight]
            assert isinstance(form, Candidates)
            work.forms[layer.weight] = form.decided()

    def _candidates(self, work: Work, layer: Layer, cut: Cut) -> Candidates:
        weight = work.weight(layer).detach()
        found = normalised(work.rows(layer).detach())
        vectors = cut.vectors(found.rows)
        most = max(2, 2 ** int(math.log2(max(len(vectors) / 4, 2))))
        clusters = clustered(vectors, min(self.codewords, most), iterations=100, seed=self.seed)
        codes, costs = nearest(vectors, clusters.codebook, self.candidates)
        book, scale = book_of(clusters.codebook, found.scale, self.reach)
        return Candidates(layer, weight, cut, book, codes, scale, costs)
