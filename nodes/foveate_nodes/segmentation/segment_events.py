"""The node that segments a stream of events, slice by slice, with a network that remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from foveate import catalog
from foveate.errors import FoveateError, ModelError
from foveate.node import Node, Problem
from foveate_drivers.backends.base import Backend
from foveate_nodes.models.manifest import Manifest
from foveate_nodes.segmentation.canvas import Canvas
from foveate_nodes.segmentation.messages import EventSlices, LabelImage
from foveate_nodes.segmentation.representations import voxel_grid


class SegmentEvents(Node):
    """The class of every pixel at the end of the newest slice.

    The model is what `foveate train sltnet` exports: a voxel grid and its membranes in, logits and the membranes out.
    Every slice goes through it, one after the other; membranes are at rest again after a jump in time. A sensor of
    another size than the model's is shrunk onto it, and the classes are given in the sensor's pixels.
    """

    cost_ns = 20_000_000

    class Outputs:
        labels: LabelImage

    def __init__(
        self,
        *,
        model: Path,
        carried: bool = True,
        backend: str = "onnx",
        provider: str = "",
        threads: Annotated[int, Ge(1), Le(64)] = 1,
    ) -> None:
        """`carried`: membranes go on from slice to slice; without, each slice is seen by itself."""
        self._model = model
        self._carried = carried
        self._backend_options = (backend, provider, threads)
        self._backend: Backend | None = None
        self._state: dict[str, NDArray[Any]] = {}

    @classmethod
    def check(cls, **p: Any) -> Iterator[Problem]:
        if f"backend.{p['backend']}" not in catalog.listing("drivers"):
            known = [k.split(".")[1] for k in catalog.listing("drivers") if k.startswith("backend.")]
            yield Problem("backend", f"unknown backend '{p['backend']}'{catalog.did_you_mean(p['backend'], known)}")
            return
        try:
            cls(**p)._load()
        except FoveateError as error:
            yield Problem("provider" if p["provider"] and "run on" in str(error) else "model", str(error))

    def open(self) -> None:
        manifest, backend = self._load()
        manifest.prove(self._model, backend)
        self._backend = backend
        self._names = manifest.classes
        self._state = self._at_rest()
        self._grid = np.empty([side or 1 for side in backend.inputs[0].shape], np.float32)

    def close(self) -> None:
        self._backend = None

    def _load(self) -> tuple[Manifest, Backend]:
        """Raises ModelError (no file, no manifest, another layout), BackendMissing, NotSupported."""

        def refuse(text: str) -> ModelError:
            return ModelError(str(self._model), "segment events with it", text)

        if not self._model.is_file():
            raise refuse("no such file; 'foveate train sltnet' makes one")
        manifest = Manifest.beside(self._model)
        if manifest is None:
            raise refuse(f"no manifest {self._model.with_suffix('.json').name} beside it")
        manifest.verify(self._model)
        name, provider, threads = self._backend_options
        backend: Backend = catalog.load("drivers", f"backend.{name}")(self._model, provider=provider, threads=threads)
        slice_, logits = backend.inputs[0], backend.outputs[0]
        if len(slice_.shape) != 4 or None in slice_.shape[1:] or len(backend.inputs) != len(backend.outputs):
            shapes = [item.shape for item in (slice_, logits)]
            raise refuse(
                f"its first input and output are {shapes}, of {len(backend.inputs)} and {len(backend.outputs)}; it "
                "must take 1 x bins x H x W and membranes, and give logits and as many membranes"
            )
        if any(None in item.shape for item in backend.inputs[1:]):
            raise refuse("its membranes have no fixed size")
        if len(logits.shape) != 4 or logits.shape[1] != len(manifest.classes):
            raise refuse(f"its output is {logits.shape}, and its manifest has {len(manifest.classes)} classes")
        return manifest, backend

    def _at_rest(self) -> dict[str, NDArray[Any]]:
        assert self._backend is not None
        return {
            item.name: np.zeros([side or 1 for side in item.shape], np.float32) for item in self._backend.inputs[1:]
        }

    def step(self, slices: EventSlices) -> LabelImage:
        assert self._backend is not None
        input_ = self._backend.inputs[0]
        _, bins, height, width = self._grid.shape
        canvas = Canvas((slices.width, slices.height), (width, height))
        if slices.fresh or slices.skipped or not self._carried:
            self._state = self._at_rest()
        logits: NDArray[Any] = np.zeros(0)
        for i in range(len(slices)):
            if i and not self._carried:
                self._state = self._at_rest()
            t_ns, x, y, polarity = slices.events_of(i)
            voxel_grid(t_ns, *canvas.place(x, y), polarity, (bins, height, width), out=self._grid[0])
            logits, *after = self._backend.run({input_.name: self._grid, **self._state})
            self._state = dict(zip(self._state, after, strict=True))
        label = canvas.widen(logits[0].argmax(0).astype(np.uint8))
        events = int(slices.bound[-1] - slices.bound[-2])
        return LabelImage(slices.stamp, label, self._names, len(slices), events, slices.skipped)

    def state_dict(self) -> Any:
        return dict(self._state)

    def load_state_dict(self, state: Any) -> None:
        self._state = dict(state)
