"""The mirror reading node: where a mirror was in each frame's exposure, for a mirror that the frame does not carry."""

from __future__ import annotations

from dataclasses import replace

from foveate.messages import Frame, MirrorState
from foveate.node import Node
from foveate_drivers.mirrors.base import Mirror as MirrorDevice


class MirrorReading(Node):
    """Where a mirror was at each frame's mid-exposure, with the frame's stamp, and whether it moved meanwhile."""

    drives_hardware = True

    class Outputs:
        state: MirrorState

    def __init__(self, *, device: MirrorDevice) -> None:
        self.device = device

    def step(self, frame: Frame) -> MirrorState:
        reading = self.device.reading(frame.stamp.t_ns, frame.stamp.exposure_ns)
        return replace(reading, stamp=frame.stamp)  # the same for what is matched by stamps
