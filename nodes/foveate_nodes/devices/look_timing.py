"""When to move, so that no exposure is smeared: in the camera's readout, or before the camera is released."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foveate.errors import StateError
from foveate.messages import Frame
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror


class LookTiming:
    """When a gaze that is chosen on a frame's arrival moves the mirror, and what the move costs.

    Of a free-running camera (sync `predicted`, `strobe`) frame k arrives while exposure k + 1 is still to come or
    running; the gaze chosen now is for exposure k + 2 and starts to move when k + 1 ends. A move too long for
    the gap costs whole frames. A camera that the mirror releases (sync `trigger`) waits for every move: it
    starts at once and costs the time it takes, in frames of the camera's full rate.
    """

    def __init__(self, camera: Camera, mirror: Mirror) -> None:
        if camera.period_ns is None:
            raise StateError(camera.uri, "time the mirror", "the rig must give its frame rate (option 'rate')")
        self.period_ns = camera.period_ns
        self.mirror = mirror
        self.released = mirror.sync == "trigger"
        self._wait = 0

    def due(self) -> bool:
        """Call once a frame: whether the next gaze is to be chosen now (else a long move is under way)."""
        if self._wait > 0:
            self._wait -= 1
            return False
        return True

    def start_ns(self, frame: Frame) -> int:
        """When the move may start: the end of the exposure after `frame`'s; at once (0) before a released one."""
        if self.released:
            return 0
        return frame.stamp.t_ns + self.period_ns + frame.stamp.exposure_ns // 2

    def look_ns(self, frame: Frame, frames: float) -> int:
        """Mid-exposure of the look that a move taking `frames` frames leads to."""
        return frame.stamp.t_ns + round((1 + frames) * self.period_ns)

    def frames(self, step_rad: NDArray[np.float64], exposure_ns: int) -> NDArray[np.float64]:
        """Frames from one look to the next for a move of `step_rad` (last axis = mirror axes); whole, but for a
        released camera, which gives a frame at most each period."""
        settle = self.mirror.settle_s(np.abs(step_rad).max(axis=-1))
        frames = (settle * 1e9 + exposure_ns) / self.period_ns
        return 1.0 + frames if self.released else np.ceil(frames).clip(1)

    def hold(self, step_rad: NDArray[np.float64], exposure_ns: int) -> float:
        """Take note of a chosen move; returns its frames."""
        frames = float(self.frames(step_rad, exposure_ns))
        self._wait = 0 if self.released else int(frames) - 1
        return frames


def normal_inside(half: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a normal variable of deviation `sigma` lies within `half` of its mean (elementwise)."""
    ratio = half / np.maximum(sigma, 1e-12) / math.sqrt(2.0)
    # Abramowitz and Stegun 7.1.26, error below 1.5e-7
    t = 1.0 / (1.0 + 0.3275911 * ratio)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 1.0 - tail * np.exp(-ratio * ratio)
