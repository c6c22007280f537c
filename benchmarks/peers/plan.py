"""What one trial of a hop does, and what its consumer measured. Needs numpy only."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACED, FLOOD, END = 0, 1, 2  # phases of a trial


@dataclass(frozen=True)
class Plan:
    """One trial: `warm` + `count` messages at `rate_hz`, then as many as go through in `flood_s`."""

    size: int  # bytes of the payload
    warm: int
    count: int
    rate_hz: float = 30.0
    flood_s: float = 1.0
    settle_s: float = 1.0  # before the first message, for engines that connect in the background
    out: str = ""  # file for the result of a trial in other processes

    @property
    def total(self) -> int:
        """Messages at the given rate."""
        return self.warm + self.count

    @property
    def limit_s(self) -> float:
        """No trial takes longer: what has not ended by then is ended."""
        return 20.0 + self.settle_s + self.total / self.rate_hz + 3 * self.flood_s

    def payload(self) -> NDArray[np.uint8]:
        """The array that is sent; every page of it has been written."""
        return np.arange(self.size, dtype=np.uint32).astype(np.uint8)

    def save(self, path: Path) -> None:
        """Write it for another process."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: str) -> Plan:
        """What `save` wrote."""
        return cls(**json.loads(Path(path).read_text()))


@dataclass
class Tally:
    """What the consumer saw; times in nanoseconds of CLOCK_MONOTONIC."""

    warm: int
    size: int
    latency_ns: list[int] = field(default_factory=list)
    flood: int = 0
    first_ns: int = 0
    last_ns: int = 0
    sent: int = 0  # messages of the flood, by the producer's count
    seen: int = 0

    def take(self, view: NDArray[np.uint8], phase: int, sent_ns: int) -> None:
        """One message, as a numpy array; its first and last byte are read before the clock."""
        assert view.size == self.size
        touched = int(view[0]) + int(view[-1])
        now = time.monotonic_ns()
        assert touched >= 0
        if phase == PACED:
            self.seen += 1
            if self.seen > self.warm:
                self.latency_ns.append(now - sent_ns)
        else:
            self.first_ns = self.first_ns or now
            self.last_ns = now
            self.flood += 1

    def result(self) -> dict[str, Any]:
        """Plain values: p50 and p99 in microseconds, messages a second, share of the flood that was lost."""
        if not self.latency_ns or self.flood < 2:
            raise ValueError(f"only {self.seen} paced and {self.flood} fast messages arrived")
        p50, p99 = np.percentile(self.latency_ns, (50, 99)) / 1000
        rate = (self.flood - 1) * 1e9 / (self.last_ns - self.first_ns)
        lost = 1 - self.flood / self.sent if self.sent else 0.0
        return {"p50_us": float(p50), "p99_us": float(p99), "rate": rate, "lost": lost, "paced": len(self.latency_ns)}

    def save(self, path: str) -> None:
        """Write the result where the script that started the trial looks for it."""
        part = Path(path + ".part")
        part.write_text(json.dumps(self.result()))
        part.rename(path)
