"""How long a network takes before and after, side by side on one thread (extra compress)."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from foveate.clock import process_ns
from foveate_compression.network import Network
from foveate_compression.work import Samples


@dataclass(frozen=True, slots=True)
class Latency:
    """Medians of one sample's run."""

    whole_ms: float
    small_ms: float

    @property
    def ratio(self) -> float:
        """How many times as fast."""
        return self.whole_ms / self.small_ms


def latency(network: Network, small: Path, samples: Samples, rounds: int = 30) -> Latency:
    """Of onnxruntime, the two in turns."""
    given = {name: value[:1].numpy() for name, value in samples.items()}
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        onnx.save(network.model, str(whole))
        sessions = [_session(whole), _session(small)]
    times: list[list[float]] = [[], []]
    for i in range(rounds + 3):
        for session, took in zip(sessions, times, strict=True):
            begin = process_ns()
            session.run(None, given)
            if i >= 3:
                took.append((process_ns() - begin) / 1e6)
    return Latency(*(statistics.median(each) for each in times))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
