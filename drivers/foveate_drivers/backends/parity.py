"""How far what a backend computes is from what onnxruntime does, and whether that is within what it promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.errors import DeviceError, ModelError
from foveate_drivers.backends import engine_cache, onnx_file
from foveate_drivers.backends.base import Backend
from foveate_drivers.backends.feeds import feeds
from foveate_drivers.backends.profile import version

Outputs = Sequence[NDArray[Any]]
_INTEGERS = ("Quantize", "Dequantize", "QLinear", "DynamicQuantize", "MatMulInteger", "ConvInteger")
_FOUND = "parity.json"


def difference(given: Outputs, reference: Outputs) -> float | None:
    """The largest of all outputs, each as a share of the largest value of its reference; None for other shapes."""
    if [a.shape for a in given] != [b.shape for b in reference]:
        return None
    worst = 0.0
    for a, b in zip(given, reference, strict=True):
        if b.size:
            wide, near = np.asarray(a, np.float64), np.asarray(b, np.float64)
            far = float(np.nan_to_num(np.abs(wide - near), nan=np.inf, posinf=np.inf).max())
            worst = max(worst, far / max(float(np.abs(near).max()), 1e-9))
    return worst


def has_integers(model: Path) -> bool:
    """Whether a model has layers in 8 bits."""
    return model.suffix != ".onnx" or any(kind.startswith(_INTEGERS) for _, kind in onnx_file.look(model).nodes)


def hold(model: Path, name: str, backend: Backend) -> None:
    """Raises ModelError where a backend's outputs differ from onnxruntime's by more than it promises.

    This is done once for a model, a backend and its version; without onnxruntime it is not done.
    """
    made = "+".join(found for package in backend.packages if (found := version(package)))

    def compare(folder: Path) -> None:
        from foveate_drivers.backends.onnx import OnnxBackend

        reference = OnnxBackend(model)
        given = feeds(model, reference.inputs)
        wanted = reference.run(given)
        far = difference(backend.run(given), wanted)
        (folder / _FOUND).write_text(json.dumps({"difference": far}) + "\n", encoding="utf-8")

    try:
        kept = engine_cache.entry(model, f"parity.{name}", made, backend.provider, compare)
    except DeviceError:
        return  # no onnxruntime, or one of both cannot run what was made up for it: nothing to hold it against
    far = json.loads((kept / _FOUND).read_text(encoding="utf-8"))["difference"]
    limit = backend.parity_integer if has_integers(model) else backend.parity
    if far is None or not far <= limit:
        text = "its outputs have other shapes than onnxruntime's" if far is None else (
            f"its outputs differ from onnxruntime's by {far:.2g} of the largest, and {name} promises {limit:g}"
        )  # fmt: skip
        raise ModelError(str(model), f"run on {name}", text)
