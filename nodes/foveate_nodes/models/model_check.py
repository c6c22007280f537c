"""What every node with a model finds wrong with its parameters before a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from foveate import catalog
from foveate.errors import FoveateError
from foveate.node import Problem


def problems(load: Callable[[], Any], backend: str, provider: str) -> Iterator[Problem]:
    """An unknown backend, or what `load` raises, told of the parameter `backend`, `provider` or `model`."""
    if f"backend.{backend}" not in catalog.listing("drivers"):
        known = [k.split(".")[1] for k in catalog.listing("drivers") if k.startswith("backend.")]
        yield Problem("backend", f"unknown backend '{backend}'{catalog.did_you_mean(backend, known)}")
        return
    try:
        load()
    except FoveateError as error:
        yield Problem("provider" if provider and "run on" in str(error) else "model", str(error))
