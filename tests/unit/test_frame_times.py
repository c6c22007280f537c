"""Stamps of cameras with a clock of their own: true to the exposure, not to the arrival."""

from __future__ import annotations

from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from foveate.clock import LiveClock, VirtualClock
from foveate.messages import Frame
from foveate_drivers.cameras.frame_times import FrameTimes, Reading
from foveate_drivers.cameras.gige import GigeCamera
from foveate_drivers.cameras.sim import SimCamera
from foveate_drivers.emulators.gige import GigeEmulator
from tests.conformance.live_cameras import gige_port
from tests.conformance.test_cameras import sim

pytestmark = pytest.mark.live

MS = 1_000_000


def stamps(read: bool, *, stamped_at_end: bool = False) -> list[int]:
    """Errors of mid-exposures in ns: a clock 5 s ahead, exposures of 2 ms every 10 ms, 6 ms until they arrive."""
    clock, times, errors = VirtualClock(), FrameTimes(stamped_at_end), []
    times.exposed(2 * MS)

    def reading(now: VirtualClock) -> Reading:
        return now.now_ns() + 5_000 * MS, now.now_ns() - 20_000, now.now_ns() + 20_000

    for i in range(300):
        begin_ns = (i + 1) * 10 * MS
        clock.advance(begin_ns + 8 * MS)
        if read:
            times.compare(reading, clock)  # type: ignore[arg-type]
        device_ns = begin_ns + 5_000 * MS + (2 * MS if stamped_at_end else 0)
        _, stamp, _ = times.of(device_ns, 0, clock, None)
        errors.append(stamp.t_ns - begin_ns - MS)
    return errors


@pytest.mark.parametrize("at_end", [False, True])
def test_a_clock_that_is_read_takes_the_delay_out_of_every_stamp(at_end: bool) -> None:
    assert np.abs(stamps(True, stamped_at_end=at_end)).max() < 30_000
    assert abs(np.median(stamps(False, stamped_at_end=at_end)) - 6 * MS) < 100_000, "else the least delay stays"


def test_frames_without_a_time_are_stamped_by_their_arrival_with_a_sigma_that_says_so() -> None:
    clock, times = VirtualClock(), FrameTimes(False)
    times.exposed(2 * MS)
    clock.advance(50 * MS)
    received_ns, stamp, epoch = times.of(0, 0, clock, 10 * MS)
    assert (received_ns, stamp.t_ns, stamp.sigma_ns, epoch) == (50 * MS, 49 * MS, 10 * MS, 0)


def test_frames_that_were_on_their_way_when_settings_changed_are_no_jump_of_the_clock() -> None:
    """Exposure and gain are set together, and each asks what the exposure is now."""
    clock, times, epochs = VirtualClock(), FrameTimes(False), set()
    times.exposed(2 * MS)
    for i in range(40):
        if i == 20:
            times.exposed(30 * MS)
            times.exposed(30 * MS)
        exposure_ns = 2 * MS if i < 22 else 30 * MS
        begin_ns = (i + 1) * 50 * MS
        clock.advance(begin_ns + exposure_ns + 3 * MS)
        _, stamp, epoch = times.of(begin_ns + 5_000 * MS, 0, clock, None)
        epochs.add(epoch)
    assert epochs == {0}
    assert abs(stamp.t_ns - begin_ns - 18 * MS) < MS


@pytest.mark.skipif(find_library("aravis-0.8") is None, reason="needs libaravis-0.8 (Debian: libaravis-0.8-0)")
def test_stamps_through_a_real_wire_are_those_of_the_exposures(tmp_path: Path) -> None:
    """Readout and transfer take more than 4 ms; a computer that is busy may add to what is left of it."""
    twin, clock = sim(tmp_path), LiveClock()
    assert isinstance(twin, SimCamera)
    twin.uri = "sim:x"
    true_ns: list[int] = []
    honest = twin.read

    def read(timeout_s: float) -> Frame:
        frame = honest(timeout_s)
        true_ns.append(frame.stamp.t_ns)
        return frame

    twin.read = read  # type: ignore[method-assign]
    clock.start()
    twin.open(clock)
    emulator = GigeEmulator(camera=twin, address="127.0.0.7")
    emulator.clock = clock
    camera = GigeCamera(address="127.0.0.7", rate=100.0, exposure=0.001)
    camera.uri = "gige:127.0.0.7"
    with gige_port(), twin, emulator, camera:
        camera.open(clock)
        frames = [camera.read(2.0) for _ in range(100)]
    errors = [min((f.stamp.t_ns - t for t in true_ns), key=abs) for f in frames]
    sigma_ns = np.median([frame.stamp.sigma_ns for frame in frames])
    print(f"median error {np.median(errors) / 1e3:.0f} us, sigma {sigma_ns / 1e3:.0f} us")
    assert abs(np.median(errors)) < 1 * MS
