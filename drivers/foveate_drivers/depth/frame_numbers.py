"""Frame numbers of 32 bits as numbers that only grow."""

from __future__ import annotations

_MODULUS = 1 << 32
_JUMP = 1 << 20  # frames; a larger step is a counter that began anew, not a loss


class FrameNumbers:
    """Unwraps the counter of one stream."""

    def __init__(self) -> None:
        self._last: int | None = None
        self.seq = -1

    def unwrap(self, number: int) -> int | None:
        """The unwrapped number; None for a frame that came already. After a reset of the counter it goes on by one."""
        number %= _MODULUS
        if self._last is None:
            self.seq = number
        else:
            step = (number - self._last) % _MODULUS
            if step == 0:
                return None
            self.seq += step if step < _JUMP else 1
        self._last = number
        return self.seq
