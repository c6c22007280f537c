"""How well the roofline predicts layers: the share of them, by time, that take what it says within a factor of two.

Over the shipped models and those of ../shared/data/models. The board is timed first; then every model several times,
in turns, and each layer's time is the median of its rounds. One thread of onnxruntime.

    python benchmarks/roofline.py                    about 2 minutes
    python benchmarks/roofline.py --worst 5          and the layers that it misses by most time
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

from foveate_drivers.backends import bench_layers
from foveate_drivers.backends.feeds import feeds
from foveate_drivers.backends.layers import Layer, measure
from foveate_drivers.backends.onnx import OnnxBackend
from foveate_drivers.backends.roofline import Roofline, measured

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (ROOT / "launch" / "models", ROOT.parent / "shared" / "data" / "models")


def medians(rounds: list[list[Layer]]) -> list[Layer]:
    """Layers with the median of what they took in all rounds."""
    taken: dict[str, list[float]] = {}
    for layers in rounds:
        for layer in layers:
            taken.setdefault(layer.cost.name, []).append(layer.measured_us)
    return [replace(layer, measured_us=statistics.median(taken[layer.cost.name])) for layer in rounds[0]]


def board(rounds: int) -> Roofline:
    """Ceilings whose samples are the medians of several timings of the board."""
    several = [measured(lambda line: None) for _ in range(rounds)]
    found = several[0]
    for family, samples in found.samples.items():
        for i, sample in enumerate(samples):
            same = [s.us for other in several for s in other.samples.get(family, []) if s.features == sample.features]
            samples[i] = replace(sample, us=statistics.median(same))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of runs in each round")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="show as many layers that it misses")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    roofline = board(options.rounds)
    print("1e9 operations a second:", {k: {n: round(v, 1) for n, v in by.items()} for k, by in roofline.peak.items()})
    print("1e9 bytes a second of copies:", {size: round(rate, 1) for size, rate in roofline.bandwidth.items()})
    models = options.models or [path for folder in FOLDERS for path in sorted(folder.rglob("*.onnx"))]
    rounds: dict[Path, list[list[Layer]]] = {model: [] for model in models}
    for _ in range(options.rounds):
        for model in models:
            backend = OnnxBackend(model)
            rounds[model].append(measure(model, feeds(model, backend.inputs), options.seconds))
    total = near = layers = layers_near = 0.0
    report = {}
    for model, several in rounds.items():
        judged = bench_layers.judge(medians(several), roofline)
        by_time, by_count = bench_layers.share_near(judged)
        took = sum(j.layer.measured_us for j in judged)
        said = sum(j.prediction.us for j in judged)
        total, near = total + took, near + by_time * took
        layers, layers_near = layers + len(judged), layers_near + by_count * len(judged)
        report[model.name] = {"measured_us": took, "predicted_us": said, "near_time": by_time, "near_layers": by_count}
        print(f"{model.name:<36} {took:9.0f} us, predicted {said:9.0f}; within 2x: {by_time:6.1%} of time, "
              f"{by_count:6.1%} of {len(judged)} layers")  # fmt: skip
        for j in sorted((j for j in judged if not j.near), key=lambda j: -j.layer.measured_us)[: options.worst]:
            cost = j.layer.cost
            print(f"    {j.layer.measured_us:8.1f} predicted {j.prediction.us:8.1f}  {cost.family:<24} "
                  f"{tuple(round(x, 1) for x in cost.features)} {cost.operations} {cost.bytes}")  # fmt: skip
    print(f"all: within 2x {near / total:.1%} of time, {layers_near / layers:.1%} of {layers:.0f} layers")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
