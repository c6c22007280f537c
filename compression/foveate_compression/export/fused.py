"""Whether onnxruntime really runs integer kernels: it says nothing where a pattern does not fuse, and is slow (extra
compress)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from foveate.errors import ModelError
from foveate_compression.network import Layer

INTEGER = ("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
            "DynamicQuantizeMatMul")  # fmt: skip
_FLOAT = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


def kernels(path: Path, signed: bool = False) -> dict[str, int]:
    """How many nodes of each kind are left once onnxruntime has optimised the file; `signed`: as it does on Arm, where
    activations are signed. Raises ModelError."""
    found: dict[str, int] = {}
    for node in _optimised(path, signed):
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return dict(sorted(found.items()))


def in_integers(path: Path, layers: Sequence[Layer], signed: bool = False) -> list[Layer]:
    """Those of these layers that an integer kernel runs: it reads what the writer made of their weights. Raises
    ModelError."""
    nodes = [node for node in _optimised(path, signed) if node.op_type in INTEGER]
    read = [name for node in nodes for name in node.input]
    others = "of."  # a weight that was shared begins with the name of the first, and goes on so
    made = [(layer, f"{layer.weight}.") for layer in layers]
    return [layer for layer, own in made
            if any(name.startswith(own) and not name.startswith(own + others) for name in read)]  # fmt: skip


def assert_fused(path: Path, layers: Sequence[Layer], signed: bool = False) -> None:
    """Raises ModelError that names the layers that do not run in integers."""
    running = {layer.name for layer in in_integers(path, layers, signed)}
    missing = [layer.name for layer in layers if layer.name not in running]
    if missing:
        named = ", ".join(f"'{name}'" for name in missing[:5]) + (" ..." if len(missing) > 5 else "")
        found = kernels(path, signed)
        left = ", ".join(f"{count} {kind}" for kind, count in found.items() if kind in (*_FLOAT, "DequantizeLinear"))
        text = f"{len(missing)} of {len(layers)} layers do not: {named}; onnxruntime left {left or 'nothing'}"
        raise ModelError(str(path), "run in integers", text)


def _optimised(path: Path, signed: bool) -> list[Any]:
    """The nodes that onnxruntime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1" if signed else "0")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(str(path), "load", " ".join(str(error).split())[:200]) from None
        model: Any = onnx.load(options.optimized_model_filepath)
    return list(model.graph.node)
