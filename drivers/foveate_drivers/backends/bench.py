"""Measures models on backends: each pair in a process of its own, all of them in turns against noise."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foveate import catalog
from foveate.clock import process_ns
from foveate_drivers.backends.loading import known_backends
from foveate_drivers.backends.parity import Outputs, difference, has_integers

Tell = Callable[[str], None]
SLICE_MS = 300.0
_PATIENCE_S = 180.0  # for an engine to be built


@dataclass
class Row:
    """A model on a backend. Times in ms; `why`: what kept it from being measured."""

    model: Path
    backend: str
    provider: str
    threads: int
    why: str = ""
    ran_on: str = ""  # the provider, as the backend calls it
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    rate: float = 0.0  # runs a second
    load_ms: float = 0.0
    first_ms: float = 0.0
    memory_mb: float = 0.0  # the most held, less an empty process's
    sibling: bool = False  # gives outputs of the first model's shapes
    difference: float | None = None  # largest of all outputs, as a share of the largest of the first model's; of this
    # model's own where it is no sibling
    parity: float | None = None  # the same to onnxruntime on this very file
    agrees: bool = False  # the golden pair holds; where there is none, within what the backend promises of `parity`
    unproven: str = ""  # why the golden pair does not hold
    runs: int = 0
    inputs: list[Any] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON and the board's profile."""
        if self.why:
            return {"backend": self.backend, "provider": self.provider, "threads": self.threads, "why": self.why}
        return {
            "backend": self.backend, "provider": self.provider, "ran_on": self.ran_on, "threads": self.threads,
            "p50_ms": round(self.p50_ms, 4), "p99_ms": round(self.p99_ms, 4), "per_second": round(self.rate, 2),
            "load_ms": round(self.load_ms, 1), "first_ms": round(self.first_ms, 2),
            "memory_mb": round(self.memory_mb, 1), "difference": _short(self.difference),
            "parity": _short(self.parity), "agrees": self.agrees, "runs": self.runs,
        }  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def rows_of(models: Sequence[Path], backends: Sequence[str], threads: Sequence[int]) -> list[Row]:
    """Every combination; `backends`: `NAME` or `NAME:PROVIDER`, none for all that take the file."""
    rows = []
    for model in models:
        for text in backends or known_backends():
            name, _, provider = text.partition(":")
            if not backends and model.suffix not in catalog.load("drivers", f"backend.{name}").suffixes:
                continue
            rows += [Row(model, name, provider, count) for count in threads]
    return rows


class Gone(Exception):
    """A worker ended or did not answer; says why."""


class Worker:
    """A process that holds one model on one backend."""

    def __init__(self, row: Row, like: Path, shapes: dict[str, list[int]], outputs: Path, errors: Path) -> None:
        job = {"model": str(row.model), "like": str(like), "backend": row.backend, "provider": row.provider,
               "threads": row.threads, "shapes": shapes, "outputs": str(outputs)}  # fmt: skip
        self.row, self.outputs, self._errors = row, outputs, errors
        environment = {**os.environ, "OMP_NUM_THREADS": str(row.threads)}
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "foveate_drivers.backends.bench_worker", json.dumps(job)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment,
            )  # fmt: skip
        self._rest = b""
        self.proven = False  # there is a golden pair
        self.limits = (0.0, 0.0)  # what the backend promises: of models in floating point, and in 8 bits

    def answer(self, patience_s: float) -> dict[str, Any]:
        """The next line it says. Raises Gone."""
        assert self._process.stdout is not None
        end = process_ns() + patience_s * 1e9
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = (end - process_ns()) / 1e9
                if left <= 0 or not selector.select(left):
                    self.end()
                    raise Gone(f"no answer within {patience_s:.0f} s")
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    raise Gone(self._ended())
                self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        data: dict[str, Any] = json.loads(line)
        if "why" in data:
            raise Gone(str(data["why"]))
        return data

    def run(self, milliseconds: float) -> dict[str, Any]:
        """Raises Gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"run {milliseconds}\n".encode())
            self._process.stdin.flush()
        except OSError:
            raise Gone(self._ended()) from None
        return self.answer(_PATIENCE_S)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ended(self) -> str:
        code = self._process.wait()
        said = [line.strip() for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its process ended by {name}{f': {said[-1][:160]}' if said else ''}"


def measure(
    rows: list[Row], *, seconds: float = 2.0, shapes: dict[str, list[int]] | None = None, tell: Tell | None = None
) -> None:
    """Fill in the rows. The first row's model is what outputs are held against, computed by onnxruntime."""
    like = rows[0].model
    say = tell if tell is not None else lambda line: None
    with tempfile.TemporaryDirectory(prefix="foveate-bench-") as folder:
        workers: list[Worker] = []
        try:
            _start(rows, like, shapes or {}, Path(folder), workers, say)
            taken = _rounds(workers, seconds, say)
        finally:
            for worker in workers:
                worker.end()
        for worker in workers:
            if not worker.row.why:
                _statistics(worker.row, taken[id(worker)])
        _differences([w for w in workers if not w.row.why], like)


def _start(
    rows: list[Row], like: Path, shapes: dict[str, list[int]], folder: Path, workers: list[Worker], say: Tell
) -> None:
    """One after the other, for load times are of one that has the board to itself."""
    for i, row in enumerate(rows):
        say(f"loading {row.model.name} on {row.backend}, {row.threads} thread{'s' if row.threads > 1 else ''}")
        worker = Worker(row, like, shapes, folder / f"out{i}.npz", folder / f"err{i}.txt")
        workers.append(worker)
        try:
            facts = worker.answer(_PATIENCE_S)
        except Gone as gone:
            row.why = _without_name(str(gone), row.model)
            continue
        row.ran_on = facts["provider"]
        row.load_ms, row.first_ms = facts["load_ns"] / 1e6, facts["first_ns"] / 1e6
        row.inputs = facts["inputs"]
        row.unproven, worker.proven = facts["unproven"], facts["proven"]
        worker.limits = facts["parity"], facts["parity_integer"]


def _rounds(workers: list[Worker], seconds: float, say: Tell) -> dict[int, list[int]]:
    """What each run took, in ns, of every worker."""
    taken: dict[int, list[int]] = {id(worker): [] for worker in workers}
    rounds = max(round(seconds * 1e3 / SLICE_MS), 1)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for worker in workers:
            if worker.row.why:
                continue
            try:
                said = worker.run(SLICE_MS)
            except Gone as gone:
                worker.row.why = _without_name(str(gone), worker.row.model)
                continue
            taken[id(worker)] += said["taken_ns"]
            worker.row.memory_mb = said["memory"] / 1e6
    return taken


def _statistics(row: Row, taken_ns: list[int]) -> None:
    times = np.asarray(taken_ns, float) / 1e6
    row.p50_ms, row.p99_ms = (float(x) for x in np.percentile(times, (50, 99)))
    row.rate, row.runs = 1e3 * len(times) / float(times.sum()), len(times)


def _differences(workers: list[Worker], like: Path) -> None:
    outputs = {id(worker): _outputs(worker.outputs) for worker in workers}
    first = next((outputs[id(w)] for w in workers if w.row.model == like and w.row.backend == "onnx"), None)
    for worker in workers:
        given, row = outputs[id(worker)], worker.row
        same = [w for w in workers if w.row.model == row.model and w.row.backend == "onnx"]
        own = outputs[id(same[0])] if same else None
        row.parity = None if own is None else difference(given, own)
        far = None if first is None else difference(given, first)
        row.sibling, row.difference = far is not None, row.parity if far is None else far
        limit = worker.limits[has_integers(row.model)]
        near = own is None or (row.parity is not None and row.parity <= limit)
        row.agrees = not row.unproven if worker.proven else near


def _outputs(path: Path) -> Outputs:
    with np.load(path) as data:
        return [data[f"out{i}"] for i in range(len(data.files))]


def _without_name(text: str, model: Path) -> str:
    """The row stands under the model's name already."""
    return text.removeprefix(f"{model}: ")


def choice(rows: list[Row]) -> dict[str, Any] | None:
    """What to run a model on: the fastest that agrees; more threads only where they save a tenth."""
    fit = sorted((r for r in rows if not r.why and r.agrees), key=lambda r: (r.threads, r.p50_ms))
    best: Row | None = None
    for row in fit:
        if best is None or row.p50_ms < best.p50_ms * (0.9 if row.threads > best.threads else 1.0):
            best = row
    if best is None:
        return None
    return {"backend": best.backend, "provider": best.provider, "threads": best.threads,
            "p50_ms": round(best.p50_ms, 4)}  # fmt: skip
