"""ONNX models on onnxruntime; runs on the provider asked for, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, ModelError, NotSupported
from foveate_drivers.backends.base import Arrays, Backend, TensorInfo

_SHORT = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider",
          "openvino": "OpenVINOExecutionProvider", "qnn": "QNNExecutionProvider"}  # fmt: skip


class OnnxBackend(Backend):
    """`provider`: cpu (default), cuda, tensorrt, openvino, qnn, or onnxruntime's own name of one."""

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise BackendMissing(str(model), "onnxruntime", "onnx") from None
        wanted = _SHORT.get(provider.lower() or "cpu", provider)
        available = onnxruntime.get_available_providers()
        if wanted not in available:
            there = ", ".join(sorted(p.removesuffix("ExecutionProvider") for p in available))
            raise NotSupported(str(model), f"run on '{provider}'", f"this onnxruntime has: {there}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=[wanted])
        except Exception as error:
            raise ModelError(str(model), "load", " ".join(str(error).split())[:200]) from None
        running = self._session.get_providers()
        if running[0] != wanted:  # onnxruntime only warns when a provider fails to start
            raise NotSupported(str(model), f"run on '{provider}'", f"onnxruntime fell back to {running[0]}")
        self.provider = wanted
        self.inputs = [_info(item) for item in self._session.get_inputs()]
        self.outputs = [_info(item) for item in self._session.get_outputs()]

    def run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        return self._session.run(None, dict(arrays))  # type: ignore[no-any-return]


def _info(item: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return TensorInfo(item.name, shape, str(item.type))
