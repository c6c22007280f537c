"""What every method is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from foveate_compression.work import Work

Progress = Callable[[str, int, int], None]  # of what, how far, of how many


class Method(Protocol):
    """Options as fields, with bounds; `apply` changes the work. Raises ModelError that names the layer."""

    def apply(self, work: Work, progress: Progress) -> None: ...


@runtime_checkable
class Joint(Protocol):
    """A method by which several networks share something."""

    def apply_to(self, works: Sequence[Work], progress: Progress) -> None: ...


def applied(method: Method, works: Sequence[Work], progress: Progress) -> None:
    """A step of a recipe on all networks: together where the method joins them, else on each."""
    if isinstance(method, Joint):
        method.apply_to(works, progress)
        return
    for work in works:
        method.apply(work, progress)


def silent(what: str, step: int, steps: int) -> None:
    """A progress that says nothing."""
