"""What every method is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from foveate_compression.work import Work

Progress = Callable[[str, int, int], None]  # of what, how far, of how many


class Method(Protocol):
    """Options as fields, with bounds; `apply` changes the work. Raises ModelError that names the layer."""

    def apply(self, work: Work, progress: Progress) -> None: ...


def silent(what: str, step: int, steps: int) -> None:
    """A progress that says nothing."""
