"""Durations as people write them: `20ms`, `8 ms`, `1.5s`."""

from __future__ import annotations

import re

_FACTOR = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ns|us|ms|s|min|h)")


def parse_duration_ns(text: object) -> int:
    """Nanoseconds of a text such as `20ms`. Raises ValueError saying what is allowed."""
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"not a duration: {str(text)[:40]!r}; write a number and a unit, such as 20ms or 1.5s")
    return round(float(match[1]) * _FACTOR[match[2]])


def format_duration(ns: float) -> str:
    """A duration with three significant digits and a fitting unit."""
    for unit, factor in (("h", 3600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.0f} ns"
