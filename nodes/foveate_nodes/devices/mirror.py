"""The mirror node: carries out gaze commands."""

from __future__ import annotations

from foveate.messages import Gaze, MirrorState
from foveate.node import Node
from foveate_drivers.mirrors.base import Mirror as MirrorDevice


class Mirror(Node):
    """Sends each gaze to the mirror, not before the time it names; parks when the graph ends."""

    drives_hardware = True

    class Outputs:
        state: MirrorState

    def __init__(self, *, device: MirrorDevice) -> None:
        self.device = device

    def step(self, target: Gaze) -> MirrorState:
        return self.device.goto(target.angle_rad, target.not_before_ns)
