"""Every line laser passes the suite that ships: the twin in simulated and in real time, the DAC board's emulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from foveate.clock import LiveClock, VirtualClock
from foveate.errors import Interlock
from foveate.messages import LaserState
from foveate_drivers.conformance import lasers as suite
from foveate_drivers.conformance.suite import Bench, Check, Failed, Skipped, checks
from foveate_drivers.emulators.dac import DacEmulator
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.lasers.dac import DacLaser
from foveate_drivers.lasers.sim import SimLaser


def made(kind: type[SimLaser] = SimLaser) -> LineLaser:
    laser = kind()
    laser.uri = "sim:laser"
    return laser


@contextmanager
def board() -> Iterator[Bench[LineLaser]]:
    pytest.importorskip("serial", reason="the wire is a serial port: needs pyserial")
    with DacEmulator() as emulator:

        def make() -> LineLaser:
            laser = DacLaser(address=emulator.uri.partition(":")[2], deadline=0.25, timeout=0.2)
            laser.uri = emulator.uri
            return laser

        yield Bench(make, LiveClock(), emulator.unplug, emulator.replug)


@contextmanager
def twin(clock: LiveClock | VirtualClock) -> Iterator[Bench[LineLaser]]:
    yield Bench(made, clock)


BENCHES: dict[str, Callable] = {
    "sim": lambda: twin(VirtualClock()),
    "sim in real time": lambda: twin(LiveClock()),
    "dac": board,
}


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=pytest.mark.heavy if name != "sim" else ()) for name in BENCHES]
)
def test_conformance(driver: str, check: Check) -> None:
    with BENCHES[driver]() as bench:
        check(bench)


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(checks(suite)) >= 25


class Lingers(SimLaser):
    """Stays lit although nobody asks."""

    def emit(self, power: float) -> LaserState:
        state = super().emit(power)
        self._until_ns += 3600 * 10**9
        return state


class Forgives(SimLaser):
    """Goes on emitting after a bad command."""

    def emit(self, power: float) -> LaserState:
        before = self._power
        try:
            return super().emit(power)
        except Exception:
            self._power = before
            raise


class Restarts(SimLaser):
    """Lights again by itself once an emergency stop is cleared."""

    def estop(self) -> None:
        self._kept = self._power
        super().estop()

    def clear(self) -> None:
        super().clear()
        self._power = self._kept


FAULTY = {
    Lingers: {"check_silence_is_dark"},
    Forgives: {"check_what_is_no_power_is_refused_and_dark"},
    Restarts: {"check_an_emergency_stop_holds_until_it_is_cleared"},
}


@pytest.mark.parametrize("kind", FAULTY, ids=lambda kind: kind.__name__)
def test_the_suite_finds_what_is_wrong_with_a_laser(kind: type[SimLaser]) -> None:
    failed = set()
    for check in checks(suite):
        try:
            check(Bench(lambda: made(kind), VirtualClock()))
        except Failed:
            failed.add(check.__name__)
        except Skipped:
            pass
    assert failed == FAULTY[kind]


def test_an_open_interlock_puts_the_twin_out_and_closing_it_does_not_light_it() -> None:
    laser, clock = SimLaser(), VirtualClock()
    laser.uri = "sim:laser"
    laser.open(clock)
    assert laser.emit(0.5).emitting
    laser.interlock = "the door is open"
    state = laser.state()
    assert not state.emitting and state.interlock == "the door is open"
    with pytest.raises(Interlock, match="door"):
        laser.emit(0.5)
    laser.interlock = ""
    assert not laser.state().emitting
    assert laser.emit(0.5).emitting


def test_the_twin_says_what_it_will_emit() -> None:
    laser, clock = SimLaser(deadline=0.1), VirtualClock()
    laser.open(clock)
    laser.emit(0.5)
    assert laser.power_at(99_000_000) == 0.5 and laser.power_at(100_000_000) == 0.0


def test_an_open_interlock_at_the_board_is_told_by_name() -> None:
    pytest.importorskip("serial", reason="the wire is a serial port: needs pyserial")
    with DacEmulator() as emulator, DacLaser(address=emulator.uri.partition(":")[2]) as laser:
        laser.uri = emulator.uri
        clock = LiveClock()
        clock.start()
        laser.open(clock)
        assert laser.emit(0.5).emitting
        emulator.laser.interlock = "the door is open"
        with pytest.raises(Interlock, match="interlock is open"):
            laser.emit(0.5)
        assert laser.state().interlock and laser.health().state == "degraded"
        emulator.laser.interlock = ""
        assert not laser.state().emitting
        assert laser.emit(0.5).emitting
