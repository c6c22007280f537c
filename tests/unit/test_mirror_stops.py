"""What comes last on a wire when several threads command, stop and close: the stop."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Interlock
from foveate_drivers.emulators.mre2 import Mre2Emulator
from foveate_drivers.mirrors.guardian import Guardian
from foveate_drivers.mirrors.mre2 import Mre2Mirror
from foveate_drivers.mirrors.sender import Sender

pytest.importorskip("serial", reason="the MR-E-2 is on a serial port: needs pyserial")

OUT = np.array([0.1, 0.05])


@contextmanager
def board() -> Iterator[tuple[Mre2Emulator, Mre2Mirror, LiveClock]]:
    with Mre2Emulator() as emulator:
        mirror = Mre2Mirror(address=emulator.uri.partition(":")[2], deadline=5.0, timeout=0.2)
        mirror.uri = emulator.uri
        clock = LiveClock()
        clock.start()
        with mirror:
            mirror.open(clock)
            yield emulator, mirror, clock


def until(happened, timeout_s: float = 2.0) -> bool:  # type: ignore[no-untyped-def]
    end_ns = process_ns() + round(timeout_s * 1e9)
    while process_ns() < end_ns:
        if happened():
            return True
    return False


def in_thread(act) -> threading.Thread:  # type: ignore[no-untyped-def]
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def commanded(emulator: Mre2Emulator) -> np.ndarray:
    """The last angle that reached the board, as x, y."""
    return np.array(emulator.log[-1][1:])


def test_an_emergency_stop_comes_after_a_command_that_is_just_leaving() -> None:
    with board() as (emulator, mirror, clock):
        with mirror._sending:  # the wire is busy
            mirror.goto(OUT, clock.now_ns() + 1_000_000)
            assert until(lambda: not mirror._sender.waiting)  # its moment came: it waits for the wire
            stop = in_thread(mirror.estop)
            assert until(lambda: mirror._guard.stopped)
        stop.join(2.0)
        assert not stop.is_alive() and until(lambda: mirror.settled())
        assert not commanded(emulator).any()
        mirror.clear()
        mirror.goto(OUT)  # what the stop overtook is not told later
        assert commanded(emulator).all()


def test_a_command_that_was_admitted_before_an_emergency_stop_is_not_sent_after_it() -> None:
    with board() as (emulator, mirror, clock):
        mirror._guard.admit(OUT, clock.now_ns())  # as far as `goto` had come in its thread
        mirror.estop()
        with pytest.raises(Interlock, match="clear it first"):
            mirror._send(OUT)
        assert not commanded(emulator).any()


def test_a_moment_beyond_all_clocks_neither_comes_nor_ends_the_sender() -> None:
    with board() as (emulator, mirror, clock):
        mirror.goto(OUT, 2**70)
        assert not until(lambda: not mirror._sender._thread.is_alive(), 0.05)
        mirror.goto(-OUT, clock.now_ns() + 5_000_000)
        assert until(lambda: not mirror._sender.waiting and (commanded(emulator) < 0).all())


def test_a_command_for_a_clock_that_stands_does_not_hold_up_the_end() -> None:
    sender = Sender(LiveClock(), lambda angle: None, "test")
    sender.schedule(1_000_000, OUT)
    thread = in_thread(sender.close)
    thread.join(2.0)
    assert not thread.is_alive()


def test_closed_over_a_line_that_does_not_answer_the_bytes_that_park_go_out_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with board() as (emulator, mirror, _):
        mirror.goto(OUT)

        def silent(angle: np.ndarray) -> None:
            raise DeviceError(mirror.uri, "move", "no answer")

        monkeypatch.setattr(mirror, "_command", silent)
        mirror.close()
        assert until(lambda: not commanded(emulator).any())


def test_a_guardian_that_cannot_start_is_one_error_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DeviceError, match="start its guardian process: Resource temporarily unavailable"):
        Guardian(0, b"", 0.1, "mre2:x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
