"""The screen node: shows frames to whoever looks."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len

from foveate.messages import Frame
from foveate.node import Node
from foveate_drivers.screens.base import Screen as ScreenDevice


class Screen(Node):
    """The newest frame on a screen, under a name; a replay shows nothing."""

    drives_hardware = True
    cost_ns = 50_000

    def __init__(self, *, device: ScreenDevice, name: Annotated[str, Len(1, 64)] = "picture") -> None:
        """`name`: of the picture, where a screen has several."""
        self.device = device
        self._name = name

    def step(self, frame: Frame) -> None:
        self.device.show(self._name, frame)
