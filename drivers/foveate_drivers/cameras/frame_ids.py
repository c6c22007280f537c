"""Unwraps the frame ids of a transport and counts what was lost between two frames."""

from __future__ import annotations

GIGE_VISION_1 = 65535  # ids run 1..65535; 0 is never used


class FrameIds:
    """Ids that count 1, 2, ... `modulus`, 1, ... become a number that only grows."""

    def __init__(self, modulus: int = GIGE_VISION_1) -> None:
        self._modulus = modulus
        self._last: int | None = None
        self._seq = 0

    def unwrap(self, wire_id: int) -> tuple[int, int]:
        """(unwrapped number, frames lost before it). A repeated id counts as a whole lap."""
        if self._last is None:
            self._seq, lost = wire_id, 0
        else:
            step = (wire_id - self._last) % self._modulus or self._modulus
            self._seq, lost = self._seq + step, step - 1
        self._last = wire_id
        return self._seq, lost
