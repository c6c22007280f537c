"""The Ether Dream driver on its emulator: what goes over the wire, what parks, and what each fault becomes."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from foveate.clock import LiveClock, process_ns
from foveate.errors import (
    Busy,
    DataLoss,
    Disconnected,
    FoveateError,
    Interlock,
    NotFound,
    OutOfRange,
    ProtocolError,
    StateError,
)
from foveate_drivers.conformance import mirrors as suite
from foveate_drivers.conformance.suite import Bench, Check, Skipped, checks
from foveate_drivers.emulators.etherdream import EtherDreamEmulator
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.mirrors import etherdream_protocol as wire
from foveate_drivers.mirrors.etherdream import EtherDreamMirror
from foveate_drivers.mirrors.sim import SimMirror

RING = {"ring": 0.02, "timeout": 0.5}  # for computers on which others work too


@cache
def twin() -> SimMirror:
    """One for all: an emulator opens and closes it."""
    return SimMirror(deadline=0, repeatability=0)


class Rig:
    """An emulator with a twin behind it, a driver before it, and one clock."""

    def __init__(self, faults: FaultPlan | None = None, **options: object) -> None:
        self.twin = twin()
        self.emulator = EtherDreamEmulator(mirror=self.twin, port=0, announce=0, faults=faults)
        self.emulator.start()
        self.mirror = EtherDreamMirror(address=self.emulator.uri.partition(":")[2], **(RING | options))  # type: ignore[arg-type]
        self.mirror.uri = self.emulator.uri
        self.clock = self.emulator.clock

    def close(self) -> None:
        self.mirror.close()
        self.emulator.stop()

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        end_ns = process_ns() + round(seconds * 1e9)
        pause = threading.Event()
        while not condition():
            assert process_ns() < end_ns, "it did not come about"
            pause.wait(0.002)

    def rest(self, seconds: float) -> None:
        self.clock.wait_until(self.clock.now_ns() + round(seconds * 1e9), threading.Event())

    def true(self) -> np.ndarray:
        return self.twin.true_angle(self.clock.now_ns() / 1e9)

    def fails(self, kind: type[FoveateError], act: Callable[[], object]) -> FoveateError:
        """The error that `act` comes to raise."""
        seen: list[FoveateError] = []

        def tried() -> bool:
            try:
                act()
            except FoveateError as error:
                seen.append(error)
            return bool(seen)

        self.until(tried)
        assert isinstance(seen[0], kind), repr(seen[0])
        assert "\n" not in str(seen[0]) and self.emulator.uri in str(seen[0])
        return seen[0]


def steady(**options: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test gets an open rig; up to three tries where it failed and the ring had run dry: others' loads did that."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        def run(**given: object) -> None:
            for last in (False, False, True):
                rig = Rig(**options)
                rig.mirror.open(rig.clock)
                try:
                    return test(rig, **given)
                except Exception:
                    if last or not rig.mirror.health().counters["underruns"]:
                        raise
                    print("the ring ran dry: again")
                finally:
                    rig.close()

        signature = inspect.signature(test)
        run.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
        run.__doc__ = test.__doc__
        return run

    return decorate


@pytest.mark.heavy
@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
def test_what_every_mirror_does(check: Check) -> None:
    for last in (False, False, True):
        made: list[EtherDreamMirror] = []
        with EtherDreamEmulator(mirror=twin(), port=0, announce=0) as emulator:

            def make(address: str = emulator.uri, to: list[EtherDreamMirror] = made) -> EtherDreamMirror:
                to.append(EtherDreamMirror(address=address.partition(":")[2], ring=0.02, timeout=0.1))
                to[-1].uri = address
                return to[-1]

            try:
                return check(Bench(make, LiveClock(), emulator.unplug, emulator.replug))
            except Skipped as reason:
                pytest.skip(str(reason))
            except Exception:
                if last or not any(mirror.health().counters["underruns"] for mirror in made):
                    raise
                print("the ring ran dry: again")


@pytest.mark.parametrize("move", ["profile", "step"])
def test_the_twin_goes_where_the_driver_sends_it_and_the_model_says_so(move: str) -> None:
    steady(deadline=0.0, move=move)(_goes_there)()


def _goes_there(rig: Rig) -> None:
    for target in ([0.1, -0.05], [-0.2, 0.2], [0.0, 0.001], [0.24, -0.24]):
        rig.mirror.goto(np.array(target))
        assert rig.mirror.settled() is False
        rig.until(rig.mirror.settled)
        rig.until(lambda goal=target: np.abs(rig.true() - goal).max() < 50e-6, 1.0)
        position = rig.mirror.position()
        assert np.allclose(position.angle_rad, target, atol=50e-6) and position.source == "model"
        assert not rig.mirror.reading(rig.clock.now_ns(), 0).moved
    assert rig.emulator.lit == 0  # no light, ever


@steady(deadline=0.0)
def test_a_move_waits_for_its_time_and_the_model_knows_when_it_went(rig: Rig) -> None:
    begin_ns = rig.clock.now_ns() + 80_000_000
    rig.mirror.goto(np.array([0.1, 0.1]), not_before_ns=begin_ns)
    rig.until(rig.mirror.settled)
    assert np.allclose(rig.mirror.reading(begin_ns - 1_000_000, 0).angle_rad, 0.0, atol=1e-6)
    settled_ns = begin_ns + round(rig.mirror.settle_s(np.array([0.1, 0.1])).max() * 1e9)
    assert np.allclose(rig.mirror.reading(settled_ns, 0).angle_rad, 0.1, atol=25e-6)
    assert rig.mirror.reading(begin_ns + 2_000_000, 1_000_000).moved


@steady(deadline=0.0)
def test_a_later_command_replaces_one_that_has_not_begun(rig: Rig) -> None:
    rig.mirror.goto(np.array([0.2, 0.2]), not_before_ns=rig.clock.now_ns() + 300_000_000)
    rig.mirror.goto(np.array([-0.1, 0.0]))
    rig.until(rig.mirror.settled)
    rig.rest(0.4)
    assert np.allclose(rig.mirror.position().angle_rad, [-0.1, 0.0], atol=1e-4)


@steady(deadline=0.0)
def test_a_waveform_is_followed(rig: Rig) -> None:
    times = np.arange(1, 101) * 2e-3
    angles = np.column_stack([0.1 * np.sin(2 * np.pi * times / 0.1), 0.05 * np.cos(2 * np.pi * times / 0.1) - 0.05])
    begun_ns = rig.clock.now_ns()
    rig.mirror.stream(times.tolist(), angles)
    assert rig.mirror.settled() is False
    rig.until(rig.mirror.settled)
    seen = np.array([rig.mirror.reading(begun_ns + round(t * 1e9), 0).angle_rad for t in times + 0.02])
    assert np.allclose(seen.max(axis=0), [0.1, 0.0], atol=0.02) and np.allclose(seen.min(axis=0), -0.1, atol=0.02)
    alike = [np.corrcoef(seen[25:-25, 0], np.roll(angles[:, 0], k)[25:-25])[0, 1] for k in range(-25, 26)]
    assert max(alike) > 0.97  # it follows, milliseconds late, and more so where the computer was late
    assert np.allclose(rig.mirror.position().angle_rad, angles[-1], atol=1e-3)


@pytest.mark.parametrize(
    "bad", [[math.nan, 0.0], [0.0, math.inf], [1e308, 0.0], [0.2401, 0.0], [0.0], [0.0, 0.0, 0.0], [[0.0, 0.0]]]
)
@steady(deadline=0.0)
def test_what_is_out_of_range_is_refused_and_nothing_moves(rig: Rig, bad: list[float]) -> None:
    for act in (
        lambda: rig.mirror.goto(np.array(bad)),
        lambda: rig.mirror.stream([0.1], np.array([bad])),
    ):
        with pytest.raises(OutOfRange, match="must be within"):
            act()
    assert rig.mirror.settled() and not rig.true().any()


@pytest.mark.parametrize("times", [[], [0.2, 0.1], [0.1, 0.1], [math.nan, 1.0], [-1.0, 1.0], [0.1, 1e9], [0.1]])
@steady(deadline=0.0)
def test_waveforms_without_good_times_are_refused(rig: Rig, times: list[float]) -> None:
    with pytest.raises(OutOfRange):
        rig.mirror.stream(times, np.zeros((2, 2)))


@steady(deadline=0.0)
def test_a_waveform_faster_than_the_mirror_is_refused(rig: Rig) -> None:
    with pytest.raises(OutOfRange, match="waveform speed"):
        rig.mirror.stream([0.1, 0.1001], np.array([[0.0, 0.0], [0.2, 0.0]]))


def test_commands_beyond_the_rate_and_the_duty_are_refused() -> None:
    for options, kind, words in (({"duty": 0.01}, Interlock, "duty"), ({"rate": 20.0}, OutOfRange, "command rate")):
        rig = Rig(deadline=0.0, **options)
        rig.mirror.open(rig.clock)
        try:
            with pytest.raises(kind, match=words):
                for i in range(50):
                    rig.mirror.goto(np.array([0.2 * (-1) ** i, 0.0]))
                    rig.rest(0.005)
        finally:
            rig.close()


@steady(deadline=0.09)
def test_silence_parks(rig: Rig) -> None:
    begun_ns = rig.clock.now_ns()
    rig.mirror.goto(np.array([0.2, 0.1]))
    rig.until(lambda: "parked by silence" in rig.mirror.health().counters)
    rig.until(rig.mirror.settled)
    assert np.allclose(rig.mirror.reading(begun_ns + 60_000_000, 0).angle_rad, [0.2, 0.1], atol=1e-4)
    assert np.allclose(rig.mirror.position().angle_rad, 0.0, atol=1e-4)
    rig.until(lambda: np.abs(rig.true()).max() < 1e-4)


@steady(deadline=0.3)
def test_commands_again_and_again_keep_it_where_it_is(rig: Rig) -> None:
    for _ in range(30):
        rig.mirror.goto(np.array([0.1, 0.0]))
        rig.rest(0.02)
    assert np.allclose(rig.mirror.position().angle_rad, [0.1, 0.0], atol=1e-4)
    assert "parked by silence" not in rig.mirror.health().counters


@steady(deadline=0.0)
def test_close_parks_and_stops_the_dac(rig: Rig) -> None:
    rig.mirror.goto(np.array([0.2, -0.2]))
    rig.until(rig.mirror.settled)
    rig.mirror.close()
    rig.mirror.close()
    rig.until(lambda: np.abs(rig.true()).max() < 1e-4)
    assert rig.emulator.dac.playback == wire.IDLE
    with pytest.raises(StateError):
        rig.mirror.goto(np.zeros(2))
    rig.mirror.open(rig.clock)
    rig.mirror.goto(np.array([0.1, 0.1]))
    rig.until(rig.mirror.settled)


@steady(deadline=0.0)
def test_a_feeder_that_dies_leaves_the_mirror_at_rest(rig: Rig) -> None:
    """As in a killed process: nothing is sent any more, and the ring runs dry."""
    rig.mirror.goto(np.array([0.2, -0.2]))
    rig.until(rig.mirror.settled)
    with rig.mirror._lock:  # the feeder waits here, as one without the interpreter would
        rig.until(lambda: rig.emulator.dac.playback == wire.IDLE)
        rig.until(lambda: np.abs(rig.true()).max() < 1e-4)
    error = rig.fails(DataLoss, lambda: rig.mirror.goto(np.array([0.1, 0.0])))
    assert "ran dry" in str(error)
    rig.mirror.goto(np.array([0.1, 0.0]))  # told once; it plays again
    rig.until(rig.mirror.settled)
    assert rig.mirror.health().counters["underruns"] >= 1


@steady(faults=FaultPlan(underrun_s=0.2), deadline=0.0)
def test_an_underrun_at_rest_is_only_counted(rig: Rig) -> None:
    rig.until(lambda: rig.mirror.health().counters["underruns"])
    rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)


@steady(deadline=0.0)
def test_an_emergency_stop_of_the_driver_parks_and_refuses_until_it_is_cleared(rig: Rig) -> None:
    rig.mirror.goto(np.array([0.2, 0.0]))
    rig.until(rig.mirror.settled)
    rig.mirror.estop()
    with pytest.raises(Interlock, match="clear it first"):
        rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)
    assert rig.mirror.health().state == "degraded"
    assert np.allclose(rig.mirror.position().angle_rad, 0.0, atol=1e-4)
    rig.mirror.clear()
    rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)


@steady(deadline=0.0)
def test_an_emergency_stop_of_the_dac_is_an_interlock_until_it_is_cleared(rig: Rig) -> None:
    rig.mirror.goto(np.array([0.2, 0.0]))
    rig.until(rig.mirror.settled)
    rig.emulator.estop()
    rig.fails(Interlock, lambda: rig.mirror.goto(np.array([0.2, 0.0])))
    assert "emergency stop" in rig.mirror.health().detail
    rig.until(lambda: np.abs(rig.true()).max() < 1e-4)
    rig.until(lambda: np.abs(rig.mirror.position().angle_rad).max() < 1e-4)
    rig.mirror.clear()
    rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)
    rig.until(lambda: np.abs(rig.true() - [0.1, 0.0]).max() < 1e-4)


def test_a_dac_that_is_stopped_already_can_be_opened_and_cleared() -> None:
    rig = Rig(deadline=0.0)
    rig.emulator.estop()
    rig.mirror.open(rig.clock)
    try:
        rig.fails(Interlock, lambda: rig.mirror.goto(np.zeros(2)))
        rig.mirror.clear()
        rig.mirror.goto(np.array([0.1, 0.0]))
        rig.until(rig.mirror.settled)
    finally:
        rig.close()


@steady(deadline=0.0)
def test_a_light_engine_that_is_too_hot_is_an_interlock(rig: Rig) -> None:
    rig.emulator.faults.temperature_c = 80.0
    error = rig.fails(Interlock, lambda: rig.mirror.goto(np.zeros(2)))
    assert "cooling down" in str(error)
    with pytest.raises(Interlock, match="cooling down"):
        rig.mirror.clear()
    rig.emulator.faults.temperature_c = 30.0
    rig.until(lambda: rig.emulator.dac.light == wire.READY)
    rig.mirror.clear()
    rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)


@steady(deadline=0.0, timeout=0.1)
def test_a_pulled_cable_is_a_disconnection_and_a_new_open_works(rig: Rig) -> None:
    rig.mirror.goto(np.array([0.2, 0.0]))
    rig.until(rig.mirror.settled)
    rig.emulator.unplug()
    rig.fails(Disconnected, lambda: rig.mirror.goto(np.array([0.2, 0.0])))
    assert rig.mirror.health().state == "lost"
    with pytest.raises(Disconnected):
        rig.mirror.position()
    rig.until(lambda: np.abs(rig.true()).max() < 1e-4)  # it ran dry
    rig.mirror.close()
    rig.fails(NotFound, lambda: rig.mirror.open(rig.clock))
    rig.emulator.replug()
    rig.until(lambda: _opens(rig))
    rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)


def _opens(rig: Rig) -> bool:
    try:
        rig.mirror.open(rig.clock)
    except NotFound:
        return False
    return True


@steady(faults=FaultPlan(nak=0.2, seed=3), deadline=0.0)
def test_refused_packets_are_sent_again(rig: Rig) -> None:
    for target in ([0.1, 0.0], [-0.1, 0.1]):
        rig.mirror.goto(np.array(target))
        rig.until(rig.mirror.settled)
        rig.until(lambda goal=target: np.abs(rig.true() - goal).max() < 1e-4)
    assert rig.mirror.health().counters["refused"] > 0


@steady(deadline=0.0)
def test_a_dac_that_refuses_everything_is_a_protocol_error(rig: Rig) -> None:
    rig.emulator.faults.nak = 1.0
    rig.fails(FoveateError, lambda: rig.mirror.goto(np.zeros(2)))
    rig.until(lambda: rig.mirror.health().state == "lost")


@pytest.mark.parametrize("seed", range(3))
@steady(deadline=0.0, timeout=0.1)
def test_garbage_ends_in_the_error_tree(rig: Rig, seed: int) -> None:
    rig.emulator.faults.rng = np.random.default_rng(seed)
    rig.emulator.faults.garbage = 0.2
    error = rig.fails(FoveateError, lambda: rig.mirror.goto(np.zeros(2)))
    assert isinstance(error, ProtocolError | Disconnected | Interlock | DataLoss)


@steady(deadline=0.0)
def test_two_cannot_steer_one_mirror(rig: Rig) -> None:
    other = EtherDreamMirror(address=rig.emulator.uri.partition(":")[2])
    other.uri = rig.emulator.uri
    with pytest.raises(Busy, match="somebody else's points"):
        other.open(LiveClock())
    with pytest.raises(StateError):
        rig.mirror.open(rig.clock)
    rig.mirror.goto(np.array([0.1, 0.0]))
    rig.until(rig.mirror.settled)


@pytest.mark.parametrize("address", ["", ":1", "127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1:1"])
def test_addresses_where_nothing_is_are_named(address: str) -> None:
    mirror = EtherDreamMirror(address=address)
    mirror.uri = f"etherdream:{address}"
    with pytest.raises(NotFound, match=f"etherdream:{address}: cannot open"):
        mirror.open(LiveClock())
    mirror.close()


def test_a_limit_beyond_the_full_scale_is_refused() -> None:
    with pytest.raises(OutOfRange, match="option 'limit'"):
        EtherDreamMirror(address="x", limit=0.3, full_scale=0.26)


@steady(deadline=0.0)
def test_it_tells_the_age_of_a_position(rig: Rig) -> None:
    rig.until(lambda: rig.mirror.health().counters["points"] > 1000)
    assert 0.01 < float(rig.mirror.get("age")) <= 0.021  # the ring of these tests has 20 ms
    assert rig.mirror.set("deadline", 0.5) == 0.5
