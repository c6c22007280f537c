"""The manifest beside a model file: its hash, how to feed it, what it gives, and a golden pair."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveate.errors import ModelError
from foveate_drivers.backends.base import Backend


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `model.json` beside `model.onnx` says."""

    sha256: str
    classes: tuple[str, ...]
    tolerance: float

    @classmethod
    def beside(cls, model: Path) -> Manifest | None:
        """The manifest of a model file, or None where there is none. Raises ModelError."""
        path = model.with_suffix(".json")
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(data["sha256"]), tuple(map(str, data["classes"])), float(data["golden_tolerance"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(str(path), "read the manifest", f"{type(error).__name__}: {error}") from None

    def verify(self, model: Path) -> None:
        """Raises ModelError when the file is not the one the manifest was made for."""
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        if digest != self.sha256:
            text = f"its SHA-256 is {digest[:12]}..., the manifest says {self.sha256[:12]}...; restore or re-export it"
            raise ModelError(str(model), "load", text)

    def prove(self, model: Path, backend: Backend) -> float:
        """Run the golden input; the largest absolute error, or ModelError beyond the tolerance."""
        path = model.with_suffix(".golden.npz")
        if not path.exists():
            raise ModelError(str(model), "prove", f"no golden pair {path.name}")
        with np.load(path) as pair:
            got = backend.run({backend.inputs[0].name: pair["image"].astype(np.float32)})[0]
            error = float(np.abs(got - pair["output"]).max())
        if not error <= self.tolerance:
            raise ModelError(str(model), "prove", f"golden output is off by {error:.3g}, more than {self.tolerance:g}")
        return error
