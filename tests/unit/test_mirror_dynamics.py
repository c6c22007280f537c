"""The mirror's response: limits kept, closed form against numerical integration, settling as measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate_drivers.mirrors.dynamics import CLASSES, Axis, AxisLimits, SettleTable, profile

steps = st.floats(-0.4, 0.4).filter(lambda x: abs(x) > 1e-7)
limits_of = st.sampled_from(sorted(CLASSES)).map(CLASSES.__getitem__)


@given(limits_of, steps, st.floats(-1, 1))
def test_a_profile_ends_at_rest_on_its_target_within_the_limits(
    limits: AxisLimits, distance: float, part: float
) -> None:
    speed, place = part * limits.velocity_rad_s, 0.0
    for duration, acceleration in profile(distance, speed, limits):
        assert duration > 0 and abs(acceleration) <= limits.acceleration_rad_s2 * (1 + 1e-9)
        place += speed * duration + acceleration * duration**2 / 2
        speed += acceleration * duration
        assert abs(speed) <= limits.velocity_rad_s * (1 + 1e-9)
    assert math.isclose(place, distance, abs_tol=1e-9) and abs(speed) < 1e-6


def integrate(limits: AxisLimits, commands: list[tuple[float, float]], end_s: float, dt: float = 2e-7) -> float:
    """Position at `end_s` by small steps of the same two stages."""
    w, z = 2 * math.pi * limits.natural_hz, limits.damping
    y = v = reference = speed = t = 0.0
    plan: list[tuple[float, float]] = []
    queue = sorted(commands)
    while t < end_s:
        if queue and t >= queue[0][0]:
            plan = profile(queue.pop(0)[1] - reference, speed, limits)
        acceleration = plan[0][1] if plan else 0.0
        if not plan:
            speed = 0.0
        middle = reference + speed * dt / 2
        v += dt * (w * w * (middle - y) - 2 * z * w * v)
        y += dt * v
        reference += speed * dt + acceleration * dt * dt / 2
        speed += acceleration * dt
        if plan:
            plan = [(plan[0][0] - dt, acceleration), *plan[1:]] if plan[0][0] > dt else plan[1:]
        t += dt
    return y


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_closed_form_is_the_integral_also_when_a_move_is_replaced(name: str) -> None:
    limits = CLASSES[name]
    axis = Axis(limits)
    commands = [(0.0, 0.1), (1.2e-3, -0.05)]
    for t_s, target in commands:
        axis.command(target, t_s)
    for end_s in (0.6e-3, 1.5e-3, 4e-3):
        assert math.isclose(axis.state(end_s)[0], integrate(limits, commands, end_s), abs_tol=3e-4)


@settings(max_examples=40)
@given(limits_of, st.lists(st.tuples(st.floats(1e-4, 5e-3), st.floats(-0.2, 0.2)), min_size=1, max_size=8))
def test_position_and_velocity_are_continuous_and_the_past_stays(
    limits: AxisLimits, moves: list[tuple[float, float]]
) -> None:
    axis, t_s = Axis(limits), 0.0
    seen: list[tuple[float, float]] = []
    for gap, target in moves:
        t_s += gap
        before = axis.state(t_s)
        axis.command(target, t_s)
        assert np.allclose(axis.state(t_s), before, atol=1e-9)
        assert all(math.isclose(axis.state(t)[0], y, abs_tol=1e-9) for t, y in seen)
        seen.append((t_s, before[0]))
    assert math.isclose(axis.state(t_s + 1.0)[0], moves[-1][1], abs_tol=1e-9)


# degrees, ms to within 50 urad: figures of an independent 10 us simulation of the same two stages
@pytest.mark.parametrize(
    ("name", "step_deg", "settle_ms"),
    [("galvo5", 1, 0.69), ("galvo5", 10, 1.46), ("galvo10", 5, 2.02), ("galvo10", 10, 2.66),
     ("saccade30", 1, 2.20), ("saccade30", 5, 3.38), ("saccade30", 15, 4.85), ("voicecoil15", 5, 8.8)],
)  # fmt: skip
def test_settling_times_are_those_of_the_class(name: str, step_deg: float, settle_ms: float) -> None:
    table = SettleTable(CLASSES[name], 50e-6, 0.5)
    got_ms = float(table(np.array([math.radians(step_deg)]))[0]) * 1e3
    assert math.isclose(got_ms, settle_ms, rel_tol=0.15)


def test_a_step_below_the_tolerance_needs_no_time() -> None:
    assert SettleTable(CLASSES["galvo5"], 25e-6, 0.3)(np.array([0.0, 20e-6])).tolist() == [0.0, 0.0]
