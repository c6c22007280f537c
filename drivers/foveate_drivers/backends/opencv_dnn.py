"""ONNX models on OpenCV's own network module, of OpenCV 4.10 and 5: for where nothing else is installed."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, ModelError, NotSupported
from foveate_drivers.backends import onnx_file
from foveate_drivers.backends.base import DTYPES, Arrays, Backend

_WHERE = re.compile(r"OpenCV\([^)]*\) [^:]*:\d+: |error: \(-?\d+:[^)]*\) ")
_LAYER = re.compile(r"/(\w+)_layer\.cpp")


class OpenCvBackend(Backend):
    """`provider`: cpu (default), or cuda where OpenCV is built with it. `threads` holds for all of OpenCV here."""

    extra: ClassVar[str] = "vision"
    packages: ClassVar[tuple[str, ...]] = ("opencv-python-headless", "opencv-python")
    parity: ClassVar[float] = 1e-3  # its exponential function is approximate
    parity_integer: ClassVar[float] = 0.15

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            import cv2
        except ImportError:
            raise BackendMissing(str(model), "cv2", self.extra) from None
        self.model, self._cv2, self._threads = model, cv2, threads
        described = onnx_file.look(model)
        self.inputs, self.outputs = list(described.inputs), list(described.outputs)
        wanted = provider.lower() or "cpu"
        if wanted not in ("cpu", "cuda") or (wanted == "cuda" and not _has_cuda(cv2)):
            raise NotSupported(str(model), f"run on '{provider}'", "this OpenCV has: cpu")
        other = next((item for item in self.inputs if DTYPES.get(item.dtype) not in _TAKES), None)
        if other is not None:
            raise ModelError(
                str(model), "load", f"its input '{other.name}' is {other.dtype}, which OpenCV does not take"
            )
        try:
            self._net: Any = self._read(wanted)
        except (cv2.error, RuntimeError) as error:
            raise ModelError(str(model), "load", self._reason(error, described)) from None
        if self._net.empty():
            raise ModelError(str(model), "load", f"OpenCV made no network of it: {self._unsupported(wanted)}")
        self.provider = wanted
        self._described = described

    def _read(self, wanted: str) -> Any:
        """The new engine of OpenCV 5 where it is there, never its silent way back to the old one; that one for CUDA."""
        dnn = self._cv2.dnn
        if not hasattr(dnn, "ENGINE_NEW"):
            net = dnn.readNetFromONNX(str(self.model))
        else:
            engine = dnn.ENGINE_CLASSIC if wanted == "cuda" else dnn.ENGINE_NEW
            net = dnn.readNetFromONNX(str(self.model), engine=engine)
        if wanted == "cuda":
            net.setPreferableBackend(dnn.DNN_BACKEND_CUDA)
            net.setPreferableTarget(dnn.DNN_TARGET_CUDA)
        return net

    def _unsupported(self, wanted: str) -> str:
        """OpenCV names operators that it does not have on stderr alone, while it reads; so it reads once more."""
        before = os.dup(2)
        with tempfile.TemporaryFile() as said:
            os.dup2(said.fileno(), 2)
            try:
                self._read(wanted)
            finally:
                os.dup2(before, 2)
                os.close(before)
            said.seek(0)
            text = " ".join(said.read().decode("utf-8", "replace").split())
        named = text.partition("Unsupported operations:")[2].split()
        return f"it has no operator {', '.join(named[:3])}" if named else text[-160:] or "it does not say why"

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        before = self._cv2.getNumThreads()
        if before != self._threads:
            self._cv2.setNumThreads(self._threads)
        try:
            for item in self.inputs:
                self._net.setInput(np.ascontiguousarray(arrays[item.name]), item.name)
            found = self._net.forward([item.name for item in self.outputs])
        except (self._cv2.error, RuntimeError) as error:
            raise ModelError(str(self.model), "run", self._reason(error, self._described)) from None
        finally:
            if before != self._threads:
                self._cv2.setNumThreads(before)
        return [_as(np.array(array), item) for array, item in zip(found, self.outputs, strict=True)]

    def _reason(self, error: Exception, described: onnx_file.OnnxFile) -> str:
        """OpenCV's words less the places in its source, with the operator that they mean."""
        said = " ".join(str(error).split())
        text, layer = _WHERE.sub("", said), _LAYER.search(said)
        named = next(((name, kind) for name, kind in described.nodes if name and name in text), None)
        if named is None:
            named = next(((name, kind) for name, kind in described.nodes if re.search(rf"\b{kind}\b", text)), None)
        where = f"operator {named[1]} ({named[0]}): " if named else f"layer {layer[1]}: " if layer else ""
        return f"{where}{text[:160]}"

    def close(self) -> None:
        super().close()
        self._net = None


_TAKES = ("float32", "float16", "float64", "uint8", "int8", "int32", "int64", "bool")


def _as(array: NDArray[Any], item: Any) -> NDArray[Any]:
    """OpenCV gives a type of its own where it computed in one, and two axes where there is one."""
    dtype = DTYPES.get(item.dtype, "float32")
    if len(item.shape) != array.ndim and None not in item.shape:
        array = array.reshape(item.shape)
    return array if array.dtype == dtype else array.astype(dtype)


def _has_cuda(cv2: Any) -> bool:
    try:
        return bool(cv2.cuda.getCudaEnabledDeviceCount())
    except (cv2.error, AttributeError):
        return False
