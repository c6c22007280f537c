"""How fast the probability search finds things: against raster and random, with and without fusion.

Every strategy runs in simulated time on the same worlds with the same detector; only the gaze differs.

    python benchmarks/search.py                       20 procedural towns
    python benchmarks/search.py --photos 'FOLDER/*.jpg' --detector cars.onnx --regions regions.onnx
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from foveate.checking import load_graph
from foveate.graph import Graph
from foveate.messages import Message, Objects
from foveate.paths import find_graph
from foveate.run import Run
from foveate.station import Recorder
from foveate_nodes.detection.scoring import Score, score

OVERLAPS = (0.1, 0.25, 0.4)  # of the raster's tiles: the best of these is the one compared with


class Memory(Recorder):
    """Keeps the two streams that the score needs."""

    def __init__(self) -> None:
        self.objects: list[Message] = []
        self.truth: list[Message] = []

    def record(self, stream: str, message: Message, now_ns: int, sequence: int) -> None:
        if stream == "track.objects":
            self.objects.append(message)
        elif stream == "truth.objects":
            self.truth.append(message)


def run(graph: Graph, seconds: float) -> Score:
    """The score of one run in simulated time."""
    made = Run(graph, "virtual")
    memory = Memory()
    made.add_recorder(memory)
    result = made.execute(round(seconds * 1e9))
    if result.failure is not None:
        raise result.failure
    found = [m for m in memory.objects if isinstance(m, Objects)]
    return score(found, [m for m in memory.truth if isinstance(m, Objects)])


def strategies(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """Name and graph of everything that is compared."""
    assert graph.report is not None
    yield "probability search", graph
    yield "  without fusion", with_parameter(graph, "track", "fuse", False)
    for variant in graph.report.variants:
        other = graph.variant(variant)
        if variant.name == "raster":
            for overlap in OVERLAPS:
                yield f"raster, overlap {overlap:.0%}", with_parameter(other, "aim", "overlap", overlap)
        else:
            yield variant.name, other


def with_parameter(graph: Graph, node: str, name: str, value: object) -> Graph:
    """The graph with one parameter changed."""
    spec = graph.nodes[node]
    changed = replace(spec, parameters={**spec.parameters, name: value})
    return replace(graph, nodes={**graph.nodes, node: changed})


def worlds(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Name and settings of each world."""
    given = {"detector": options.detector, "regions": options.regions}
    extra = [f"{name}={value}" for name, value in given.items() if value]
    if options.photos:
        pattern = Path(options.photos)
        for path in sorted(pattern.parent.glob(pattern.name)):
            if path.with_suffix(".txt").exists():
                yield path.name, ["scene=photo", f"rig.world.image={path}", *extra]
    else:
        for seed in range(1, options.scenes + 1):
            yield f"town {seed}", [f"rig.world.seed={seed}", *extra]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20, help="procedural towns, seeds from 1")
    parser.add_argument("--photos", metavar="GLOB", help="photographs with YOLO text boxes beside them instead")
    parser.add_argument("--detector", help="another detector, such as one tuned on photographs")
    parser.add_argument("--regions", help="another region network")
    parser.add_argument("--seconds", type=float, default=6.0, help="simulated time of each run")
    options = parser.parse_args()
    path = find_graph("wide_area", [])
    assert path is not None
    scores: dict[str, list[Score]] = {}
    for number, (name, settings) in enumerate(worlds(options), 1):
        for strategy, graph in strategies(load_graph(path, settings)):
            scores.setdefault(strategy, []).append(run(graph, options.seconds))
        mine = scores["probability search"][-1].time_to(0.9)
        print(f"  {number:>2} {name}: 90 % after {mine if mine is None else round(mine, 2)} s", flush=True)
    table(scores, options.seconds)


def table(scores: dict[str, list[Score]], seconds: float) -> None:
    """Medians over the worlds; a world where 90 % were never found counts with the whole time."""

    def t90(s: Score) -> float:
        time = s.time_to(0.9)
        return seconds if time is None else time

    ours = [t90(s) for s in scores["probability search"]]
    print(
        "\n| strategy | 90 % found, median s | looks | never in | ours is faster by "
        "| recall | precision | error, mrad |"
    )
    print("|---|---|---|---|---|---|---|---|")
    best = 0.0
    for name, results in scores.items():
        times = [t90(s) for s in results]
        middle = statistics.median(times)
        never = sum(s.time_to(0.9) is None for s in results)
        ratio = statistics.median(t / mine for t, mine in zip(times, ours, strict=True))
        if name.startswith("raster"):
            best = ratio if not best else min(best, ratio)
        recall = statistics.mean(s.recall for s in results)
        precision = statistics.mean(s.precision for s in results)
        error = statistics.median(s.error_mrad() for s in results)
        print(f"| {name} | {middle:.2f} | {middle * 120:.0f} | {never} of {len(results)} | {ratio:.1f}x "
              f"| {recall:.0%} | {precision:.0%} | {error:.2f} |")  # fmt: skip
    print(f"\ntarget: at least 3x faster than the best raster: {best:.1f}x, {'met' if best >= 3 else 'missed'}")


if __name__ == "__main__":
    main()
