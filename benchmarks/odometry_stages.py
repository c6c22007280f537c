"""Where odometry's time goes: milliseconds a frame by stage, and whether two cores keep up with 60 frames a second.

Stages are processor time, and exclude each other: what a stage calls and is named here counts there. The window has a
thread of its own. `wall` is what a frame took; the first frames, which compile, are left out. `at 60 Hz` is a queue
that a camera fills 60 times a second whether or not frames are done: how late poses are then (median and 95th
percentile), and how many frames wait.

    python benchmarks/odometry_stages.py [SEQUENCE] [--edges canny network] [--cores N]
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from odometry_sequences import sequence

from foveate_nodes.odometry import tracker
from foveate_nodes.odometry.network_edges import NetworkEdges
from foveate_nodes.odometry.rgbd import gray_of
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.view import EdgeDetector, Reference, View
from foveate_nodes.odometry.window import Window

MODEL = Path(__file__).parents[1] / "launch/models/edges.onnx"
KITCHEN = Path(__file__).resolve().parents[2] / "shared/data/rgbd/7scenes_redkitchen"
WARM = 5  # frames
RATE_HZ = 60.0


class Stages:
    """Seconds by stage of what runs now; a stage within another is taken from it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._of = threading.local()  # `inner`: of the stages within each that runs, by thread

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            inner = self._of.__dict__.setdefault("inner", [0.0])
            begun = time.thread_time()
            inner.append(0.0)
            try:
                return call(*arguments, **named)
            finally:
                took = time.thread_time() - begun
                self.seconds[name] = self.seconds.get(name, 0.0) + took - inner.pop()
                inner[-1] += took

        return run

    def watch(self) -> None:
        """Put timers around what the tracker calls."""
        View.__init__ = self.timed("pyramids of image and depth", View.__init__)  # type: ignore[method-assign]
        distance = View.distance.func  # type: ignore[attr-defined]
        View.distance = cached_property(self.timed("distances to edges", distance))  # type: ignore[assignment]
        View.distance.__set_name__(View, "distance")
        Reference.of = self.timed("points of a keyframe", Reference.of)  # type: ignore[method-assign]
        tracker.Features.of = self.timed("features of a keyframe", tracker.Features.of)  # type: ignore[method-assign]
        for name, stage in (("align", "alignment"), ("agreement", "agreement")):
            setattr(tracker, name, self.timed(stage, getattr(tracker, name)))
        tracker.Tracker._slid = self.timed("slide of the small image", tracker.Tracker._slid)  # type: ignore[method-assign]
        for name in ("add", "optimise", "shrink"):
            setattr(Window, name, self.timed("window", getattr(Window, name)))


def queued(wall_s: list[float]) -> tuple[np.ndarray[Any, Any], int]:
    """Seconds from a frame's arrival to its pose at RATE_HZ, and the most frames that wait."""
    free, late, most = 0.0, [], 0
    for number, took in enumerate(wall_s):
        arrived = number / RATE_HZ
        free = max(free, arrived) + took
        late.append(free - arrived)
        most = max(most, int((free - arrived - took) * RATE_HZ))
    return np.array(late), most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path, nargs="?", default=KITCHEN)
    parser.add_argument("--edges", nargs="+", choices=("canny", "network"), default=["canny", "network"])
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--window", type=int, default=6, help="keyframes that are optimised together, 0 = none")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.cores :])
    cv2.setNumThreads(1)  # as `foveate run` does
    made = sequence(options.sequence, 100_000)
    stages = Stages()
    stages.watch()
    for edges in options.edges:
        found: EdgeDetector = canny_edges if edges == "canny" else NetworkEdges(MODEL, threads=options.cores)
        following, wall_s = tracker.Tracker(window=options.window), []
        detect = stages.timed(f"edges ({edges})", found)
        make = partial(View, matrix=made.matrix, edges=detect)
        before_s = time.process_time()
        for number in range(len(made.frames)):
            frame, depth = made.frames[number]
            metres = depth.depth * np.float32(depth.scale_m)
            if number == WARM:
                stages.seconds.clear()
                wall_s.clear()
                before_s = time.process_time()
            begun = time.perf_counter()
            following.track(make(gray_of(frame.image), metres), number, made.time_s[number])
            wall_s.append(time.perf_counter() - begun)
        cpu_s = time.process_time() - before_s
        name = f"{made.name}, {edges}, {options.cores} core{'s' * (options.cores > 1)}"
        table(name, stages.seconds | {"all": cpu_s}, wall_s)


def table(name: str, seconds: dict[str, float], wall_s: list[float]) -> None:
    print(f"\n### {name}\n\n| stage | ms a frame |\n|---|---|")
    rest = 2 * seconds["all"] - sum(seconds.values())
    for stage, took in sorted((seconds | {"the rest": rest}).items(), key=lambda one: -one[1]):
        print(f"| {stage} | {took / len(wall_s) * 1e3:.2f} |")
    late, most = queued(wall_s)
    of = np.array(wall_s) * 1e3
    print(f"| wall: mean; median, 95 %, most | {of.mean():.1f}; {np.median(of):.1f}, {np.percentile(of, 95):.1f}, "
          f"{of.max():.1f} |")  # fmt: skip
    print(f"\nat {RATE_HZ:.0f} Hz: late {np.median(late) * 1e3:.0f} ms, {np.percentile(late, 95) * 1e3:.0f} ms (95 %); "
          f"{most} frames wait at most, {int(late[-1] * RATE_HZ)} at the end")  # fmt: skip


if __name__ == "__main__":
    main()
