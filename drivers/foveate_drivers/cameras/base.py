"""The camera interface: blocking reads, SI units, PFNC pixel names."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.errors import NotSupported, StaleData, StateError, Timeout
from foveate.messages import Frame
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.adjustable import Adjustable

_NEVER = threading.Event()
_SLICE_NS = 50_000_000  # after which a wait looks whether the camera was closed


class Camera(Adjustable):
    """Gives frames, each once, in order. A frame's image is never overwritten while somebody holds it.

    Settings, where a camera has them: exposure (s), gain (dB), rate (Hz), width, height, offset_x, offset_y (px),
    encoding (PFNC), trigger (off, software, line0 ...).
    """

    family = "camera"
    pinhole: Pinhole | None = None  # where the driver or the rig knows it; before `open`, so that nodes can be made
    rig_from_camera: NDArray[np.float64] | None = None  # 4 x 4; None for a camera behind a mirror
    period_ns: int | None = None  # between exposures, where it is constant
    _clock: Clock | None = None  # of an open camera

    def start(self) -> None:
        """Begin to take frames; the first `read` does it too."""

    def stop(self) -> None:
        """Take no more frames, drop unread ones; a later `start` or `read` begins anew."""

    def read(self, timeout_s: float) -> Frame:
        """The oldest unread frame. Raises Timeout, Disconnected, DataLoss, EndOfStream, StateError."""
        raise NotImplementedError

    def latest(self, max_age_s: float) -> Frame:
        """The newest unread frame; older ones are dropped and counted in its `lost_before`.

        Raises StaleData where its mid-exposure is more than `max_age_s` ago, Timeout where there is none.
        """
        frame = self.read(max_age_s)
        lost = frame.lost_before
        while (due_ns := self.due_ns()) is None or due_ns <= self._running_clock.now_ns():
            try:
                frame = self.read(0.0)
            except Timeout:
                break
            lost += 1 + frame.lost_before
        age_s = (self._running_clock.now_ns() - frame.stamp.t_ns) / 1e9
        if age_s > max_age_s:
            raise StaleData(self.uri, "read", f"the newest frame is {age_s:.3f} s old, {max_age_s:g} s are allowed")
        return replace(frame, lost_before=lost)

    def trigger(self) -> None:
        """Expose one frame now, with the setting trigger = software."""
        raise NotSupported(self.uri, "trigger", "this camera cannot be triggered by software")

    def _await(self, due_ns: int, timeout_s: float) -> None:
        """Return when data due at `due_ns` are ready. Raises Timeout, at once where time is simulated, and StateError.

        For cameras that know when; a `close` by another thread ends the wait.
        """
        clock = self._running_clock
        begun_ns = clock.now_ns()
        if due_ns <= begun_ns:
            return
        end_ns = begun_ns + round(max(timeout_s, 0.0) * 1e9)
        if clock.kind != "simulated":
            while self._clock is not None and (now_ns := clock.now_ns()) < min(due_ns, end_ns):
                clock.wait_until(min(due_ns, end_ns, now_ns + _SLICE_NS), _NEVER)
            if due_ns <= self._running_clock.now_ns():
                return
        raise Timeout(self.uri, "read", f"no frame within {timeout_s:g} s")

    @property
    def _running_clock(self) -> Clock:
        if self._clock is None:
            raise StateError(self.uri, "read", "it is not open")
        return self._clock
