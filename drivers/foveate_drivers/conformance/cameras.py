"""What every camera must do."""

from __future__ import annotations

import numpy as np

from foveate.clock import LiveClock, process_ns
from foveate.errors import EndOfStream, NotSupported, StaleData, Timeout
from foveate_drivers.cameras.base import Camera
from foveate_drivers.conformance import frames, streams
from foveate_drivers.conformance.streams import take
from foveate_drivers.conformance.suite import Bench, Failed, Skipped, expect, expect_error

_ENCODINGS = {"Mono8": (2, np.uint8), "BGR8": (3, np.uint8), "Mono16": (2, np.uint16)}

INCLUDES = (streams, frames)  # whose checks are made as well


def check_exposure_and_sigma_are_told(bench: Bench[Camera]) -> None:
    """Exposure, uncertainty of the time and missing bytes are numbers that can be; gain is finite."""
    with bench.open() as camera:
        for frame in take(bench, camera, 3):
            expect(frame.stamp.exposure_ns >= 0, f"exposure {frame.stamp.exposure_ns} ns")
            expect(frame.stamp.sigma_ns >= 0, f"sigma {frame.stamp.sigma_ns} ns")
            expect(0 <= frame.missing_bytes <= frame.image.nbytes, f"{frame.missing_bytes} bytes missing")
            expect(np.isfinite(frame.gain_db), f"gain {frame.gain_db} dB")


def check_images_are_what_the_encoding_says(bench: Bench[Camera]) -> None:
    """The image's shape and type are those of its PFNC encoding."""
    with bench.open() as camera:
        frame = take(bench, camera, 1)[0]
    expect(frame.encoding in _ENCODINGS, f"encoding {frame.encoding!r}")
    dimensions, dtype = _ENCODINGS[frame.encoding]
    expect(frame.image.ndim == dimensions and frame.image.dtype == dtype,
           f"{frame.encoding} with shape {frame.image.shape} and type {frame.image.dtype}")  # fmt: skip
    expect(frame.image.size > 0, "an empty image")


def check_images_are_of_the_size_that_is_set(bench: Bench[Camera]) -> None:
    """Where width and height are settings, images have that size, frame after frame."""
    with bench.open() as camera:
        sizes = {frame.image.shape[:2] for frame in take(bench, camera, 4)}
        known = camera.capabilities()
        expect(len(sizes) == 1, f"sizes {sizes}")
        if "width" in known and "height" in known:
            told = (camera.get("height"), camera.get("width"))
            expect(sizes == {told}, f"images are {sizes}, settings say {told}")


def check_images_are_read_only(bench: Bench[Camera]) -> None:
    """Nobody can write into an image that others hold too."""
    with bench.open() as camera:
        frame = take(bench, camera, 1)[0]
    expect(not frame.image.flags.writeable, "the image can be written to")


def check_images_stay_as_they_were(bench: Bench[Camera]) -> None:
    """A frame that is held keeps its pixels while twenty more are read, and after the camera is closed."""
    with bench.open() as camera:
        first = take(bench, camera, 1)[0]
        copy = first.image.copy()
        try:
            take(bench, camera, 20)
        except EndOfStream:
            pass
        expect(np.array_equal(first.image, copy), "its pixels changed while it was held")
    expect(np.array_equal(first.image, copy), "its pixels changed when the camera was closed")


def check_many_frames_can_be_held(bench: Bench[Camera]) -> None:
    """Who holds ten frames still gets new ones, and all ten stay as they were."""
    with bench.open() as camera:
        held = take(bench, camera, 10)
        copies = [frame.image.copy() for frame in held]
        take(bench, camera, 2)
        expect(all(np.array_equal(f.image, c) for f, c in zip(held, copies, strict=True)), "a held frame changed")


def check_timeouts_are_kept(bench: Bench[Camera]) -> None:
    """`read` of a stopped trigger or an early read ends with Timeout, within 20 % (and 50 ms) of the time given."""
    with bench.open() as camera:
        if not isinstance(bench.clock, LiveClock):
            if camera.due_ns() is None or bench.finite:
                raise Skipped("time is simulated, and it does not wait")
            take(bench, camera, 1)
            expect_error(Timeout, lambda: camera.read(0.0), "reading at once again")
            return
        trigger = camera.capabilities().get("trigger")
        if trigger is None or "software" not in trigger.choices:
            raise Skipped("it cannot be kept from giving frames")
        camera.set("trigger", "software")
        camera.start()
        begun = process_ns()
        expect_error(Timeout, lambda: camera.read(0.3), "waiting for a trigger that does not come")
        took_s = (process_ns() - begun) / 1e9
    expect(0.24 <= took_s <= 0.41, f"a timeout of 0.3 s took {took_s:.3f} s")


def check_latest_is_fresh(bench: Bench[Camera]) -> None:
    """After a pause `latest` gives the newest frame, not the oldest, and says how many it passed over."""
    with bench.open() as camera:
        if camera.period_ns is None or bench.finite:
            raise Skipped("frames of a file do not grow old")
        first = take(bench, camera, 1)[0]
        period_s = camera.period_ns / 1e9
        bench.pass_time(10 * period_s)
        frame = camera.latest(max(bench.patience_s, 3 * period_s))
        age_s = (bench.clock.now_ns() - frame.stamp.t_ns) / 1e9
    expect(
        frame.seq == first.seq + 1 + frame.lost_before, f"frame {frame.seq} after {first.seq}: lost {frame.lost_before}"
    )
    expect(age_s <= 6 * period_s + 0.2, f"the newest frame is {age_s:.3f} s old")


def check_latest_refuses_old_frames(bench: Bench[Camera]) -> None:
    """`latest` with an age no frame can have raises StaleData or Timeout, and gives nothing old."""
    with bench.open() as camera:
        if camera.period_ns is None or bench.finite:
            raise Skipped("frames of a file do not grow old")
        take(bench, camera, 1)
        bench.pass_time(5 * camera.period_ns / 1e9)
        try:
            camera.latest(1e-9)
        except (StaleData, Timeout):
            return
    raise Failed("a frame younger than a nanosecond")


def check_software_triggers_give_one_frame_each(bench: Bench[Camera]) -> None:
    """With trigger = software each `trigger` gives exactly one frame; without the setting it is NotSupported."""
    with bench.open() as camera:
        item = camera.capabilities().get("trigger")
        if item is None or "software" not in item.choices:
            expect_error(NotSupported, camera.trigger, "a trigger it does not have")
            return
        camera.set("trigger", "software")
        camera.start()
        frames = []
        for _ in range(3):
            camera.trigger()
            frames += take(bench, camera, 1)
            expect_error(Timeout, lambda: camera.read(0.15), "a second frame of one trigger")
    expect([f.lost_before for f in frames[1:]] == [0, 0], "triggered frames were lost")
