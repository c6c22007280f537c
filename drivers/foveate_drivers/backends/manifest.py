"""The manifest beside a model file: its hash, how to feed it, what it gives, and a golden pair."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError
from foveate_drivers.backends.base import DTYPES, Backend, TensorInfo


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `model.json` beside `model.onnx` says."""

    sha256: str
    classes: tuple[str, ...]
    tolerance: float
    agreement: float = 0.0  # instead of a tolerance, where it is not 0: the share of pixels of the same class at least
    data: dict[str, Any] = field(default_factory=dict)  # all of it

    @classmethod
    def beside(cls, model: Path) -> Manifest | None:
        """The manifest of a model file, or None where there is none. Raises ModelError."""
        path = model.with_suffix(".json")
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            classes, tolerance = tuple(map(str, data["classes"])), float(data["golden_tolerance"])
            return cls(str(data["sha256"]), classes, tolerance, float(data.get("golden_agreement", 0.0)), data)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(str(path), "read the manifest", f"{type(error).__name__}: {error}") from None

    def verify(self, model: Path) -> None:
        """Raises ModelError when the file is not the one the manifest was made for."""
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        if digest != self.sha256:
            text = f"its SHA-256 is {digest[:12]}..., the manifest says {self.sha256[:12]}...; restore or re-export it"
            raise ModelError(str(model), "load", text)

    def prove(self, model: Path, backend: Backend) -> float:
        """Run the golden input, with all other inputs 0; the largest absolute error, or ModelError where it is beyond
        what the manifest allows."""
        image, output = _golden(model)
        first, *others = backend.inputs
        rest = {item.name: np.zeros([side or 1 for side in item.shape], _dtype(item)) for item in others}
        got = backend.run({first.name: image.astype(_dtype(first)), **rest})[0].astype(np.float64)
        error = float(np.abs(got - output).max()) if got.shape == output.shape else float("inf")
        if self.agreement:
            same = float((got.argmax(1) == output.argmax(1)).mean()) if got.shape == output.shape else 0.0
            if not same >= self.agreement:
                text = f"golden output has {same:.1%} of its classes, less than {self.agreement:.0%}"
                raise ModelError(str(model), "prove", text)
        elif not error <= self.tolerance:
            raise ModelError(str(model), "prove", f"golden output is off by {error:.3g}, more than {self.tolerance:g}")
        return error


def _dtype(item: TensorInfo) -> str:
    return DTYPES.get(item.dtype, "float32")


def _golden(model: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """The golden input and output beside a model. Raises ModelError."""
    path = model.with_suffix(".golden.npz")
    if not path.exists():
        raise ModelError(str(model), "prove", f"no golden pair {path.name}")
    try:
        with np.load(path) as pair:
            return pair["image"], pair["output"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        text = f"{type(error).__name__}; restore or re-export it"
        raise ModelError(str(path), "read the golden pair", text) from None
