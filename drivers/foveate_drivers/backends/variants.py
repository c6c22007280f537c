"""One model in several sizes, all loaded and warm, of which the one that keeps a budget runs."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError
from foveate_drivers.backends.base import Arrays, Backend, TensorInfo
from foveate_drivers.backends.loading import Loaded, load

_WINDOW = 15  # steps whose median decides
_ROOM = 0.75  # of the budget: a slower variant is gone back to when it would take less


class Variants(Backend):
    """Models with the same inputs and outputs, the best first; `use` changes which one runs."""

    def __init__(self, best: Loaded, others: Sequence[Path], **options: Any) -> None:
        """`options`: those of `load`. Raises ModelError where they are not alike, and what `load` raises."""
        self.loaded: list[Loaded] = [best, *(load(model, **options) for model in others)]
        self.model = best.model
        self.use(0)
        first = self.loaded[0].backend
        for each in self.loaded[1:]:
            if _kinds(each.backend.inputs, each.backend.outputs) != _kinds(first.inputs, first.outputs):
                text = f"its inputs and outputs are not those of {best.model.name}"
                raise ModelError(str(each.model), "be a variant", text)
            named = [one.manifest.classes for one in (best, each) if one.manifest is not None]
            if len(named) == 2 and named[0] != named[1]:
                text = f"its classes ({', '.join(named[1])}) are not those of {best.model.name} ({', '.join(named[0])})"
                raise ModelError(str(each.model), "be a variant", text)

    def use(self, number: int) -> None:
        """From here on this one runs: 0 is the first."""
        self.number = number
        self._now = self.loaded[number].backend
        self.provider, self.inputs, self.outputs = self._now.provider, self._now.inputs, self._now.outputs

    def prove(self) -> None:
        """Each gives its golden output, and is warm. Raises ModelError."""
        for each in self.loaded:
            each.prove()

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        return self._now.run(arrays)

    def close(self) -> None:
        super().close()
        for each in self.loaded:
            each.backend.close()


def _kinds(inputs: list[TensorInfo], outputs: list[TensorInfo]) -> list[Any]:
    return [[(item.name, item.shape, item.dtype) for item in items] for items in (inputs, outputs)]


class Pacer:
    """Chooses a variant so that steps keep a budget; goes to a faster one at once, and back only where there is room.

    The slower one's time is taken to have changed as the present one's has: a board that throttles slows all of them.
    """

    def __init__(self, count: int, budget_ns: int) -> None:
        self.count, self.budget_ns = count, budget_ns
        self.number = 0
        self._recent: deque[int] = deque(maxlen=_WINDOW)
        self._took: dict[int, tuple[float, float]] = {}  # of a variant that was left: its time, the next one's then

    def note(self, took_ns: int) -> int | None:
        """A step's time; the variant to change to, or None."""
        self._recent.append(took_ns)
        if len(self._recent) < _WINDOW:
            return None
        now = statistics.median(self._recent)
        if now > self.budget_ns and self.number + 1 < self.count:
            self._took[self.number] = (now, 0.0)
            return self._change(self.number + 1)
        if not self.number:
            return None
        before, then = self._took.get(self.number - 1, (0.0, 0.0))
        if not then:
            self._took[self.number - 1] = (before, now)
            return None
        return self._change(self.number - 1) if before * now / then < _ROOM * self.budget_ns else None

    def _change(self, number: int) -> int:
        self.number = number
        self._recent.clear()
        return number
