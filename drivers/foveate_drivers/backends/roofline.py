"""What bounds each layer on this board, predicted from what its kernels reached on small graphs.

The roofline is that of Williams, Waterman and Patterson (CACM 2009): time is the larger of operations by peak and bytes
by bandwidth. Kernels stay below both roofs by a share that depends on a layer's size; so each family of layers is timed
once per board (`probes`), and a layer is held against those of its family that are most like it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foveate import catalog
from foveate.clock import process_ns
from foveate_drivers.backends.layers import Layer, measure
from foveate_drivers.backends.onnx_costs import Cost

COPIED = (128 << 10, 512 << 10, 2 << 20, 8 << 20, 32 << 20, 128 << 20)  # bytes that a copy touches: caches, memory
_NEIGHBOURS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """A layer that was timed: where it lies in its family, how much there was to do, how long it took."""

    features: tuple[float, ...]
    units: float  # operations of what computes, bytes of what moves
    us: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """`bound`: compute, memory, or overhead (of a node, however little it does)."""

    us: float
    bound: str


@dataclass
class Roofline:
    """Ceilings of a board. Rates are in 1e9 a second; `peak` by kind (float32, int8) and threads."""

    peak: dict[str, dict[int, float]] = field(default_factory=dict)
    bandwidth: dict[int, float] = field(default_factory=dict)  # by COPIED
    overhead_us: float = 1.0
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def predict(self, cost: Cost) -> Prediction:
        """On one thread."""
        if cost.family == "view":
            return Prediction(self.overhead_us, "overhead")
        units = _units(cost)
        near = self._like(cost)
        rate = _rate(near, cost.features) if near else 0.0  # units a us
        reached = units / rate if rate else 0.0
        roof = self.memory_us(cost)
        total = self.overhead_us + max(reached, roof)
        if self.overhead_us > max(reached, roof):
            return Prediction(total, "overhead")
        counted = cost.computes or cost.operations > 4 * cost.bytes  # curves and pools work more than they move
        return Prediction(total, "compute" if counted and reached > roof else "memory")

    def memory_us(self, cost: Cost) -> float:
        """The least time that its bytes take; half of them are written."""
        sizes = sorted(self.bandwidth)
        if not sizes:
            return 0.0
        rate = np.interp(math.log(max(cost.bytes, 1)), np.log(sizes), [self.bandwidth[size] for size in sizes])
        return cost.bytes / (float(rate) * 1e3)

    def _like(self, cost: Cost) -> list[Sample]:
        """Samples of its family, or of the nearest that there is."""
        words = cost.family.split()
        shared = {name: len(set(words) & set(name.split())) for name in self.samples if name.split()[0] == words[0]}
        if cost.family not in self.samples and not shared:
            other = {"deconv": "conv", "qdepthwise": "depthwise"}.get(words[0])
            return self.samples.get(other or ("Add 8-bit" if "8-bit" in words else "Add"), [])
        return self.samples[cost.family if cost.family in self.samples else max(shared, key=lambda name: shared[name])]

    def learn(self, layers: Iterable[Layer]) -> None:
        """Take in what was timed."""
        for layer in layers:
            if layer.cost.family == "view" or not layer.measured_us:
                continue
            known = self.samples.setdefault(layer.cost.family, [])
            features = tuple(round(x, 2) for x in layer.cost.features)
            if not any(s.features == features for s in known):
                us = max(layer.measured_us - self.overhead_us, 0.1 * layer.measured_us)
                known.append(Sample(features, float(_units(layer.cost)), round(us, 2)))

    def plain(self) -> dict[str, Any]:
        """For a file."""
        peak = {kind: {str(n): round(v, 1) for n, v in by.items()} for kind, by in self.peak.items()}
        return {
            "peak_giga_operations": peak,
            "bandwidth_gigabytes": {str(size): round(v, 1) for size, v in self.bandwidth.items()},
            "overhead_us": round(self.overhead_us, 2),
            "samples": {f: [[*s.features, s.units, s.us] for s in some] for f, some in sorted(self.samples.items())},
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Roofline:
        """Raises LookupError, TypeError, ValueError for what `plain` did not write."""
        samples = {str(f): [Sample(tuple(map(float, row[:-2])), float(row[-2]), float(row[-1])) for row in rows]
                   for f, rows in plain["samples"].items()}  # fmt: skip
        peaks = plain["peak_giga_operations"].items()
        peak = {str(kind): {int(n): float(v) for n, v in by.items()} for kind, by in peaks}
        bandwidth = {int(size): float(v) for size, v in plain["bandwidth_gigabytes"].items()}
        return cls(peak, bandwidth, float(plain["overhead_us"]), samples)


def _units(cost: Cost) -> int:
    return max(cost.operations if cost.computes else cost.bytes, 1)


def _rate(samples: list[Sample], features: tuple[float, ...]) -> float:
    """Units a us, of the nearest samples by their distance; rates are averaged as logarithms."""
    far = [(math.dist(s.features, features) if len(s.features) == len(features) else 9.0, s) for s in samples]
    far.sort(key=lambda pair: pair[0])
    nearest = far[:_NEIGHBOURS]
    weights = [1.0 / (0.05 + distance) ** 2 for distance, _ in nearest]
    logs = [math.log(s.units / s.us) for _, s in nearest]
    return math.exp(sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights))


def peaks() -> Roofline:
    """Peaks and bandwidths alone; about 2 s. Raises BackendMissing."""
    found = Roofline()
    found.bandwidth = {size: _bandwidth(size) for size in COPIED}
    for kind in ("float32", "int8"):
        found.peak[kind] = {threads: _peak(kind, threads) for threads in (1, 2)}
    return found


def measured(tell: Any = None, seconds: float = 1.0) -> Roofline:
    """Time the board: peaks, bandwidths and all probes, on one core and two; about 20 s."""
    from foveate_drivers.backends import probes

    found = peaks()
    graphs = probes.graphs()
    layers: list[Layer] = []
    for number, (model, feeds) in enumerate(graphs):
        if tell is not None:
            tell(f"timing this board's kernels, {number + 1} of {len(graphs)}")
        layers += measure(model, feeds, seconds)
    found.overhead_us = float(np.percentile([layer.measured_us for layer in layers], 2))
    found.learn(layers)
    return found


def _peak(kind: str, threads: int) -> float:
    """1e9 operations a second of a product of matrices of 768 x 768 in onnxruntime, the best of 25."""
    runtime = catalog.optional("onnxruntime", "the board's peak", "onnx")
    helper = catalog.optional("onnx", "the board's peak", "bench").helper
    side = 768
    code, out, operator = (1, 1, "MatMul") if kind == "float32" else (2, 6, "MatMulInteger")
    rng = np.random.default_rng(0)
    weights = rng.integers(-64, 64, (side, side), np.int8)
    if kind == "float32":
        weights = weights.astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])], "peak",
        [helper.make_tensor_value_info("x", code, [side, side])],
        [helper.make_tensor_value_info("y", out, [side, side])],
        [catalog.optional("onnx", "the board's peak", "bench").numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = rng.integers(0, 99, (side, side)).astype(np.float32 if kind == "float32" else np.uint8)
    best = math.inf
    for _ in range(25):
        begun = process_ns()
        session.run(None, {"x": x})
        best = min(best, process_ns() - begun)
    return 2.0 * side**3 / best


def _bandwidth(size: int) -> float:
    """1e9 bytes a second, read and written, of copies that touch `size` bytes; the best of 0.15 s."""
    source = np.ones(size // 8, np.float32)
    target = np.zeros_like(source)
    turns = max((8 << 20) // size, 1)
    best = math.inf
    end = process_ns() + 150_000_000
    while process_ns() < end:
        begun = process_ns()
        for _ in range(turns):
            np.copyto(target, source)
        best = min(best, process_ns() - begun)
    return turns * size / best
