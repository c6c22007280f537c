"""A device's clock on the pipeline's: better than arrival or regression, never backwards, never in the future."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate_drivers.device_clock import DeviceClock, Mapped

PERIOD_NS = 8_333_333
DELAY_NS = 1_500_000


def stream(seconds: float, *, seed: int = 0, skew: float = 40e-6, jitter_ns: float = 1e6) -> tuple[np.ndarray, ...]:
    """(true, device, arrival) times of frames at 120 Hz: a skewed, wandering clock and spikes of delay."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 120)
    true = np.arange(count) * PERIOD_NS
    device = (true * (1 + skew) + 20 * np.cumsum(rng.normal(0, 1, count)) + 5e12).astype(np.int64)
    late = rng.exponential(jitter_ns, count) + (rng.random(count) < 0.01) * rng.exponential(15e6, count)
    return true, device, np.maximum.accumulate((true + DELAY_NS + late).astype(np.int64))


def run(clock: DeviceClock, device: np.ndarray, arrival: np.ndarray) -> list[Mapped]:
    return [clock.map(int(d), int(a)) for d, a in zip(device, arrival, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_it_beats_arrival_and_regression_by_far(seed: int) -> None:
    true, device, arrival = stream(60, seed=seed)
    mapped = np.array([m.t_ns for m in run(DeviceClock(), device, arrival)])
    half = len(true) // 2
    ours = np.std((mapped - true)[half:])
    fits = [
        np.polyval(np.polyfit((device[i - 3600 : i] - device[i]) * 1.0, (arrival - device)[i - 3600 : i] * 1.0, 1), 0)
        + device[i] - true[i]
        for i in range(half, len(true), 60)
    ]  # fmt: skip
    assert ours < 5_000 < np.std(fits) / 10, (ours, np.std(fits))
    assert ours < np.std((arrival - true)[half:]) / 100


def test_what_stays_is_the_least_delay_and_a_reading_of_the_clock_takes_it_away() -> None:
    true, device, arrival = stream(40)
    last = run(DeviceClock(), device, arrival)[-1]
    assert abs(last.t_ns - true[-1] - DELAY_NS) < 20_000


@pytest.mark.parametrize("seed", range(3))
def test_with_readings_of_the_clock_times_are_true(seed: int) -> None:
    true, device, arrival = stream(60, seed=seed)
    rng = np.random.default_rng(seed)
    clock, mapped = DeviceClock(), []
    for i, (d, a) in enumerate(zip(device, arrival, strict=True)):
        mapped.append(clock.map(int(d), int(a)))
        for _ in range(5 if i % 600 == 0 else 0):  # every 5 s; half of the readings are slow, and lopsided
            there, back = rng.exponential(40_000, 2) + (rng.random() < 0.5) * np.array([3e6, 1e5])
            clock.latch(int(d), round(true[i] - there), round(true[i] + back))
    error = np.array([m.t_ns for m in mapped]) - true
    sigma = np.array([m.sigma_ns for m in mapped])
    assert np.abs(error[1:]).max() < 400_000 and np.abs(error[1200:]).max() < 250_000
    assert (np.abs(error[1:]) <= 3 * sigma[1:]).mean() > 0.98


def test_a_reading_after_a_jump_counts_and_one_before_does_not() -> None:
    true, device, arrival = stream(30)
    at = 15 * 120
    device[at:] += 7_000_000_000
    clock, mapped = DeviceClock(), []
    for i, (d, a) in enumerate(zip(device, arrival, strict=True)):
        mapped.append(clock.map(int(d), int(a)))
        if i in (100, at + 120):
            clock.latch(int(d), int(true[i]) - 50_000, int(true[i]) + 50_000)
    error = np.array([m.t_ns for m in mapped]) - true
    assert np.abs(error[at + 240 :]).max() < 200_000


def test_sigma_is_honest() -> None:
    for seed, jitter_ns in itertools.product(range(3), (2e5, 1e6, 3e6)):
        true, device, arrival = stream(30, seed=seed, jitter_ns=jitter_ns)
        mapped = run(DeviceClock(), device, arrival)
        error = np.array([m.t_ns for m in mapped]) - true - DELAY_NS
        sigma = np.array([m.sigma_ns for m in mapped])
        assert (np.abs(error) <= 3 * sigma).mean() > 0.99
        assert np.median(sigma[1200:]) < 100_000  # and says something


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40_000_000), st.integers(0, 60_000_000), st.sampled_from([0] * 9 + [-(10**10), 10**9])
        ),
        min_size=1, max_size=80,
    )
)  # fmt: skip
def test_never_backwards_and_never_later_than_the_arrival(steps: list[tuple[int, int, int]]) -> None:
    clock, device, now, arrived, last = DeviceClock(), 10**12, 0, 0, -1
    for step, delay, jump in steps:
        now, device = now + step, device + step + jump
        arrived = max(arrived, now + delay)
        mapped = clock.map(max(device, 0), arrived)
        assert mapped.t_ns >= last and mapped.t_ns <= arrived and mapped.sigma_ns >= 0
        last = mapped.t_ns


@pytest.mark.parametrize("jump_ns", [-3_000_000_000, -50_000_000, 40_000_000, 5_000_000_000])
def test_a_jump_is_a_new_epoch_and_time_goes_on(jump_ns: int) -> None:
    true, device, arrival = stream(40)
    at = 20 * 120
    device[at:] += jump_ns
    mapped = run(DeviceClock(), device, arrival)
    assert mapped[at - 1].epoch == 0 and mapped[-1].epoch >= 1
    times = np.array([m.t_ns for m in mapped])
    assert (np.diff(times) >= 0).all()
    error = times - true - DELAY_NS
    assert np.abs(error[at + 120 * 10 :]).max() < 100_000, "ten seconds after the jump the mapping is good again"


def test_a_wrap_is_a_new_epoch_and_nothing_is_lost() -> None:
    _, device, arrival = stream(40)
    wrap_ns = 2**32  # of a counter of nanoseconds
    mapped = run(DeviceClock(wrap_ns=wrap_ns), device % wrap_ns, arrival)
    unwrapped = run(DeviceClock(), device, arrival)
    assert max(abs(a.t_ns - b.t_ns) for a, b in zip(mapped, unwrapped, strict=True)) <= 2  # rounding
    assert mapped[-1].epoch == (int(device[-1]) // wrap_ns - int(device[0]) // wrap_ns)


def test_no_false_alarm_in_an_hour_of_bad_network() -> None:
    for seed in range(3):
        _, device, arrival = stream(300, seed=seed, jitter_ns=4e6)
        device, arrival = device[::4], arrival[::4]
        assert run(DeviceClock(), device, arrival)[-1].epoch == 0


def test_a_stall_of_the_reader_is_not_a_jump() -> None:
    true, device, arrival = stream(30)
    stalled = (true > 12e9) & (true < 13.5e9)
    arrival = np.where(stalled, np.maximum(arrival, 13_500_000_000), arrival)
    mapped = run(DeviceClock(), device, np.maximum.accumulate(arrival))
    assert mapped[-1].epoch == 0
    assert np.abs(np.array([m.t_ns for m in mapped]) - true - DELAY_NS)[120 * 5 :].max() < 100_000


def test_first_data_that_were_late_are_no_jump() -> None:
    for late_ns in (5_000_000, 30_000_000, 45_000_000):
        _, device, arrival = stream(10, jitter_ns=2e5)
        arrival[:4] = arrival[:4] + late_ns
        assert run(DeviceClock(), device, np.maximum.accumulate(arrival))[-1].epoch == 0
