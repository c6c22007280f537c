"""The node that segments a stream of events, slice by slice, with a network that remembers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from foveate.errors import ModelError
from foveate.messages import Message, Stamp
from foveate.node import Problem, Unit
from foveate_drivers.backends.base import Backend, TensorInfo
from foveate_drivers.backends.loading import Loaded, load_known
from foveate_drivers.backends.manifest import Manifest
from foveate_nodes.models.model_check import problems
from foveate_nodes.models.paced import Paced
from foveate_nodes.segmentation.canvas import Canvas
from foveate_nodes.segmentation.messages import EventSlices, LabelImage, SliceEnergy
from foveate_nodes.segmentation.representations import voxel_grid


class SegmentEvents(Paced):
    """The class of every pixel at the end of the newest slice.

    The model is what `foveate train sltnet` exports: a voxel grid and its membranes in, logits and the membranes out.
    Every slice goes through it, one after the other; membranes are at rest again after a jump in time. A sensor of
    another size than the model's is shrunk onto it, and the classes are given in the sensor's pixels.
    """

    cost_ns = 20_000_000

    class Outputs:
        labels: LabelImage
        energy: SliceEnergy  # once, where the model's manifest says it

    def __init__(
        self,
        *,
        model: Path,
        carried: bool | None = None,
        backend: str = "onnx",
        provider: str = "",
        threads: Annotated[int, Ge(1), Le(64)] = 1,
        variants: tuple[Path, ...] = (),
        budget: Annotated[float, Unit("s"), Ge(0), Le(10)] = 0.0,
    ) -> None:
        """`carried`: membranes go on from slice to slice, or each is seen by itself; left out: as it was trained;
        `variants`: smaller forms of the model, the fastest last, to change to where steps take longer than `budget`."""
        self._model = model
        self._wanted, self._carried = carried, True
        self._options: dict[str, Any] = {"backend": backend, "provider": provider, "threads": threads}
        self._backend: Backend | None = None
        self._others, self._budget_s = variants, budget
        self._state: dict[str, NDArray[Any]] = {}
        self._end_ns: int | None = None  # of the newest slice: what begins later does not follow it

    @classmethod
    def check(cls, **p: Any) -> Iterator[Problem]:
        yield from problems(lambda: cls(**p)._load(), p["backend"], p["provider"])

    def open(self) -> None:
        manifest, loaded = self._load()
        self._backend = backend = self.with_variants(loaded, self._others, self._budget_s, self._options)
        self._names, self._measured = manifest.classes, manifest.data.get("measured")
        self._carried = _was_carried(manifest.data) if self._wanted is None else self._wanted
        self._state, self._end_ns = self._at_rest(), None
        self._grid = np.empty([side or 1 for side in backend.inputs[0].shape], np.float32)

    def close(self) -> None:
        self._backend = None

    def _load(self) -> tuple[Manifest, Loaded]:
        """Raises ModelError (no file, no manifest, another layout), BackendMissing, NotSupported."""
        doing = "segment events with it"
        manifest, loaded = load_known(self._model, doing, self._options, missing="'foveate train sltnet' makes one")
        fault = _misfit(loaded.backend.inputs, loaded.backend.outputs, len(manifest.classes))
        if fault:
            raise ModelError(str(self._model), doing, fault)
        return manifest, loaded

    def _at_rest(self) -> dict[str, NDArray[Any]]:
        assert self._backend is not None
        return {
            item.name: np.zeros([side or 1 for side in item.shape], np.float32) for item in self._backend.inputs[1:]
        }

    def step(self, slices: EventSlices) -> dict[str, Message]:
        energy, self._measured = _energy_of(self._measured, slices.stamp), None
        labels = self._labels(slices)
        return {"labels": labels} if energy is None else {"labels": labels, "energy": energy}

    def _labels(self, slices: EventSlices) -> LabelImage:
        assert self._backend is not None
        input_ = self._backend.inputs[0]
        _, bins, height, width = self._grid.shape
        canvas = Canvas((slices.width, slices.height), (width, height))
        if slices.fresh or slices.skipped or int(slices.begin_ns[0]) != self._end_ns or not self._carried:
            self._state = self._at_rest()
        self._end_ns = int(slices.end_ns[-1])
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
        return (dict(self._state), self._end_ns) if self._carried else None

    def load_state_dict(self, state: Any) -> None:
        membranes, self._end_ns = state
        self._state = dict(membranes)


def _was_carried(manifest: Any) -> bool:
    """Whether a model learnt with membranes that go on; so it is where its manifest does not say."""
    try:
        return bool(manifest["training"]["slices"]["carried"])
    except (KeyError, TypeError):
        return True


def _energy_of(measured: Any, stamp: Stamp) -> SliceEnergy | None:
    """What a manifest says of energy; None where it does not."""
    try:
        values = [float(measured[item.name]) for item in fields(SliceEnergy) if item.name != "stamp"]
    except (KeyError, TypeError, ValueError):
        return None
    return SliceEnergy(stamp, *values)


def _misfit(inputs: list[TensorInfo], outputs: list[TensorInfo], classes: int) -> str:
    """What keeps a model from taking and giving what the node does; empty if nothing."""
    if not inputs or len(inputs) != len(outputs) or len(inputs[0].shape) != 4 or None in inputs[0].shape[1:]:
        shapes = [item.shape for item in (*inputs[:1], *outputs[:1])]
        return (
            f"its first input and output are {shapes}, of {len(inputs)} and {len(outputs)}; it "
            "must take 1 x bins x H x W and membranes, and give logits and as many membranes"
        )
    batch, _, *size = inputs[0].shape
    if batch not in (1, None):
        return f"it takes {batch} slices at a time; export it for one"
    other = next((item for item in (*inputs, *outputs) if item.dtype != "tensor(float)"), None)
    if other is not None:
        return f"its '{other.name}' is {other.dtype}, not tensor(float)"
    if any(None in item.shape for item in inputs[1:]):
        return "its membranes have no fixed size"
    for before, after in zip(inputs[1:], outputs[1:], strict=True):
        if None not in after.shape and after.shape != before.shape:
            return f"its membrane '{before.name}' is {before.shape}, and afterwards {after.shape}"
    logits = outputs[0].shape
    if len(logits) != 4 or logits[1] != classes:
        return f"its output is {logits}, and its manifest has {classes} classes"
    if any(given not in (wanted, None) for given, wanted in zip(logits[2:], size, strict=True)):
        return f"its output is {logits}, of another size than its input {inputs[0].shape}"
    return ""
