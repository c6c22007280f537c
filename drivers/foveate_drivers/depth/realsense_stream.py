"""One stream of a RealSense camera: its frames on the pipeline's clock, numbered, none twice."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from foveate.clock import Clock
from foveate_drivers.depth.frame_numbers import FrameNumbers
from foveate_drivers.device_clock import DeviceClock

# The hardware clock is a counter of microseconds with 32 bits: 4294.967296 s (librealsense issue 12430).
_WRAP_NS = (1 << 32) * 1000
_GLOBAL_SIGMA_NS = 1_000_000  # of librealsense's own fit of the device's clock to the computer's
_SYSTEM_SIGMA_NS = 5_000_000  # of the arrival as the stamp


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame of the vendor's library, and what we know of it."""

    frame: Any
    seq: int
    t_ns: int  # mid-exposure on the pipeline's clock
    sigma_ns: int
    exposure_ns: int
    device_ns: int
    epoch: int
    received_ns: int


class RealSenseStream:
    """Filled by the library's thread, emptied by the reader; the caller holds a lock around both."""

    def __init__(self, rs: Any, buffers: int) -> None:
        self._rs = rs
        self._numbers = FrameNumbers()
        self._clock = DeviceClock(wrap_ns=_WRAP_NS)
        self._domain: Any = None
        self._epochs = 0  # of domains that went before
        self._last_ns = -1
        self.unread: deque[Arrival] = deque(maxlen=buffers)
        self.received = self.repeated = self.dropped = self.missing = 0

    def add(self, frame: Any, clock: Clock) -> None:
        """A frame has just arrived."""
        received_ns = clock.now_ns()
        before = self._numbers.seq
        seq = self._numbers.unwrap(int(frame.get_frame_number()))
        if seq is None:
            self.repeated += 1
            return
        self.received += 1
        self.missing += seq - before - 1 if before >= 0 else 0
        if len(self.unread) == self.unread.maxlen:
            self.dropped += 1
        values = self._rs.frame_metadata_value
        exposure_ns = (self._metadata(frame, values.actual_exposure) or 0) * 1000
        t_ns, sigma_ns, device_ns, epoch = self._time(frame, exposure_ns, received_ns, clock)
        self.unread.append(Arrival(frame, seq, t_ns, sigma_ns, exposure_ns, device_ns, epoch, received_ns))

    def _time(self, frame: Any, exposure_ns: int, received_ns: int, clock: Clock) -> tuple[int, int, int, int]:
        """(mid-exposure, its sigma, the device's time, epoch).

        hardware_clock: the sensor's time of mid-exposure where the metadata have it, else the frame's less half the
        exposure, mapped by `DeviceClock`. system_time and global_time are wall clock: taken as such, never later
        than the arrival, and never back, for the wall clock may be set.
        """
        domain = frame.get_frame_timestamp_domain()
        if domain != self._domain:
            self._epochs += 0 if self._domain is None else self._clock.epoch + 1
            self._domain, self._clock = domain, DeviceClock(wrap_ns=_WRAP_NS)
        stamp_ns = round(frame.get_timestamp() * 1e6)
        if domain == self._rs.timestamp_domain.hardware_clock:
            sensor_us = self._metadata(frame, self._rs.frame_metadata_value.sensor_timestamp)
            middle_ns = stamp_ns - exposure_ns // 2 if sensor_us is None else sensor_us * 1000
            mapped = self._clock.map(middle_ns % _WRAP_NS, received_ns)
            t_ns, sigma_ns, device_ns = mapped.t_ns, mapped.sigma_ns, middle_ns % _WRAP_NS
        else:
            exact = domain == self._rs.timestamp_domain.global_time
            sigma_ns = _GLOBAL_SIGMA_NS if exact else _SYSTEM_SIGMA_NS
            t_ns, device_ns = stamp_ns - exposure_ns // 2 - clock.wall_start_ns, stamp_ns
        t_ns = max(min(t_ns, received_ns), self._last_ns + 1)
        self._last_ns = t_ns
        return t_ns, sigma_ns, device_ns, self._epochs + self._clock.epoch

    @staticmethod
    def _metadata(frame: Any, key: Any) -> int | None:
        return int(frame.get_frame_metadata(key)) if frame.supports_frame_metadata(key) else None
