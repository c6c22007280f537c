"""What comes last on a wire when several threads command, stop and close: the stop."""

from __future__ import annotations

import subprocess
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Interlock, NotFound, OutOfRange
from foveate_drivers.emulators.etherdream import EtherDreamEmulator
from foveate_drivers.emulators.mre2 import Mre2Emulator
from foveate_drivers.lasers.sim import SimLaser
from foveate_drivers.mirrors.etherdream import EtherDreamMirror
from foveate_drivers.mirrors.guardian import Guardian
from foveate_drivers.mirrors.mre2 import Mre2Mirror
from foveate_drivers.mirrors.sender import Sender
from foveate_drivers.mirrors.sim import SimMirror
from tests.boards import driven, until

pytestmark = pytest.mark.live

pytest.importorskip("serial", reason="the MR-E-2 is on a serial port: needs pyserial")

OUT = np.array([0.1, 0.05])


def board() -> AbstractContextManager[tuple]:
    return driven(Mre2Emulator(), Mre2Mirror, deadline=5.0)


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


def test_an_ether_dream_passes_over_a_command_that_an_emergency_stop_overtook() -> None:
    with EtherDreamEmulator(port=0, announce=0) as emulator:
        mirror = EtherDreamMirror(address=emulator.uri.partition(":")[2], deadline=5.0, timeout=1.0)
        mirror.uri = emulator.uri
        clock = LiveClock()
        clock.start()
        with mirror:
            mirror.open(clock)
            with mirror._lock:  # the feeder is busy
                mirror.goto(OUT)
                late = mirror._inbox.pop()
                mirror.estop()
                mirror._inbox.append(late)  # of a thread that was held up after its command had been admitted
            assert until(lambda: not mirror._inbox and mirror.settled())
            assert not mirror.position().angle_rad.any() and not mirror._path.waiting(process_ns())


@pytest.mark.parametrize("times", [[], [float("nan")], [float("inf")], [0.01, float("nan")]])
def test_a_waveform_at_no_times_is_refused_in_one_line(times: list[float]) -> None:
    mirror = SimMirror()
    mirror.uri = "sim:x"
    mirror.open(LiveClock())
    with pytest.raises(OutOfRange) as told:
        mirror.stream(times, np.zeros((len(times), 2)))
    assert "\n" not in str(told.value)


def test_odd_angles_powers_and_hosts_are_told_in_one_line() -> None:
    mirror, laser = SimMirror(), SimLaser()
    mirror.open(LiveClock())
    laser.open(LiveClock())
    with pytest.raises(OutOfRange) as angle:
        mirror.goto(np.array([["a"], ["b"]]))  # type: ignore[arg-type]
    with pytest.raises(OutOfRange) as power:
        laser.emit(np.zeros((2, 2)))  # type: ignore[arg-type]
    assert "\n" not in str(angle.value) + str(power.value)
    for address in ("..", "host:²"):
        with pytest.raises(NotFound):
            EtherDreamMirror(address=address).open(LiveClock())


def test_a_place_beyond_the_twin_is_refused_in_simple_mode_and_the_board_goes_on() -> None:
    twin = SimMirror(limit=0.1, rate=1e6)
    with Mre2Emulator(mirror=twin) as emulator:
        mirror = Mre2Mirror(address=emulator.uri.partition(":")[2], mode="simple", deadline=5.0, timeout=0.2)
        mirror.uri = emulator.uri
        clock = LiveClock()
        clock.start()
        with mirror:
            mirror.open(clock)
            with pytest.raises(OutOfRange):
                mirror.goto(np.array([0.2, 0.0]))
            mirror.goto(np.array([0.05, 0.0]))
