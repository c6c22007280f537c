"""Durations and amounts of memory as people write them: `20ms`, `1.5s`, `256MB`."""

from __future__ import annotations

import re

_FACTOR = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ns|us|ms|s|min|h)")

_BYTE_FACTOR = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_BYTES = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(kB|MB|GB|KiB|MiB|GiB)")


def parse_duration_ns(text: object) -> int:
    """Nanoseconds of a text such as `20ms`. Raises ValueError saying what is allowed."""
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"not a duration: {str(text)[:40]!r}; write a number and a unit, such as 20ms or 1.5s")
    return round(float(match[1]) * _FACTOR[match[2]])


def parse_bytes(text: object) -> int:
    """Bytes of a text such as `256MB` (decimal) or `1GiB` (binary). Raises ValueError saying what is allowed."""
    match = _BYTES.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"not an amount of memory: {str(text)[:40]!r}; write a number and a unit, such as 256MB")
    return round(float(match[1]) * _BYTE_FACTOR[match[2]])


def exact_duration(ns: int) -> str:
    """A duration that is read again as the same number: `8ms`, `1500us`."""
    for unit in ("h", "min", "s", "ms", "us"):
        factor = int(_FACTOR[unit])
        if ns >= factor and ns % factor == 0:
            return f"{ns // factor}{unit}"
    whole, rest = divmod(ns, 1_000_000_000)
    return f"{ns}ns" if ns < 10**12 else f"{whole}.{rest:09d}s"


def format_duration(ns: float) -> str:
    """A duration with three significant digits and a fitting unit."""
    for unit, factor in (("h", 3600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.0f} ns"
