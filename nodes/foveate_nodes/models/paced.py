"""A node whose model has smaller variants, between which it changes to keep a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.node import Node
from foveate_drivers.backends.base import Backend
from foveate_drivers.backends.loading import Loaded
from foveate_drivers.backends.variants import Pacer, Variants


class Paced(Node):
    """Its steps' times decide which variant runs; each change is a decision, which recordings keep and replays repeat.

    In simulated time a step takes what is declared, so nothing changes there.
    """

    _variants: Variants | None = None
    _pacer: Pacer | None = None

    def with_variants(
        self, loaded: Loaded, others: Sequence[Path], budget_s: float, options: Mapping[str, Any]
    ) -> Backend:
        """The model's backend, or one that holds it and its variants; proven. Raises ModelError."""
        if not others:
            loaded.prove()
            return loaded.backend
        self._variants = Variants(loaded, others, **options)
        self._variants.prove()
        self._pacer = Pacer(len(others) + 1, round(budget_s * 1e9)) if budget_s else None
        return self._variants

    def after_step(self, took_ns: int) -> str:
        number = self._pacer.note(took_ns) if self._pacer is not None else None
        return "" if number is None else str(number)

    def adapt(self, word: str) -> None:
        if self._variants is not None:
            self._variants.use(int(word))
        if self._pacer is not None:
            self._pacer.number = int(word)
