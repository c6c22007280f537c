"""The decoder of EVT 3.0 as a loop over words, compiled by numba at its first call and kept on the disk."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def decode(words: Any, state: Any, t_ns: Any, x: Any, y: Any, polarity: Any) -> tuple[int, int, int]:
    """Write the events; their number, events without time, words of no known type. As `Evt3Words` in numpy."""
    row, base, high, low = state[0], state[1], state[2], state[3]
    now = (high << 12 | low) * 1000
    count = early = strange = 0
    for word in words:
        kind, value = word >> 12, np.int64(word & 0x0FFF)
        if kind == 0x0:
            row = value & 0x7FF
        elif kind == 0x2:
            if high < 0:
                early += 1
                continue
            t_ns[count], x[count], y[count], polarity[count] = now, value & 0x7FF, row, value >> 11
            count += 1
        elif kind == 0x4 or kind == 0x5:
            bits, width = (value, 12) if kind == 0x4 else (value & 0xFF, 8)
            column, sign = base & 0x7FF, (base >> 11) & 1
            while bits:
                if bits & 1:
                    if high < 0:
                        early += 1
                    else:
                        t_ns[count], x[count], y[count], polarity[count] = now, column, row, sign
                        count += 1
                bits >>= 1
                column += 1
            base += width
        elif kind == 0x6:
            low = value
            now = (high << 12 | low) * 1000
        elif kind == 0x8:
            if high < 0:
                high = value
            elif value != high & 0xFFF:
                turn = 0x1000 if value < (high & 0xFFF) - 0x800 else 0
                high = (high & ~0xFFF) + turn + value
                low = 0
            now = (high << 12 | low) * 1000
        elif kind == 0x3:
            base = value
        elif kind != 0x7 and kind != 0xA and kind != 0xE and kind != 0xF:
            strange += 1
    state[0], state[1], state[2], state[3] = row, base, high, low
    return count, early, strange
