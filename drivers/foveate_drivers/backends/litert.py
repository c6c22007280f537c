"""TFLite models on LiteRT. Quantized inputs and outputs are given as the file has them: integers stay integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, ModelError, NotSupported
from foveate_drivers.backends.base import DTYPES, Arrays, Backend, TensorInfo

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class LiteRtBackend(Backend):
    """`provider`: cpu alone (with XNNPACK, which LiteRT takes by itself)."""

    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)
    extra: ClassVar[str] = "litert"
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise BackendMissing(str(model), "ai_edge_litert", self.extra) from None
        self.model = model
        if provider.lower() not in ("", "cpu"):
            raise NotSupported(str(model), f"run on '{provider}'", "LiteRT runs on cpu here")
        if model.suffix not in self.suffixes:
            raise ModelError(str(model), "load", "LiteRT takes .tflite files; an ONNX file runs on the others")
        try:
            self._interpreter: Any = Interpreter(model_content=model.read_bytes(), num_threads=threads)
            self._interpreter.allocate_tensors()
        except OSError as error:
            raise ModelError(str(model), "load", f"{error.strerror or error}") from None
        except (ValueError, RuntimeError) as error:
            raise ModelError(str(model), "load", " ".join(str(error).split())[:200]) from None
        self._given, self._made = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.provider = "cpu"
        self.inputs, self.outputs = [_info(item) for item in self._given], [_info(item) for item in self._made]
        self._sizes = [tuple(item["shape"]) for item in self._given]

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        try:
            sizes = [arrays[item["name"]].shape for item in self._given]
            if sizes != self._sizes:  # of free sides
                for item, size in zip(self._given, sizes, strict=True):
                    self._interpreter.resize_tensor_input(item["index"], size)
                self._interpreter.allocate_tensors()
                self._sizes = sizes
            for item in self._given:
                self._interpreter.set_tensor(item["index"], arrays[item["name"]])
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(item["index"]) for item in self._made]
        except (ValueError, RuntimeError) as error:
            raise ModelError(str(self.model), "run", " ".join(str(error).split())[:200]) from None

    def close(self) -> None:
        super().close()
        self._interpreter = None


def _info(item: Any) -> TensorInfo:
    sides = item.get("shape_signature", item["shape"])
    shape = tuple(None if side < 0 else int(side) for side in sides)
    return TensorInfo(str(item["name"]), shape, _NAMES.get(np.dtype(item["dtype"]).name, "tensor()"))
