"""A trained network as an integer ONNX file, with its manifest and a golden pair beside it (extra train)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class _Images:
    """What onnxruntime's quantizer reads to see the ranges of activations."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._items = iter([{"image": image[None].astype(np.float32)} for image in images])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._items, None)


def export(
    net: torch.nn.Module, calibration: NDArray[np.uint8], path: Path, manifest: dict[str, Any], *, any_size: bool
) -> None:
    """Write int8 ONNX, its manifest (JSON) and a golden input and output beside it.

    Weights are int8 by channel, activations uint8 (the fast integer form on x86). Weights are of -64 to 64: x86
    without VNNI instructions adds two products in 16 bits, and larger ones would overflow there. The heads' last
    convolutions stay in floating point, for their outputs span very different ranges.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    example = torch.from_numpy(calibration[:1]).float()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float.onnx"
        torch.onnx.export(
            net.to(memory_format=torch.contiguous_format), (example,), str(whole), dynamo=False,  # type: ignore[call-overload]
            input_names=["image"], output_names=["output"], opset_version=17,
            dynamic_axes={"image": {2: "height", 3: "width"}} if any_size else None,
        )  # fmt: skip
        graph = onnx.load(str(whole)).graph
        heads = {node.name for node in graph.node if "head" in node.name}
        quantize_static(
            str(whole), str(path), _Images(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Relu", "Add", "Resize"], nodes_to_exclude=sorted(heads),
            calibrate_method=CalibrationMethod.MinMax, reduce_range=True,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    golden = session.run(None, {"image": example.numpy()})[0]
    with torch.no_grad():
        whole_output = net(example).numpy()
    manifest["int8_mean_abs_error"] = float(np.abs(golden - whole_output).mean())
    manifest["golden_tolerance"] = 0.25  # integer kernels round differently on other processors
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    np.savez_compressed(path.with_suffix(".golden.npz"), image=calibration[:1], output=golden)
    path.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
