"""The screen that nobody looks at: for runs without one, and for tests."""

from __future__ import annotations

from foveate.device import DeviceInfo
from foveate_drivers.screens.base import Screen


class SimScreen(Screen):
    """Keeps the newest picture of each name in memory (`sim:`)."""

    def __init__(self, *, address: str = "screen") -> None:
        super().__init__()

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "screen in memory", simulated=True)
