"""Arrays to run a model on where there are no data: the golden input, or noise that is the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError
from foveate_drivers.backends.base import DTYPES, TensorInfo, shaped

FREE_SIDE = 256  # of a free dimension; the first one is 1


def feeds(
    model: Path, inputs: list[TensorInfo], shapes: Mapping[str, tuple[int, ...]] | None = None, like: Path | None = None
) -> dict[str, NDArray[Any]]:
    """An array for every input. `shapes`: of inputs with free sides, by name. Raises ModelError for one that does not
    fit. The first input is the golden one of `like`, or of the model, where that is there and has its shape."""
    shapes = shapes or {}
    unknown = sorted(set(shapes) - {item.name for item in inputs})
    if unknown:
        names = ", ".join(item.name for item in inputs)
        raise ModelError(str(model), "run", f"it has no input '{unknown[0]}'; it has {names}")
    random = np.random.default_rng(0)
    made = {item.name: _array(model, item, shapes.get(item.name), random) for item in inputs}
    if inputs and inputs[0].dtype == "tensor(float)" and inputs[0].name not in shapes:
        golden = next((g for path in (like, model) if (g := _golden(path, inputs[0])) is not None), None)
        if golden is not None:
            made[inputs[0].name] = golden
    return made


def _array(model: Path, item: TensorInfo, wanted: tuple[int, ...] | None, random: np.random.Generator) -> NDArray[Any]:
    shape = tuple((1 if i == 0 else FREE_SIDE) if side is None else side for i, side in enumerate(item.shape))
    if wanted is not None:
        if len(wanted) != len(shape) or any(a not in (b, None) for a, b in zip(item.shape, wanted, strict=True)):
            text = f"its input '{item.name}' is {shaped(item.shape)}, not {shaped(wanted)}"
            raise ModelError(str(model), "run", text)
        shape = wanted
    dtype = np.dtype(DTYPES.get(item.dtype, "float32"))
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    return random.integers(0, 256 if dtype.itemsize == 1 else 2, shape).astype(np.uint8).astype(dtype)


def _golden(model: Path | None, item: TensorInfo) -> NDArray[np.float32] | None:
    """The golden input beside a model, if it fits."""
    if model is None:
        return None
    try:
        with np.load(model.with_suffix(".golden.npz")) as pair:
            image = np.asarray(pair["image"], np.float32)
    except Exception:  # absent or damaged: noise does as well
        return None
    fits = len(image.shape) == len(item.shape) and all(
        want in (have, None) for want, have in zip(item.shape, image.shape, strict=True)
    )
    return image if fits else None
