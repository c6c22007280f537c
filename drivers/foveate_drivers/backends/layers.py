"""How long each layer of an ONNX model takes in onnxruntime, with what it has to do (needs the package `onnx`)."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import catalog
from foveate.clock import process_ns
from foveate_drivers.backends.onnx_costs import Cost, Tensor, cost
from foveate_drivers.backends.onnx_shapes import Graph

_BYTES = {"float": 4, "double": 8, "int64": 8, "uint64": 8, "int32": 4, "uint32": 4, "float16": 2, "bfloat16": 2,
          "int16": 2, "uint16": 2}  # fmt: skip
_ADDED = re.compile(r"(_nchwc|_token_\d+|/\w+Fusion/?|_fused|_gemm)+$")
_FEWEST = 12  # runs


@dataclass(frozen=True, slots=True)
class Layer:
    """One node as onnxruntime runs it. `origin`: the node of the file it was made from; empty where it was put in."""

    cost: Cost
    origin: str
    measured_us: float


def measure(model: Path | bytes, feeds: Mapping[str, NDArray[Any]], seconds: float = 1.0) -> list[Layer]:
    """Layers in the order they run, on one thread. Raises BackendMissing, and what onnxruntime raises."""
    who = str(model) if isinstance(model, Path) else "a probe"
    onnx = catalog.optional("onnx", who, "bench")
    runtime = catalog.optional("onnxruntime", who, "onnx")
    with tempfile.TemporaryDirectory(prefix="foveate-layers-") as folder:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        original, source = _named(onnx, model)
        session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        begun, runs = process_ns(), 0
        while runs < _FEWEST or (process_ns() - begun < seconds * 1e9 and runs < 2000):
            session.run(None, dict(feeds))
            runs += 1
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        optimized = onnx.load(options.optimized_model_filepath)
    return _layers(optimized, _names(original), _times(events), feeds)


def _named(onnx: Any, model: Path | bytes) -> tuple[Any, str | bytes]:
    """A model, and what to make a session of: nodes without a name get one, for the profile knows them by no other."""
    if isinstance(model, bytes):
        return onnx.load_from_string(model), model
    loaded = onnx.load(model, load_external_data=False)
    known = {node.name for node in loaded.graph.node}
    if "" not in known or any(tensor.external_data for tensor in loaded.graph.initializer):
        return loaded, str(model)
    for i, node in enumerate(loaded.graph.node):
        if not node.name:
            name = f"{node.op_type}_{i}"
            while name in known:
                name += "_"
            node.name = name
            known.add(name)
    return loaded, loaded.SerializeToString()


_Times = dict[str, tuple[float, list[Tensor]]]


def _times(events: list[dict[str, Any]]) -> _Times:
    """For each node what it took (us, in its quieter runs) and what it gave."""
    taken: dict[str, list[float]] = {}
    given: dict[str, list[Tensor]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        name = name.removesuffix("_kernel_time")
        taken.setdefault(name, []).append(float(event["dur"]))
        given[name] = [
            Tensor(tuple(shape), _BYTES.get(kind, 1))
            for item in event["args"].get("output_type_shape", []) for kind, shape in item.items()
        ]  # fmt: skip
    return {name: (_middle(times), given[name]) for name, times in taken.items()}


def _middle(times: list[float]) -> float:
    """The clock of onnxruntime's profile has whole microseconds; a mean of many runs has more. The slower half of the
    runs is left out: another process's."""
    ranked = np.sort(np.asarray(times[1:] or times))  # the first run fills caches
    return float(ranked[len(ranked) // 20 : max(len(ranked) // 2, 1)].mean())


def _names(model: Any) -> dict[str, str]:
    """Names of nodes and of what they give, each with the node's own name and operator."""
    names: dict[str, str] = {}
    for i, node in enumerate(model.graph.node):
        shown = f"{node.name or f'{node.op_type}_{i}'}"
        for key in (*node.output, node.name):
            if key:
                names[key] = shown
    return names


def _layers(optimized: Any, names: dict[str, str], times: _Times, feeds: Mapping[str, NDArray[Any]]) -> list[Layer]:
    graph = Graph.of(optimized)
    shapes = {name: Tensor(array.shape, array.itemsize) for name, array in feeds.items()}
    for node in graph.nodes:
        for name, tensor in zip([o for o in node.outputs if o], times.get(node.name, (0.0, []))[1], strict=False):
            shapes[name] = tensor
    graph.learn(shapes)
    layers = []
    for node in graph.nodes:
        if node.name not in times:
            continue
        given = [graph.tensor(name) if name else None for name in node.inputs]
        made = [t for t in (graph.tensor(name) for name in node.outputs if name) if t is not None]
        held = frozenset(i for i, name in enumerate(node.inputs) if name and graph.is_constant(name))
        blocked = node.domain.endswith("nchwc")
        found = cost(node.name, node.operator, node.attributes, given, made, held, blocked)
        layers.append(Layer(found, _origin(node.name, node.outputs, names), times[node.name][0]))
    return sorted(layers, key=lambda layer: list(times).index(layer.cost.name))


def _origin(name: str, outputs: list[str], names: dict[str, str]) -> str:
    plain = _ADDED.sub("", name)
    for key in (name, plain, *outputs, *(_ADDED.sub("", output) for output in outputs)):
        if key in names:
            return names[key]
    return ""
