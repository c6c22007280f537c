"""The depth camera node: any depth camera driver as a source of depth, image and intrinsics."""

from __future__ import annotations

from dataclasses import replace

from foveate.errors import NotSupported, Timeout
from foveate.messages import CameraInfo, DepthFrame, Frame, Message
from foveate.node import Node
from foveate_drivers.depth.base import DepthCamera as DepthCameraDevice


class DepthCamera(Node):
    """Depth frames; the image of the same moment and the intrinsics, where the camera has them.

    The intrinsics come with every depth frame and its stamp: 300 bytes, and any part that is cut from a recording
    has them, as has a node that starts late or matches its inputs in time. Where nothing tells them, a graph that needs
    them ends with NotSupported, which says how to give them; others go on without.
    """

    class Outputs:
        depth: DepthFrame
        frame: Frame
        info: CameraInfo

    def __init__(self, *, device: DepthCameraDevice) -> None:
        self.device = device
        self._info: CameraInfo | None = None
        self._asked = False

    def due_ns(self) -> int | None:
        return self.device.due_ns()

    def step(self) -> dict[str, Message] | None:
        try:
            depth, frame = self.device.read(timeout_s=0.1)
        except Timeout:
            return None
        if not self._asked:  # once: it may ask the device
            self._asked = True
            try:
                self._info = self.device.intrinsics()
            except NotSupported:  # a log without them
                if "info" in self.wired:
                    raise
        out: dict[str, Message] = {"depth": depth}
        if self._info is not None:
            out["info"] = replace(self._info, stamp=depth.stamp)
        if frame is not None:
            out["frame"] = frame
        return out
