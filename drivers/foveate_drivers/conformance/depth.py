"""What every depth camera must do."""

from __future__ import annotations

import itertools
import threading

import numpy as np

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Disconnected, EndOfStream, StateError, Timeout
from foveate.messages import DepthFrame, Frame
from foveate_drivers.conformance.suite import Bench, Failed, Skipped, expect, expect_error
from foveate_drivers.depth.base import DepthCamera

Pair = tuple[DepthFrame, Frame | None]


def take(bench: Bench[DepthCamera], camera: DepthCamera, count: int) -> list[Pair]:
    """The next pairs, each waited for as long as the bench allows."""
    pairs = []
    for _ in range(count):
        bench.wait(camera)
        pairs.append(camera.read(bench.patience_s))
    return pairs


def depths(bench: Bench[DepthCamera], camera: DepthCamera, count: int) -> list[DepthFrame]:
    return [depth for depth, _ in take(bench, camera, count)]


def check_frames_come_in_order_and_once(bench: Bench[DepthCamera]) -> None:
    """Frame numbers grow, each by one plus the frames said to be lost before it."""
    with bench.open() as camera:
        frames = depths(bench, camera, 10)
    for a, b in itertools.pairwise(frames):
        expect(b.seq == a.seq + 1 + b.lost_before, f"frame {b.seq} after {a.seq}, {b.lost_before} said to be lost")


def check_nothing_is_lost_by_a_quick_reader(bench: Bench[DepthCamera]) -> None:
    """Who reads at once loses no frame."""
    with bench.open() as camera:
        lost = sum(frame.lost_before for frame in depths(bench, camera, 10)[1:])
    expect(lost == 0, f"{lost} of 10 frames were lost")


def check_times_grow(bench: Bench[DepthCamera]) -> None:
    """Mid-exposure times only grow."""
    with bench.open() as camera:
        times = [frame.stamp.t_ns for frame in depths(bench, camera, 10)]
    expect(all(b > a for a, b in itertools.pairwise(times)), f"times {times}")


def check_times_are_not_in_the_future(bench: Bench[DepthCamera]) -> None:
    """No frame was taken after it was read, or after it is said to have arrived."""
    with bench.open() as camera:
        for _ in range(6):
            frame = depths(bench, camera, 1)[0]
            now_ns = bench.clock.now_ns()
            expect(frame.stamp.t_ns <= now_ns, f"taken {frame.stamp.t_ns - now_ns} ns in the future")
            expect(frame.received_ns <= now_ns, f"received {frame.received_ns - now_ns} ns in the future")
            if frame.received_ns:
                expect(frame.stamp.t_ns <= frame.received_ns, "taken after it was received")


def check_stamps_are_numbers_that_can_be(bench: Bench[DepthCamera]) -> None:
    """Exposure, uncertainty, the device's time and its epoch are not negative."""
    with bench.open() as camera:
        for frame in depths(bench, camera, 3):
            stamp = frame.stamp
            expect(stamp.exposure_ns >= 0 and stamp.sigma_ns >= 0, f"exposure and sigma of {stamp}")
            expect(frame.device_ns >= 0 and frame.epoch >= 0, f"device time {frame.device_ns}, epoch {frame.epoch}")


def check_exposure_in_the_stamp_is_the_setting(bench: Bench[DepthCamera]) -> None:
    """A camera with a setting for the exposure stamps its frames with it."""
    with bench.open() as camera:
        if "exposure" not in camera.capabilities():
            raise Skipped("its exposure is not known")
        wanted = float(camera.get("exposure"))
        told = depths(bench, camera, 3)[-1].stamp.exposure_ns / 1e9
    expect(abs(told - wanted) <= 0.02 * wanted + 1e-6, f"set {wanted} s, told {told} s")


def check_the_rate_is_the_period(bench: Bench[DepthCamera]) -> None:
    """Where the camera has a constant period, frames come at it, within 2 % or 2 ms."""
    with bench.open() as camera:
        frames = depths(bench, camera, 12)
        period_ns = camera.period_ns
    if period_ns is None:
        raise Skipped("it has no constant period")
    steps = [(b.stamp.t_ns - a.stamp.t_ns) / (1 + b.lost_before) for a, b in itertools.pairwise(frames)]
    off = abs(float(np.median(steps)) - period_ns)
    expect(off <= max(0.02 * period_ns, 2_000_000), f"median step {np.median(steps):.0f} ns, period {period_ns} ns")


def check_depth_is_what_the_interface_says(bench: Bench[DepthCamera]) -> None:
    """Depth is height x width of uint16, with a positive scale in metres that does not change."""
    with bench.open() as camera:
        frames = depths(bench, camera, 4)
    for frame in frames:
        expect(frame.depth.ndim == 2 and frame.depth.dtype == np.uint16, f"{frame.depth.shape} {frame.depth.dtype}")
        expect(np.isfinite(frame.scale_m) and frame.scale_m > 0, f"scale {frame.scale_m} m")
    expect(len({(f.depth.shape, f.scale_m) for f in frames}) == 1, "size or scale change from frame to frame")


def check_something_is_measured(bench: Bench[DepthCamera]) -> None:
    """Of five frames one has a pixel with depth: 0, "not measured", is not all there is."""
    with bench.open() as camera:
        expect(any(frame.depth.any() for frame in depths(bench, camera, 5)), "no pixel has a depth")


def check_intrinsics_are_of_the_depth_image(bench: Bench[DepthCamera]) -> None:
    """Width and height are the image's, focal lengths positive, the centre within it, the distortion finite."""
    with bench.open() as camera:
        frame = depths(bench, camera, 1)[0]
        info = camera.intrinsics()
    expect((info.height, info.width) == frame.depth.shape, f"{info.width} x {info.height} for {frame.depth.shape}")
    matrix = np.asarray(info.camera_matrix)
    expect(matrix.shape == (3, 3) and np.isfinite(matrix).all(), f"camera matrix {matrix}")
    expect(matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2].tolist() == [0, 0, 1], f"camera matrix {matrix}")
    expect(0 <= matrix[0, 2] <= info.width and 0 <= matrix[1, 2] <= info.height, "the centre lies outside")
    expect(info.model and np.isfinite(info.distortion).all(), f"{info.model!r} with {info.distortion}")


def check_images_belong_to_their_depth(bench: Bench[DepthCamera]) -> None:
    """An image that comes with a depth frame is of the same moment, within half a period, and never comes twice."""
    with bench.open() as camera:
        pairs = take(bench, camera, 8)
        half_ns = (camera.period_ns or 2_000_000_000) // 2
    images = [(depth, frame) for depth, frame in pairs if frame is not None]
    if not images:
        raise Skipped("it gives depth alone")
    for depth, frame in images:
        apart = abs(depth.stamp.t_ns - frame.stamp.t_ns)
        expect(apart <= half_ns, f"image and depth are {apart} ns apart")
        expect(frame.encoding in ("Mono8", "BGR8"), f"encoding {frame.encoding}")
        expect(frame.image.ndim == (3 if frame.encoding == "BGR8" else 2), f"{frame.encoding} {frame.image.shape}")
    expect(len({frame.seq for _, frame in images}) == len(images), "an image came twice")


def check_arrays_are_read_only(bench: Bench[DepthCamera]) -> None:
    """Nobody can write into depth or image that others hold too."""
    with bench.open() as camera:
        for depth, frame in take(bench, camera, 2):
            expect(not depth.depth.flags.writeable, "the depth can be written to")
            expect(frame is None or not frame.image.flags.writeable, "the image can be written to")


def check_frames_stay_as_they_were(bench: Bench[DepthCamera]) -> None:
    """A frame that is held keeps its pixels while twenty more are read, and after the camera is closed."""
    with bench.open() as camera:
        depth, frame = take(bench, camera, 1)[0]
        copy = depth.depth.copy()
        seen = None if frame is None else (frame, frame.image.copy())
        try:
            take(bench, camera, 20)
        except EndOfStream:
            pass
        expect(np.array_equal(depth.depth, copy), "its depth changed while it was held")
    expect(np.array_equal(depth.depth, copy), "its depth changed when the camera was closed")
    expect(seen is None or np.array_equal(seen[0].image, seen[1]), "its image changed")


def check_reading_a_closed_camera_is_an_error(bench: Bench[DepthCamera]) -> None:
    """`read` and `intrinsics` raise StateError before `open` and after `close`."""
    camera = bench.make()
    expect_error(StateError, lambda: camera.read(0.01), "reading before open")
    expect_error(StateError, camera.intrinsics, "intrinsics before open")
    camera = bench.open()
    take(bench, camera, 1)
    camera.close()
    expect_error(StateError, lambda: camera.read(0.01), "reading after close")
    expect_error(StateError, camera.intrinsics, "intrinsics after close")


def check_a_read_that_must_not_wait_does_not(bench: Bench[DepthCamera]) -> None:
    """`read` with a timeout of 0 right after a frame gives the next or raises Timeout, at once."""
    with bench.open() as camera:
        take(bench, camera, 2)
        begun = process_ns()
        try:
            camera.read(0.0)
        except (Timeout, EndOfStream):
            pass
        took_s = (process_ns() - begun) / 1e9
    expect(took_s < 0.25, f"it took {took_s:.3f} s")


def check_an_early_read_times_out(bench: Bench[DepthCamera]) -> None:
    """A read before anything is ready raises Timeout."""
    with bench.open() as camera:
        if bench.finite:
            raise Skipped("a file waits for its reader")
        take(bench, camera, 1)
        for _ in range(200):  # what is there already may be had
            try:
                camera.read(0.0)
            except Timeout:
                return
    raise Failed("it gave 200 frames at once")


def check_a_slow_reader_is_told_what_it_lost(bench: Bench[DepthCamera]) -> None:
    """After a long pause numbers and `lost_before` still account for every frame."""
    with bench.open() as camera:
        if camera.period_ns is None or bench.finite:
            raise Skipped("a file waits for its reader")
        first = depths(bench, camera, 1)[0]
        bench.pass_time(min(40 * camera.period_ns / 1e9, 2.0))
        frames = [first, *depths(bench, camera, 8)]
    for a, b in itertools.pairwise(frames):
        expect(b.seq == a.seq + 1 + b.lost_before, f"frame {b.seq} after {a.seq}, {b.lost_before} said to be lost")


def check_starts_and_stops(bench: Bench[DepthCamera]) -> None:
    """`start` and `stop` may be called twice, and frames come again after a stop."""
    with bench.open() as camera:
        camera.start()
        camera.start()
        take(bench, camera, 2)
        camera.stop()
        camera.stop()
        camera.start()
        take(bench, camera, 2)


def check_settings_that_stop_the_stream_are_refused_while_it_runs(bench: Bench[DepthCamera]) -> None:
    """A setting that is not live raises StateError while frames flow, and can be set after `stop`."""
    with bench.open() as camera:
        fixed = [c for c in camera.capabilities().values() if c.writable and not c.live]
        if not fixed:
            raise Skipped("all its settings are live")
        take(bench, camera, 1)
        value = camera.get(fixed[0].name)
        expect_error(StateError, lambda: camera.set(fixed[0].name, value), f"set {fixed[0].name} while frames flow")
        camera.stop()
        camera.set(fixed[0].name, value)


def check_live_settings_change_while_frames_flow(bench: Bench[DepthCamera]) -> None:
    """Exposure, where it is live, can be halved between frames, is stamped, and numbers go on."""
    with bench.open() as camera:
        item = camera.capabilities().get("exposure")
        if item is None or not item.live or not item.writable or item.lo is None:
            raise Skipped("its exposure cannot be set while frames flow")
        first = depths(bench, camera, 2)[-1]
        before = float(camera.get("exposure"))
        got = float(camera.set("exposure", max(item.lo, before / 2)))
        later = depths(bench, camera, 12)[-1]
        camera.set("exposure", before)
    expect(abs(got - before / 2) <= (item.step or 0.01 * before), f"half of {before} s became {got} s")
    expect(abs(later.stamp.exposure_ns / 1e9 - got) <= 0.02 * got + 1e-6, "the new exposure is not in the stamps")
    expect(later.seq > first.seq, "numbers began anew")


def check_a_close_by_another_thread_ends_a_read(bench: Bench[DepthCamera]) -> None:
    """A device that is closed while somebody waits in `read` ends that wait, in the error tree."""
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
    bench.pass_time(0.2)
    camera.close()
    thread.join(3.0)
    expect(not thread.is_alive(), "read did not return within 3 s of close")
    expect(isinstance(seen[0], DeviceError | EndOfStream), f"it raised {seen[0]!r}")


def check_an_unplugged_camera_is_noticed(bench: Bench[DepthCamera]) -> None:
    """Soon after the cable is pulled `read` raises Disconnected, within a second for 10 frames/s or more."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    camera = bench.open()
    try:
        take(bench, camera, 3)
        bench.unplug()
        begun = process_ns()
        while True:
            try:
                camera.read(0.1)
            except Timeout:
                pass
            except Disconnected:
                break
            expect(process_ns() - begun < 3e9, "not noticed for 3 s")
        took_s = (process_ns() - begun) / 1e9
        expect(camera.health().state == "lost", f"health is {camera.health().state} without a camera")
        expect(took_s <= 1.2, f"noticed after {took_s:.2f} s")
    finally:
        camera.close()
        bench.replug()


def check_a_replugged_camera_works_again(bench: Bench[DepthCamera]) -> None:
    """After the cable is back, closing and opening the same object gives frames again."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    camera = bench.open()
    try:
        take(bench, camera, 2)
        bench.unplug()
        camera.close()
        bench.replug()
        camera.open(bench.clock)
        take(bench, camera, 3)
    finally:
        camera.close()


def check_counters_balance(bench: Bench[DepthCamera]) -> None:
    """Where it counts, frames received are those that were read, are unread, or were dropped with a count."""
    with bench.open() as camera:
        frames = take(bench, camera, 8)
        counters = camera.health().counters
        if "received" not in counters:
            raise Skipped("it does not count frames")
        expect(counters["received"] >= len(frames), f"received {counters['received']}, read {len(frames)}")


def check_an_ended_file_stays_ended(bench: Bench[DepthCamera]) -> None:
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
            expect_error(EndOfStream, lambda: camera.read(0.01), "a read after the end")
