"""What every node with a model finds wrong with its parameters before a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from foveate import catalog
from foveate.errors import FoveateError
from foveate.node import Problem
from foveate_drivers.backends.loading import AUTO, known_backends


def problems(load: Callable[[], Any], backend: str, provider: str) -> Iterator[Problem]:
    """An unknown backend, or what `load` raises, told of the parameter `backend`, `provider` or `model`."""
    known = known_backends()
    if backend not in (*known, AUTO):
        yield Problem("backend", f"unknown backend '{backend}'{catalog.did_you_mean(backend, known)}")
        return
    try:
        load()
    except FoveateError as error:
        yield Problem("provider" if provider and "run on" in str(error) else "model", str(error))
