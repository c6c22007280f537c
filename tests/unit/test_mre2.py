"""The MR-E-2: frames as documented, the driver and the emulator at the two ends of a real pty."""

from __future__ import annotations

import math
import struct
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.clock import LiveClock
from foveate.errors import Busy, Disconnected, NotFound, NotSupported, OutOfRange, StateError, Timeout
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.emulators.mre2 import Mre2Emulator
from foveate_drivers.mirrors import mre2_protocol as protocol
from foveate_drivers.mirrors.mre2 import Mre2Mirror
from tests.boards import driven, until

pytestmark = pytest.mark.live

pytest.importorskip("serial", reason="the MR-E-2 is on a serial port: needs pyserial")


def board(mode: str = "pro", faults: FaultPlan | None = None, **options: object) -> AbstractContextManager[tuple]:
    return driven(Mre2Emulator(faults=faults), Mre2Mirror, mode=mode, **options)


def test_frames_are_those_of_the_documented_traces() -> None:
    golden = bytes.fromhex("7e 00 11 04 00000000 f281 7e")
    assert protocol.frame(protocol.GET, bytes(4)) == golden
    (frame,) = protocol.Deframer().feed(golden)
    assert frame == protocol.Frame(0x11, bytes(4))
    kit = bytes.fromhex("7e 00 10 06 51 00 3d cc cc cd 00 00 7e")
    assert protocol.frame(protocol.SET, struct.pack(">Hf", 0x5100, 0.1), crc=0) == kit
    assert protocol.Deframer(without_crc=True).feed(kit)[0].whole
    assert not protocol.Deframer().feed(kit)[0].whole


@given(st.binary(max_size=50), st.integers(0, 127), st.data())
def test_any_payload_comes_through_in_any_portions(payload: bytes, command: int, data: st.DataObject) -> None:
    wire = protocol.frame(command, payload) * 2
    assert wire.count(b"\x7e") == 4
    cut = data.draw(st.integers(0, len(wire)))
    deframer = protocol.Deframer()
    frames = deframer.feed(wire[:cut]) + deframer.feed(wire[cut:])
    assert frames == [protocol.Frame(command, payload)] * 2


@given(st.binary(max_size=20), st.binary(min_size=1, max_size=50))
def test_noise_before_a_frame_costs_no_frame_after_it(noise: bytes, payload: bytes) -> None:
    """Whatever comes before: the frame after the next flag is read."""
    frames = protocol.Deframer().feed(noise + b"\x7e" + protocol.frame(0x13, payload))
    assert frames[-1] == protocol.Frame(0x13, payload)


def test_every_single_bit_that_flips_is_noticed() -> None:
    wire = protocol.frame(0x13, bytes(range(34)))
    for at in range(1, len(wire) - 1):
        for bit in range(8):
            spoiled = bytearray(wire)
            spoiled[at] ^= 1 << bit
            assert not any(f.whole and len(f.payload) == 34 for f in protocol.Deframer().feed(bytes(spoiled)))


def test_angles_and_the_boards_units_agree_both_ways() -> None:
    assert protocol.xy_from_angles(np.radians([25.0, 0.0])) == pytest.approx([1.0, 0.0])
    angles = np.array([0.1, -0.2])
    assert protocol.angles_from_xy(protocol.xy_from_angles(angles)) == pytest.approx(angles, abs=1e-15)


@pytest.mark.parametrize("mode", ["pro", "simple"])
def test_it_goes_there_and_the_twin_behind_the_wire_is_there(mode: str) -> None:
    with board(mode) as (emulator, mirror, clock):
        mirror.goto(np.array([0.1, -0.05]))
        assert until(lambda: mirror.settled())
        clock.wait_until(clock.now_ns() + 5_000_000, threading.Event())
        where = emulator.mirror.true_angle(emulator.clock.now_ns() / 1e9)
        assert where == pytest.approx([0.1, -0.05], abs=1.5e-4)
        reading = mirror.position()
        assert reading.angle_rad == pytest.approx(where, abs=1.5e-4)
        assert reading.source == ("readback" if mode == "pro" else "model")


def test_a_command_for_later_leaves_then_and_a_newer_one_replaces_it() -> None:
    with board() as (emulator, mirror, clock):
        before = emulator.accepted
        mirror.goto(np.array([0.2, 0.0]), clock.now_ns() + 200_000_000)
        mirror.goto(np.array([0.1, 0.0]), clock.now_ns() + 15_000_000)
        due_ns = clock.now_ns() + 15_000_000
        assert emulator.accepted == before and not mirror.settled()
        assert until(lambda: emulator.accepted > before)
        assert clock.now_ns() >= due_ns - 1_000_000
        assert until(lambda: not mirror.parked)
        assert emulator.log[-1][1] == pytest.approx(math.tan(0.2) / math.tan(math.radians(50)), abs=1e-6)
        mirror.goto(np.array([0.2, 0.0]), clock.now_ns() + 10_000_000)
        mirror.park()  # replaces it too
        assert emulator.log[-1][1:] == (0.0, 0.0)


def test_the_reach_is_a_circle() -> None:
    with board(limit=0.43) as (emulator, mirror, _):
        mirror.goto(np.array([0.43, 0.0]))
        with pytest.raises(OutOfRange, match="25 degrees"):
            mirror.goto(np.array([0.43, 0.43]))
        assert emulator.largest <= 1.0


def test_a_move_by_strobe_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotSupported, match="predicted"):
        Mre2Mirror(address="/dev/ttyACM0", sync="strobe")


def test_ports_that_are_not_there_or_taken_are_named(tmp_path: Path) -> None:
    mirror = Mre2Mirror(address=str(tmp_path / "none"))
    mirror.uri = f"mre2:{tmp_path}/none"
    with pytest.raises(NotFound, match="none"):
        mirror.open(LiveClock())
    with board() as (emulator, _, clock):
        second = Mre2Mirror(address=emulator.uri.partition(":")[2])
        second.uri = emulator.uri
        with pytest.raises(Busy, match="another program"):
            second.open(clock)


def test_a_port_with_nobody_behind_it_times_out(tmp_path: Path) -> None:
    with Mre2Emulator(faults=FaultPlan(drop=1.0)) as emulator:
        for mode in ("pro", "simple"):
            mirror = Mre2Mirror(address=emulator.uri.partition(":")[2], mode=mode, timeout=0.005)  # type: ignore[arg-type]
            mirror.uri = emulator.uri
            with pytest.raises(Timeout, match="MR-E-2"):
                mirror.open(LiveClock())
            with pytest.raises(StateError):
                mirror.position()


def test_refusals_carry_their_names_and_a_single_one_is_tried_again() -> None:
    with board(faults=FaultPlan()) as (emulator, mirror, _):
        emulator.faults.nak = 1.0
        with pytest.raises(Exception, match="REGISTER_WRITE_UNSUCCESSFUL"):
            mirror.goto(np.array([0.1, 0.0]))
        emulator.faults.nak = 0.5
        for _ in range(20):
            try:
                mirror.goto(np.array([0.1, 0.0]))
            except Exception as error:
                assert "REGISTER_WRITE_UNSUCCESSFUL" in str(error)
        assert mirror.health().counters["retried"] > 0


def test_temperature_and_flags_are_in_the_health() -> None:
    with board(faults=FaultPlan(temperature_c=71.0)) as (_, mirror, _clock):
        health = mirror.health()
        assert health.temperature_c == 71.0
        assert health.state == "degraded" and "mirror too hot" in health.detail


def test_an_unplugged_board_is_disconnected_and_lost_and_comes_back() -> None:
    with board() as (emulator, mirror, clock):
        emulator.unplug()
        with pytest.raises(Disconnected, match="plug it in"):
            mirror.position()
        assert mirror.health().state == "lost"
        with pytest.raises(Disconnected):
            mirror.reading(clock.now_ns(), 0)
        mirror.close()
        emulator.replug()
        mirror.open(clock)
        assert mirror.health().state == "ok"
        assert abs(mirror.position().angle_rad).max() < 1e-3


def test_a_plan_unplugs_and_plugs_in_again_under_the_same_name() -> None:
    with board(faults=FaultPlan(unplug_s=0.3, replug_s=0.1)) as (emulator, mirror, clock):
        mirror.goto(np.array([0.1, 0.0]))

        def lost() -> bool:
            try:
                mirror.position()
            except Disconnected:
                return True
            return False

        assert until(lost)
        mirror.close()
        assert until(lambda: emulator.counters()["unplugged"] == 1 and Path(emulator.uri.partition(":")[2]).exists())
        mirror.open(clock)
        mirror.goto(np.array([0.1, 0.0]))


def test_emulators_leave_no_file_open() -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = files()
    for _ in range(3):
        with board():
            pass
    assert files() == before


def test_an_emulator_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(Busy, match="in the way"):
        Mre2Emulator(link=tmp_path / "taken").start()
    assert (tmp_path / "taken").read_text() == "mine"
    with Mre2Emulator(link=tmp_path / "port") as emulator:
        assert emulator.uri == f"mre2:{tmp_path}/port" and (tmp_path / "port").is_symlink()
    assert not (tmp_path / "port").exists()


def test_two_readings_around_a_moment_are_a_readback_and_elsewhere_the_model_tells() -> None:
    with board() as (_, mirror, clock):
        mirror.goto(np.array([0.1, 0.0]))
        assert until(lambda: mirror.settled())

        def bracketed() -> bool:
            before, after = mirror.position(), mirror.position()
            middle_ns = (before.stamp.t_ns + after.stamp.t_ns) // 2
            if after.stamp.t_ns - before.stamp.t_ns > 1_000_000:
                return False  # the computer had other things to do
            reading = mirror.reading(middle_ns, 100_000)
            assert reading.source == "readback" and reading.angle_rad == pytest.approx([0.1, 0.0], abs=1e-4)
            return True

        assert until(bracketed)
        threading.Event().wait(0.01)
        reading = mirror.reading(clock.now_ns() - 4_000_000, 100_000)
        assert reading.source == "model" and reading.angle_rad == pytest.approx([0.1, 0.0], abs=1e-4)
