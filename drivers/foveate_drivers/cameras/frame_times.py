"""When the frames of a camera with a clock of its own were taken, on the pipeline's clock."""

from __future__ import annotations

from collections.abc import Callable

from foveate.clock import Clock, process_ns, wall_offset
from foveate.messages import Stamp
from foveate_drivers.device_clock import DeviceClock

_COMPARE_NS = 5_000_000_000  # between readings of the camera's clock; each takes three round trips
_OFFSET_NS = 100_000_000  # for which the computer's wall clock is taken to keep its place
_SETTLING_FRAMES = 3  # that may still be exposed as before when a setting has been changed

Reading = tuple[int, int, int]  # the camera's clock, and the pipeline's before and after it was read


class FrameTimes:
    """One stream's: through changes of the exposure, wraps and jumps of the clock. Times only grow."""

    def __init__(self, stamped_at_end: bool) -> None:
        """`stamped_at_end`: the device's time is that of the end of the exposure, not of its start."""
        self._stamped_at_end = stamped_at_end
        self._mapping = DeviceClock()
        self._compared_ns = self._compared_epoch = 0
        self._last_t_ns = -1
        self._exposure_ns = self._exposure_before_ns = 0
        self._settling = 0
        self._offset_read_ns = self._wall_offset_ns = 0

    def exposed(self, exposure_ns: int) -> None:
        """The exposure is so long from now on, or from a frame or two on; told again, nothing changes."""
        if exposure_ns == self._exposure_ns:
            return
        if self._exposure_ns:  # frames may be on their way that were exposed as before, or before that
            before_ns = self._exposure_before_ns if self._settling else self._exposure_ns
            self._exposure_before_ns = min(self._exposure_ns, before_ns)
            self._settling = _SETTLING_FRAMES
        self._exposure_ns = exposure_ns

    def compare(self, read: Callable[[Clock], Reading | None], clock: Clock) -> None:
        """Read the camera's clock where that helps: before the first frame, now and then, and after a jump."""
        now_ns = process_ns()
        if now_ns - self._compared_ns < _COMPARE_NS and self._compared_epoch == self._mapping.epoch:
            return
        tries = 2 if self._compared_ns else 5
        self._compared_ns, self._compared_epoch = now_ns, self._mapping.epoch
        for _ in range(tries):
            reading = read(clock)
            if reading is None:
                return
            self._mapping.latch(*reading)

    def of(self, device_ns: int, wall_ns: int, clock: Clock, period_ns: int | None) -> tuple[int, Stamp, int]:
        """(received, stamp of mid-exposure, epoch) of a frame that was just taken over.

        `device_ns`: 0 = it has no time; `wall_ns`: Unix time of its arrival, 0 = now.
        """
        now_ns = clock.now_ns()
        received_ns = now_ns
        if wall_ns:
            if process_ns() - self._offset_read_ns > _OFFSET_NS:
                self._offset_read_ns, self._wall_offset_ns = process_ns(), wall_offset().offset_ns
            age_ns = process_ns() + self._wall_offset_ns - wall_ns
            received_ns = min(max(now_ns - age_ns, 0), now_ns)
        exposure_ns, epoch = self._exposure_ns, 0
        if device_ns:
            middle_ns, sigma_ns, epoch = self._middle(device_ns, received_ns)
        else:
            middle_ns, sigma_ns = received_ns - exposure_ns // 2, period_ns or exposure_ns
        t_ns = self._last_t_ns = max(min(middle_ns, received_ns), self._last_t_ns + 1)
        return max(received_ns, t_ns), Stamp(t_ns, exposure_ns, sigma_ns), epoch

    def _middle(self, device_ns: int, received_ns: int) -> tuple[int, int, int]:
        """(mid-exposure, sigma, epoch).

        No frame can arrive before its exposure ends, so the end is what the clocks are compared by: else its length
        were taken for delay. Just after a change the shorter of both: late is harmless, early a jump.
        """
        sure_ns = self._exposure_ns
        if self._settling:
            self._settling -= 1
            sure_ns = min(sure_ns, self._exposure_before_ns)
        if self._stamped_at_end:
            mapped = self._mapping.map(device_ns, received_ns)
            return mapped.t_ns - self._exposure_ns // 2, mapped.sigma_ns, mapped.epoch
        mapped = self._mapping.map(device_ns + sure_ns, received_ns)
        return mapped.t_ns - sure_ns + self._exposure_ns // 2, mapped.sigma_ns, mapped.epoch
