"""The event camera node: any event camera driver as a source of event packets."""

from __future__ import annotations

from foveate.errors import Timeout
from foveate.messages import Events
from foveate.node import Node
from foveate_drivers.events.base import EventCamera as EventCameraDevice


class EventCamera(Node):
    """Packets of events of an event camera, silent intervals included where the camera knows them."""

    class Outputs:
        events: Events

    def __init__(self, *, device: EventCameraDevice) -> None:
        self.device = device

    def due_ns(self) -> int | None:
        return self.device.due_ns()

    def step(self) -> Events | None:
        try:
            return self.device.read(timeout_s=0.1)
        except Timeout:
            return None
