"""The emulator interface: a device at the far end of a real wire, with the twin's physics behind it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, ClassVar, Self

from foveate.clock import LiveClock
from foveate_drivers.emulators.faults import FaultPlan


class Emulator:
    """Serves one device over a pty, TCP or UDP on this computer, from threads of its own, until it is stopped.

    A class of this kind stands in the entry-point group `foveate.emulators`; its constructor is its option
    schema, as a driver's is. The twin that moves or sees behind it (`twin`) is opened by `start` on a clock of
    the emulator's own where nobody has opened it before.
    """

    twin: ClassVar[str] = ""  # the family of the twin behind it: "mirror", "camera", "laser", "events"; "" = none
    uri: str = ""  # what a rig writes to reach it; known after `start`
    faults: FaultPlan
    clock: LiveClock  # the emulator's; a rig of several emulators shares one

    def start(self) -> None:
        """Open the wire and serve it. Raises Busy where the address is taken."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close the wire and join the threads; may be called twice."""
        raise NotImplementedError

    def unplug(self) -> None:
        """The cable is pulled: the other side sees what it would see of a real one."""
        raise NotImplementedError

    def replug(self) -> None:
        """The cable is back, under the same URI."""
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        """What went over the wire so far: commands, replies, frames, faults by kind."""
        return {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(name: str, body: Any) -> threading.Thread:
    """A started daemon thread of an emulator."""
    thread = threading.Thread(target=body, name=f"emulator {name}", daemon=True)
    thread.start()
    return thread
