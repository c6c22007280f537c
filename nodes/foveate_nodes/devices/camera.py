"""The camera node: any camera driver, with the steering mirror's angles where one is in the path."""

from __future__ import annotations

from dataclasses import replace

from foveate.errors import Timeout
from foveate.messages import Frame
from foveate.node import Node
from foveate_drivers.cameras.base import Camera as CameraDevice
from foveate_drivers.mirrors.base import Mirror as MirrorDevice


class Camera(Node):
    """Frames of a camera; with `mirror`, each carries the mirror's angles at mid-exposure."""

    class Outputs:
        frame: Frame

    def __init__(self, *, device: CameraDevice, mirror: MirrorDevice | None = None) -> None:
        self.device = device
        self.mirror = mirror

    def due_ns(self) -> int | None:
        return self.device.due_ns()

    def step(self) -> Frame | None:
        try:
            frame = self.device.read(timeout_s=0.1)
        except Timeout:
            return None
        if self.mirror is None:
            return frame
        return replace(frame, mirror=self.mirror.reading(frame.stamp.t_ns, frame.stamp.exposure_ns))
