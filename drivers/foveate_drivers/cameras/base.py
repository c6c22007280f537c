"""The camera interface: blocking reads, SI units, PFNC pixel names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotSupported, StaleData, Timeout
from foveate.messages import Frame
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.streaming import Streaming


class Camera(Streaming):
    """Gives frames, each once, in order. A frame's image is never overwritten while somebody holds it.

    Settings, where a camera has them: exposure (s), gain (dB), rate (Hz), width, height, offset_x, offset_y (px),
    encoding (PFNC), trigger (off, software, line0 ...).
    """

    family = "camera"
    pinhole: Pinhole | None = None  # where the driver or the rig knows it; before `open`, so that nodes can be made
    rig_from_camera: NDArray[np.float64] | None = None  # 4 x 4; None for a camera behind a mirror
    period_ns: int | None = None  # between exposures, where it is constant

    def read(self, timeout_s: float) -> Frame:
        """The oldest unread frame. Raises Timeout, Disconnected, DataLoss, EndOfStream, StateError."""
        raise NotImplementedError

    def latest(self, max_age_s: float) -> Frame:
        """The newest unread frame; older ones are dropped and counted in its `lost_before`.

        Raises StaleData where its mid-exposure is more than `max_age_s` ago, Timeout where there is none.
        """
        frame = self.read(max_age_s)
        lost = frame.lost_before
        while (due_ns := self.due_ns()) is None or due_ns <= self._running().now_ns():
            try:
                frame = self.read(0.0)
            except Timeout:
                break
            lost += 1 + frame.lost_before
        age_s = (self._running().now_ns() - frame.stamp.t_ns) / 1e9
        if age_s > max_age_s:
            raise StaleData(self.uri, "read", f"the newest frame is {age_s:.3f} s old, {max_age_s:g} s are allowed")
        return replace(frame, lost_before=lost)

    def trigger(self) -> None:
        """Expose one frame now, with the setting trigger = software."""
        raise NotSupported(self.uri, "trigger", "this camera cannot be triggered by software")
