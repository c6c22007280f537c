"""What is installed: nodes, drivers, reports and commands, found by entry points and never by import."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from foveate.errors import BackendMissing, FoveateError


class NotInstalled(FoveateError):
    """No entry point of that name, or one that cannot be imported."""


@cache
def listing(group: str) -> dict[str, EntryPoint]:
    """Entry points of `foveate.<group>` by name: nodes, drivers, reports, commands."""
    return {point.name: point for point in sorted(entry_points(group=f"foveate.{group}"))}


@cache
def load(group: str, name: str) -> Any:
    """The object behind an entry point. Raises NotInstalled with a suggestion or the import's error."""
    points = listing(group)
    if name not in points:
        what = {"nodes": "node type", "drivers": "driver"}.get(group, group.rstrip("s"))
        raise NotInstalled(f"unknown {what} '{name}'{did_you_mean(name, points)}")
    try:
        return points[name].load()
    except ImportError as error:
        raise NotInstalled(f"'{name}' cannot be imported: {error}") from error


def optional(module: str, who: str, extra: str) -> Any:
    """A package that not every installation has. Raises BackendMissing naming the extra to install."""
    try:
        return import_module(module)
    except ImportError:
        raise BackendMissing(who, module, extra) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the known names when nothing is close and they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 8 else ""
