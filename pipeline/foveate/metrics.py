"""Counters and latency histograms of a run; written by one thread each, read by any."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_PER_DECADE = 20
_DECADES = 9  # 1 us to 1000 s


class Histogram:
    """Durations in buckets of constant ratio (12 % wide): about 0.5 us a record."""

    __slots__ = ("counts", "largest_ns", "total")

    def __init__(self) -> None:
        self.counts = [0] * (_PER_DECADE * _DECADES)
        self.total = 0
        self.largest_ns = 0

    def record(self, duration_ns: int) -> None:
        index = int(_PER_DECADE * math.log10(duration_ns / 1000.0)) if duration_ns > 1000 else 0
        self.counts[index if index < len(self.counts) else -1] += 1
        self.total += 1
        if duration_ns > self.largest_ns:
            self.largest_ns = duration_ns

    def quantile_ns(self, q: float) -> float:
        """The duration that a share `q` of the records does not exceed; 0 without records."""
        if not self.total:
            return 0.0
        wanted, seen = q * self.total, 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= wanted and count:
                return min(1000.0 * 10 ** ((index + 1) / _PER_DECADE), float(self.largest_ns))
        return float(self.largest_ns)


@dataclass(slots=True)
class NodeStats:
    """What one node did."""

    steps: int = 0
    latency: Histogram = field(default_factory=Histogram)  # trigger put on its wire -> step done
    step: Histogram = field(default_factory=Histogram)  # the step alone
    lateness: Histogram = field(default_factory=Histogram)  # of a source: due -> started
    state: str = "waiting"  # waiting | working | blocked | finished | failed
    blocked_by: str = ""  # the wire that has no room
    problem: str = ""  # what is wrong with it while it goes on: a full disk, a restart
    begun_ns: int = 0  # when the present or last step began
    first_ns: int = 0  # when the first step had ended
    last_ns: int = 0  # when the last one had

    @property
    def rate_hz(self) -> float:
        """Steps a second between the first and the last."""
        span = self.last_ns - self.first_ns
        return (self.steps - 1) * 1e9 / span if span > 0 and self.steps > 1 else 0.0
