"""ONNX models run by torch, operator by operator: the backend that can be looked into (extra train)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, NotSupported
from foveate_drivers.backends.base import Arrays, Backend, TensorInfo


class TorchBackend(Backend):
    """`provider`: cpu (default), cuda, or torch's own name of a device. `threads` holds for all of torch here."""

    extra: ClassVar[str] = "train"
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            import onnx
            import torch
        except ImportError as error:
            raise BackendMissing(str(model), error.name or "torch", self.extra) from None
        from foveate_drivers.backends.torch_graph import TorchGraph

        self.model = model
        self.provider = provider.lower() or "cpu"
        try:
            self._device = torch.device(self.provider)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            why = " ".join(str(error).split())[:120]
            raise NotSupported(str(model), f"run on '{provider}'", f"torch says: {why}") from None
        torch.set_num_threads(threads)
        self._graph = TorchGraph.load(model)
        on_device = {name: tensor.to(self._device) for name, tensor in self._graph.constants.items()}
        self._graph.constants = on_device
        described = onnx.load(str(model), load_external_data=False).graph
        kinds = {item.name: _kind(item.type.tensor_type.elem_type) for item in (*described.input, *described.output)}
        self.inputs, self.outputs = (
            [TensorInfo(name, self._graph.shapes[name], kinds[name]) for name in names]
            for names in (self._graph.inputs, self._graph.outputs)
        )

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        import torch

        given = {name: torch.from_numpy(np.ascontiguousarray(array)).to(self._device) for name, array in arrays.items()}
        with torch.inference_mode():
            found = self._graph.run(given)
        return [found[item.name].cpu().numpy() for item in self.outputs]


def _kind(code: int) -> str:
    """As onnxruntime names types: tensor(float)."""
    import onnx

    name = onnx.TensorProto.DataType.Name(code).lower()
    return f"tensor({name})"
