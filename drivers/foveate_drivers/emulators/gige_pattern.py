"""A test picture as a camera, for an emulator that has no twin behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.messages import Frame, Stamp
from foveate_drivers.adjustable import Capability, Value
from foveate_drivers.cameras.base import Camera

_POLL_NS = 1_000_000
_BIT_PX = 8  # side of the squares that tell the frame's number
_BITS = 16
_BUFFERS = 3  # frames that may wait


class TestPattern(Camera):
    """A ramp that moves by a grey level a frame; the squares at its top left are the frame's number, high bit first."""

    __test__ = False  # not a test, whatever its name says to pytest

    def __init__(self, width: int = 640, height: int = 480, rate_hz: float = 30.0) -> None:
        self._size = width, height
        self._exposure_s, self._gain_db, self._rate_hz = 0.005, 0.0, rate_hz
        self._trigger = "off"
        self._pending: deque[int] = deque()
        self._begin_ns = self._number = 0
        ramp = np.add.outer(np.arange(height), np.arange(width))
        self._ramps = [(ramp + shift).astype(np.uint8) for shift in range(4)]

    def open(self, clock: Clock) -> None:
        self._clock = clock
        self.stop()

    def close(self) -> None:
        self._clock = None

    def stop(self) -> None:
        self._pending.clear()
        self._begin_ns = self._running().now_ns()

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "test pattern", simulated=True)

    def capabilities(self) -> Mapping[str, Capability]:
        return {
            "exposure": Capability("exposure", "s", 1e-5, 1 / self._rate_hz),
            "gain": Capability("gain", "dB", 0.0, 24.0),
            "rate": Capability("rate", "Hz", 0.1, min(1 / self._exposure_s, 1000.0)),
            "width": Capability("width", "px", writable=False),
            "height": Capability("height", "px", writable=False),
            "encoding": Capability("encoding", choices=("Mono8",), writable=False),
            "trigger": Capability("trigger", choices=("off", "software")),
        }

    def _read(self, name: str) -> Value:
        width, height = self._size
        values: dict[str, Value] = {
            "exposure": self._exposure_s, "gain": self._gain_db, "rate": self._rate_hz, "width": width,
            "height": height, "encoding": "Mono8", "trigger": self._trigger,
        }  # fmt: skip
        return values[name]

    def _write(self, name: str, value: Value) -> None:
        if name == "trigger":
            self._trigger = str(value)
        else:
            setattr(self, {"exposure": "_exposure_s", "gain": "_gain_db", "rate": "_rate_hz"}[name], float(value))

    def trigger(self) -> None:
        self._pending.append(self._running().now_ns())

    def due_ns(self) -> int:
        if self._trigger == "software" and not self._pending:
            return self._running().now_ns() + _POLL_NS
        begin_ns = self._pending[0] if self._trigger == "software" else self._begin_ns
        return begin_ns + round(self._exposure_s * 1e9)

    def read(self, timeout_s: float) -> Frame:
        clock = self._running()
        self._await(timeout_s)
        begin_ns = self._pending[0] if self._trigger == "software" else self._begin_ns
        exposure_ns = round(self._exposure_s * 1e9)
        lost = 0
        if self._trigger == "software":
            self._pending.popleft()
        else:  # who is too late loses frames, and the next come at their times all the same
            period_ns = round(1e9 / self._rate_hz)
            lost = max((clock.now_ns() - begin_ns - exposure_ns) // period_ns - _BUFFERS, 0)
            begin_ns += lost * period_ns
            self._begin_ns = begin_ns + period_ns
        self._number += 1 + lost
        stamp = Stamp(begin_ns + exposure_ns // 2, exposure_ns)
        return Frame(stamp, self._picture(self._number), "Mono8", self._number, lost, gain_db=self._gain_db)

    def _picture(self, number: int) -> NDArray[np.uint8]:
        image = self._ramps[number % 4] + np.uint8(number // 4 * 4 % 256)
        bits = number >> np.arange(_BITS)[::-1] & 1
        squares = np.kron(255 * bits, np.ones((_BIT_PX, _BIT_PX), int))
        place = image[:_BIT_PX, : _BITS * _BIT_PX]
        place[:] = squares[: place.shape[0], : place.shape[1]]
        return image


def number_in(image: NDArray[np.uint8]) -> int:
    """The number that a test pattern's squares tell; -1 where the image is too small for them or has others."""
    if image.shape[0] < _BIT_PX or image.shape[1] < _BITS * _BIT_PX:
        return -1
    middles = image[_BIT_PX // 2, _BIT_PX // 2 : _BITS * _BIT_PX : _BIT_PX]
    if not np.isin(middles, (0, 255)).all():
        return -1
    return int((middles > 127) @ (1 << np.arange(_BITS)[::-1]))
