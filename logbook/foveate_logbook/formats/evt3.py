"""EVT3, Prophesee's packed events: 16-bit words that change a state of row, column and time.

Word types and fields: Prophesee's documentation "EVT 3.0 format". The upper four bits are the type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.messages import Events, Stamp

_ADDR_Y, _ADDR_X, _VECT_BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_WRAP = 1 << 12  # TIME_HIGH counts 4096 us and wraps every 16.8 s
_LOW_BITS = 12
_BITS = np.arange(12, dtype=np.uint16)


class Evt3Decoder:
    """Decodes the packets of one sensor in their order; what a packet sets holds in the next."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._y = 0
        self._base = 0  # column of the next vector, with its polarity in bit 11
        self._high: int | None = None  # None: no time yet, events before it are not told
        self._low = 0
        self._offset_ns: int | None = None  # sensor time 0 on the log's clock, from the first packet
        self._last_ns: int | None = None

    def events(self, data: Any, t_ns: int) -> list[Events]:
        """The packet's events; empty if it has none. `t_ns`: of its first event on the log's clock.

        Only the first packet's `t_ns` counts: from there on the sensor's own microseconds do.
        """
        x, y, polarity, sensor_us = self._decode(np.frombuffer(data, "<u2", len(data) // 2))
        inside = (x < self.width) & (y < self.height)
        if not inside.all():
            x, y, polarity, sensor_us = x[inside], y[inside], polarity[inside], sensor_us[inside]
        if x.size == 0:
            return []
        sensor_ns = sensor_us * 1000
        if self._offset_ns is None:
            self._offset_ns = t_ns - int(sensor_ns[0])
        times = sensor_ns + self._offset_ns
        if self._last_ns is not None and times[0] < self._last_ns:
            times = np.maximum(times, self._last_ns)
        if (np.diff(times) < 0).any():
            times = np.maximum.accumulate(times)  # Events are in the order of time
        self._last_ns = int(times[-1])
        first, last = int(times[0]), int(times[-1])
        stamp = Stamp((first + last) // 2, last - first)
        return [Events(stamp, times, x, y, polarity, self.width, self.height)]

    def _decode(self, words: NDArray[np.uint16]) -> tuple[NDArray[Any], ...]:
        """x, y, polarity, sensor time in us of every event, in order."""
        kind, value = words >> 12, words & 0x0FFF
        place = np.arange(words.size)
        row = _held(kind == _ADDR_Y, value & 0x7FF, self._y, place)
        time = self._times(kind, value, place)
        base = self._bases(kind, value, place)
        single, vector = kind == _ADDR_X, (kind == _VECT_12) | (kind == _VECT_8)
        at = np.flatnonzero((single | vector) & (time >= 0))
        # a single event is a vector of one bit
        bits = np.where(single, 1, np.where(kind == _VECT_8, value & 0xFF, value))[at].astype(np.uint16)
        start = np.where(single, value, base)[at]
        which, bit = np.nonzero((bits[:, None] >> _BITS) & 1)
        x = ((start[which] & 0x7FF) + bit).astype(np.uint16)
        polarity = ((start[which] >> 11) & 1).astype(np.uint8)
        at = at[which]
        if words.size:
            self._y = int(row[-1])
        return x, row[at].astype(np.uint16), polarity, time[at]

    def _times(self, kind: NDArray[Any], value: NDArray[Any], place: NDArray[Any]) -> NDArray[np.int64]:
        """Sensor time at every word, -1 before the first; 0 in the low bits between a new high part and a low one."""
        where = np.flatnonzero(kind == _TIME_HIGH)
        high = value[where].astype(np.int64)
        known = self._high is not None
        before = self._high if self._high is not None else int(high[0]) if high.size else 0
        # the counter wraps where it falls by more than half of its range
        full = np.concatenate([[before % _WRAP], high])
        turns = np.cumsum(np.diff(full) < -_WRAP // 2)
        high = high + (before // _WRAP + turns) * _WRAP
        series = np.concatenate([[before], high])
        changed = where[np.diff(series) != 0]
        count = np.zeros(kind.size, np.int64)
        count[where] = 1
        at_high = series[np.cumsum(count)]
        new = np.zeros(kind.size, bool)
        new[changed] = True
        reset = _held(new, place, -1, place)
        is_low = kind == _TIME_LOW
        low_place = _held(is_low, place, -1, place)
        low = np.where(low_place >= reset, _held(is_low, value.astype(np.int64), self._low, place), 0)
        time = (at_high << _LOW_BITS) | low
        if not known:
            time[: where[0] if where.size else None] = -1
        if kind.size:
            self._high = int(at_high[-1]) if known or where.size else None
            self._low = int(low[-1])
        return time

    def _bases(self, kind: NDArray[Any], value: NDArray[Any], place: NDArray[Any]) -> NDArray[np.int64]:
        """Column (and polarity in bit 11) at which each vector word begins: vectors follow each other."""
        width = np.where(kind == _VECT_12, 12, np.where(kind == _VECT_8, 8, 0))
        passed = np.concatenate([[0], np.cumsum(width)])  # before each word
        is_base = kind == _VECT_BASE_X
        base = _held(is_base, value.astype(np.int64) - passed[:-1], self._base, place)
        result = base + passed[:-1]
        if kind.size:
            self._base = int(base[-1] + passed[-1])
        return result


def _held(mask: NDArray[np.bool_], values: NDArray[Any], before: int, place: NDArray[Any]) -> NDArray[np.int64]:
    """At every place the value of the last place in `mask`, `before` where there was none."""
    last = np.maximum.accumulate(np.where(mask, place, -1))
    return np.where(last >= 0, values[last], before)
