"""What every steering mirror must do."""

from __future__ import annotations

import math
import threading
from functools import partial

import numpy as np

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Disconnected, Interlock, NotSupported, OutOfRange, StateError
from foveate.messages import MirrorState
from foveate_drivers.conformance.suite import Bench, Skipped, expect, expect_error
from foveate_drivers.mirrors.base import Angles, Mirror

_NEAR_RAD = 3e-4  # of a place: readback noise, and the four decimals of the coarsest wire
_SLACK_S = 0.01  # what a command and its answer may take on a live wire
_SOURCES = ("readback", "model", "command")


def _place(mirror: Mirror, *shares: float) -> Angles:
    """Angles as shares of the limits."""
    return np.resize(np.array(shares), mirror.axes) * mirror.limit_rad


def _settle_s(mirror: Mirror) -> float:
    """Of the longest move there is."""
    return float(np.max(mirror.settle_s(2 * mirror.limit_rad))) + _SLACK_S


def _hold(bench: Bench[Mirror], mirror: Mirror, angle: Angles, seconds: float) -> None:
    """Send it there, again and again, so that it neither moves away nor parks."""
    every_s = min(mirror.deadline_s / 3, 0.02) if mirror.deadline_s > 0 else 0.02
    end_ns = bench.clock.now_ns() + round(seconds * 1e9)
    while bench.clock.now_ns() < end_ns:
        mirror.goto(angle)
        bench.pass_time(every_s)


def _arrive(bench: Bench[Mirror], mirror: Mirror, angle: Angles) -> MirrorState:
    """Send it there and wait until it is there."""
    _hold(bench, mirror, angle, _settle_s(mirror))
    return mirror.position()


def _is_at(state: MirrorState, angle: Angles, what: str) -> None:
    off = float(np.abs(state.angle_rad - angle).max())
    expect(off <= _NEAR_RAD, f"{what}: at {state.angle_rad}, {off:.6f} rad off {angle}")


def check_limits_are_numbers(bench: Bench[Mirror]) -> None:
    """Every axis has a finite limit above 0, and tolerance and deadline are not negative, before it is opened."""
    mirror = bench.make()
    expect(np.shape(mirror.limit_rad) == (mirror.axes,), f"limits {mirror.limit_rad} of {mirror.axes} axes")
    expect(bool(np.all(np.isfinite(mirror.limit_rad) & (mirror.limit_rad > 0))), f"limits {mirror.limit_rad}")
    expect(mirror.tolerance_rad > 0, f"tolerance {mirror.tolerance_rad}")
    expect(mirror.deadline_s >= 0, f"deadline {mirror.deadline_s}")


def check_it_goes_where_it_is_told(bench: Bench[Mirror]) -> None:
    """`goto` returns the accepted command, and after its settling time the mirror is there."""
    with bench.open() as mirror:
        target = _place(mirror, 0.5, -0.25)
        accepted = mirror.goto(target)
        expect(accepted.source == "command", f"the command's source is {accepted.source!r}")
        _is_at(accepted, target, "the accepted command")
        _is_at(_arrive(bench, mirror, target), target, "after the settling time")


def check_it_reaches_its_limits(bench: Bench[Mirror]) -> None:
    """Each axis alone goes as far as its limit, on both sides."""
    with bench.open() as mirror:
        for axis in range(mirror.axes):
            for sign in (1.0, -1.0):
                target = np.zeros(mirror.axes)
                target[axis] = sign * mirror.limit_rad[axis]
                _is_at(_arrive(bench, mirror, target), target, f"axis {axis} at its limit")


def check_a_reading_in_a_move_says_so(bench: Bench[Mirror]) -> None:
    """An exposure during a move is marked as moved."""
    with bench.open() as mirror:
        _arrive(bench, mirror, _place(mirror, -0.5))
        took_ns = round(float(np.max(mirror.settle_s(mirror.limit_rad))) * 1e9)
        begun_ns = bench.clock.now_ns()
        mirror.goto(_place(mirror, 0.5))
        bench.pass_time(_settle_s(mirror))
        reading = mirror.reading(begun_ns + took_ns // 2, took_ns)
        expect(reading.moved, "it moved by half of its range, and says that it did not")
        expect(reading.source in _SOURCES, f"source {reading.source!r}")


def check_a_reading_at_rest_says_so(bench: Bench[Mirror]) -> None:
    """An exposure at rest is not marked as moved, and carries the place."""
    with bench.open() as mirror:
        target = _place(mirror, 0.3)
        _hold(bench, mirror, target, _settle_s(mirror) + 0.005)
        reading = mirror.reading(bench.clock.now_ns() - 1_500_000, 1_000_000)
        expect(not reading.moved, "it is at rest, and says that it moved")
        _is_at(reading, target, "the reading")


def check_readings_carry_the_time_asked_for(bench: Bench[Mirror]) -> None:
    """A reading's stamp is the moment and the exposure that were asked for."""
    with bench.open() as mirror:
        bench.pass_time(0.01)
        t_ns = bench.clock.now_ns() - 3_000_000
        stamp = mirror.reading(t_ns, 500_000).stamp
        expect((stamp.t_ns, stamp.exposure_ns) == (t_ns, 500_000), f"asked for {t_ns}, 500000; got {stamp}")


def check_the_past_stays_as_it_was(bench: Bench[Mirror]) -> None:
    """A reading of a moment before a move gives the place before it, even when it is asked for after the move."""
    with bench.open() as mirror:
        before = _place(mirror, -0.4)
        _arrive(bench, mirror, before)
        t_ns = bench.clock.now_ns() - 1_000_000
        _arrive(bench, mirror, _place(mirror, 0.4))
        _is_at(mirror.reading(t_ns, 0), before, "the moment before the move")


def check_positions_are_of_now(bench: Bench[Mirror]) -> None:
    """`position` carries a moment between the question and the answer."""
    with bench.open() as mirror:
        bench.pass_time(0.01)
        before_ns = bench.clock.now_ns()
        state = mirror.position()
        expect(before_ns <= state.stamp.t_ns <= bench.clock.now_ns(), f"asked at {before_ns}, stamped {state.stamp}")


def _timed_here(mirror: Mirror) -> None:
    if mirror.sync != "predicted":
        raise Skipped(f"its controller times the moves (sync: {mirror.sync})")


def check_a_move_does_not_start_before_its_time(bench: Bench[Mirror]) -> None:
    """With a time to start the mirror stays where it is until then, and goes then."""
    with bench.open() as mirror:
        _timed_here(mirror)
        target = _place(mirror, 0.6)
        start_ns = bench.clock.now_ns() + 20_000_000
        mirror.goto(target, start_ns)
        bench.pass_time(0.02 + _settle_s(mirror))
        _is_at(mirror.reading(start_ns - 1_000_000, 0), np.zeros(mirror.axes), "a millisecond before its time")
        _is_at(mirror.position(), target, "after its time")


def check_a_command_for_later_returns_at_once(bench: Bench[Mirror]) -> None:
    """`goto` with a time to start does not wait for it."""
    with bench.open() as mirror:
        _timed_here(mirror)
        begun_ns, real_ns = bench.clock.now_ns(), process_ns()
        mirror.goto(_place(mirror, 0.1), begun_ns + 400_000_000)
        expect(bench.clock.now_ns() - begun_ns < 200_000_000, "goto let time pass until the move")
        expect(process_ns() - real_ns < 200_000_000, "goto waited for the move")


def check_a_newer_command_replaces_one_that_waits(bench: Bench[Mirror]) -> None:
    """A command that has not started never does once another has come."""
    with bench.open() as mirror:
        _timed_here(mirror)
        old, new = _place(mirror, 0.7), _place(mirror, -0.3)
        now_ns = bench.clock.now_ns()
        mirror.goto(old, now_ns + 30_000_000)
        mirror.goto(new, now_ns + 10_000_000)
        bench.pass_time(0.01 + _settle_s(mirror) + 0.03)
        _is_at(mirror.position(), new, "after both times")


def check_settling_is_predicted_truthfully(bench: Bench[Mirror]) -> None:
    """Once `settle_s` is over an exposure sees no movement; in the middle of it one does."""
    with bench.open() as mirror:
        step = _place(mirror, 0.6)
        settle_ns = round(float(np.max(mirror.settle_s(step))) * 1e9)
        before_ns = bench.clock.now_ns()
        mirror.goto(step)
        after_ns = bench.clock.now_ns()
        bench.pass_time(settle_ns / 1e9 + 0.01)
        expect(mirror.reading(before_ns + settle_ns // 2, settle_ns).moved, "no movement in the middle of the move")
        expect(not mirror.reading(after_ns + settle_ns + 1_500_000, 1_000_000).moved, "it moves after settle_s")


def check_settling_takes_longer_for_longer_moves(bench: Bench[Mirror]) -> None:
    """`settle_s` has the shape of its argument, is not negative, and does not shrink as the step grows."""
    mirror = bench.make()
    steps = np.outer(np.linspace(0.02, 1.0, 12), mirror.limit_rad)
    times = mirror.settle_s(steps)
    expect(np.shape(times) == steps.shape, f"shape {np.shape(times)} for steps of shape {steps.shape}")
    expect(bool(np.all(times >= 0)) and bool(np.all(np.isfinite(times))), f"times {times}")
    expect(bool(np.all(np.diff(times, axis=0) >= -1e-4)), "a longer step takes less time")


def check_settled_tells_move_from_rest(bench: Bench[Mirror]) -> None:
    """`settled`, where it can be told, is false at the start of a long move and true at rest."""
    with bench.open() as mirror:
        if mirror.settled() is None:
            raise Skipped("nobody can tell")
        mirror.goto(_place(mirror, 0.8))
        expect(mirror.settled() is False, "settled at the start of a long move")
        _arrive(bench, mirror, _place(mirror, 0.8))
        bench.pass_time(0.005)
        expect(mirror.settled() is True, "not settled at rest")


def _bad_angles(mirror: Mirror) -> list[object]:
    """Everything that is no place within the limits."""
    numbers = [math.nan, math.inf, -math.inf, 1e308, -1e308, float(np.nextafter(mirror.limit_rad[0], 1)), 7.0]
    one_bad = [np.array([bad] + [0.0] * (mirror.axes - 1)) for bad in numbers]
    last_bad = [np.array([0.0] * (mirror.axes - 1) + [bad]) for bad in (math.nan, -math.inf, 7.0)]
    return [*one_bad, *last_bad, np.zeros(mirror.axes + 1), np.zeros((1, mirror.axes)), np.zeros(0), "left", None]


def check_what_is_out_of_range_is_refused(bench: Bench[Mirror]) -> None:
    """NaN, infinity, huge numbers, angles beyond a limit and wrong shapes raise OutOfRange and do no harm."""
    with bench.open() as mirror:
        for bad in _bad_angles(mirror):
            error = expect_error(OutOfRange, partial(mirror.goto, bad), f"goto {bad}")  # type: ignore[arg-type]
            expect(mirror.uri in str(error), f"the error does not name the mirror: {error}")
        bench.pass_time(_settle_s(mirror))
        _is_at(mirror.position(), np.zeros(mirror.axes), "after nothing but refusals")
        target = _place(mirror, 0.2)
        _is_at(_arrive(bench, mirror, target), target, "after refusals")
        expect(mirror.health().state == "ok", f"health became {mirror.health()}")


def check_the_callers_array_stays_the_callers(bench: Bench[Mirror]) -> None:
    """Who writes into the array after `goto` moves nothing."""
    with bench.open() as mirror:
        angle = _place(mirror, 0.25)
        target = angle.copy()
        accepted = mirror.goto(angle)
        angle[:] = mirror.limit_rad
        bench.pass_time(_settle_s(mirror))
        _is_at(mirror.position(), target, "after the array was written to")
        _is_at(accepted, target, "the accepted command")
        expect(not accepted.angle_rad.flags.writeable, "the accepted angles can be written to")


def check_park_goes_to_rest(bench: Bench[Mirror]) -> None:
    """`park` brings it to 0, and it can move again."""
    with bench.open() as mirror:
        _arrive(bench, mirror, _place(mirror, 0.5))
        mirror.park()
        bench.pass_time(_settle_s(mirror))
        _is_at(mirror.position(), np.zeros(mirror.axes), "parked")
        target = _place(mirror, -0.2)
        _is_at(_arrive(bench, mirror, target), target, "after parking")


def check_it_parks_on_silence_and_works_again(bench: Bench[Mirror]) -> None:
    """As long as commands come it stays out; a deadline after the last it parks, and the next moves it."""
    with bench.open() as mirror:
        if mirror.deadline_s <= 0:
            raise Skipped("it never parks by itself")
        for share in (0.5, -0.3):
            target = _place(mirror, share)
            _hold(bench, mirror, target, max(1.5 * mirror.deadline_s, _settle_s(mirror)))
            _is_at(mirror.position(), target, "told to go, again and again")
            sent_ns = bench.clock.now_ns()
            bench.pass_time(mirror.deadline_s + _settle_s(mirror) + 0.03)
            _is_at(mirror.position(), np.zeros(mirror.axes), "after the deadline")
            _is_at(mirror.reading(sent_ns + round(mirror.deadline_s * 0.3e9), 0), target, "before the deadline")
        expect(mirror.health().state == "ok", f"health is {mirror.health()}")


def check_an_emergency_stop_holds_until_it_is_cleared(bench: Bench[Mirror]) -> None:
    """`estop` parks and refuses commands with Interlock; `clear` leaves it parked and lets it move again."""
    with bench.open() as mirror:
        _arrive(bench, mirror, _place(mirror, 0.5))
        mirror.estop()
        expect_error(Interlock, lambda: mirror.goto(_place(mirror, 0.1)), "goto in an emergency stop")
        bench.pass_time(_settle_s(mirror))
        _is_at(mirror.position(), np.zeros(mirror.axes), "in an emergency stop")
        expect(mirror.health().state != "ok", "health is ok in an emergency stop")
        mirror.clear()
        bench.pass_time(0.01)
        _is_at(mirror.position(), np.zeros(mirror.axes), "after clear")
        target = _place(mirror, 0.2)
        _is_at(_arrive(bench, mirror, target), target, "after clear and a command")


def check_an_emergency_stop_cancels_what_waits(bench: Bench[Mirror]) -> None:
    """A command for later does not leave once the mirror was stopped."""
    with bench.open() as mirror:
        _timed_here(mirror)
        mirror.goto(_place(mirror, 0.5), bench.clock.now_ns() + 20_000_000)
        mirror.estop()
        bench.pass_time(0.03 + _settle_s(mirror))
        _is_at(mirror.position(), np.zeros(mirror.axes), "after the time of the command")
        mirror.clear()  # a board may keep its stop for the next program


def check_a_closed_mirror_refuses(bench: Bench[Mirror]) -> None:
    """`goto`, `reading`, `position` and `park` raise StateError before `open` and after `close`."""
    mirror = bench.make()
    with bench.open() as closed:
        closed.goto(_place(closed, 0.1))
    for item in (mirror, closed):
        zero = np.zeros(item.axes)
        expect_error(StateError, partial(item.goto, zero), "goto")
        expect_error(StateError, partial(item.reading, 0, 0), "reading")
        expect_error(StateError, item.position, "position")
        expect_error(StateError, item.park, "park")


def check_closing_leaves_it_parked(bench: Bench[Mirror]) -> None:
    """Closed while it is out, it is at rest when it is opened again."""
    with bench.open() as mirror:
        _arrive(bench, mirror, _place(mirror, 0.5))
    bench.pass_time(_settle_s(mirror))
    with bench.open() as mirror:
        _is_at(mirror.position(), np.zeros(mirror.axes), "opened again")


def check_a_waveform_is_taken_or_refused(bench: Bench[Mirror]) -> None:
    """`stream` passes through its points in time, or raises NotSupported; points beyond the limits are refused."""
    with bench.open() as mirror:
        times = np.arange(1, 21) * 0.002
        points = np.outer(np.sin(np.linspace(0, math.pi / 2, 20)), _place(mirror, 0.3))
        try:
            mirror.stream(times.tolist(), points)
        except NotSupported:
            raise Skipped("it only goes from place to place") from None
        bench.pass_time(0.04 + min(_settle_s(mirror), 0.03))
        _is_at(mirror.position(), points[-1], "after the waveform")
        points[7] = math.nan
        expect_error(OutOfRange, lambda: mirror.stream(times.tolist(), points), "a waveform with NaN")
        expect_error(OutOfRange, lambda: mirror.stream([0.2, 0.1], points[:2]), "times that run backwards")
        expect_error(OutOfRange, lambda: mirror.stream([0.01, math.nan], points[:2]), "a time that is NaN")
        expect_error(OutOfRange, lambda: mirror.stream([], points[:0]), "a waveform of no points")


def check_commands_and_readings_may_cross(bench: Bench[Mirror]) -> None:
    """One thread commands while another reads: nobody raises, and every reading is within the limits."""
    with bench.open() as mirror:
        failures: list[BaseException] = []
        stop = threading.Event()

        def read_on() -> None:
            try:
                while not stop.is_set():
                    for state in (mirror.reading(bench.clock.now_ns(), 100_000), mirror.position()):
                        expect(bool(np.all(np.abs(state.angle_rad) <= 1.1 * mirror.limit_rad)), f"{state.angle_rad}")
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=read_on)
        thread.start()
        try:
            for i in range(40):
                mirror.goto(_place(mirror, 0.5 * math.sin(i)))
                bench.pass_time(0.002)
        finally:
            stop.set()
            thread.join(5.0)
        expect(not thread.is_alive() and not failures, f"the reading thread: {failures}")


def check_an_unplugged_mirror_is_noticed(bench: Bench[Mirror]) -> None:
    """Once the cable is pulled, commands and questions raise Disconnected within a second, and health is lost."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    mirror = bench.open()
    try:
        mirror.goto(_place(mirror, 0.1))
        bench.unplug()
        begun_ns = process_ns()
        for _ in range(100):
            try:
                mirror.goto(_place(mirror, 0.2))
            except Disconnected:
                break
            except DeviceError:
                pass
            bench.pass_time(0.02)
        took_s = (process_ns() - begun_ns) / 1e9
        expect_error(Disconnected, mirror.position, "position of an unplugged mirror")
        expect(mirror.health().state == "lost", f"health is {mirror.health().state}")
        expect(took_s <= 1.0 or not isinstance(bench.clock, LiveClock), f"noticed after {took_s:.2f} s")
    finally:
        mirror.close()
        bench.replug()


def check_a_replugged_mirror_works_again(bench: Bench[Mirror]) -> None:
    """After the cable is back, closing and opening the same object gives a mirror that moves."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    mirror = bench.open()
    try:
        mirror.goto(_place(mirror, 0.1))
        bench.unplug()
        mirror.close()
        bench.replug()
        mirror.open(bench.clock)
        target = _place(mirror, 0.3)
        _is_at(_arrive(bench, mirror, target), target, "after it was plugged in again")
    finally:
        mirror.close()
