"""The inference backend interface: a model file in, arrays in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model; a dimension that is free is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Backend:
    """A loaded model on the provider it really runs on."""

    provider: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        """Raises ModelError, BackendMissing, NotSupported (a provider that is not there)."""

    def run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        """All outputs, in the model's order."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the model."""
