"""A weight as vectors, and back: what codebooks are made of (extra compress)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Along = Literal["outputs", "inputs"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Vectors of `size` entries: of as many output channels at one place, or of as many places of one channel."""

    size: int
    along: Along = "outputs"

    def fits(self, rows: Tensor) -> bool:
        """Whether rows (channels x ...) can be cut so."""
        count = len(rows) if self.along == "outputs" else rows[0].numel()
        return count % self.size == 0

    def vectors(self, rows: Tensor) -> Tensor:
        """n x size, of rows (channels x ...)."""
        if self.along == "inputs":
            return rows.reshape(-1, self.size)
        return rows.reshape(len(rows) // self.size, self.size, -1).transpose(1, 2).reshape(-1, self.size)

    def rows(self, vectors: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The inverse of `vectors` for rows of this shape."""
        if self.along == "inputs":
            return vectors.reshape(shape)
        groups = shape[0] // self.size
        return vectors.reshape(groups, -1, self.size).transpose(1, 2).reshape(shape)
