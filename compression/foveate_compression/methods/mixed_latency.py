"""As few layers in integers as a latency asks for: those first whose rounding costs least for the time it saves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import onnx
import torch
from annotated_types import Ge, Gt, Le, Lt

from foveate.errors import ModelError
from foveate_compression.export.writer import model_of
from foveate_compression.latency import latency
from foveate_compression.losses import distilled
from foveate_compression.methods.method import Progress, silent
from foveate_compression.methods.plain import Plain
from foveate_compression.network import Layer
from foveate_compression.placement import chosen
from foveate_compression.work import Work
from foveate_drivers.backends.layers import measure

_TRIED = 8  # files at most
_TAKEN_IN = ("Add", "Relu", "Clip")  # by kernels of convolutions and products


@dataclass(frozen=True, slots=True)
class MixedLatency:
    """At most `share` of the whole network's time on this computer; `weights` and `activations` in bits.

    The last step of a recipe: what it leaves runs in floating point, as does `skip`. It measures, so that another
    computer, or a busy one, may choose other layers; those that it leaves are the manifest's `float_layers`, which
    `plain: keep` takes.
    """

    share: Annotated[float, Gt(0), Lt(1)] = 0.8
    weights: Annotated[int, Ge(2), Le(8)] = 7
    activations: Annotated[int, Ge(2), Le(8)] = 8
    samples: Annotated[int, Ge(1)] = 64
    skip: tuple[str, ...] = field(default=())

    def apply(self, work: Work, progress: Progress) -> None:
        """Integers for the chosen layers. Raises ModelError where all of them are not enough."""
        skipped = {layer.name for layer in chosen(work, self.skip)}
        layers = [layer for layer in work.network.layers if layer.name not in skipped]
        order = self._ordered(work, layers, progress)
        best = 1.0
        counts = sorted({max(1, round(len(order) * (i + 1) / _TRIED)) for i in range(_TRIED)}) if order else []
        for i, count in enumerate(counts):
            trial = self._quantized(work, order[:count])
            share = _share(trial)
            best = min(best, share)
            progress("files", i + 1, len(counts))
            if share <= self.share:
                work.forms, work.levels = trial.forms, trial.levels
                return
        text = f"the fastest file takes {best:.2f} of the whole network's time; ask for that or more"
        raise ModelError(work.network.who, f"make it run in {self.share:g} of its time", text)

    def _quantized(self, work: Work, layers: list[Layer]) -> Work:
        """A copy in which these layers run in integers."""
        trial = Work(work.network, work.samples)
        trial.constants, trial.forms, trial.levels = dict(work.constants), dict(work.forms), dict(work.levels)
        names = {layer.name for layer in layers}
        keep = tuple(layer.name for layer in work.network.layers if layer.name not in names)
        Plain(weights=self.weights, activations=self.activations, keep=keep).apply(trial, silent)
        return trial

    @torch.no_grad()
    def _ordered(self, work: Work, layers: list[Layer], progress: Progress) -> list[Layer]:
        """Those that integers make faster, the least loss for a saved microsecond first."""
        every = self._quantized(work, layers)
        before, after = _times(work), _times(every)
        samples = {name: value[: self.samples] for name, value in work.samples.items()}
        whole = work.outputs(samples)
        costs: list[tuple[float, Layer]] = []
        for i, layer in enumerate(layers):
            saved = _of(layer, work, before) - _of(layer, work, after)
            if saved > 0:
                alone = Work(work.network, work.samples)
                alone.constants, alone.forms, alone.levels = work.constants, dict(work.forms), dict(work.levels)
                alone.forms[layer.weight] = every.forms[layer.weight]
                alone.levels[layer.input] = every.levels[layer.input]
                found = alone.outputs(samples)
                costs.append((sum(float(distilled(found[name], whole[name])) for name in whole) / saved, layer))
            progress("sensitivity", i + 1, len(layers))
        return [layer for _, layer in sorted(costs, key=lambda cost: cost[0])]


def _of(layer: Layer, work: Work, times: dict[str, float]) -> float:
    """A layer's time, which is said of the node that gives what its kernel gives: the activation that it took in."""
    names, readers, output = [layer.name], work.network.graph.readers(), layer.output
    while len(behind := readers.get(output, [])) == 1 and behind[0].kind in _TAKEN_IN:
        names.append(behind[0].name)
        output = behind[0].outputs[0]
    return next((times[name] for name in names if name in times), 0.0)


def _times(work: Work) -> dict[str, float]:
    """Microseconds of each node, by its name."""
    given = {name: value[:1].numpy() for name, value in work.samples.items()}
    found = measure(model_of(work).SerializeToString(), given, 0.5)
    return {layer.origin: layer.measured_us for layer in found}


def _share(work: Work) -> float:
    """Of the whole network's time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        onnx.save(model_of(work), str(path))
        return 1.0 / latency(work.network, path, work.samples).ratio
