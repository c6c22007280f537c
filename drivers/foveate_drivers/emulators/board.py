"""What emulated boards of mirrors have in common: a twin that moves, behind a pty."""

from __future__ import annotations

from pathlib import Path

from foveate.clock import LiveClock
from foveate.errors import DeviceError
from foveate_drivers.emulators.base import Emulator
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.emulators.pty_wire import PtyWire
from foveate_drivers.mirrors.sim import SimMirror


class MirrorBoard(Emulator):
    """A board says what it does with the bytes it hears (`_heard`) and counts in `_asked`, `accepted`, `_refused`."""

    twin = "mirror"
    name = ""  # of the emulator, and its scheme

    def __init__(self, mirror: SimMirror, link: Path | None, faults: FaultPlan | None) -> None:
        self.link = link
        self.faults = faults or FaultPlan()
        self.clock = LiveClock()
        self.mirror = mirror
        self.accepted = 0  # commands to move
        self._wire: PtyWire | None = None
        self._owns = False  # the twin: nobody else has opened it
        self._asked = self._refused = 0

    def _heard(self, data: bytes) -> None:
        """What came over the wire, in the serving thread."""
        raise NotImplementedError

    def _power_on(self) -> None:
        """Begin as after power on; the twin is open."""

    def start(self) -> None:
        if not self.clock.started:
            self.clock.start()
        if not self.mirror.uri:
            self.mirror.uri = f"sim:{self.name}"
        try:
            self.mirror.position()
        except DeviceError:
            self.mirror.open(self.clock)
            self._owns = True
        self._power_on()
        self._wire = PtyWire(self.name, self.link, self.faults, self._heard)
        self._wire.start()
        self.uri = f"{self.name}:{self._wire.path}"

    def stop(self) -> None:
        if self._wire is not None:
            self._wire.stop()
        if self._owns:
            self.mirror.close()
            self._owns = False

    def unplug(self) -> None:
        """The cable is pulled; the board keeps its power from elsewhere and goes on by itself."""
        assert self._wire is not None
        self._wire.unplug()

    def replug(self) -> None:
        assert self._wire is not None
        self._wire.plug()

    def counters(self) -> dict[str, int]:
        wire = self._wire.counters if self._wire is not None else {}
        return {"asked": self._asked, "moves": self.accepted, "refused": self._refused, **wire}

    def _send(self, reply: bytes) -> None:
        assert self._wire is not None
        self._wire.send(reply)
