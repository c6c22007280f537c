"""What everything that gives numbered frames must do: cameras and depth cameras."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from foveate_drivers.conformance.streams import take
from foveate_drivers.conformance.suite import Bench, Skipped, expect


def frames_of(bench: Bench[Any], camera: Any, count: int) -> list[Any]:
    """The next frames; of a depth camera's pairs the depth."""
    return [item[0] if isinstance(item, tuple) else item for item in take(bench, camera, count)]


def check_frames_come_in_order_and_once(bench: Bench[Any]) -> None:
    """Frame numbers grow, and each grows by one plus the frames said to be lost before it."""
    with bench.open() as camera:
        frames = frames_of(bench, camera, 10)
    for a, b in itertools.pairwise(frames):
        expect(b.seq == a.seq + 1 + b.lost_before, f"frame {b.seq} after {a.seq}, {b.lost_before} said to be lost")


def check_nothing_is_lost_by_a_quick_reader(bench: Bench[Any]) -> None:
    """Who reads at once loses no frame."""
    with bench.open() as camera:
        lost = sum(frame.lost_before for frame in frames_of(bench, camera, 12)[1:])
    expect(lost == 0, f"{lost} of 12 frames were lost")


def check_times_grow(bench: Bench[Any]) -> None:
    """Mid-exposure times only grow."""
    with bench.open() as camera:
        times = [frame.stamp.t_ns for frame in frames_of(bench, camera, 10)]
    expect(all(b > a for a, b in itertools.pairwise(times)), f"times {times}")


def check_times_are_not_in_the_future(bench: Bench[Any]) -> None:
    """No frame was taken after it was read, and none is said to have arrived later."""
    with bench.open() as camera:
        for frame in frames_of(bench, camera, 6):
            now_ns = bench.clock.now_ns()
            expect(frame.stamp.t_ns <= now_ns, f"taken {frame.stamp.t_ns - now_ns} ns in the future")
            expect(frame.received_ns <= now_ns, f"received {frame.received_ns - now_ns} ns in the future")
            if frame.received_ns:
                expect(frame.stamp.t_ns <= frame.received_ns, "taken after it was received")


def check_exposure_in_the_stamp_is_the_setting(bench: Bench[Any]) -> None:
    """A camera with a setting for the exposure stamps its frames with it."""
    with bench.open() as camera:
        if "exposure" not in camera.capabilities():
            raise Skipped("its exposure is not known")
        wanted = float(camera.get("exposure"))
        told = frames_of(bench, camera, 3)[-1].stamp.exposure_ns / 1e9
    expect(abs(told - wanted) <= 0.02 * wanted + 1e-6, f"set {wanted} s, told {told} s")


def check_the_rate_is_the_period(bench: Bench[Any]) -> None:
    """Where the camera has a constant period, frames come at it, within 2 % or half a millisecond."""
    with bench.open() as camera:
        frames = frames_of(bench, camera, 12)
        period_ns = camera.period_ns
    if period_ns is None:
        raise Skipped("it has no constant period")
    # the camera's own clock where it tells one: the mapped one is still finding its rate
    times = [frame.device_ns or frame.stamp.t_ns for frame in frames]
    steps = [(b - a) / (1 + f.lost_before) for (a, b), f in zip(itertools.pairwise(times), frames[1:], strict=True)]
    off = abs(float(np.median(steps)) - period_ns)
    expect(off <= max(0.02 * period_ns, 500_000), f"median step {np.median(steps):.0f} ns, period {period_ns} ns")


def check_a_slow_reader_is_told_what_it_lost(bench: Bench[Any]) -> None:
    """After a long pause numbers and `lost_before` still account for every frame."""
    with bench.open() as camera:
        if camera.period_ns is None or bench.finite:
            raise Skipped("a file waits for its reader")
        first = frames_of(bench, camera, 1)[0]
        bench.pass_time(min(60 * camera.period_ns / 1e9, 3.0))
        frames = [first, *frames_of(bench, camera, 12)]
    for a, b in itertools.pairwise(frames):
        expect(b.seq == a.seq + 1 + b.lost_before, f"frame {b.seq} after {a.seq}, {b.lost_before} said to be lost")


def check_live_settings_change_while_frames_flow(bench: Bench[Any]) -> None:
    """Exposure, where it is live, can be halved between frames, is stamped, and numbers go on."""
    with bench.open() as camera:
        item = camera.capabilities().get("exposure")
        if item is None or not item.live or not item.writable or item.lo is None:
            raise Skipped("its exposure cannot be set while frames flow")
        first = frames_of(bench, camera, 2)[-1]
        before = float(camera.get("exposure"))
        wanted = max(item.lo, before / 2)
        got = float(camera.set("exposure", wanted))
        later = frames_of(bench, camera, 12)[-1]
        camera.set("exposure", before)
    expect(abs(got - wanted) <= (item.step or 0.02 * wanted), f"exposure {wanted} s became {got} s")
    expect(
        abs(later.stamp.exposure_ns / 1e9 - got) <= 0.02 * got + 1e-6, "frames are not stamped with the new exposure"
    )
    expect(later.seq > first.seq, "numbers began anew")


def check_counters_balance(bench: Bench[Any]) -> None:
    """Where it counts, frames received are those that were read, are unread, or were dropped with a count."""
    with bench.open() as camera:
        frames = frames_of(bench, camera, 8)
        counters = camera.health().counters
        if "received" not in counters:
            raise Skipped("it does not count frames")
        expect(counters["received"] >= len(frames), f"received {counters['received']}, read {len(frames)}")
