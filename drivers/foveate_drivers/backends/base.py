"""The inference backend interface: a model file in, arrays in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError, StateError

Arrays = Mapping[str, NDArray[np.generic]]
DTYPES = {  # as onnxruntime names them
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model; a dimension that is free is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Backend:
    """A loaded model on the provider it really runs on.

    Arrays are those of the model's file: a backend that has another layout inside hides it. The same arrays give the
    same bytes, whenever they are given.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)  # of the files it takes
    extra: ClassVar[str] = ""  # of foveate, which installs what it needs
    packages: ClassVar[tuple[str, ...]] = ()  # whose versions say which engine it is
    parity: ClassVar[float] = 1e-4  # most that outputs differ from onnxruntime's, as a share of the largest
    parity_integer: ClassVar[float] = 0.1  # the same where the model has layers in 8 bits: roundings fall otherwise

    model: Path
    provider: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    closed = False

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        """Raises ModelError, BackendMissing, NotSupported (a provider that is not there)."""

    def run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        """All outputs, in the model's order. Raises ModelError (arrays that do not fit), StateError (closed)."""
        if self.closed:
            raise StateError(str(self.model), "run", "it was closed; load it again")
        fault = misfit(self.inputs, arrays)
        if fault:
            raise ModelError(str(self.model), "run", fault)
        return self._run(arrays)

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        """`run` on arrays of the right names, types and sizes."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the model; may be called twice."""
        self.closed = True


def misfit(inputs: list[TensorInfo], arrays: Arrays) -> str:
    """What is wrong with arrays as the inputs of a model; empty if nothing."""
    for item in inputs:
        array = arrays.get(item.name)
        if array is None:
            return f"it has the input '{item.name}', and was given {', '.join(sorted(arrays)) or 'nothing'}"
        dtype = DTYPES.get(item.dtype)
        if dtype is not None and array.dtype != dtype:
            return f"its input '{item.name}' is {dtype}, not {array.dtype}"
        shape = array.shape
        if len(shape) != len(item.shape) or any(
            given != wanted and wanted is not None for given, wanted in zip(shape, item.shape, strict=True)
        ):
            return f"its input '{item.name}' is {shaped(item.shape)}, not {shaped(shape)}"
    if len(arrays) > len(inputs):
        unknown = sorted(set(arrays) - {item.name for item in inputs})
        return f"it has no input '{unknown[0]}'; it has {', '.join(item.name for item in inputs)}"
    return ""


def shaped(shape: tuple[int | None, ...]) -> str:
    """`1 x 3 x H x W`: free sides as `?`."""
    return " x ".join("?" if side is None else str(side) for side in shape) or "one number"
