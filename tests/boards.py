"""Emulated boards with their drivers, for tests of mirrors on wires."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foveate.clock import LiveClock, process_ns
from foveate_drivers.emulators.board import MirrorBoard
from foveate_drivers.mirrors.wired import WiredMirror


@contextmanager
def driven(emulator: MirrorBoard, kind: type[WiredMirror], **options: object) -> Iterator[tuple]:
    """The emulator, and an open driver behind its pty on a clock that runs; patient, for the computer may be busy."""
    options = {"deadline": 1.0, "timeout": 0.2, **options}
    with emulator:
        mirror = kind(address=emulator.uri.partition(":")[2], **options)  # type: ignore[arg-type, call-arg]
        mirror.uri = emulator.uri
        clock = LiveClock()
        clock.start()
        with mirror:
            mirror.open(clock)
            yield emulator, mirror, clock


def until(happened: Callable[[], object], timeout_s: float = 2.0) -> bool:
    """Whether it happens in time."""
    end_ns = process_ns() + round(timeout_s * 1e9)
    while process_ns() < end_ns:
        if happened():
            return True
    return False
