"""A device's clock on the pipeline's clock, from when its data were taken and when they arrived.

Data arrive late by a varying delay but never early: drawn over device time, the offsets `arrival - device time`
lie above a line, whose slope is the skew of the clocks. The line is an edge of the lower convex hull of the offsets
in a window (Zhang, Liu, Xia: "Clock synchronization algorithms for network measurements", INFOCOM 2002), so
spikes of the delay do not move it, as they move an average or a regression. What stays is the smallest delay
of the window (readout, transfer), a constant that no one-way measurement can tell from the offset. Where the device
lets its clock be read (`latch`), the offset comes from there, and the line only gives the skew since.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_BLOCK_NS = 1_000_000_000  # the window is forgotten in steps of this
_EARLY_NS = 1_000_000  # data earlier than the line by more than this (and the skew allowed) tell of a jump
_MOST_SKEW = 500e-6  # of any two clocks; crystals are within 100 ppm
_COMMON_SKEW, _SURE_SKEW = 50e-6, 2e-6  # what may be left of it before and after the line is known
_COMPARABLE_NS = 60_000_000_000
_LATCH_AGING = 10e-6  # by so much a second a reading of the clock gets worse
_YOUNG_BLOCKS, _YOUNG_NS = 3, 50_000_000  # until then the first data may have been as late as this
_LATE_BLOCKS = 3  # seconds of data without one near the line tell of a jump back
_LATE_NS = 20_000_000
_RESOLUTION_NS = 1000.0  # no clock of a camera is better
_START_SIGMA_NS = 1_000_000  # of a first sample, before a second says how the delay varies

Point = tuple[int, int]  # device time, arrival - device time; ns


@dataclass(frozen=True, slots=True)
class Mapped:
    """A moment of the device on the pipeline's clock."""

    t_ns: int
    sigma_ns: int
    epoch: int  # grows when the device's clock wraps, jumps or is set


class DeviceClock:
    """Maps the device times of one stream; each stream has one of its own.

    What it gives never runs backwards and is never later than the arrival it is given.
    """

    def __init__(self, window_s: float = 30.0, wrap_ns: int | None = None) -> None:
        """`wrap_ns`: where the device's counter starts again, if that is known (2**32 ticks, in ns)."""
        self._blocks_kept = max(2, round(window_s * 1e9 / _BLOCK_NS))
        self._wrap_ns = wrap_ns
        self.epoch = 0
        self._turns = 0  # of the wrapping counter
        self._last_raw = -1
        self._last_ns: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._blocks: deque[list[Point]] = deque()  # hulls of one second each
        self._past: list[Point] = []  # hull of all blocks but the last
        self._edge: tuple[Point, Point] = ((0, 0), (0, 0))  # whose line is followed; twice the same: one point
        self._near: list[tuple[Point, Point]] = []
        self._begin = 0
        self._last: Point | None = None
        self._latched: tuple[int, int, int] | None = None  # device time, offset, half of the round trip
        self._counts: deque[int] = deque()  # samples in each block
        self._count = 0
        self._excess_ns = float(_START_SIGMA_NS)  # running mean of the delay above the line
        self._late = 0

    def map(self, device_ns: int, arrived_ns: int) -> Mapped:
        """Take note of data taken at `device_ns` that arrived at `arrived_ns`; when they were taken.

        Call in the order of arrival.
        """
        device = self._unwrapped(device_ns)
        if self._last is not None and (device <= self._last[0] or self._jumped(device, arrived_ns)):
            self._new_epoch()
        self._add((device, arrived_ns - device))
        if self._latched is not None and abs(device - self._latched[0]) > _COMPARABLE_NS:
            self._latched = None  # long ago, or of another clock than the one that stamps the data
        offset, sigma = self._line(device) if self._latched is None else self._since_latch(device, self._latched)
        t_ns = min(device + round(offset), arrived_ns)
        if self._last_ns is not None and t_ns <= self._last_ns:  # never backwards, whatever the line did
            sigma += self._last_ns - t_ns
            t_ns = min(self._last_ns + 1, max(arrived_ns, self._last_ns))
        self._last_ns = t_ns
        return Mapped(t_ns, round(sigma), self.epoch)

    def latch(self, device_ns: int, before_ns: int, after_ns: int) -> None:
        """The device's clock was read as `device_ns` between two moments of the pipeline's.

        A reading that took long is passed over where an earlier one is still better. Read it again every few seconds,
        and when the epoch has changed.
        """
        if before_ns > after_ns:
            return
        device = device_ns + self._turns * (self._wrap_ns or 0)
        half = (after_ns - before_ns + 1) // 2
        if self._latched is not None and half > self._latched[2] + (device - self._latched[0]) * _LATCH_AGING:
            return
        self._latched = device, (before_ns + after_ns) // 2 - device, half

    def _since_latch(self, device: int, latched: tuple[int, int, int]) -> tuple[float, float]:
        """(offset, its standard deviation) from a reading of the clock and the skew since."""
        begin, offset, half = latched
        old = len(self._blocks) > _YOUNG_BLOCKS
        (x0, y0), (x1, y1) = self._edge
        skew = (y1 - y0) / (x1 - x0) if old and x1 > x0 else 0.0
        doubt = _SURE_SKEW if old else _COMMON_SKEW
        sigma = half / 3**0.5 + doubt * abs(device - begin) + _RESOLUTION_NS  # the reading lies anywhere in its trip
        return offset + min(max(skew, -_MOST_SKEW), _MOST_SKEW) * (device - begin), sigma

    def _unwrapped(self, raw: int) -> int:
        if self._wrap_ns is not None and raw < self._last_raw - self._wrap_ns // 2:
            self._turns += 1
            self.epoch += 1
        self._last_raw = raw
        return raw + self._turns * (self._wrap_ns or 0)

    def _new_epoch(self) -> None:
        excess = self._excess_ns
        self._reset()
        self._excess_ns = excess  # the path is the same, only the clock is another
        self.epoch += 1

    def _jumped(self, device: int, arrived_ns: int) -> bool:
        """Whether the clock jumped: data come earlier than any could, or for seconds none came as early as before."""
        assert self._last is not None
        passed = device - self._last[0]
        expected, _ = self._line(device)
        excess = arrived_ns - device - expected
        young = len(self._blocks) <= _YOUNG_BLOCKS  # the line is vague as long as it rests on few data
        if excess < -(_EARLY_NS + _MOST_SKEW * passed + (max(20 * self._excess_ns, _YOUNG_NS) if young else 0)):
            return True
        if excess < _LATE_NS + 10 * self._excess_ns:
            self._late = device
            self._excess_ns += 0.02 * (max(excess, 0.0) - self._excess_ns)
            return False
        return bool(self._late) and device - self._late > _LATE_BLOCKS * _BLOCK_NS and passed < _BLOCK_NS

    def _add(self, point: Point) -> None:
        if not self._blocks or point[0] - self._begin >= _BLOCK_NS:
            self._begin = point[0]
            self._blocks.append([])
            self._counts.append(0)
            while len(self._blocks) > self._blocks_kept:
                self._blocks.popleft()
                self._count -= self._counts.popleft()
            self._past = []
            for block in list(self._blocks)[:-1]:
                for old in block:
                    _extend(self._past, old)
        _extend(self._blocks[-1], point)
        self._counts[-1] += 1
        self._count += 1
        self._fit()
        self._last = point

    def _fit(self) -> None:
        """Choose the edge of the window's hull over its middle; once a sample, for its line is asked for thrice."""
        hull = list(self._past)
        for point in self._blocks[-1]:
            _extend(hull, point)
        if len(hull) == 1:
            self._edge, self._near = (hull[0], hull[0]), []
            return
        middle = (hull[0][0] + hull[-1][0]) / 2
        at = next((i for i in range(len(hull) - 1) if hull[i + 1][0] >= middle), len(hull) - 2)
        self._edge = hull[at], hull[at + 1]
        # what long edges beside it would say: the clocks wander, and a short edge says nothing far away; the last
        # edge only leads to the newest point, however late that is
        near = [(hull[i], hull[i + 1]) for i in (at - 1, at + 1) if 0 <= i < len(hull) - 2]
        quarter = (hull[-1][0] - hull[0][0]) / 4
        self._near = [(a, b) for a, b in near if b[0] - a[0] >= quarter]

    def _line(self, device: int) -> tuple[float, float]:
        """(offset, its standard deviation) at a device time."""
        left, right = self._edge
        if left is right:
            return float(left[1]), self._excess_ns
        offset = _on(left, right, device)
        # the least of n delays spread exponentially is above their bound by the mean over n; the edge leans on two
        lever = 1 + 2 * abs(device - (left[0] + right[0]) / 2) / (right[0] - left[0])
        sigma = 2 * self._excess_ns / self._count * lever
        sigma = max([sigma, *(abs(offset - _on(a, b, device)) for a, b in self._near)])
        return offset, min(sigma, self._excess_ns) + _RESOLUTION_NS


def _extend(hull: list[Point], point: Point) -> None:
    """Add the newest point to a lower hull."""
    while len(hull) >= 2:
        (x0, y0), (x1, y1) = hull[-2], hull[-1]
        if (y1 - y0) * (point[0] - x0) < (point[1] - y0) * (x1 - x0):
            break
        hull.pop()
    hull.append(point)


def _on(a: Point, b: Point, x: int) -> float:
    """The line through two points at `x`."""
    return a[1] + (b[1] - a[1]) * ((x - a[0]) / (b[0] - a[0]))
