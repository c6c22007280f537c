"""The robot's whole graph live, on senses that were recorded: does this computer keep its four budgets?

    python benchmarks/robot.py --work DIR [--seconds 10] [--cores 2]

The senses of the simulated robot are recorded once, in simulated time, for drawing three worlds takes longer than the
worlds do; then the graph `robot` runs on them in real time: a search of 120 looks a second with a steered mirror,
odometry and a mesh from a depth camera, segmentation of an event camera, recording. Each row is one run; backends that
are not installed are left out. What is recorded is kept in DIR.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SENSES = {  # graph, and its options
    "search": ("wide_area", []),
    "room": ("odometry", ["--rig", "sim_room"]),
    "street": ("event_segmentation", ["--rig", "sim_street"]),
}
_RIG = """\
foveate: 1
description: The senses of a robot as they were recorded, and a simulated mirror.
devices:
  town:   {uri: "none:"}
  mirror: {uri: "sim:galvo", scanner: saccade30, limit: 0.24}
  wide:   {uri: "log:search/run.mcap", topic: /wide.frame, field: 0.9, offset: 0.12}
  search: {uri: "log:search/run.mcap", topic: /search.frame, field: 0.0419, width: 256, height: 256, rate: 120}
  room:   {uri: "none:"}
  depth:  {uri: "log:room/run.mcap", topic: /camera.depth, image: /camera.frame, info: /camera.info}
  street: {uri: "none:"}
  events: {uri: "log:street/run.mcap", topic: /camera.events}
"""
_BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}


def recorded(work: Path, seconds: float) -> None:
    """Record the senses that are not there yet, and write the rig that plays them."""
    for name, (graph, options) in _SENSES.items():
        if not (work / name / "run.mcap").exists():
            _run([graph, *options, "--executor", "virtual", "--no-report", "--output", str(work / name)], seconds)
    (work / "recorded.yaml").write_text(_RIG, encoding="utf-8")


def _run(arguments: list[str], seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "foveate", "run", *arguments, "--duration", f"{seconds:g}s", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * seconds + 60, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def live(work: Path, backend: str, seconds: float) -> tuple[dict[str, Any], float]:
    """The run's own account, and the CPU seconds of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(dir=work) as place:
        where = ["--rig", str(work / "recorded.yaml"), "--data", str(work), "--no-report", "--output", place]
        found = _run(["robot", *where, "--set", f"backend={backend}"], seconds)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    recorded(work, options.seconds)
    print("| backend | budget | p50, ms | p99, ms | allowed, ms | over | results a second |")
    print("|---|---|---|---|---|---|---|")
    for backend, package in _BACKENDS.items():
        if importlib.util.find_spec(package) is None:
            continue
        found, cpu_s = live(work, backend, options.seconds)
        for budget in found["budgets"]:
            count = budget["measured"]
            print(f"| {backend} | {budget['from']} to {budget['to']} | {budget['p50_ms']:.1f} | {budget['p99_ms']:.1f} "
                  f"| {budget['limit_ms']:g} | {budget['over']} of {count} | {count / found['duration_s']:.1f} |",
                  flush=True)  # fmt: skip
        account = "all messages accounted for" if found["balanced"] else "MESSAGES LOST"
        print(
            f"{backend}: {cpu_s:.0f} CPU seconds, start included, for {found['duration_s']:.1f}; {account}\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
