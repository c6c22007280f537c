"""The camera interface: blocking reads, SI units, PFNC pixel names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.device import Device
from foveate.messages import Frame
from foveate_calibration.pinhole import Pinhole


class Camera(Device):
    """Gives frames, each once, in order. A frame's image is never overwritten while somebody holds it."""

    family = "camera"
    pinhole: Pinhole | None = None  # where the driver or the rig knows it
    rig_from_camera: NDArray[np.float64] | None = None  # 4 x 4; None for a camera behind a mirror
    period_ns: int | None = None  # between exposures, where it is constant

    def read(self, timeout_s: float) -> Frame:
        """The oldest unread frame. Raises Timeout, Disconnected, EndOfStream."""
        raise NotImplementedError
