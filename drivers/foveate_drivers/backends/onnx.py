"""ONNX models on onnxruntime; runs on the provider asked for, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, ModelError, NotSupported
from foveate_drivers.backends import engine_cache
from foveate_drivers.backends.base import Arrays, Backend, TensorInfo

_SHORT = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider",
          "openvino": "OpenVINOExecutionProvider", "qnn": "QNNExecutionProvider"}  # fmt: skip


class OnnxBackend(Backend):
    """`provider`: cpu (default), cuda, tensorrt, openvino, qnn, or onnxruntime's own name of one."""

    extra: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    parity: ClassVar[float] = 1e-5
    parity_integer: ClassVar[float] = 1e-5  # it is what others are held against

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise BackendMissing(str(model), "onnxruntime", self.extra) from None
        self.model = model
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
        settings = _settings(model, wanted, onnxruntime.__version__)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model), options, providers=[wanted], provider_options=[settings]
            )
        except Exception as error:
            raise ModelError(str(model), "load", " ".join(str(error).split())[:200]) from None
        running = self._session.get_providers()
        if running[0] != wanted:  # onnxruntime only warns when a provider fails to start
            raise NotSupported(str(model), f"run on '{provider}'", f"onnxruntime fell back to {running[0]}")
        self.provider = wanted
        self.inputs = [_info(item) for item in self._session.get_inputs()]
        self.outputs = [_info(item) for item in self._session.get_outputs()]

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        try:
            return self._session.run(None, dict(arrays))  # type: ignore[no-any-return]
        except Exception as error:
            raise ModelError(str(self.model), "run", " ".join(str(error).split())[:200]) from None

    def close(self) -> None:
        super().close()
        self._session = None


def _settings(model: Path, provider: str, version: str) -> dict[str, str]:
    """A folder for engines where the provider builds some."""
    if provider != _SHORT["tensorrt"]:
        return {}
    folder = str(engine_cache.folder_of(model, "tensorrt", version, "gpu"))
    return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}  # fmt: skip


def _info(item: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return TensorInfo(item.name, shape, str(item.type))
