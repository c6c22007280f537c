"""A mirror behind an Ether Dream is at rest within 100 ms of its last command, whatever became of who commanded it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from foveate.clock import LiveClock, process_ns
from foveate.errors import Disconnected
from foveate_drivers.emulators.etherdream import EtherDreamEmulator
from foveate_drivers.mirrors.etherdream import EtherDreamMirror
from foveate_drivers.mirrors.sim import SimMirror

TRIES = 3  # other people's loads

COMMANDER = """
import sys, threading
import numpy as np
from foveate.clock import LiveClock
from foveate_drivers.mirrors.etherdream import EtherDreamMirror
mirror, clock = EtherDreamMirror(address=sys.argv[1], timeout=1.0), LiveClock()
mirror.uri = "etherdream:" + sys.argv[1]
clock.start()
mirror.open(clock)
pause = threading.Event()
while True:
    try:
        mirror.goto(np.array([0.2, -0.2]))
    except Exception as error:
        print(error, flush=True)
    pause.wait(0.01)
"""


def seconds_until(condition: Callable[[], object]) -> float:
    begun_ns = process_ns()
    pause = threading.Event()
    while not condition():
        assert process_ns() - begun_ns < 10e9, "it did not come about"
        pause.wait(0.0005)
    return (process_ns() - begun_ns) / 1e9


def parked_after(end: Callable[[subprocess.Popen[bytes]], None]) -> float:
    """Seconds from the end of a commanding process to the twin's rest at zero."""
    twin = SimMirror(deadline=0, repeatability=0)
    with EtherDreamEmulator(mirror=twin, port=0, announce=0) as emulator:

        def away() -> float:
            return float(np.abs(twin.true_angle(emulator.clock.now_ns() / 1e9)).max())

        command = [sys.executable, "-c", COMMANDER, emulator.uri.partition(":")[2]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            seconds_until(lambda: away() > 0.199)
            end(process)
            return seconds_until(lambda: away() < 1e-3)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_process_that_ends_or_freezes_leaves_the_mirror_at_rest_within_100_ms(what: signal.Signals) -> None:
    figures = []
    for _ in range(TRIES):
        figures.append(parked_after(lambda process: os.kill(process.pid, what)))
        print(f"at rest {figures[-1] * 1e3:.1f} ms after {what.name}")
        if figures[-1] <= 0.1:
            return
    raise AssertionError(f"{figures}")


def test_silence_of_a_living_process_parks_within_100_ms() -> None:
    figures = []
    for _ in range(TRIES):
        twin = SimMirror(deadline=0, repeatability=0)
        with EtherDreamEmulator(mirror=twin, port=0, announce=0) as emulator:
            mirror = EtherDreamMirror(address=emulator.uri.partition(":")[2], timeout=1.0)
            mirror.uri = emulator.uri
            with mirror:
                mirror.open(emulator.clock)
                mirror.goto(np.array([0.2, -0.2]))
                commanded_ns = emulator.clock.now_ns()
                seconds_until(lambda: emulator.clock.now_ns() > commanded_ns + 150_000_000)  # noqa: B023
                times = np.arange(commanded_ns, commanded_ns + 150_000_000, 500_000)
                away = np.array([np.abs(twin.true_angle(t / 1e9)).max() for t in times])
        out = times[away > 1e-3]
        figures.append((int(out[-1]) - commanded_ns) / 1e9 if len(out) else 1.0)
        print(f"at rest {figures[-1] * 1e3:.1f} ms after the last command")
        if figures[-1] <= 0.1:
            return
    raise AssertionError(f"{figures}")


def test_a_pulled_cable_is_noticed_within_50_ms() -> None:
    figures = []
    for _ in range(TRIES):
        with EtherDreamEmulator(port=0, announce=0) as emulator:
            mirror, clock = EtherDreamMirror(address=emulator.uri.partition(":")[2]), LiveClock()
            mirror.uri = emulator.uri
            clock.start()
            mirror.open(clock)

            def gone() -> bool:
                try:
                    mirror.position()  # noqa: B023
                except Disconnected:
                    return True
                return False

            emulator.unplug()
            figures.append(seconds_until(gone))
            mirror.close()
        print(f"noticed after {figures[-1] * 1e3:.1f} ms")
        if figures[-1] <= 0.05:
            return
    raise AssertionError(f"{figures}")
