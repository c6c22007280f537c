"""How late a 240 Hz source ticks in foveate's live executor, beside a busy node in the same process.

Lateness: from the moment a tick was due until its step begins. The neighbour works without a pause, so
this is the worst case. The baseline is a bare thread that sleeps until the same moments, alone in the
process, in the same run. Kinds take turns inside every repetition; numbers are medians over the
repetitions, ratios are medians of each repetition's ratio to the baseline.

    python benchmarks/tick.py                   about 2 minutes
    python benchmarks/tick.py --quick           one short repetition
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveate.clock import Clock
from foveate.graph import Graph, NodeSpec
from foveate.node import Node, schema_of
from foveate.run import Run

PERIOD_NS = 1_000_000_000 // 240
SKIP = 60  # ticks while threads start and models warm up
MODEL = Path(__file__).resolve().parent.parent / "launch" / "models" / "vehicles_people.onnx"
Work = Callable[[], Any]


class Tick(Node):
    """Due 240 times a second; notes how late each step begins."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.clock, self.next, self.late_ns = clock, 0, list[int]()

    def due_ns(self) -> int:
        return self.next * PERIOD_NS

    def step(self) -> None:
        assert self.clock is not None
        self.late_ns.append(self.clock.now_ns() - self.due_ns())
        self.next += 1


class Busy(Node):
    """Does the same work again and again."""

    def __init__(self, *, make: Callable[[], Work]) -> None:
        self.make, self.step_ns = make, list[int]()

    def open(self) -> None:
        self.work = self.make()
        self.work()

    def step(self) -> None:
        begun = time.monotonic_ns()
        self.work()
        self.step_ns.append(time.monotonic_ns() - begun)


def python_loop() -> Work:
    """Holds the GIL, but gives it up when asked."""

    def work() -> int:
        total = 0
        for number in range(100_000):
            total += number & 7
        return total

    return work


def json_text(items: int) -> Work:
    """One C call that keeps the GIL from its beginning to its end."""
    text = json.dumps([{"id": number, "box": [number, number + 1.5], "name": f"n{number}"} for number in range(items)])
    return partial(json.loads, text)


def blur() -> Work:
    """OpenCV on a 1080p image; without the GIL."""
    import cv2

    image = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    return partial(cv2.GaussianBlur, image, (5, 5), 0)


def onnx() -> Work:
    """The detector of the example graphs, with one thread as foveate's backend runs it."""
    from foveate_drivers.backends.onnx import OnnxBackend

    backend = OnnxBackend(MODEL)
    first = backend.inputs[0]
    kind = np.uint8 if "uint8" in first.dtype else np.float32
    return partial(backend.run, {first.name: np.zeros([size or 1 for size in first.shape], kind)})


def matmul() -> Work:
    """BLAS with its own number of threads; without the GIL."""
    matrix = np.random.default_rng(0).random((512, 512), np.float32)
    return partial(np.matmul, matrix, matrix)


NEIGHBOURS: dict[str, Callable[[], Work] | None] = {
    "none": None,
    "pure-Python loop": python_loop,
    "json.loads, small text": partial(json_text, 300),
    "json.loads, large text": partial(json_text, 10_000),
    "OpenCV GaussianBlur 5x5, 1080p": blur,
    "onnxruntime, vehicles_people": onnx,
    "numpy matmul 512x512": matmul,
}


@dataclass
class Trial:
    """What one run gave; times in microseconds."""

    late_us: list[float]
    call_us: list[float] = field(default_factory=list)

    def p(self, percent: float) -> float:
        return float(np.percentile(self.late_us, percent))

    @property
    def missed(self) -> float:
        """Share of ticks later than one period."""
        return sum(late > PERIOD_NS / 1000 for late in self.late_us) / len(self.late_us)


def bare(seconds: float) -> Trial:
    """A loop that sleeps until each tick, alone."""
    late_ns = []
    start = time.monotonic_ns()
    for number in range(SKIP + int(seconds * 1e9) // PERIOD_NS):
        due_ns = start + number * PERIOD_NS
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        late_ns.append(time.monotonic_ns() - due_ns)
    return Trial([value / 1000 for value in late_ns[SKIP:]])


def engine(make: Callable[[], Work] | None, seconds: float) -> Trial:
    """The same ticks as a source of a graph, beside a node that works all the time."""
    tick = Tick()
    nodes: dict[str, Node] = {"tick": tick}
    if make is not None:
        nodes["busy"] = Busy(make=make)
    specs = {name: NodeSpec(name, name, type(node), schema_of(type(node)), {}, {}) for name, node in nodes.items()}
    run = Run(Graph("tick", Path("tick.yaml"), specs, ()), "live", replace=nodes)
    tick.clock = run.clock
    result = run.execute(SKIP * PERIOD_NS + int(seconds * 1e9))
    if result.failure is not None:
        raise result.failure
    busy = nodes.get("busy")
    calls = [value / 1000 for value in busy.step_ns] if isinstance(busy, Busy) else []
    return Trial([value / 1000 for value in tick.late_ns[SKIP:]], calls)


def measure(seconds: float, repetitions: int) -> tuple[dict[str, list[Trial | None]], dict[str, str]]:
    """Trials by row, a None where one failed; and why it failed."""
    trials: dict[str, list[Trial | None]] = {}
    reasons: dict[str, str] = {}
    for repetition in range(1, repetitions + 1):
        trials.setdefault("bare", []).append(bare(seconds))
        for name, make in NEIGHBOURS.items():
            try:
                made: Trial | None = engine(make, seconds)
            except Exception as error:  # a library that is not there is a line of its own, not the end
                made, reasons[name] = None, str(error)
            trials.setdefault(name, []).append(made)
            shown = f"{made.p(50):.0f} / {made.p(99):.0f} us" if made is not None else "failed"
            print(f"  {repetition} {name}: {shown}", file=sys.stderr, flush=True)
    return trials, reasons


def table(trials: dict[str, list[Trial | None]], reasons: dict[str, str]) -> None:
    """Absolute numbers and their ratios to the bare thread."""
    base = [trial for trial in trials["bare"] if trial is not None]
    print("\nIn brackets: times the bare thread's.\n")
    print("| 240 Hz tick | neighbour | p50, µs | p99, µs | later than one period | one call of the neighbour, ms |")
    print("|---|---|---|---|---|---|")
    for name, row in trials.items():
        pairs = [(trial, other) for trial, other in zip(row, base, strict=True) if trial is not None]
        title = "bare thread | alone" if name == "bare" else f"foveate source | {name}"
        if not pairs:
            print(f"| {title} | {reasons[name]} | | | |")
            continue
        cells = []
        for percent in (50, 99):
            number = statistics.median(trial.p(percent) for trial, _ in pairs)
            ratio = statistics.median(trial.p(percent) / other.p(percent) for trial, other in pairs)
            cells.append(f"{number:.0f} (x{ratio:.1f})")
        missed = statistics.median(trial.missed for trial, _ in pairs)
        calls = [value for trial, _ in pairs for value in trial.call_us]
        call = f"{statistics.median(calls) / 1000:.2f}" if calls else ""
        print(f"| {title} | {' | '.join(cells)} | {missed:.1%} | {call} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of half a second a row")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured in each trial")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repetitions = 0.5, 1
    if not 0.1 <= options.seconds <= 60 or options.repetitions < 1:
        parser.error("needs 0.1 to 60 seconds and a repetition")
    before = os.getloadavg()[0]
    table(*measure(options.seconds, options.repetitions))
    print(f"\nload average before {before:.1f}, after {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
