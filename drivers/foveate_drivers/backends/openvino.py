"""ONNX models on OpenVINO, in float32: its own choice is bfloat16 where the processor has that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, ModelError, NotSupported
from foveate_drivers.backends import engine_cache, onnx_file
from foveate_drivers.backends.base import Arrays, Backend, TensorInfo
from foveate_drivers.backends.profile import cpu_name

_ENGINE = "engine.blob"
_LATENCY = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoBackend(Backend):
    """`provider`: cpu (default), gpu, npu, or OpenVINO's own name of a device such as GPU.1."""

    extra: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    parity: ClassVar[float] = 1e-4
    parity_integer: ClassVar[float] = 0.15

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            import openvino
        except ImportError:
            raise BackendMissing(str(model), "openvino", self.extra) from None
        self.model = model
        described = onnx_file.look(model)
        core = openvino.Core()
        device = (provider or "cpu").upper()
        there = core.available_devices
        if device not in there and not any(name.startswith(f"{device}.") for name in there):
            raise NotSupported(str(model), f"run on '{provider}'", f"this OpenVINO has: {', '.join(there)}")
        settings: dict[str, Any] = dict(_LATENCY)
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads

        def build(folder: Path) -> None:
            made = core.compile_model(core.read_model(str(model)), device, settings)
            blob = made.export_model()
            (folder / _ENGINE).write_bytes(blob if isinstance(blob, bytes) else blob.getvalue())

        try:  # to take up an engine is three times as fast as to make it
            what = (
                f"{device} {cpu_name()}"
                if device == "CPU"
                else f"{device} {core.get_property(device, 'FULL_DEVICE_NAME')}"
            )
            place = engine_cache.entry(model, "openvino", openvino.__version__, what, build)
            compiled = core.import_model((place / _ENGINE).read_bytes(), device, settings)
        except Exception as error:
            raise ModelError(str(model), "load", _reason(error)) from None
        running = list(compiled.get_property("EXECUTION_DEVICES"))
        if any(not name.startswith(device) for name in running):
            raise NotSupported(str(model), f"run on '{provider}'", f"OpenVINO took {', '.join(running)}")
        if device == "CPU" and "float32" not in str(compiled.get_property("INFERENCE_PRECISION_HINT")):
            found = compiled.get_property("INFERENCE_PRECISION_HINT")
            raise NotSupported(str(model), "run in float32", f"OpenVINO took {found}")
        self.provider = ",".join(running)
        self._request: Any = compiled.create_infer_request()
        self._ports = {name: port for port in compiled.inputs for name in port.get_names()}
        self.inputs = list(described.inputs)
        self.outputs = [_sized(info, port) for info, port in zip(described.outputs, compiled.outputs, strict=True)]

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        try:
            given = {self._ports[name]: np.ascontiguousarray(array) for name, array in arrays.items()
                     if name in self._ports}  # fmt: skip
            self._request.infer(given, share_inputs=True)
            return [np.array(self._request.get_output_tensor(i).data) for i in range(len(self.outputs))]
        except Exception as error:
            raise ModelError(str(self.model), "run", _reason(error)) from None

    def close(self) -> None:
        super().close()
        self._request = None


def _sized(info: TensorInfo, port: Any) -> TensorInfo:
    """Sides that the file leaves open and OpenVINO works out."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return info
    sides = tuple(None if side.is_dynamic else side.get_length() for side in shape)
    return TensorInfo(info.name, sides, info.dtype)


def _reason(error: Exception) -> str:
    """What OpenVINO says, less the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [
        line for line in lines if line and not line.startswith(("Exception from", "Check '")) and ".cpp:" not in line
    ]
    return " ".join(" ".join(said or lines).split())[:200]
