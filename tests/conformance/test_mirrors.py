"""Every mirror driver passes this suite; the simulated twin is the first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.clock import VirtualClock
from foveate.errors import OutOfRange, StateError
from foveate_drivers.mirrors.base import Mirror
from foveate_drivers.mirrors.dynamics import CLASSES
from foveate_drivers.mirrors.guard import Guard
from foveate_drivers.mirrors.sim import SimMirror


def make() -> tuple[Mirror, VirtualClock]:
    mirror, clock = SimMirror(), VirtualClock()
    mirror.uri = "sim:galvo"
    mirror.open(clock)
    return mirror, clock


def test_it_goes_where_it_is_told_and_reports_what_it_did() -> None:
    mirror, clock = make()
    accepted = mirror.goto(np.array([0.1, -0.05]))
    assert accepted.source == "command" and accepted.angle_rad.tolist() == [0.1, -0.05]
    clock.advance(20_000_000)
    reading = mirror.reading(clock.now_ns(), 1_000_000)
    assert np.allclose(reading.angle_rad, [0.1, -0.05], atol=1e-4)
    assert not reading.moved and reading.source in ("readback", "model", "command")


def test_a_reading_in_the_move_says_that_it_moved() -> None:
    mirror, clock = make()
    mirror.goto(np.array([0.2, 0.0]))
    clock.advance(2_000_000)
    assert mirror.reading(2_000_000, 1_000_000).moved


def test_a_move_does_not_start_before_its_time() -> None:
    mirror, clock = make()
    mirror.goto(np.array([0.2, 0.2]), not_before_ns=5_000_000)
    clock.advance(20_000_000)
    assert np.allclose(mirror.reading(4_900_000, 0).angle_rad, 0.0, atol=1e-4)
    assert np.allclose(mirror.reading(20_000_000, 0).angle_rad, 0.2, atol=1e-4)


def test_settling_is_predicted_truthfully() -> None:
    mirror, clock = make()
    step = np.array([0.15, 0.15])
    settle_ns = int(mirror.settle_s(step).max() * 1e9)
    mirror.goto(step)
    clock.advance(50_000_000)
    assert not mirror.reading(settle_ns + 600_000, 1_000_000).moved
    assert mirror.reading(settle_ns // 2, 1_000_000).moved


@pytest.mark.parametrize(
    "bad", [[math.nan, 0.0], [0.0, math.inf], [-math.inf, 0.0], [1e308, 0.0], [0.3, 0.0], [0.0], [0.0, 0.0, 0.0]]
)
def test_what_is_out_of_range_is_refused_by_name_and_nothing_moves(bad: list[float]) -> None:
    mirror, clock = make()
    with pytest.raises(OutOfRange) as caught:
        mirror.goto(np.array(bad))
    assert "sim:galvo" in str(caught.value) and "within" in str(caught.value)
    clock.advance(20_000_000)
    assert np.allclose(mirror.reading(20_000_000, 0).angle_rad, 0.0, atol=1e-4)


def test_it_parks_when_closed_and_may_be_closed_twice() -> None:
    mirror, _ = make()
    mirror.goto(np.array([0.1, 0.1]))
    mirror.close()
    mirror.close()
    assert isinstance(mirror, SimMirror) and mirror.parked
    with pytest.raises(StateError):
        mirror.goto(np.zeros(2))


numbers = st.one_of(
    st.floats(-0.3, 0.3), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e308, -1e308, 5e-324])
)


@settings(max_examples=30)
@given(st.lists(st.tuples(numbers, numbers, st.integers(0, 3_000_000)), min_size=1, max_size=60))
def test_mir2_no_command_takes_it_beyond_its_limits(commands: list[tuple[float, float, int]]) -> None:
    mirror, clock = make()
    assert isinstance(mirror, SimMirror)
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


def test_mir2_a_million_commands_at_the_input() -> None:
    """The check at the twin's input, as many times as the contract asks."""
    mirror, _ = make()
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
