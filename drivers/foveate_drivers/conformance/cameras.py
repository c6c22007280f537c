"""What every camera must do."""

from __future__ import annotations

import itertools
import threading

import numpy as np

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Disconnected, EndOfStream, NotSupported, StaleData, StateError, Timeout
from foveate.messages import Frame
from foveate_drivers.cameras.base import Camera
from foveate_drivers.conformance.suite import Bench, Failed, Skipped, expect, expect_error

_ENCODINGS = {"Mono8": (2, np.uint8), "BGR8": (3, np.uint8), "Mono16": (2, np.uint16)}


def take(bench: Bench[Camera], camera: Camera, count: int) -> list[Frame]:
    """The next frames, each waited for as long as the bench allows."""
    frames = []
    for _ in range(count):
        bench.wait(camera)
        frames.append(camera.read(bench.patience_s))
    return frames


def check_frames_come_in_order_and_once(bench: Bench[Camera]) -> None:
    """Frame numbers grow, and each grows by one plus the frames said to be lost before it."""
    with bench.open() as camera:
        frames = take(bench, camera, 10)
    for a, b in itertools.pairwise(frames):
        expect(b.seq == a.seq + 1 + b.lost_before, f"frame {b.seq} after {a.seq}, {b.lost_before} said to be lost")


def check_nothing_is_lost_by_a_quick_reader(bench: Bench[Camera]) -> None:
    """Who reads at once loses no frame."""
    with bench.open() as camera:
        lost = sum(frame.lost_before for frame in take(bench, camera, 12)[1:])
    expect(lost == 0, f"{lost} of 12 frames were lost")


def check_times_grow(bench: Bench[Camera]) -> None:
    """Mid-exposure times only grow."""
    with bench.open() as camera:
        times = [frame.stamp.t_ns for frame in take(bench, camera, 10)]
    expect(all(b > a for a, b in itertools.pairwise(times)), f"times {times}")


def check_times_are_not_in_the_future(bench: Bench[Camera]) -> None:
    """No frame was taken after it was read, and none is said to have arrived later."""
    with bench.open() as camera:
        for frame in take(bench, camera, 6):
            now_ns = bench.clock.now_ns()
            expect(frame.stamp.t_ns <= now_ns, f"taken {frame.stamp.t_ns - now_ns} ns in the future")
            expect(frame.received_ns <= now_ns, f"received {frame.received_ns - now_ns} ns in the future")
            if frame.received_ns:
                expect(frame.stamp.t_ns <= frame.received_ns, "taken after it was received")


def check_exposure_and_sigma_are_told(bench: Bench[Camera]) -> None:
    """Exposure, uncertainty of the time and missing bytes are numbers that can be; gain is finite."""
    with bench.open() as camera:
        for frame in take(bench, camera, 3):
            expect(frame.stamp.exposure_ns >= 0, f"exposure {frame.stamp.exposure_ns} ns")
            expect(frame.stamp.sigma_ns >= 0, f"sigma {frame.stamp.sigma_ns} ns")
            expect(0 <= frame.missing_bytes <= frame.image.nbytes, f"{frame.missing_bytes} bytes missing")
            expect(np.isfinite(frame.gain_db), f"gain {frame.gain_db} dB")


def check_exposure_in_the_stamp_is_the_setting(bench: Bench[Camera]) -> None:
    """A camera with a setting for the exposure stamps its frames with it."""
    with bench.open() as camera:
        if "exposure" not in camera.capabilities():
            raise Skipped("its exposure is not known")
        wanted = float(camera.get("exposure"))
        told = take(bench, camera, 3)[-1].stamp.exposure_ns / 1e9
    expect(abs(told - wanted) <= 0.02 * wanted + 1e-6, f"set {wanted} s, told {told} s")


def check_the_rate_is_the_period(bench: Bench[Camera]) -> None:
    """Where the camera has a constant period, frames come at it, within 2 % or half a millisecond."""
    with bench.open() as camera:
        frames = take(bench, camera, 12)
        period_ns = camera.period_ns
    if period_ns is None:
        raise Skipped("it has no constant period")
    # the camera's own clock where it tells one: the mapped one is still finding its rate
    times = [frame.device_ns or frame.stamp.t_ns for frame in frames]
    steps = [(b - a) / (1 + f.lost_before) for (a, b), f in zip(itertools.pairwise(times), frames[1:], strict=True)]
    off = abs(float(np.median(steps)) - period_ns)
    expect(off <= max(0.02 * period_ns, 500_000), f"median step {np.median(steps):.0f} ns, period {period_ns} ns")


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


def check_reading_a_closed_camera_is_an_error(bench: Bench[Camera]) -> None:
    """`read` before `open` and after `close` raises StateError."""
    camera = bench.make()
    expect_error(StateError, lambda: camera.read(0.01), "reading before open")
    camera = bench.open()
    take(bench, camera, 1)
    camera.close()
    expect_error(StateError, lambda: camera.read(0.01), "reading after close")


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


def check_a_read_that_must_not_wait_does_not(bench: Bench[Camera]) -> None:
    """`read` with a timeout of 0 right after a frame gives the next or raises Timeout, at once."""
    with bench.open() as camera:
        take(bench, camera, 2)
        begun = process_ns()
        try:
            camera.read(0.0)
        except Timeout:
            pass
        took_s = (process_ns() - begun) / 1e9
    expect(took_s < 0.25, f"it took {took_s:.3f} s")


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


def check_a_slow_reader_is_told_what_it_lost(bench: Bench[Camera]) -> None:
    """After a long pause numbers and `lost_before` still account for every frame."""
    with bench.open() as camera:
        if camera.period_ns is None or bench.finite:
            raise Skipped("a file waits for its reader")
        first = take(bench, camera, 1)[0]
        bench.pass_time(min(60 * camera.period_ns / 1e9, 3.0))
        frames = [first, *take(bench, camera, 12)]
    for a, b in itertools.pairwise(frames):
        expect(b.seq == a.seq + 1 + b.lost_before, f"frame {b.seq} after {a.seq}, {b.lost_before} said to be lost")


def check_starts_and_stops(bench: Bench[Camera]) -> None:
    """`start` and `stop` may be called twice, and frames come again after a stop."""
    with bench.open() as camera:
        camera.start()
        camera.start()
        take(bench, camera, 2)
        camera.stop()
        camera.stop()
        camera.start()
        take(bench, camera, 2)


def check_settings_that_stop_the_stream_are_refused_while_it_runs(bench: Bench[Camera]) -> None:
    """A setting that is not live raises StateError while frames flow, and can be set after `stop`."""
    with bench.open() as camera:
        fixed = [c for c in camera.capabilities().values() if c.writable and not c.live]
        if not fixed:
            raise Skipped("all its settings are live")
        take(bench, camera, 1)
        item = fixed[0]
        value = camera.get(item.name)
        expect_error(StateError, lambda: camera.set(item.name, value), f"set {item.name} while frames flow")
        camera.stop()
        camera.set(item.name, value)


def check_live_settings_change_while_frames_flow(bench: Bench[Camera]) -> None:
    """Exposure, where it is live, can be halved between frames, is stamped, and numbers go on."""
    with bench.open() as camera:
        item = camera.capabilities().get("exposure")
        if item is None or not item.live or not item.writable or item.lo is None:
            raise Skipped("its exposure cannot be set while frames flow")
        first = take(bench, camera, 2)[-1]
        before = float(camera.get("exposure"))
        wanted = max(item.lo, before / 2)
        got = float(camera.set("exposure", wanted))
        later = take(bench, camera, 12)[-1]
        camera.set("exposure", before)
    expect(abs(got - wanted) <= (item.step or 0.02 * wanted), f"exposure {wanted} s became {got} s")
    expect(
        abs(later.stamp.exposure_ns / 1e9 - got) <= 0.02 * got + 1e-6, "frames are not stamped with the new exposure"
    )
    expect(later.seq > first.seq, "numbers began anew")


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


def check_a_stop_from_another_thread_ends_a_read(bench: Bench[Camera]) -> None:
    """A device that is closed while somebody waits in `read` ends that wait within its timeout, in the error tree."""
    if not isinstance(bench.clock, LiveClock):
        raise Skipped("time is simulated, and it does not wait")
    camera = bench.open()
    seen: list[BaseException] = []

    def read_on() -> None:
        try:
            while True:
                camera.read(0.5)
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=read_on)
    thread.start()
    bench.pass_time(0.3)
    camera.close()
    thread.join(3.0)
    expect(not thread.is_alive(), "read did not return within 3 s of close")
    expect(isinstance(seen[0], DeviceError | EndOfStream), f"it raised {seen[0]!r}")


def check_an_unplugged_camera_is_noticed(bench: Bench[Camera]) -> None:
    """Within a second of the cable being pulled `read` raises Disconnected, after the frames that had arrived."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    camera = bench.open()
    try:
        take(bench, camera, 3)
        bench.unplug()
        begun = bench.clock.now_ns()
        while True:
            try:
                camera.read(0.1)
            except Timeout:
                pass
            except Disconnected:
                break
            took_s = (bench.clock.now_ns() - begun) / 1e9
            expect(took_s < 3.0, "not noticed for 3 s")
        took_s = (bench.clock.now_ns() - begun) / 1e9
        expect(camera.health().state == "lost", f"health is {camera.health().state} without a camera")
        expect(took_s <= 1.0, f"noticed after {took_s:.2f} s")
    finally:
        camera.close()
        bench.replug()


def check_a_replugged_camera_works_again(bench: Bench[Camera]) -> None:
    """After the cable is back, closing and opening the same object gives frames again."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    camera = bench.open()
    try:
        take(bench, camera, 2)
        bench.unplug()
        try:
            for _ in range(200):
                try:
                    camera.read(0.1)
                except Timeout:
                    pass
        except Disconnected:
            pass
        camera.close()
        bench.replug()
        camera.open(bench.clock)
        take(bench, camera, 3)
    finally:
        camera.close()


def check_counters_balance(bench: Bench[Camera]) -> None:
    """Where it counts, frames received are those that were read, are unread, or were dropped with a count."""
    with bench.open() as camera:
        frames = take(bench, camera, 8)
        counters = camera.health().counters
        if "received" not in counters:
            raise Skipped("it does not count frames")
        expect(counters["received"] >= len(frames), f"received {counters['received']}, read {len(frames)}")


def check_an_ended_file_stays_ended(bench: Bench[Camera]) -> None:
    """A file raises EndOfStream after its last frame, again and again."""
    if not bench.finite:
        raise Skipped("a camera does not end")
    with bench.open() as camera:
        for _ in range(100_000):
            try:
                take(bench, camera, 1)
            except EndOfStream:
                break
        for _ in range(2):
            try:
                camera.read(0.01)
            except EndOfStream:
                continue
            raise Failed("it gave a frame after its end")
