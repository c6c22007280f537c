"""The Ether Dream's state machine and ring, by the firmware's dac.c (github.com/j4cbo/j4cDAC), without its wires."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate_drivers.mirrors import etherdream_protocol as wire


class Dac:
    """The DAC without its wires: a ring of points that is played by the clock.

    Running dry, `s` and the emergency stop set all outputs to 0 V at once, as dac_stop of the firmware does:
    the mirror goes to rest.
    """

    def __init__(self) -> None:
        self._ring: deque[NDArray[Any]] = deque()  # blocks of points
        self._rates: deque[int] = deque()
        self.fullness = self.count = self.rate = 0
        self.playback = wire.IDLE
        self.light = wire.READY
        self.flags = 0
        self._played_ns = 0  # when the last point was put out

    def status(self) -> wire.Status:
        return wire.Status(0, self.light, self.playback, 0, int(self.light == wire.LIGHT_ESTOP), self.flags, 0,
                           self.fullness, self.rate, self.count & 0xFFFFFFFF)  # fmt: skip

    def stop(self, flag: int = 0) -> None:
        self._ring.clear()
        self._rates.clear()
        self.fullness = self.count = self.rate = 0
        self.playback = wire.IDLE
        self.flags = (self.flags | flag) & ~wire.SHUTTER

    def prepare(self) -> bool:
        if self.playback != wire.IDLE or self.light != wire.READY:
            return False
        self.stop()
        self.flags = 0
        self.playback = wire.PREPARED
        return True

    def start(self, rate: int, now_ns: int) -> None:
        """Without a word where there is nothing to play: the firmware acknowledges that too."""
        self.rate = rate
        if self.playback == wire.PREPARED and self.fullness and rate:
            self.playback = wire.PLAYING
            self._played_ns = now_ns

    def queue_rate(self, rate: int) -> bool:
        if len(self._rates) >= wire.RATE_QUEUE:
            return False
        self._rates.append(rate)
        return True

    def add(self, points: NDArray[Any]) -> int:
        """ACK; FULL, keeping what fits; INVALID where it is idle."""
        if self.playback == wire.IDLE:
            return wire.INVALID
        room = wire.USABLE - self.fullness
        self._ring.append(points[:room])
        self.fullness += min(room, len(points))
        return wire.ACK if len(points) <= room else wire.FULL

    def play(self, now_ns: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """(points, when each was put out) up to a moment; stops where the ring runs dry."""
        points: list[NDArray[Any]] = []
        times: list[NDArray[np.int64]] = []
        while self.playback == wire.PLAYING:
            due = int((now_ns - self._played_ns) * self.rate / 1e9)
            if due <= 0:
                break
            if not self._ring:
                self.stop(wire.UNDERFLOW)
                break
            block = self._ring.popleft()
            change = np.flatnonzero(block["control"] & wire.POP_RATE)
            take = min(due, len(block), int(change[0]) if len(change) and change[0] else len(block))
            if len(change) and change[0] == 0:
                self.rate = self._rates.popleft() if self._rates else self.rate
                block["control"][0] = 0
                self._ring.appendleft(block)
                continue
            if take < len(block):
                self._ring.appendleft(block[take:])
            points.append(block[:take])
            times.append(self._played_ns + (np.arange(1, take + 1) * 1e9 / self.rate).astype(np.int64))
            self._played_ns += round(take * 1e9 / self.rate)
            self.fullness -= take
            self.count += take
        if not points:
            return np.zeros(0, wire.POINT), np.zeros(0, np.int64)
        return np.concatenate(points), np.concatenate(times)
