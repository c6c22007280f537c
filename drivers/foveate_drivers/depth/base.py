"""The depth camera interface: distances along the optical axis, blocking reads, SI units."""

from __future__ import annotations

from foveate.messages import CameraInfo, DepthFrame, Frame
from foveate_drivers.streaming import Streaming


class DepthCamera(Streaming):
    """Gives depth frames, each once, in order; some with the colour or infrared image of the same moment."""

    family = "depth"
    period_ns: int | None = None

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        """The oldest unread pair. Raises Timeout, Disconnected, EndOfStream, StateError."""
        raise NotImplementedError

    def intrinsics(self) -> CameraInfo:
        """Of the depth image, read from the open device."""
        raise NotImplementedError
