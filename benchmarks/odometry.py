"""How far odometry drifts, how often it is lost and what it costs: foveate beside its peers on the same frames.

Each tracker is a process of its own, all on one core with one thread each; they take turns frame by frame, so that what
else the machine does meets all alike. A sequence is *kept* by a tracker that is never lost for more than 10 frames in a
row, tracks one of the last 10, whose ATE is at most a tenth of the path (0.03 m is always good enough, more than 0.3 m
never) and whose RPE is at most 5 degrees. Where a tracker is lost the last pose that it gave counts in the errors.

ATE: rmse of positions after SE(3) alignment, of the poses as they were given; `at the end`: of those that a tracker
that corrects its past has after the last frame. RPE: rmse of the motion over 30 frames (a third of a shorter sequence).
Milliseconds are processor time of the process a frame; wall time is in the file of --json.

    python benchmarks/odometry.py [--sequences FOLDER...] [--trackers NAME...] [--open3d-python PATH]

A sequence is a TUM RGB-D folder (with camera.txt, `fx fy cx cy`, where it is not of freiburg 1, 2 or 3) or a 7-Scenes
one; without --sequences, those of ../shared/data/rgbd: 7 minutes with all trackers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odometry_peers import MODULES
from odometry_sequences import Sequence, sequence

from foveate.errors import FoveateError
from foveate_calibration.poses import Poses
from foveate_nodes.odometry.trajectory_error import How, evaluated

Array = NDArray[np.float64]
PROCESS = Path(__file__).parent / "odometry_peers" / "process.py"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "rgbd"
BASES = ("open3d_hybrid", "opencv_rgbd")  # whose milliseconds the others' are compared with
START_S, FRAME_S = 120.0, 20.0  # imports and compiling; one frame
COMPILING = 2  # frames
LOST_FRAMES = 10
REACH_FRAMES = 30
ENOUGH_DEG = 5.0


class Process:
    """A tracker in its process. `fault` says why it has ended."""

    def __init__(self, name: str, python: str, folder: Path, core: int) -> None:
        self.name, self.fault = name, ""
        self.log = (folder / f"{name}.log").open("w+")
        command = [python, str(PROCESS), str(folder), name, str(core)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.selector = DefaultSelector()
        self.selector.register(self.child.stdout, EVENT_READ)  # type: ignore[arg-type]
        self.answers: list[dict[str, Any]] = []
        self.final: list[list[float]] | None = None

    def line(self, limit_s: float) -> bytes:
        """Its next answer; empty, with a fault, where none comes in time."""
        if self.fault:
            return b""
        if not self.selector.select(limit_s):
            self._end(f"no answer in {limit_s:.0f} s")
            return b""
        said = self.child.stdout.readline()  # type: ignore[union-attr]
        if not said:
            self.child.wait()
            self.log.seek(0)
            said_last = [line for line in self.log.read().splitlines() if line.strip()][-1:]
            self._end(said_last[0] if said_last else f"ended with {self.child.returncode}")
        return said

    def ask(self, question: str, limit_s: float) -> Any:
        """The answer to a line; None, with a fault, where none comes in time."""
        if self.fault:
            return None
        try:
            self.child.stdin.write(f"{question}\n".encode())  # type: ignore[union-attr]
            self.child.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # `line` says why
        said = self.line(limit_s)
        return json.loads(said) if said else None

    def track(self, number: int) -> None:
        """A frame."""
        answer = self.ask(str(number), FRAME_S if len(self.answers) >= COMPILING else START_S)
        if answer is not None:
            self.answers.append(answer)

    def end(self) -> None:
        """After the last frame: what it makes of all of them, and the process ends."""
        self.final = self.ask("end", START_S)
        self._end(self.fault)
        self.child.stdin.close()  # type: ignore[union-attr]
        self.child.stdout.close()  # type: ignore[union-attr]
        self.selector.close()
        self.log.close()

    def _end(self, fault: str) -> None:
        self.fault = fault
        self.child.kill()
        self.child.wait()


def held(answers: list[dict[str, Any]], count: int) -> tuple[Array, NDArray[np.bool_]]:
    """Poses (N x 4 x 4), the last one known where there is none, and whether each frame was tracked."""
    poses, tracked, last = [], [], np.eye(4)
    for number in range(count):
        answer = answers[number] if number < len(answers) else {"pose": None, "tracked": False}
        if answer["pose"] is not None and answer["tracked"]:
            last = np.reshape(answer["pose"], (4, 4))
        poses.append(last)
        tracked.append(answer["tracked"])
    return np.array(poses), np.array(tracked)


def errors(estimate: Array, truth: Array) -> dict[str, float]:
    """ATE in metres, RPE in metres and degrees, and the path's length, of N x 4 x 4 where the truth is known."""
    known = np.isfinite(truth).all((1, 2))
    moments = np.arange(np.count_nonzero(known), dtype=np.float64)
    reach = min(REACH_FRAMES, max(len(moments) // 3, 1))
    poses, true = (Poses(moments, matrices[known], name) for matrices, name in ((estimate, "it"), (truth, "truth")))
    found = evaluated(poses, true, How(delta=reach, unit="frames"))
    assert found.rpe_m is not None and found.rpe_deg is not None
    return {
        "ate_m": found.ate_m.rmse, "rpe_m": found.rpe_m.rmse, "rpe_deg": found.rpe_deg.rmse, "path_m": found.path_m
    }  # fmt: skip


def longest(lost: NDArray[np.bool_]) -> int:
    """Frames of the longest run of lost ones."""
    most = run = 0
    for gone in lost.tolist():
        run = run + 1 if gone else 0
        most = max(most, run)
    return most


def is_kept(found: dict[str, Any], tracked: NDArray[np.bool_]) -> bool:
    """By what the first lines of this file say."""
    there = longest(~tracked) <= LOST_FRAMES and bool(tracked[-LOST_FRAMES:].any())
    enough_m = min(max(0.1 * found["path_m"], 0.03), 0.3)
    return there and bool(found["ate_m"] <= enough_m and found["rpe_deg"] <= ENOUGH_DEG)


def score(process: Process, made: Sequence) -> dict[str, Any]:
    """All that is told of a tracker in a sequence."""
    if len(process.answers) <= COMPILING:
        return {"fault": process.fault}
    poses, tracked = held(process.answers, len(made.time_s))
    found: dict[str, Any] = errors(poses, made.truth)
    if process.final is not None:
        found["final_ate_m"] = errors(np.reshape(process.final, (-1, 4, 4)), made.truth)["ate_m"]
    found["lost"] = int(np.count_nonzero(~tracked))
    found["kept"] = is_kept(found, tracked)
    for kind in ("cpu_ms", "wall_ms"):
        times = [answer[kind] for answer in process.answers[COMPILING:]]
        found[kind] = statistics.median(times)
        found[f"{kind}_p95"] = float(np.percentile(times, 95))
    found["frame_cpu_ms"] = [round(answer["cpu_ms"], 3) for answer in process.answers]
    found["poses"] = poses.reshape(len(poses), 16).tolist()
    faults = [answer["fault"] for answer in process.answers if answer["fault"]]
    if process.fault:
        faults.append(process.fault)
    if faults:
        found["fault"] = f"{len(faults)} faults, the first: {faults[0]}"
    return found


def turns(made: Sequence, trackers: list[str], pythons: dict[str, str]) -> dict[str, dict[str, Any]]:
    """One sequence through all trackers, frame by frame in turn."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        made.unpack(Path(folder))
        os.sched_setaffinity(0, cores[:-1] or cores)  # the last core is the trackers'
        running = [Process(name, pythons[name], Path(folder), cores[-1]) for name in trackers]
        for process in running:
            process.line(START_S)
        for number in range(len(made.time_s)):
            shift = number % len(running)
            for process in running[shift:] + running[:shift]:
                process.track(number)
        os.sched_setaffinity(0, cores)
        for process in running:
            process.end()
    return {process.name: score(process, made) for process in running}


def table(name: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Of one sequence: the median of the runs."""
    first = next((runs[0] for runs in rows.values() if "ate_m" in runs[0]), None)
    path = f", {first['path_m']:.2f} m" if first else ""
    print(f"\n### {name}{path}\n\n| tracker | ATE m | at the end | RPE m | RPE deg | lost | kept | ms | p95 | "
          + " | ".join(f"times {base}" for base in BASES) + " |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|" + "---|" * len(BASES))
    for tracker, runs in rows.items():
        good = [run for run in runs if "ate_m" in run]
        if not good:
            print(f"| {tracker} | {runs[0]['fault']} |")
            continue
        middle = {
            key: statistics.median(run[key] for run in good if key in run)
            for key in ("ate_m", "final_ate_m", "rpe_m", "rpe_deg", "lost", "cpu_ms", "cpu_ms_p95")
            if any(key in run for run in good)
        }
        cells = [f"{middle[key]:.4f}" if key in middle else "" for key in ("ate_m", "final_ate_m", "rpe_m")]
        kept = "yes" if all(run["kept"] for run in good) else "no"
        cells += [f"{middle['rpe_deg']:.2f}", f"{middle['lost']:g}", kept]
        cells += [f"{middle[key]:.1f}" for key in ("cpu_ms", "cpu_ms_p95")]
        cells += [ratio(runs, rows.get(base, [])) for base in BASES]
        print(f"| {tracker} | {' | '.join(cells)} |")
    for tracker, runs in rows.items():
        if "fault" in runs[0] and "ate_m" in runs[0]:
            print(f"\n{tracker}: {runs[0]['fault']}")


def ratio(runs: list[dict[str, Any]], bases: list[dict[str, Any]]) -> str:
    """Median over frames of how many times the base's milliseconds a tracker takes."""
    every = [
        a / b for run, base in zip(runs, bases, strict=False)
        for a, b in zip(
            run.get("frame_cpu_ms", [])[COMPILING:], base.get("frame_cpu_ms", [])[COMPILING:], strict=False
        ) if b > 0
    ]  # fmt: skip
    return f"{statistics.median(every):.2f}" if every else ""


def summary(found: dict[str, dict[str, list[dict[str, Any]]]], trackers: list[str]) -> None:
    """Over all sequences."""
    print(f"\n### all {len(found)} sequences\n\n| tracker | kept | median ATE m | mean | ms |\n|---|---|---|---|---|")
    for tracker in trackers:
        good = [run for rows in found.values() for run in rows[tracker] if "ate_m" in run]
        total = sum(len(rows[tracker]) for rows in found.values())
        if not good:
            print(f"| {tracker} | not run |")
        else:
            kept = sum(run["kept"] for run in good) / total
            ate = [run["ate_m"] for run in good] + [math.inf] * (total - len(good))
            print(f"| {tracker} | {kept:.0%} | {statistics.median(ate):.4f} | {statistics.mean(ate):.4f} | "
                  f"{statistics.median(run['cpu_ms'] for run in good):.1f} |")  # fmt: skip


def main() -> None:
    known = [name for names in MODULES.values() for name in names]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--trackers", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--frames", type=int, default=100_000, help="of each sequence at most")
    parser.add_argument("--repeat", type=int, default=1, help="runs; medians are printed")
    parser.add_argument("--open3d-python", default=sys.executable, metavar="PATH", help="where open3d can be imported")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write poses and times of every frame there")
    options = parser.parse_args()
    folders = options.sequences or [DATA / name for name in ("7scenes_redkitchen", "tum_fr1_rpy", "apc_box")]
    pythons = {name: options.open3d_python if name in MODULES["open3d_odometry"] else sys.executable for name in known}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    begun, before = time.perf_counter(), os.getloadavg()[0]
    for folder in folders:
        try:
            made = sequence(folder, options.frames)
        except FoveateError as error:
            parser.error(str(error))
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in options.trackers}
        for _ in range(options.repeat):
            for name, result in turns(made, options.trackers, pythons).items():
                rows[name].append(result)
        found[made.name] = rows
        table(made.name, rows)
        sys.stdout.flush()
    if len(found) > 1:
        summary(found, options.trackers)
    print(f"\n{time.perf_counter() - begun:.0f} s; load average before {before:.1f}, after {os.getloadavg()[0]:.1f}, "
          f"on {os.cpu_count()} cores")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
