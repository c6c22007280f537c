"""The guardian's process: parks a device whose driver fell silent, was stopped, or died. Standard library only.

It runs as `python -I -S guardian_process.py FD LIFE BEATS NOTES DEADLINE_MS PARK_HEX`, with the four descriptors
inherited, and reads no clock: each heartbeat starts a new wait of the whole deadline, so that the end of a wait is
the deadline.
"""

from __future__ import annotations

import os
import select
import signal
import sys

QUIT = b"q"  # the driver closes in order
BEAT = b"."
READY = b"r"
PARKED = b"p"
_TRIES, _TRY_MS = 100, 5  # a wire that takes no byte is tried again for half a second


def watch(wire: int, life: int, beats: int, notes: int, deadline_ms: int | None, park: bytes) -> None:
    """Until the driver closes in order: park after silence, and once more when its process ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the driver; this one ends when that has ended
    os.write(notes, READY)
    poller = select.poll()
    poller.register(life, select.POLLIN)
    poller.register(beats, select.POLLIN)
    moving = False  # something was commanded since the mirror was parked
    while True:
        ready = dict(poller.poll(deadline_ms if moving else None))
        said = os.read(beats, 65536) if beats in ready else b""
        if said.endswith(QUIT):
            return
        if life in ready or (beats in ready and not said):
            _park(wire, park)
            return
        if said:
            moving = True
        elif moving:
            moving = False
            if _park(wire, park):
                _tell(notes)


def _park(wire: int, park: bytes) -> bool:
    """Whether all of the bytes that park it are on their way."""
    poller = select.poll()
    poller.register(wire, select.POLLOUT)
    left = park
    for _ in range(_TRIES):
        try:
            left = left[os.write(wire, left) :]
            if not left:
                return True
        except BlockingIOError:
            pass
        except OSError:
            return False  # the device is gone
        poller.poll(_TRY_MS)
    return False


def _tell(notes: int) -> None:
    try:
        os.write(notes, PARKED)
    except OSError:
        pass  # the driver is gone, which the next wait sees


if __name__ == "__main__":
    _fds = [int(text) for text in sys.argv[1:5]]
    _deadline = int(sys.argv[5])
    watch(_fds[0], _fds[1], _fds[2], _fds[3], _deadline or None, bytes.fromhex(sys.argv[6]))
