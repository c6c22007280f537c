"""The shipped firmware of a DAC board, compiled for this computer, as an independent peer of driver and protocol."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from foveate.clock import LiveClock, process_ns
from foveate.errors import Interlock
from foveate_drivers import dac_protocol as protocol
from foveate_drivers.conformance import lasers, mirrors
from foveate_drivers.conformance.suite import Bench, Check, checks
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.lasers.dac import DacLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_drivers.mirrors.dac import DacMirror

pytestmark = pytest.mark.live

pytest.importorskip("serial", reason="a DAC board is on a serial port: needs pyserial")
SOURCE = Path(__file__).resolve().parents[2] / "launch" / "firmware" / "dac_board" / "dac_board.ino"


@dataclass
class Firmware:
    """A running board: its port, and what it did to its hardware."""

    port: str
    process: subprocess.Popen
    did: list[list[str]] = field(default_factory=list)

    def listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.did.append(line.split())

    def last(self, what: str) -> list[str]:
        """What it last set angles or laser to."""
        return next((line[2:] for line in reversed(self.did) if line[1] == what), [])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the firmware needs the program g++ to be compiled")
    built = tmp_path_factory.mktemp("firmware") / "dac_board"
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-DHOST", "-x", "c++", str(SOURCE), "-o", str(built)],
        check=True,
    )
    return built


@pytest.fixture
def firmware(program: Path) -> Iterator[Firmware]:
    master, slave = os.openpty()
    tty.setraw(slave)
    process = subprocess.Popen([str(program)], stdin=master, stdout=master, stderr=subprocess.PIPE, text=True)
    board = Firmware(os.ttyname(slave), process)
    thread = threading.Thread(target=board.listen)
    thread.start()
    yield board
    process.kill()
    process.wait()
    thread.join()
    assert process.stderr is not None
    process.stderr.close()
    os.close(master)
    os.close(slave)


def until(happened, timeout_s: float = 2.0) -> bool:  # type: ignore[no-untyped-def]
    end_ns = process_ns() + round(timeout_s * 1e9)
    while process_ns() < end_ns:
        if happened():
            return True
        threading.Event().wait(0.001)  # whoever listens needs the interpreter too
    return False


def mirror_at(board: Firmware, **options: object) -> DacMirror:
    mirror = DacMirror(address=board.port, timeout=0.2, **options)  # type: ignore[arg-type]
    mirror.uri = f"dac:{board.port}"
    return mirror


def laser_at(board: Firmware, mirror: Mirror | None = None) -> DacLaser:
    laser = DacLaser(address=board.port, board=mirror, deadline=0.25, timeout=0.2)
    laser.uri = f"dac:{board.port}"
    return laser


@pytest.mark.heavy
@pytest.mark.parametrize("check", checks(mirrors), ids=lambda check: check.__name__)
def test_the_mirror_suite_passes_on_the_firmware(firmware: Firmware, check: Check) -> None:
    check(Bench[Mirror](lambda: mirror_at(firmware, deadline=0.25), LiveClock()))


@pytest.mark.heavy
@pytest.mark.parametrize("check", checks(lasers), ids=lambda check: check.__name__)
def test_the_laser_suite_passes_on_the_firmware(firmware: Firmware, check: Check) -> None:
    check(Bench[LineLaser](lambda: laser_at(firmware), LiveClock()))


def test_driver_and_firmware_agree_on_a_session(firmware: Firmware) -> None:
    clock = LiveClock()
    clock.start()
    with mirror_at(firmware, deadline=1.0) as mirror, laser_at(firmware, mirror) as laser:
        mirror.open(clock)
        laser.open(clock)
        assert mirror.info().model == "dac_board" and mirror.health().temperature_c == 30.5
        mirror.goto(np.array([0.1, -0.05]))
        codes = [str(round(angle / 0.349066 * protocol.FULL)) for angle in (0.1, -0.05)]
        assert until(lambda: firmware.last("angles") == codes)
        assert laser.emit(0.4).power == 0.4
        assert until(lambda: firmware.last("laser") == ["400"])
        firmware.process.send_signal(signal.SIGUSR2)  # the door opens
        assert until(lambda: not laser.state().emitting)
        with pytest.raises(Interlock, match="interlock"):
            laser.emit(0.4)
        firmware.process.send_signal(signal.SIGUSR2)
        assert until(lambda: not laser.state().interlock)
        assert laser.emit(0.4).emitting
        mirror.stream([0.002, 0.004, 0.006], np.array([[0.01, 0.0], [0.02, 0.0], [0.03, 0.0]]))
        last = str(round(0.03 / 0.349066 * protocol.FULL))
        assert until(lambda: firmware.last("angles") == [last, "0"])
        laser.estop()
        with pytest.raises(Interlock):
            laser.emit(0.1)
        assert until(lambda: firmware.last("angles") == ["0", "0"])
        laser.clear()


def test_by_strobe_the_firmware_moves_when_the_exposure_ends(firmware: Firmware) -> None:
    clock = LiveClock()
    clock.start()
    with mirror_at(firmware, sync="strobe", deadline=1.0) as mirror:
        mirror.open(clock)
        before = len(firmware.did)
        mirror.goto(np.array([0.1, 0.0]))
        assert not mirror.settled() and len(firmware.did) == before
        firmware.process.send_signal(signal.SIGUSR1)
        assert until(lambda: mirror.settled())
        assert mirror.reading(clock.now_ns(), 0).angle_rad == pytest.approx([0.1, 0.0], abs=1e-3)


def test_a_firmware_nobody_talks_to_parks_and_goes_dark(firmware: Firmware) -> None:
    fd = os.open(firmware.port, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, protocol.line(1, "laser", 500) + protocol.line(2, "move", 9000, 9000, "now", 0))
    assert until(lambda: firmware.last("angles") == ["9000", "9000"] and firmware.last("laser") == ["500"])
    assert until(lambda: firmware.last("angles") == ["0", "0"] and firmware.last("laser") == ["0"])
    os.close(fd)


def test_noise_and_endless_lines_do_no_harm_to_the_firmware(firmware: Firmware) -> None:
    rng = np.random.default_rng(4)
    fd = os.open(firmware.port, os.O_RDWR | os.O_NOCTTY)
    good = protocol.line(9, "move", 100, 100, "now", 0)
    heard = b""
    for i in range(400):
        spoiled = bytearray(good)
        spoiled[int(rng.integers(len(good) - 1))] ^= 1 << int(rng.integers(8))
        os.write(fd, bytes(spoiled) + (b"x" * 500 if i % 50 == 0 else b"") + b"\n" + rng.bytes(20) + b"\n")
        if i % 20 == 0:
            heard += os.read(fd, 65536)
    os.write(fd, b"\n" + protocol.line(10, "pos"))
    end_ns = process_ns() + 3_000_000_000
    while b"\n10 ok 0 0 1 " not in heard and process_ns() < end_ns:
        heard += os.read(fd, 65536)
    assert b"\n10 ok 0 0 1 " in heard
    assert b"9 ok" not in heard and heard.count(b"err 1 crc") > 400
    assert {tuple(line[1:]) for line in firmware.did} == {("angles", "0", "0")}
    os.close(fd)
