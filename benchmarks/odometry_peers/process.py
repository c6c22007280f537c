"""One tracker in a process of its own, which takes a frame when it is told to: `python process.py FOLDER TRACKER CORE`.

FOLDER holds image.npy (N x H x W x 3, uint8), depth.npy (N x H x W, uint16), time_s.npy (N,) and camera.json. The
process prints `ready`, then for each number of a frame on its standard input one line of JSON: pose (16 numbers or
null), tracked, wall_ms, cpu_ms, fault. On `end` it prints `trajectory()`, 16 numbers a frame, or null.
Decoding and converting are not in the times.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1", MKL_NUM_THREADS="1")

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from odometry_peers import MODULES


def main() -> None:
    """Raises what the tracker raises when it is made; a frame on which it raises is lost."""
    folder, name, core = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.sched_setaffinity(0, {core})  # before a library starts threads
    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    camera = json.loads((folder / "camera.json").read_text())
    images, depths = (np.load(folder / f"{kind}.npy", mmap_mode="r") for kind in ("image", "depth"))
    times = np.load(folder / "time_s.npy")
    module = next(module for module, names in MODULES.items() if name in names)
    variants = importlib.import_module(f"odometry_peers.{module}").VARIANTS
    tracker = variants[name](np.array(camera["matrix"]), camera["width"], camera["height"])
    print("ready", file=answers)
    for line in sys.stdin:
        if line.strip() == "end":
            final = tracker.trajectory() if hasattr(tracker, "trajectory") else None
            print(json.dumps(final if final is None else np.reshape(final, (-1, 16)).tolist()), file=answers)
            break
        number = int(line)
        image = np.array(images[number])
        depth = depths[number].astype(np.float32) * np.float32(camera["scale_m"])
        fault = ""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            pose, tracked = tracker.track(image, depth, float(times[number]))
        except Exception as error:  # any fault of a peer is a lost frame, not the end of the table
            pose, tracked, fault = None, False, f"frame {number}: {type(error).__name__}: {error}"[:300]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if pose is not None and not np.isfinite(pose).all():
            pose, tracked = None, False
        answer = {
            "pose": None if pose is None else np.asarray(pose, np.float64).ravel().tolist(), "tracked": bool(tracked),
            "wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "fault": fault,
        }  # fmt: skip
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
