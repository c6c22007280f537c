"""One model on one backend in a process of its own, timed when `bench` asks for it.

Its one argument says what to load (JSON); then lines `run MILLISECONDS` come on stdin until it ends. Answers are lines
of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from foveate.clock import process_ns
from foveate.errors import FoveateError, ModelError
from foveate_drivers.backends.feeds import feeds
from foveate_drivers.backends.loading import Loaded, load


def peak_memory() -> int:
    """Most bytes that this process ever held; 0 where the kernel does not say. That of `getrusage` is the parent's
    too, which a fork hands down."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def main(arguments: list[str]) -> int:
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # libraries that print do not disturb the answers
    job = json.loads(arguments[0])
    try:
        _serve(job, wire)
    except FoveateError as error:
        print(json.dumps({"why": " ".join(str(error).split())}), file=wire)
        return 1
    except MemoryError:
        print(json.dumps({"why": "there is not memory enough for it"}), file=wire)
        return 1
    except Exception as error:  # of a library that is not in foveate's tree
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(json.dumps({"why": text}), file=wire)
        return 1
    return 0


def _serve(job: dict[str, Any], wire: Any) -> None:
    before = peak_memory()
    begun = process_ns()
    loaded = load(Path(job["model"]), backend=job["backend"], provider=job["provider"], threads=job["threads"],
                  held=False)  # fmt: skip
    backend = loaded.backend
    loaded_ns = process_ns() - begun
    shapes = {name: tuple(shape) for name, shape in job["shapes"].items()}
    given = feeds(Path(job["model"]), backend.inputs, shapes, Path(job["like"]))
    begun = process_ns()
    first = backend.run(given)
    first_ns = process_ns() - begun
    named: dict[str, Any] = {f"out{i}": np.asarray(array) for i, array in enumerate(first)}
    np.savez(job["outputs"], **named)
    facts = {"unproven": _unproven(loaded), "proven": loaded.manifest is not None,
             "provider": backend.provider, "load_ns": loaded_ns, "first_ns": first_ns,
             "inputs": [[item.name, list(given[item.name].shape), item.dtype] for item in backend.inputs],
             "parity": backend.parity, "parity_integer": backend.parity_integer}  # fmt: skip
    print(json.dumps(facts), file=wire)
    for line in sys.stdin:
        slice_ns = float(line.split()[1]) * 1e6
        taken: list[int] = []
        end = process_ns() + slice_ns
        while not taken or process_ns() < end:
            begun = process_ns()
            backend.run(given)
            taken.append(process_ns() - begun)
        print(json.dumps({"taken_ns": taken, "memory": max(peak_memory() - before, 0)}), file=wire)
    backend.close()


def _unproven(loaded: Loaded) -> str:
    """Why the golden pair does not hold; empty where it does, or where there is none."""
    try:
        loaded.prove()
    except ModelError as error:
        return str(error).removeprefix(f"{loaded.model}: ")
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
