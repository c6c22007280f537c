"""DAC boards: lines, the shared connection, moves by strobe and trigger, waveforms, the laser node."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate import Run, load_graph
from foveate.clock import LiveClock, process_ns
from foveate.errors import (
    Busy,
    Disconnected,
    Interlock,
    NotFound,
    NotSupported,
    OutOfRange,
    ProtocolError,
    Timeout,
)
from foveate.messages import LaserState
from foveate_drivers import dac_protocol as protocol
from foveate_drivers.dac_protocol import DacBoard
from foveate_drivers.emulators.dac import DacEmulator
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.lasers.dac import DacLaser
from foveate_drivers.mirrors.dac import DacMirror
from foveate_drivers.mirrors.sim import SimMirror
from tests.boards import driven, until

pytestmark = pytest.mark.live

pytest.importorskip("serial", reason="a DAC board is on a serial port: needs pyserial")


def board(faults: FaultPlan | None = None, sensor: bool = True, **options: object) -> AbstractContextManager[tuple]:
    return driven(DacEmulator(faults=faults, sensor=sensor), DacMirror, **options)


def wait(clock: LiveClock, seconds: float) -> None:
    clock.wait_until(clock.now_ns() + round(seconds * 1e9), threading.Event())


def test_the_checksum_is_the_published_one() -> None:
    assert protocol.crc16(b"123456789") == 0x29B1  # the check value of CRC-16/CCITT-FALSE in the CRC catalogues
    assert protocol.line(12, "move", 1200, -800, "now", 0) == b"12 move 1200 -800 now 0*09DF\n"


@given(st.integers(0, 65_535), st.lists(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), min_size=1, max_size=6))
def test_lines_are_read_as_they_were_written(seq: int, words: list[str]) -> None:
    assert protocol.parse(protocol.line(seq, *words)[:-1]) == protocol.Line(seq, tuple(words))


@given(st.binary(max_size=120))
def test_noise_is_no_line_and_raises_nothing(noise: bytes) -> None:
    parsed = protocol.parse(noise)
    assert parsed is None or noise.strip(b"\r").endswith(b"*%04X" % protocol.crc16(noise.strip(b"\r")[:-5]))


def test_every_single_and_double_flip_in_a_line_is_noticed() -> None:
    raw = protocol.line(7, "ok", 1200, -800)[:-1]
    bits = [(at, 1 << bit) for at in range(len(raw)) for bit in range(8)]
    for first in range(len(bits)):
        for second in range(first, len(bits)):
            spoiled = bytearray(raw)
            spoiled[bits[first][0]] ^= bits[first][1]
            if second > first:
                spoiled[bits[second][0]] ^= bits[second][1]
            assert protocol.parse(bytes(spoiled)) is None


def test_it_goes_there_and_reads_back_where_the_twin_is() -> None:
    with board() as (emulator, mirror, clock):
        mirror.goto(np.array([0.1, -0.05]))
        assert until(lambda: mirror.settled())
        wait(clock, 0.005)
        assert emulator.mirror.true_angle(emulator.clock.now_ns() / 1e9) == pytest.approx([0.1, -0.05], abs=5e-5)
        state = mirror.position()
        assert state.source == "readback" and state.angle_rad == pytest.approx([0.1, -0.05], abs=5e-5)


def test_without_a_sensor_the_model_says_where_it_is() -> None:
    with board(sensor=False) as (_, mirror, clock):
        mirror.goto(np.array([0.1, -0.05]))
        wait(clock, 0.01)
        state = mirror.position()
        assert state.source == "model" and state.angle_rad == pytest.approx([0.1, -0.05], abs=5e-5)


def test_by_strobe_the_move_begins_when_the_exposure_ends_and_readings_know_it() -> None:
    with board(sync="strobe") as (emulator, mirror, clock):
        mirror.goto(np.array([0.2, 0.1]))
        wait(clock, 0.01)
        before_ns = clock.now_ns()
        assert not mirror.settled()
        assert mirror.reading(before_ns, 0).angle_rad == pytest.approx([0, 0], abs=1e-6)
        emulator.strobe()
        struck_ns = clock.now_ns()
        wait(clock, 0.01)
        assert mirror.reading(clock.now_ns(), 0).angle_rad == pytest.approx([0.2, 0.1], abs=1e-4)
        assert mirror.reading(struck_ns - 1_000_000, 0).angle_rad == pytest.approx([0, 0], abs=1e-4)
        assert mirror.settled()
        emulator.strobe()  # nothing waits
        mirror.park()  # does not wait for a strobe
        wait(clock, 0.01)
        assert mirror.position().angle_rad == pytest.approx([0, 0], abs=1e-4)


def test_a_newer_command_replaces_one_that_waits_for_the_strobe() -> None:
    with board(sync="strobe") as (emulator, mirror, clock):
        mirror.goto(np.array([0.2, 0.1]))
        mirror.goto(np.array([-0.1, 0.0]))
        emulator.strobe()
        wait(clock, 0.01)
        assert mirror.position().angle_rad == pytest.approx([-0.1, 0], abs=1e-4)


def test_by_trigger_the_camera_is_released_once_the_mirror_is_at_rest() -> None:
    with board(sync="trigger") as (emulator, mirror, clock):
        mirror.goto(np.array([0.2, 0.1]))
        assert len(emulator.triggers) == 1
        released_s = emulator.triggers[-1] / 1e9
        wait(clock, 0.01)
        rest = emulator.mirror.true_angle(released_s + 0.001)
        assert emulator.mirror.true_angle(released_s) == pytest.approx(rest, abs=1e-4)
        assert abs(emulator.mirror.true_angle(released_s - 0.001) - rest).max() > 1e-3


def test_a_waveform_is_passed_through_and_one_too_long_for_the_deadline_is_refused() -> None:
    with board() as (emulator, mirror, clock):
        times = np.arange(1, 41) * 0.001
        points = np.stack([0.1 * np.sin(times * 60), 0.1 * np.cos(times * 60) - 0.1], axis=1)
        mirror.stream(times.tolist(), points)
        wait(clock, 0.05)
        assert mirror.position().angle_rad == pytest.approx(points[-1], abs=1e-3)
        assert emulator.accepted == 40
        with pytest.raises(OutOfRange, match="length"):
            mirror.stream([0.01, 1.2], points[:2])


def test_a_mirror_and_a_laser_share_one_board() -> None:
    with board() as (emulator, mirror, clock):
        port = emulator.uri.partition(":")[2]
        alone = DacLaser(address=port)
        alone.uri = emulator.uri
        with pytest.raises(Busy):
            alone.open(clock)
        with DacLaser(address=port, board=mirror) as laser:
            laser.uri = emulator.uri
            laser.open(clock)
            assert laser.emit(0.5).emitting
            mirror.goto(np.array([0.1, 0.0]))
            assert emulator.laser.state().power == 0.5
            mirror.estop()  # stops the whole board
            assert not emulator.laser.state().emitting
            with pytest.raises(Interlock):
                laser.emit(0.5)
            mirror.clear()
            assert laser.emit(0.2).emitting
        assert not emulator.laser.state().emitting
        mirror.goto(np.array([0.1, 0.0]))  # the laser has gone, the board is still the mirror's
    with pytest.raises(NotSupported, match="scheme dac"):
        DacLaser(address="x", board=SimMirror())


def test_an_emergency_stop_outlives_the_program_that_made_it() -> None:
    with board() as (_, mirror, clock):
        mirror.estop()
        mirror.close()
        mirror.open(clock)
        assert mirror.health().state == "degraded" and "emergency stop" in mirror.health().detail
        with pytest.raises(Interlock, match="clear it first"):
            mirror.goto(np.array([0.1, 0.0]))
        mirror.clear()
        mirror.goto(np.array([0.1, 0.0]))


def test_mirror_commands_do_not_keep_a_laser_lit() -> None:
    with board() as (emulator, mirror, clock), DacLaser(address="x", board=mirror) as laser:
        laser.open(clock)
        laser.emit(0.5)
        for _ in range(15):
            mirror.goto(np.array([0.05, 0.0]))
            wait(clock, 0.01)
        assert not emulator.laser.state().emitting
        assert not mirror.parked


def test_refusals_of_the_board_are_told_by_name() -> None:
    with board() as (emulator, mirror, _):
        with pytest.raises(OutOfRange, match="40000"):
            mirror.board.ask("move", 40_000, 0, "now", 0, count=2)
        with pytest.raises(ProtocolError, match="unknown"):
            mirror.board.ask("dance", count=0)
        with pytest.raises(ProtocolError, match="arguments"):
            mirror.board.ask("move", 1, count=2)
        with pytest.raises(ProtocolError, match="not 3 numbers"):
            mirror.board.ask("pos", count=3)
        emulator.faults.nak = 1.0
        with pytest.raises(ProtocolError, match="fault"):
            mirror.goto(np.array([0.1, 0.0]))
        emulator.faults.nak = 0.0
    with pytest.raises(OutOfRange, match="limit"), board(limit=0.4):
        pass


def test_a_port_that_says_nothing_or_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_GREET_S", 0.1)
    with DacEmulator(faults=FaultPlan(drop=1.0)) as emulator:
        mirror = DacMirror(address=emulator.uri.partition(":")[2], timeout=0.005)
        with pytest.raises(Timeout, match="firmware"):
            mirror.open(LiveClock())
    with pytest.raises(NotFound):
        DacMirror(address="/dev/no-such-port").open(LiveClock())


def test_temperature_and_heat_are_in_the_health() -> None:
    with board(faults=FaultPlan(temperature_c=71.5)) as (_, mirror, _clock):
        health = mirror.health()
        assert health.temperature_c == 71.5 and health.state == "degraded" and "hot" in health.detail


def test_an_unplugged_board_parks_by_itself_and_goes_dark() -> None:
    with board() as (emulator, mirror, clock), DacLaser(address="x", board=mirror) as laser:
        laser.open(clock)
        laser.emit(0.5)
        mirror.goto(np.array([0.2, 0.0]))
        emulator.unplug()
        with pytest.raises(Disconnected):
            laser.emit(0.5)
        assert until(lambda: not emulator.laser.state().emitting)
        assert until(lambda: abs(emulator.mirror.true_angle(emulator.clock.now_ns() / 1e9)).max() < 1e-3)


def test_a_board_that_comes_back_serves_each_of_its_devices_once_that_was_opened_again() -> None:
    with board() as (emulator, mirror, clock), DacLaser(address="x", board=mirror) as laser:
        laser.open(clock)
        laser.emit(0.5)
        emulator.unplug()
        with pytest.raises(Disconnected):
            mirror.goto(np.array([0.2, 0.0]))
        mirror.close()
        with pytest.raises(NotFound):  # as the engine does while the cable is out
            mirror.open(clock)
        mirror.close()
        emulator.replug()
        mirror.open(clock)
        mirror.goto(np.array([0.2, 0.0]))
        with pytest.raises(Disconnected, match="close and open it"):  # its guardian watches a port that has gone
            laser.emit(0.5)
        laser.close()
        laser.open(clock)
        assert laser.emit(0.5).emitting
        mirror.goto(np.array([0.1, 0.0]))


def test_a_port_that_talks_without_a_pause_is_not_listened_to_for_ever() -> None:
    class Flood:
        def write(self, data: bytes) -> None:
            pass

        def read(self, until_ns: int) -> bytes:
            return b"x" * 64 if process_ns() < given_up_ns else b""

    given_up_ns = process_ns() + 3_000_000_000
    talk = DacBoard("x", 0.01)
    talk._line = Flood()  # type: ignore[assignment]
    with pytest.raises(Timeout):
        talk.ask("pos", count=4)
    assert process_ns() < given_up_ns


def test_a_deadline_below_a_millisecond_is_not_told_to_the_board_as_none() -> None:
    with board(deadline=0.0004) as (emulator, _, _clock):
        assert emulator.mirror.deadline_s == 0.001


_GRAPH = """
foveate: 1
nodes:
  light: {{use: line_laser, device: "${{rig.line}}", params: {{power: 0.4, rate: {rate}}}}}
rig: rig.yaml
"""


def test_the_laser_node_asks_again_and_again_and_a_rate_that_would_flicker_is_refused(in_tmp: Path) -> None:
    Path("rig.yaml").write_text('foveate: 1\ndevices: {line: {uri: "sim:line", deadline: 0.1}}\n')
    Path("graph.yaml").write_text(_GRAPH.format(rate=25))
    run = Run(load_graph(Path("graph.yaml")), "virtual")
    states: list[LaserState] = []
    node = run.nodes["light"]
    step = node.step
    node.step = lambda: states.append(step()) or states[-1]  # type: ignore[method-assign, func-returns-value]
    assert run.execute(1_000_000_000).balanced
    assert len(states) == 26 and all(s.emitting and s.power == 0.4 for s in states)
    assert max(b.stamp.t_ns - a.stamp.t_ns for a, b in pairwise(states)) < 100_000_000
    Path("graph.yaml").write_text(_GRAPH.format(rate=10))
    result = Run(load_graph(Path("graph.yaml")), "virtual").execute(1_000_000_000)
    assert result.failure is not None and "rate" in str(result.failure) and "10" in str(result.failure)
