"""What every engine is asked to do in one trial, and what its consumer saw; needs numpy only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

END = -1  # the sequence number that tells a consumer that nothing follows


@dataclass(frozen=True, slots=True)
class Trial:
    """First `warmup + paced` messages at `rate_hz`, then as many as go through in `flood_s`."""

    shape: tuple[int, ...]  # of the uint8 array that travels
    warmup: int = 15
    paced: int = 60
    rate_hz: float = 30.0
    flood_s: float = 1.0
    flood_limit: int = 200_000  # messages, so that a producer nobody holds back cannot fill the memory

    @property
    def longest_s(self) -> float:
        """Far more than the trial can take; whoever waits longer gives up."""
        return (self.warmup + self.paced) / self.rate_hz + self.flood_s + 20.0

    def array(self) -> NDArray[np.uint8]:
        """What travels; made once, before the first message."""
        return np.random.default_rng(1).integers(0, 256, self.shape, dtype=np.uint8)

    def pace_ns(self, seq: int) -> int:
        """When message `seq` of the paced part is due, from the start."""
        return int(seq * 1e9 / self.rate_hz)

    def sequence(self) -> Iterator[int]:
        """Yields the next sequence number when its message is to be sent: sleeps, then floods."""
        start_ns = time.monotonic_ns()
        for seq in range(self.warmup + self.paced):
            time.sleep(max(0, start_ns + self.pace_ns(seq) - time.monotonic_ns()) / 1e9)
            yield seq
        time.sleep(0.2)
        yield from self.flood()

    def flood(self) -> Iterator[int]:
        """Sequence numbers of the second part, without a pause."""
        first = self.warmup + self.paced
        until_ns = time.monotonic_ns() + int(self.flood_s * 1e9)
        for seq in range(first, first + self.flood_limit):
            if time.monotonic_ns() >= until_ns:
                return
            yield seq

    def to_text(self) -> str:
        """As one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Trial:
        values = json.loads(text)
        return cls(**{**values, "shape": tuple(values["shape"])})


@dataclass(slots=True)
class Arrivals:
    """What a consumer saw."""

    trial: Trial
    latency_ns: list[int] = field(default_factory=list)
    flooded: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def take(self, seq: int, sent_ns: int, view: NDArray[np.uint8]) -> None:
        """Call with a numpy view in hand; the clock stops once its first byte has been read."""
        view.item(0)
        now_ns = time.monotonic_ns()
        first_flooded = self.trial.warmup + self.trial.paced
        if seq >= first_flooded:
            self.first_ns = self.first_ns or now_ns
            self.last_ns = now_ns
            self.flooded += 1
        elif seq >= self.trial.warmup:
            self.latency_ns.append(now_ns - sent_ns)

    def outcome(self) -> Outcome:
        """Quantiles in microseconds and messages a second."""
        if not self.latency_ns:
            raise ValueError("no message arrived")
        p50, p99 = np.quantile(np.array(self.latency_ns) / 1e3, [0.5, 0.99])
        span_ns = self.last_ns - self.first_ns
        rate_hz = (self.flooded - 1) * 1e9 / span_ns if span_ns > 0 else 0.0
        return Outcome(float(p50), float(p99), rate_hz, self.trial.paced - len(self.latency_ns))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self.outcome())), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial in numbers."""

    p50_us: float
    p99_us: float
    rate_hz: float  # delivered to the consumer
    lost: int  # of the paced messages
