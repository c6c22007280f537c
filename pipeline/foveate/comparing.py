"""Whether two messages say the same: byte by byte, or within a tolerance, and where they part."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from foveate.messages import Message


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field in which two messages differ."""

    field: str  # "image", "mirror.angle_rad", ...
    values: tuple[str, str]  # of the one and the other
    size: float = np.inf  # largest absolute difference; infinite where values cannot be subtracted
    where: str = ""  # of an array: how many values, and the place of the worst

    def told(self, one: str, other: str) -> str:
        """`score: recorded 0.5, replayed 0.6 (3 of 20 values, by up to 0.1 at [7])`."""
        where = f" ({self.where})" if self.where else ""
        return f"{self.field}: {one} {self.values[0]}, {other} {self.values[1]}{where}"


def difference(a: Message, b: Message, tolerance: float = 0.0) -> Difference | None:
    """What differs by more than `tolerance` (absolute, for numbers with a fraction; others must be equal)."""
    return _differ("", a, b, tolerance)


def _differ(name: str, a: Any, b: Any, tolerance: float) -> Difference | None:
    if type(a) is not type(b):
        return Difference(name or "type", (type(a).__name__, type(b).__name__))
    if is_dataclass(a):
        for item in fields(a):
            inner = f"{name}.{item.name}" if name else item.name
            found = _differ(inner, getattr(a, item.name), getattr(b, item.name), tolerance)
            if found is not None:
                return found
        return None
    if isinstance(a, np.ndarray):
        return _arrays(name, a, b, tolerance)
    if isinstance(a, float):
        apart = abs(a - b)
        same = a == b or apart <= tolerance or (a != a and b != b)
        return None if same else Difference(name, (repr(a), repr(b)), apart)
    return None if a == b else Difference(name, (_short(a), _short(b)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _arrays(name: str, a: np.ndarray, b: np.ndarray, tolerance: float) -> Difference | None:
    if a.shape != b.shape or a.dtype != b.dtype:
        return Difference(name, (f"{a.dtype}{list(a.shape)}", f"{b.dtype}{list(b.shape)}"))
    if a.dtype.kind == "f":
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
        wrong = ~((apart <= tolerance) | (a == b) | (np.isnan(a) & np.isnan(b)))
    elif a.dtype.kind in "iu":
        wrong = a != b
        apart = np.maximum(a, b) - np.minimum(a, b)
    else:
        wrong, apart = a != b, np.ones(a.shape)
    if not wrong.any():
        return None
    worst = np.unravel_index(int(np.argmax(np.where(wrong, np.nan_to_num(apart, nan=np.inf), 0))), a.shape)
    place = ", ".join(map(str, worst))
    size = float(apart[worst])
    where = f"{int(wrong.sum())} of {a.size} values, by up to {size:.6g} at [{place}]"
    return Difference(name, (str(a[worst]), str(b[worst])), size, where)
