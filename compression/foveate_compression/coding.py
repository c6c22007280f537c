"""What all codebook methods share: rows made alike before vectors are cut, and codewords as levels of int8 (extra
compress)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foveate_compression.weights import Book


@dataclass(frozen=True, slots=True)
class Normalised:
    """`rows` of mean square 1, and the `scale` of each that was taken out."""

    rows: Tensor
    scale: Tensor


def normalised(rows: Tensor) -> Normalised:
    """Output channels of folded norms differ a hundredfold; codewords serve them alike once each has its scale."""
    scale = rows.reshape(len(rows), -1).square().mean(1).sqrt().clamp(min=1e-12)
    return Normalised(rows / scale.reshape(-1, *[1] * (rows.ndim - 1)), scale)


def book_of(codewords: Tensor, scale: Tensor, reach: int) -> tuple[Book, Tensor]:
    """Codewords as levels up to `reach`, and the scales of the output channels that go with them."""
    unit = float(codewords.abs().max().clamp(min=1e-12)) / reach
    return Book((codewords / unit).clone(), reach), scale * unit
