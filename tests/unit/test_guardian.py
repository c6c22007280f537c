"""The guardian's process on any descriptor: here a socket, as a network device has it."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from foveate.errors import Disconnected
from foveate_drivers.mirrors.guardian import Guardian

pytestmark = pytest.mark.live

PARK = b"park!"


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


def arrives(far: socket.socket, within_s: float) -> bytes:
    """What comes within a time."""
    poller = select.poll()
    poller.register(far, select.POLLIN)
    return far.recv(100) if poller.poll(within_s * 1e3) else b""


def test_it_parks_after_silence_once_and_again_after_the_next_command(wire: tuple) -> None:
    near, far = wire
    guardian = Guardian(near.fileno(), PARK, 0.05)
    assert arrives(far, 0.15) == b"" and not guardian.parked, "nothing was commanded yet"
    for _ in range(2):
        guardian.beat()
        assert not guardian.parked
        assert arrives(far, 2.0) == PARK
        while not guardian.parked:
            pass
        assert arrives(far, 0.15) == b"", "what is parked is not parked again"
    assert guardian.parks == 2
    guardian.close()
    guardian.close()


def test_closed_in_order_it_ends_without_parking(wire: tuple) -> None:
    near, far = wire
    guardian = Guardian(near.fileno(), PARK, 30.0)
    guardian.beat()
    pid = guardian._process.pid
    guardian.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert arrives(far, 0.05) == b""
    near.close()
    assert far.recv(1) == b"", "it holds the wire no longer"


def test_without_a_deadline_silence_is_no_reason(wire: tuple) -> None:
    near, far = wire
    guardian = Guardian(near.fileno(), PARK, 0.0)
    guardian.beat()
    assert arrives(far, 0.2) == b""
    guardian.close()


def test_a_wire_that_has_gone_does_not_end_it_and_nothing_is_said_to_be_parked(wire: tuple) -> None:
    near, far = wire
    guardian = Guardian(near.fileno(), PARK, 0.02)
    far.close()
    guardian.beat()
    select.select([], [], [], 0.1)
    assert not guardian.parked
    guardian.beat()
    guardian.close()


def test_a_dead_guardian_is_told_by_the_next_beat(wire: tuple) -> None:
    near, _ = wire
    guardian = Guardian(near.fileno(), PARK, 0.02, uri="x:y")
    guardian._process.kill()
    guardian._process.wait()
    with pytest.raises(Disconnected, match=r"x:y.*guardian"):
        guardian.beat()
    guardian.close()
