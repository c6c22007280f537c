"""Whether onnxruntime really runs integer kernels: it says nothing where a pattern does not fuse, and is slow (extra
compress)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from foveate.errors import ModelError

_INTEGER = ("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
            "DynamicQuantizeMatMul")  # fmt: skip
_FLOAT = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


def kernels(path: Path, signed: bool = False) -> dict[str, int]:
    """How many nodes of each kind are left once onnxruntime has optimised the file; `signed`: as it does on Arm, where
    activations are signed. Raises ModelError."""
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
    found: dict[str, int] = {}
    for node in model.graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return dict(sorted(found.items()))


def assert_fused(path: Path, layers: int, signed: bool = False) -> int:
    """The number of layers that run in integers; ModelError where there are fewer than `layers`."""
    found = kernels(path, signed)
    integer = sum(count for kind, count in found.items() if kind in _INTEGER)
    if integer < layers:
        left = ", ".join(f"{count} {kind}" for kind, count in found.items() if kind in (*_FLOAT, "DequantizeLinear"))
        raise ModelError(str(path), "run in integers", f"{integer} of {layers} layers do; onnxruntime left {left}")
    return integer
