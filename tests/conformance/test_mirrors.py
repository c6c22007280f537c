"""Every mirror passes the suite that ships: the twin in simulated and in real time, drivers before emulated boards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.clock import LiveClock, VirtualClock
from foveate.errors import OutOfRange
from foveate.messages import MirrorState
from foveate_drivers.conformance import mirrors as suite
from foveate_drivers.conformance.suite import Bench, Check, Failed, Skipped, checks
from foveate_drivers.emulators.base import Emulator
from foveate_drivers.emulators.dac import DacEmulator
from foveate_drivers.emulators.mre2 import Mre2Emulator
from foveate_drivers.mirrors.base import Mirror
from foveate_drivers.mirrors.dac import DacMirror
from foveate_drivers.mirrors.dynamics import CLASSES
from foveate_drivers.mirrors.guard import Guard
from foveate_drivers.mirrors.mre2 import Mre2Mirror
from foveate_drivers.mirrors.sim import SimMirror


@contextmanager
def twin(clock: LiveClock | VirtualClock, axes: Literal[1, 2] = 2) -> Iterator[Bench[Mirror]]:
    def make() -> Mirror:
        mirror = SimMirror(axes=axes)
        mirror.uri = "sim:galvo"
        return mirror

    yield Bench(make, clock)


@contextmanager
def wired(emulator: Emulator, driver: Callable[[str], Mirror]) -> Iterator[Bench[Mirror]]:
    pytest.importorskip("serial", reason="the wire is a serial port: needs pyserial")
    with emulator:

        def make() -> Mirror:
            mirror = driver(emulator.uri.partition(":")[2])
            mirror.uri = emulator.uri
            return mirror

        yield Bench(make, LiveClock(), emulator.unplug, emulator.replug)


PATIENT = {"deadline": 0.25, "timeout": 0.2}  # for a computer that has other things to do as well


def mre2(port: str) -> Mirror:
    return Mre2Mirror(address=port, **PATIENT)


def simple(port: str) -> Mirror:
    return Mre2Mirror(address=port, mode="simple", **PATIENT)


def dac(port: str) -> Mirror:
    return DacMirror(address=port, **PATIENT)


BENCHES = {
    "sim": lambda: twin(VirtualClock()),
    "sim of one axis": lambda: twin(VirtualClock(), 1),
    "sim in real time": lambda: twin(LiveClock()),
    "mre2 pro": lambda: wired(Mre2Emulator(), mre2),
    "mre2 simple": lambda: wired(Mre2Emulator(), simple),
    "dac": lambda: wired(DacEmulator(), dac),
    "dac without a sensor": lambda: wired(DacEmulator(sensor=False), dac),
}
SLOW = (
    "sim in real time",
    "sim of one axis",
    "mre2 pro",
    "mre2 simple",
    "dac",
    "dac without a sensor",
)  # 5 to 10 s each


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=pytest.mark.heavy if name in SLOW else ()) for name in BENCHES]
)
def test_conformance(driver: str, check: Check) -> None:
    with BENCHES[driver]() as bench:
        check(bench)


class Leaves(SimMirror):
    """Takes any finite angle."""

    def goto(self, angle_rad: np.ndarray, not_before_ns: int = 0) -> MirrorState:
        return super().goto(np.clip(np.nan_to_num(np.resize(angle_rad, 2)), -0.2, 0.2), not_before_ns)


class Hurries(SimMirror):
    """Knows no time to start."""

    def goto(self, angle_rad: np.ndarray, not_before_ns: int = 0) -> MirrorState:
        return super().goto(angle_rad)


class Claims(SimMirror):
    """Says that it is always at rest."""

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        return replace(super().reading(t_ns, exposure_ns), moved=False)

    def settled(self) -> bool:
        return True


class Stays(SimMirror):
    """Never parks by itself, and says it does."""

    def goto(self, angle_rad: np.ndarray, not_before_ns: int = 0) -> MirrorState:
        said, self.deadline_s = self.deadline_s, 0.0
        try:
            return super().goto(angle_rad, not_before_ns)
        finally:
            self.deadline_s = said

    def estop(self) -> None:
        self._guard.stopped = True


FAULTY = {
    Leaves: {"check_what_is_out_of_range_is_refused", "check_it_reaches_its_limits"},
    Hurries: {"check_a_move_does_not_start_before_its_time"},
    Claims: {"check_a_reading_in_a_move_says_so", "check_settling_is_predicted_truthfully",
             "check_settled_tells_move_from_rest"},
    Stays: {"check_it_parks_on_silence_and_works_again", "check_an_emergency_stop_holds_until_it_is_cleared",
            "check_an_emergency_stop_cancels_what_waits"},
}  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("kind", FAULTY, ids=lambda kind: kind.__name__)
def test_the_suite_finds_what_is_wrong_with_a_mirror(kind: type[SimMirror]) -> None:
    def make() -> Mirror:
        mirror = kind()
        mirror.uri = "sim:faulty"
        return mirror

    failed = set()
    for check in checks(suite):
        if check.__name__ not in set().union(*FAULTY.values()):
            continue  # each takes 0.1 s, and the other faults' checks tell enough of what is not found by mistake
        try:
            check(Bench(make, VirtualClock()))
        except Failed:
            failed.add(check.__name__)
        except Skipped:
            pass
    assert failed == FAULTY[kind]


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(checks(suite)) >= 25


def open_twin() -> tuple[SimMirror, VirtualClock]:
    mirror, clock = SimMirror(), VirtualClock()
    mirror.uri = "sim:galvo"
    mirror.open(clock)
    return mirror, clock


numbers = st.one_of(
    st.floats(-0.3, 0.3), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e308, -1e308, 5e-324])
)


@pytest.mark.heavy
@settings(max_examples=30)
@given(st.lists(st.tuples(numbers, numbers, st.integers(0, 3_000_000)), min_size=1, max_size=60))
def test_mir2_no_command_takes_the_twin_beyond_its_limits(commands: list[tuple[float, float, int]]) -> None:
    mirror, clock = open_twin()
    reached = []
    for a, b, gap_ns in commands:
        try:
            mirror.goto(np.array([a, b]))
            assert abs(a) <= mirror.limit_rad[0] and abs(b) <= mirror.limit_rad[1]
        except OutOfRange:
            assert not (abs(a) <= mirror.limit_rad[0] and abs(b) <= mirror.limit_rad[1])
        clock.advance(clock.now_ns() + gap_ns)
        reached += [mirror.true_angle(clock.now_ns() / 1e9 + s) for s in np.linspace(0, 0.01, 12)]
    # the lag overshoots a step by exp(-pi z / sqrt(1 - z^2)): 1.5 % at damping 0.8, of what acceleration leaves
    assert np.abs(reached).max() <= mirror.limit_rad.max() * 1.02


@pytest.mark.heavy
def test_mir2_a_million_commands_at_the_guard() -> None:
    """The check at every mirror's input, as many times as the contract asks."""
    mirror, _ = open_twin()
    guard = Guard("sim:galvo", mirror.limit_rad, [CLASSES["saccade30"]] * 2, rate_hz=1e6, duty=1.0)
    rng = np.random.default_rng(2)
    special = np.array([math.nan, math.inf, -math.inf, 1e308, -1e308, 0.24, -0.24, np.nextafter(0.24, 1)])
    values = np.where(
        rng.random((1_000_000, 2)) < 0.1, rng.choice(special, (1_000_000, 2)), rng.normal(0, 0.2, (1_000_000, 2))
    )
    good = (np.abs(values) <= mirror.limit_rad).all(axis=1)
    accepted = 0
    for row, expected in zip(values, good, strict=True):
        try:
            guard.checked(row)
            assert expected
            accepted += 1
        except OutOfRange:
            assert not expected
    assert accepted == int(good.sum())


def test_the_end_of_a_waveform_is_silence_too() -> None:
    mirror, clock = SimMirror(), VirtualClock()
    mirror.uri = "sim:galvo"
    mirror.open(clock)
    mirror.stream([0.01, 0.02, 0.03], np.array([[0.05, 0.0], [0.1, 0.0], [0.1, 0.05]]))
    at_ns = round((0.03 + mirror.deadline_s) * 1e9)
    assert abs(mirror.true_angle((at_ns - 1_000_000) / 1e9) - [0.1, 0.05]).max() < 1e-3
    assert abs(mirror.true_angle((at_ns + 20_000_000) / 1e9)).max() < 1e-3
