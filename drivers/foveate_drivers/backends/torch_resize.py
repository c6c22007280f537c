"""ONNX's Resize as products with small matrices, one an axis: all its modes by their formulas (extra train)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_CUBIC = -0.75


def resized(
    x: Tensor, scales: Sequence[float] | None, sizes: Sequence[int] | None, attributes: dict[str, Any]
) -> Tensor:
    """`scales` or `sizes` for every axis. Raises ValueError where a mode is not there."""
    if sizes is None:
        if scales is None:
            raise ValueError("neither scales nor sizes")
        sizes = [int(side * scale) for side, scale in zip(x.shape, scales, strict=True)]
    if attributes.get("antialias", 0) or "axes" in attributes:
        raise ValueError("antialias or axes")
    for axis, (before, after) in enumerate(zip(x.shape, sizes, strict=True)):
        scale = scales[axis] if scales is not None else after / before
        if before != after or scale != 1.0:
            matrix = _matrix(before, after, scale, attributes).to(x)
            x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x


def _matrix(before: int, after: int, scale: float, attributes: dict[str, Any]) -> Tensor:
    """after x before: what each old place counts in each new one."""
    places = _places(before, after, scale, attributes.get("coordinate_transformation_mode", "half_pixel"))
    mode = attributes.get("mode", "nearest")
    matrix = torch.zeros(after, before, dtype=torch.float64)
    rows = torch.arange(after)
    if mode == "nearest":
        rounded = {
            "round_prefer_floor": torch.ceil(places - 0.5), "round_prefer_ceil": torch.floor(places + 0.5),
            "floor": torch.floor(places), "ceil": torch.ceil(places),
        }[attributes.get("nearest_mode", "round_prefer_floor")]  # fmt: skip
        matrix[rows, rounded.long().clamp(0, before - 1)] = 1.0
        return matrix
    low = torch.floor(places)
    share = (places - low).double()
    if mode == "linear":
        weights = [1 - share, share]
        first = 0
    elif mode == "cubic":
        a = attributes.get("cubic_coeff_a", _CUBIC)
        near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (share, 1 - share)]
        far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (share + 1, 2 - share)]
        weights, first = [far[0], near[0], near[1], far[1]], -1
    else:
        raise ValueError(f"mode {mode}")
    for i, weight in enumerate(weights):
        columns = (low.long() + first + i).clamp(0, before - 1)
        matrix.index_put_((rows, columns), weight, accumulate=True)
    return matrix


def _places(before: int, after: int, scale: float, mode: str) -> Tensor:
    """Where each new place lies among the old ones."""
    new = torch.arange(after, dtype=torch.float32)  # as onnxruntime has it: where a place is nearly whole, it matters
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and after > 1):
        return (new + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return torch.zeros_like(new)
    if mode == "asymmetric":
        return new / scale
    if mode == "align_corners":
        return new * (before - 1) / (after - 1) if after > 1 else torch.zeros_like(new)
    raise ValueError(f"coordinate_transformation_mode {mode}")
