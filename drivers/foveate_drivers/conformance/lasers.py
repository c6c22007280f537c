"""What every line laser must do: above all, be dark."""

from __future__ import annotations

import math
import threading
from functools import partial

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Disconnected, FoveateError, Interlock, OutOfRange, StateError
from foveate.messages import LaserState
from foveate_drivers.conformance.suite import Bench, Failed, Skipped, expect, expect_error
from foveate_drivers.lasers.base import LineLaser

_NEAR = 0.01  # of a power: boards set it in steps
_SLACK_S = 0.03


def _is_dark(state: LaserState, when: str) -> None:
    expect(not state.emitting and state.power == 0, f"{when}: it emits {state.power}")


def _is_lit(state: LaserState, power: float, when: str) -> None:
    expect(state.emitting and abs(state.power - power) <= _NEAR, f"{when}: asked for {power}, it says {state}")


def check_it_has_a_deadline(bench: Bench[LineLaser]) -> None:
    """A laser goes out by itself: its deadline is above 0 and at most a minute."""
    deadline_s = bench.make().deadline_s
    expect(0 < deadline_s <= 60, f"deadline {deadline_s}")


def check_it_is_dark_when_opened(bench: Bench[LineLaser]) -> None:
    """An open laser does not emit before it is told to."""
    with bench.open() as laser:
        _is_dark(laser.state(), "just opened")


def check_it_emits_what_it_is_told(bench: Bench[LineLaser]) -> None:
    """`emit` returns the power that was read back, and `state` says the same."""
    with bench.open() as laser:
        for power in (0.25, 1.0, 0.1):
            _is_lit(laser.emit(power), power, "emit")
            _is_lit(laser.state(), power, "state")


def check_no_power_is_dark(bench: Bench[LineLaser]) -> None:
    """`emit(0)` puts it out."""
    with bench.open() as laser:
        laser.emit(0.5)
        _is_dark(laser.emit(0.0), "emit(0)")
        _is_dark(laser.state(), "after emit(0)")


def check_off_is_dark(bench: Bench[LineLaser]) -> None:
    """`off` puts it out at once, and may be called twice."""
    with bench.open() as laser:
        laser.emit(0.5)
        laser.off()
        laser.off()
        _is_dark(laser.state(), "after off")


def check_silence_is_dark(bench: Bench[LineLaser]) -> None:
    """A deadline after the last command it is dark; asking for its state is no command."""
    with bench.open() as laser:
        laser.emit(0.5)
        asked = 10
        for _ in range(asked):
            laser.state()
            bench.pass_time((laser.deadline_s + _SLACK_S) / asked)
        _is_dark(laser.state(), "after the deadline")
        bench.pass_time(laser.deadline_s)
        _is_dark(laser.state(), "after another")


def check_commands_keep_it_lit(bench: Bench[LineLaser]) -> None:
    """Asked again and again it stays lit longer than the deadline."""
    with bench.open() as laser:
        for _ in range(12):
            laser.emit(0.4)
            bench.pass_time(laser.deadline_s / 4)
            _is_lit(laser.state(), 0.4, "asked again and again")


def check_it_lights_again_after_silence(bench: Bench[LineLaser]) -> None:
    """Having gone out by itself it is in good health and emits when it is told to."""
    with bench.open() as laser:
        laser.emit(0.5)
        bench.pass_time(laser.deadline_s + _SLACK_S)
        expect(laser.health().state == "ok", f"health is {laser.health()}")
        _is_lit(laser.emit(0.3), 0.3, "after silence")


def check_what_is_no_power_is_refused_and_dark(bench: Bench[LineLaser]) -> None:
    """NaN, infinity, less than 0, more than 1 and what is no number raise OutOfRange; the laser is dark then."""
    with bench.open() as laser:
        for bad in (math.nan, math.inf, -math.inf, -1e-9, 1.0000001, 1e308, "1", None):
            laser.emit(0.5)
            error = expect_error(OutOfRange, partial(laser.emit, bad), f"emit({bad})")  # type: ignore[arg-type]
            expect(laser.uri in str(error), f"the error does not name the laser: {error}")
            _is_dark(laser.state(), f"after emit({bad})")


def check_an_emergency_stop_holds_until_it_is_cleared(bench: Bench[LineLaser]) -> None:
    """`estop` puts it out and refuses with Interlock; `clear` leaves it dark and lets it emit again."""
    with bench.open() as laser:
        laser.emit(0.5)
        laser.estop()
        _is_dark(laser.state(), "in an emergency stop")
        expect(laser.state().interlock != "", "the state does not say why it may not emit")
        expect_error(Interlock, lambda: laser.emit(0.1), "emit in an emergency stop")
        _is_dark(laser.state(), "after a refused command")
        expect(laser.health().state != "ok", "health is ok in an emergency stop")
        laser.clear()
        _is_dark(laser.state(), "after clear")
        _is_lit(laser.emit(0.2), 0.2, "after clear and a command")


def check_closing_is_dark(bench: Bench[LineLaser]) -> None:
    """Closed while it is lit, it is dark when it is opened again."""
    with bench.open() as laser:
        laser.emit(0.5)
    with bench.open() as laser:
        _is_dark(laser.state(), "opened again")


def check_leaving_by_an_error_is_dark(bench: Bench[LineLaser]) -> None:
    """An error in the block that uses it puts it out."""
    try:
        with bench.open() as laser:
            laser.emit(0.5)
            raise FoveateError("on purpose")
    except FoveateError:
        pass
    with bench.open() as laser:
        _is_dark(laser.state(), "after an error")


def check_a_closed_laser_refuses(bench: Bench[LineLaser]) -> None:
    """`emit` and `state` raise StateError before `open` and after `close`; `off` never raises."""
    fresh = bench.make()
    closed = bench.open()
    closed.close()
    for laser in (fresh, closed):
        expect_error(StateError, partial(laser.emit, 0.1), "emit")
        expect_error(StateError, laser.state, "state")
        laser.off()


def check_states_are_of_now(bench: Bench[LineLaser]) -> None:
    """A state carries a moment between the question and the answer."""
    with bench.open() as laser:
        bench.pass_time(0.01)
        before_ns = bench.clock.now_ns()
        for state in (laser.emit(0.1), laser.state()):
            expect(before_ns <= state.stamp.t_ns <= bench.clock.now_ns(), f"asked at {before_ns}, {state.stamp}")


def check_threads_may_cross(bench: Bench[LineLaser]) -> None:
    """One thread asks for light while another asks for the state: nobody raises."""
    with bench.open() as laser:
        failures: list[BaseException] = []
        stop = threading.Event()

        def read_on() -> None:
            try:
                while not stop.is_set():
                    laser.state()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=read_on)
        thread.start()
        try:
            for _ in range(30):
                laser.emit(0.5)
                bench.pass_time(0.002)
        finally:
            stop.set()
            thread.join(5.0)
        expect(not thread.is_alive() and not failures, f"the reading thread: {failures}")


def check_an_unplugged_laser_is_noticed(bench: Bench[LineLaser]) -> None:
    """Once the cable is pulled `emit` raises Disconnected within a second, health is lost, and `off` does not raise."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    laser = bench.open()
    try:
        laser.emit(0.5)
        bench.unplug()
        begun_ns = process_ns()
        for _ in range(100):
            try:
                laser.emit(0.5)
            except Disconnected:
                break
            except DeviceError:
                pass
            bench.pass_time(0.02)
        else:
            raise Failed("not noticed")
        took_s = (process_ns() - begun_ns) / 1e9
        expect(took_s <= 1.0 or not isinstance(bench.clock, LiveClock), f"noticed after {took_s:.2f} s")
        expect(laser.health().state == "lost", f"health is {laser.health().state}")
        laser.off()
    finally:
        laser.close()
        bench.replug()


def check_a_replugged_laser_is_dark_and_works(bench: Bench[LineLaser]) -> None:
    """After the cable is back the same object opens, is dark, and emits when it is told to."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    laser = bench.open()
    try:
        laser.emit(0.5)
        bench.unplug()
        laser.close()
        bench.replug()
        laser.open(bench.clock)
        _is_dark(laser.state(), "plugged in again")
        _is_lit(laser.emit(0.3), 0.3, "after it was plugged in again")
    finally:
        laser.close()
