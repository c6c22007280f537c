"""Every depth camera passes the suite that ships: the twin, and RealSense on its vendor's software device."""

from __future__ import annotations

import atexit
import itertools
import math
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.clock import Clock, LiveClock, VirtualClock, process_ns
from foveate.errors import EndOfStream, FoveateError, NotFound, NotSupported, OutOfRange, Timeout
from foveate.messages import DepthFrame, Frame
from foveate_drivers.conformance import depth as suite
from foveate_drivers.conformance import frames
from foveate_drivers.conformance.suite import Bench, Check, Failed, checks
from foveate_drivers.depth.base import DepthCamera
from foveate_drivers.depth.frame_numbers import FrameNumbers
from foveate_drivers.depth.log import LogDepthCamera
from foveate_drivers.depth.realsense import RealSense
from foveate_drivers.depth.sim import SimDepthCamera
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Truth
from foveate_nodes.devices.depth_camera import DepthCamera as DepthCameraNode

WIDTH, HEIGHT, RATE = 64, 48, 100
WRAP_MS = 2**32 / 1000  # of the hardware clock


class Flat:
    """A grey scene with nothing on it."""

    names = ("thing",)
    width_m = height_m = 100.0

    def truth(self, t_s: float) -> Truth:
        return Truth(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 2)), np.zeros((0, 2)))

    def render(self, image_from_plane: np.ndarray, width: int, height: int, color: bool, t_s: float) -> np.ndarray:
        return np.full((height, width, 3) if color else (height, width), 128, np.uint8)


def sim(**options: Any) -> SimDepthCamera:
    world = World(range=options.pop("range", 2.0))
    world._scene = Flat()  # type: ignore[assignment]
    camera = SimDepthCamera(
        **({"address": "x", "world": world, "width": WIDTH, "height": HEIGHT, "rate": 60.0} | options)
    )
    camera.uri = "sim:depth"
    return camera


class SoftwareCamera:
    """librealsense's software device: depth and colour that a test injects come out as the vendor's frames."""

    def __init__(self) -> None:
        self.rs = rs = pytest.importorskip("pyrealsense2", reason="the vendor's library is not installed")
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, "0815")
        self.device.register_info(rs.camera_info.name, "Software camera")
        self.depth, self._depth_profile = self._sensor("Stereo Module", rs.stream.depth, rs.format.z16, 2, 1)
        self.color, self._color_profile = self._sensor("RGB Camera", rs.stream.color, rs.format.bgr8, 3, 2)
        self.depth.add_read_only_option(rs.option.depth_units, 0.0005)
        for option, lo, hi, step, value in (("exposure", 100, 12000, 20, 8500), ("gain", 16, 248, 1, 16),
                                            ("laser_power", 0, 360, 30, 150)):  # fmt: skip
            bounds = rs.option_range()
            bounds.min, bounds.max, bounds.step, bounds.default = lo, hi, step, value
            self.depth.add_option(getattr(rs.option, option), bounds, True)
        self.plugged = True
        self.number = 0
        self.domain = rs.timestamp_domain.hardware_clock
        self.begun_ns = process_ns()
        self._stopping = threading.Event()

    def _sensor(self, name: str, stream: Any, encoding: Any, bytes_: int, uid: int) -> tuple[Any, Any]:
        rs = self.rs
        k = rs.intrinsics()
        k.width, k.height, k.ppx, k.ppy, k.fx, k.fy = WIDTH, HEIGHT, 31.0, 23.0, 60.0, 61.0
        k.model, k.coeffs = rs.distortion.brown_conrady, [0.1, -0.05, 0.001, 0.002, 0.0]
        video = rs.video_stream()
        video.type, video.index, video.uid, video.fmt, video.intrinsics = stream, 0, uid, encoding, k
        video.width, video.height, video.fps, video.bpp = WIDTH, HEIGHT, RATE, bytes_
        sensor = self.device.add_sensor(name)
        return sensor, sensor.add_video_stream(video, True).as_video_stream_profile()

    def attached(self, _: Any) -> list[Any]:
        return [self.device] if self.plugged else []

    def inject(self, pixels: np.ndarray, number: int, stamp_ms: float, metadata: dict[str, int] | None = None) -> None:
        """One frame, depth where `pixels` are 16 bits."""
        rs = self.rs
        depth = pixels.dtype == np.uint16
        sensor = self.depth if depth else self.color
        frame = rs.software_video_frame()
        frame.pixels, frame.bpp = pixels, 2 if depth else 3
        frame.stride = WIDTH * frame.bpp
        frame.timestamp, frame.domain = stamp_ms, self.domain
        frame.frame_number = (number + 2**31) % 2**32 - 2**31  # the call takes a signed number
        frame.profile = self._depth_profile if depth else self._color_profile
        for name, value in (metadata or {}).items():
            sensor.set_metadata(getattr(rs.frame_metadata_value, name), value)
        sensor.on_video_frame(frame)

    def run(self) -> None:
        """Frames at the rate, with the device's own clock, until `stop`."""
        clock, period_ns = LiveClock(), round(1e9 / RATE)
        clock.start()
        while clock.wait_until((self.number + 1) * period_ns, self._stopping):
            self.number += 1
            if not self.plugged:
                continue
            exposure_us = int(self.depth_sensor.get_option(self.rs.option.exposure))
            # the clock wraps within the first second
            middle_ms = (WRAP_MS - 300 + self.number * period_ns / 1e6) % WRAP_MS
            told = {"sensor_timestamp": round(middle_ms * 1000), "actual_exposure": exposure_us}
            depth = np.full((HEIGHT, WIDTH), 3000 + self.number % 100, np.uint16)
            color = np.full((HEIGHT, WIDTH, 3), self.number % 256, np.uint8)
            for pixels in (depth, color):
                try:
                    self.inject(pixels, self.number, middle_ms, told)
                except RuntimeError:  # nobody streams
                    pass

    @property
    def depth_sensor(self) -> Any:
        return self.device.query_sensors()[0]

    @contextmanager
    def running(self) -> Iterator[SoftwareCamera]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join()

    def driver(self, **options: Any) -> RealSense:
        camera = RealSense(width=WIDTH, height=HEIGHT, rate=RATE, **options)
        camera.uri = "realsense:0815"
        camera.attached = self.attached
        return camera


@contextmanager
def twin(clock: Clock, **options: Any) -> Iterator[Bench[DepthCamera]]:
    made: list[SimDepthCamera] = []

    def make() -> SimDepthCamera:
        made.append(sim(**options))
        return made[-1]

    def plug(state: bool) -> None:
        for camera in made:
            camera.plugged = state

    yield Bench(make, clock, lambda: plug(False), lambda: plug(True))


@contextmanager
def software(**options: Any) -> Iterator[Bench[DepthCamera]]:
    with SoftwareCamera().running() as camera:

        def plug(state: bool) -> None:
            camera.plugged = state

        yield Bench(lambda: camera.driver(**options), LiveClock(), lambda: plug(False), lambda: plug(True))


@cache
def tum_folder() -> Path:
    """A recording in the layout of the TUM RGB-D benchmark: depth at 25 Hz, an image 3 ms after each, one missing."""
    folder = Path(tempfile.mkdtemp(prefix="foveate-depth-"))
    for kind in ("depth", "rgb"):
        (folder / kind).mkdir()
        lines = ["# timestamp filename"]
        for i in range(30):
            t_s = 1_300_000_000 + 0.04 * i + (0.003 if kind == "rgb" else 0)
            if kind == "rgb" and i == 4:
                continue
            name = f"{kind}/{t_s:.6f}.png"
            pixels = np.full((24, 32), 5000 + i, np.uint16) if kind == "depth" else np.full((24, 32, 3), i, np.uint8)
            cv2.imwrite(str(folder / name), pixels)
            lines.append(f"{t_s:.6f} {name}")
        (folder / f"{kind}.txt").write_text("\n".join(lines) + "\n")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def recorded(**options: Any) -> LogDepthCamera:
    camera = LogDepthCamera(address=tum_folder(), **options)
    camera.uri = "log:tum"
    return camera


@contextmanager
def log() -> Iterator[Bench[DepthCamera]]:
    yield Bench(lambda: recorded(image="/rgb", field=1.0), VirtualClock(), finite=True)


BENCHES: dict[str, Callable[[], Any]] = {
    "sim": lambda: twin(VirtualClock()),
    "sim with images in real time": lambda: twin(LiveClock(), image="BGR8"),
    "log": log,
    "realsense": software,
    "realsense with colour": lambda: software(image="BGR8"),
}


SLOW = ("sim with images in real time", "realsense", "realsense with colour")  # 5 s each, in real time


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=pytest.mark.heavy if name in SLOW else ()) for name in BENCHES]
)
def test_conformance(driver: str, check: Check) -> None:
    with BENCHES[driver]() as bench:
        check(bench)


# --- the suite finds what is wrong ----------------------------------------------------------------------------------


class Repeats(SimDepthCamera):
    """Gives every frame twice."""

    _again: tuple[DepthFrame, Frame | None] | None = None

    def due_ns(self) -> int:
        return 0 if self._again is not None else super().due_ns()

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        again, self._again = self._again, None
        if again is None:
            again = self._again = super().read(timeout_s)
        return again


class Forgets(SimDepthCamera):
    """Says nothing of what it lost."""

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        depth, frame = super().read(timeout_s)
        return replace(depth, lost_before=0), frame


class Foresees(SimDepthCamera):
    """Stamps with a moment that has not come."""

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        depth, frame = super().read(timeout_s)
        return replace(depth, stamp=replace(depth.stamp, t_ns=depth.stamp.t_ns + 10**9)), frame


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Repeats, frames.check_frames_come_in_order_and_once),
        (Forgets, frames.check_a_slow_reader_is_told_what_it_lost),
        (Foresees, frames.check_times_are_not_in_the_future),
    ],
)
def test_the_suite_finds_broken_drivers(broken: type[SimDepthCamera], check: Check) -> None:
    def make() -> SimDepthCamera:
        camera = sim()
        camera.__class__ = broken
        return camera

    with pytest.raises((Failed, FoveateError)):
        check(Bench(make, VirtualClock()))


# --- the twin -------------------------------------------------------------------------------------------------------


def shot(camera: SimDepthCamera, clock: VirtualClock | None = None) -> DepthFrame:
    clock = clock or VirtualClock()
    camera.open(clock)
    clock.advance(camera.due_ns())
    return camera.read(0.0)[0]


def test_depth_has_the_noise_of_a_stereo_pair() -> None:
    for range_m in (1.0, 2.0, 4.0):
        camera = sim(range=range_m, width=320, height=240, scale=0.0001, field=0.9)
        depth = shot(camera).depth * 0.0001
        focal_px = camera.pinhole.focal_px
        expected = range_m**2 * 0.08 / (focal_px * 0.05)
        assert abs(depth.std() / expected - 1) < 0.05
        assert abs(depth.mean() - range_m) < range_m * 0.001 + 2 * expected**2 / range_m


def test_a_tilted_camera_sees_a_tilted_plane_and_nothing_at_grazing_angles() -> None:
    camera = sim(yaw=0.5, disparity_noise=0.0, grazing=0.8, width=65, height=49, scale=0.0001)
    depth = shot(camera).depth * 0.0001
    assert abs(depth[24, 32] - 2.0 / math.cos(0.5)) < 1e-3  # along its axis
    angles = np.arctan((np.arange(65) - 32) / camera.pinhole.focal_px)
    seen = 2.0 / np.cos(0.5 + angles) * np.cos(angles)
    assert np.allclose(depth[24][depth[24] > 0], seen[depth[24] > 0], atol=1e-3)
    assert ((depth[24] > 0) == (0.5 + angles < 0.8)).all()


@pytest.mark.parametrize("options", [{"range": 0.3, "nearest": 0.5}, {"range": 9.0, "farthest": 6.0}, {"range": 70.0}])
def test_what_is_too_near_or_too_far_is_not_measured(options: dict[str, float]) -> None:
    assert not shot(sim(**options, disparity_noise=0.0)).depth.any()


def test_the_same_seed_gives_the_same_depth_and_another_another() -> None:
    first, again, other = (shot(sim(seed=seed)).depth for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_twin_counts_across_the_wrap_of_its_frame_numbers() -> None:
    camera, clock = sim(), VirtualClock()
    first = shot(camera, clock)
    numbers = [first.seq]
    for _ in range(8):
        clock.advance(camera.due_ns())
        numbers.append(camera.read(0.0)[0].seq)
    assert numbers == list(range(2**32 - 5, 2**32 + 4))


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(0, 2**32 - 1))
def test_frame_numbers_unwrap(steps: list[int], first: int) -> None:
    numbers, true = FrameNumbers(), first
    assert numbers.unwrap(first) == first
    for step in steps:
        true += step
        assert numbers.unwrap(true % 2**32) == (true if step else None)


def test_a_counter_that_begins_anew_goes_on_by_one() -> None:
    numbers = FrameNumbers()
    assert [numbers.unwrap(n) for n in (100_000_000, 100_000_001, 1, 2, 4)] == [
        100_000_000, 100_000_001, 100_000_002, 100_000_003, 100_000_005,
    ]  # fmt: skip


# --- the RealSense driver on injected frames ------------------------------------------------------------------------


class Stand:
    """A driver that streams, and a device that gives what it is told."""

    def __init__(self, **options: Any) -> None:
        self.soft = SoftwareCamera()
        self.camera = self.soft.driver(**options)
        self.clock = LiveClock()
        self.clock.start()
        self.camera.open(self.clock)
        self.camera.start()

    def give(self, number: int, stamp_ms: float, value: int = 1000, **metadata: int) -> None:
        self.soft.inject(np.full((HEIGHT, WIDTH), value, np.uint16), number, stamp_ms, metadata)

    def color(self, number: int, stamp_ms: float) -> None:
        self.soft.inject(np.full((HEIGHT, WIDTH, 3), number, np.uint8), number, stamp_ms)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    made.camera.close()


def test_depth_scale_and_intrinsics_are_the_devices(stand: Stand) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
    pixels[3, 5] = 3000
    stand.soft.inject(pixels, 1, 1000.0)
    depth, image = stand.camera.read(1.0)
    assert image is None and np.array_equal(depth.depth, pixels)
    assert depth.depth[3, 5] * depth.scale_m == pytest.approx(1.5) and depth.depth[0, 0] == 0
    info = stand.camera.intrinsics()
    assert (info.width, info.height, info.model) == (WIDTH, HEIGHT, "plumb_bob")
    assert info.camera_matrix.tolist() == [[60, 0, 31], [0, 61, 23], [0, 0, 1]]
    assert np.allclose(info.distortion, [0.1, -0.05, 0.001, 0.002, 0.0])
    assert stand.camera.info().serial == "0815" and stand.camera.info().model == "Software camera"


def test_numbers_unwrap_gaps_are_losses_and_repeats_are_left_out(stand: Stand) -> None:
    seen = []
    for i, number in enumerate((2**32 - 2, 2**32 - 1, 2**32 - 1, 0, 4)):
        stand.give(number, 1000.0 + 16 * i)
        try:
            seen.append(stand.camera.read(0.0)[0])
        except Timeout:
            pass
    assert [(f.seq - 2**32, f.lost_before) for f in seen] == [(-2, 0), (-1, 0), (0, 0), (4, 3)]
    counters = stand.camera.health().counters
    assert (counters["received"], counters["repeated"], counters["missing"]) == (4, 1, 3)


def test_a_hardware_clock_that_wraps_goes_on_in_a_new_epoch(stand: Stand) -> None:
    frames = []
    for i in range(20):
        stand.clock.wait_until(stand.clock.now_ns() + 5_000_000, threading.Event())
        stand.give(i, (WRAP_MS - 50 + 5 * i) % WRAP_MS)
        frames.append(stand.camera.read(1.0)[0])
    times = [f.stamp.t_ns for f in frames]
    assert all(0 < b - a < 100_000_000 for a, b in itertools.pairwise(times))
    assert [f.epoch for f in frames] == [0] * 10 + [1] * 10
    assert frames[0].device_ns == round((WRAP_MS - 50) * 1e6) and frames[-1].device_ns == 45_000_000


def test_mid_exposure_is_the_sensors_or_half_an_exposure_before(stand: Stand) -> None:
    stand.give(1, 1000.0, actual_exposure=8000)
    assert stand.camera.read(1.0)[0].device_ns == 996_000_000
    stand.give(2, 1016.0, actual_exposure=8000, sensor_timestamp=1_009_000)
    frame = stand.camera.read(1.0)[0]
    assert frame.device_ns == 1_009_000_000 and frame.stamp.exposure_ns == 8_000_000


def test_wall_clock_domains_are_taken_as_they_are_and_a_change_is_an_epoch(stand: Stand) -> None:
    domains = stand.soft.rs.timestamp_domain
    stand.soft.domain = domains.global_time
    taken_ns = stand.clock.now_ns()
    stand.give(1, (stand.clock.wall_start_ns + taken_ns) / 1e6)
    frame = stand.camera.read(1.0)[0]
    assert abs(frame.stamp.t_ns - taken_ns) < 1_000_000 and frame.stamp.sigma_ns == 1_000_000 and frame.epoch == 0
    stand.give(2, (stand.clock.wall_start_ns + taken_ns) / 1e6 + 3_600_000)  # from the future: somebody set the clock
    late = stand.camera.read(1.0)[0]
    assert late.stamp.t_ns <= late.received_ns
    stand.soft.domain = domains.hardware_clock
    stand.give(3, 1000.0)
    assert stand.camera.read(1.0)[0].epoch == 1


def test_colour_comes_with_the_depth_of_its_moment() -> None:
    stand = Stand(image="BGR8")
    try:
        stand.give(1, 1000.0)
        stand.color(1, 1001.0)
        depth, image = stand.camera.read(1.0)
        assert image is not None and image.seq == 1 and image.encoding == "BGR8" and image.image[0, 0, 0] == 1
        stand.give(2, 1016.7)  # its image is lost
        depth, image = stand.camera.read(1.0)
        assert depth.seq == 2 and image is None
    finally:
        stand.camera.close()


def test_unread_frames_make_room_for_newer_ones_and_are_counted(stand: Stand) -> None:
    for i in range(10):
        stand.give(i, 1000.0 + 16 * i)
    frames = [stand.camera.read(0.0)[0] for _ in range(4)]
    assert [f.seq for f in frames] == [6, 7, 8, 9] and stand.camera.health().counters["dropped"] == 6
    stand.give(12, 1200.0)
    assert stand.camera.read(0.0)[0].lost_before == 2


def test_settings_are_si_units_with_the_cameras_bounds(stand: Stand) -> None:
    known = stand.camera.capabilities()
    assert (known["exposure"].lo, known["exposure"].hi) == pytest.approx((1e-4, 0.012))
    assert (known["laser_power"].hi, known["laser_power"].unit) == (pytest.approx(0.36), "W")
    assert stand.camera.set("exposure", 0.005007) == pytest.approx(0.005)  # in steps of 20 us
    with pytest.raises(OutOfRange):
        stand.camera.set("laser_power", 1.0)


def test_what_the_camera_cannot_do_is_said_with_what_it_can() -> None:
    soft = SoftwareCamera()
    camera = RealSense(width=640, height=480, rate=30)
    camera.uri, camera.attached = "realsense:", soft.attached
    with pytest.raises(NotSupported, match=r"stream depth 640x480 at 30 Hz: it offers 64x48 at 100 Hz"):
        camera.open(LiveClock())
    camera = soft.driver(address="4711")
    with pytest.raises(NotFound, match=r"no camera with serial 4711; connected: 0815"):
        camera.open(LiveClock())
    soft.plugged = False
    with pytest.raises(NotFound, match=r"name one by its serial; connected: none"):
        soft.driver().open(LiveClock())
    with pytest.raises(OutOfRange):
        soft.plugged = True
        soft.driver(gain=1000.0).open(LiveClock())


# --- a recording ----------------------------------------------------------------------------------------------------


def test_a_recording_gives_depth_with_the_image_of_its_moment() -> None:
    camera, clock = recorded(image="/rgb"), VirtualClock()
    clock.advance(7_000)
    camera.open(clock)
    pairs = []
    with pytest.raises(EndOfStream):
        while True:
            clock.advance(camera.due_ns())
            pairs.append(camera.read(0.0))
    camera.close()
    assert [depth.stamp.t_ns for depth, _ in pairs[:3]] == pytest.approx([7_000, 40_007_000, 80_007_000], abs=1000)
    assert [int(depth.depth[0, 0]) for depth, _ in pairs] == [5000 + i for i in range(30)]
    assert pairs[0][0].scale_m == pytest.approx(1 / 5000)
    assert [None if frame is None else int(frame.image[0, 0, 0]) for _, frame in pairs] == [
        None if i == 4 else i for i in range(30)
    ]


def test_what_a_recording_does_not_have_is_named() -> None:
    camera = recorded(image="none")
    camera.open(VirtualClock())
    assert camera.read(0.0)[1] is None  # no image is wanted
    with pytest.raises(NotSupported, match="option 'info', give option 'camera'"):
        camera.intrinsics()
    node = DepthCameraNode(device=recorded(image="none"))
    node.device.open(VirtualClock())
    out = node.step()
    assert out is not None and set(out) == {"depth"}
    node.device.close()
    camera.close()
    for options, words in (({"topic": "/rgb"}, r"topic '/rgb' has no depth \(tum/rgb\); topics with depth: /depth"),
                           ({"image": "/x"}, "topic '/x' is not in the log; topics with images: /rgb")):  # fmt: skip
        with pytest.raises(NotFound, match=words):
            recorded(**options).open(VirtualClock())


@pytest.mark.data
@pytest.mark.parametrize(("name", "image"), [("tum_fr1_rpy", "/rgb"), ("7scenes_redkitchen", "/color")])
def test_other_peoples_recordings(shared_data: Path, name: str, image: str) -> None:
    camera, clock = LogDepthCamera(address=shared_data / "rgbd" / name, image=image), VirtualClock()
    camera.open(clock)
    pairs = []
    for _ in range(12):
        clock.advance(camera.due_ns())
        pairs.append(camera.read(0.0))
    camera.close()
    metres = np.concatenate([d.depth[d.depth > 0] * d.scale_m for d, _ in pairs])
    assert 0.3 < np.median(metres) < 5.0
    assert sum(frame is not None for _, frame in pairs) >= 9


# --- the node -------------------------------------------------------------------------------------------------------


def test_the_node_gives_depth_image_and_intrinsics_of_one_moment() -> None:
    camera, clock = sim(image="Mono8"), VirtualClock()
    camera.open(clock)
    node = DepthCameraNode(device=camera)
    assert node.step() is None  # nothing yet
    for _ in range(3):
        clock.advance(node.due_ns() or 0)
        out = node.step()
        assert out is not None and set(out) == {"depth", "frame", "info"}
        assert out["depth"].stamp == out["info"].stamp and out["frame"].stamp.t_ns == out["depth"].stamp.t_ns
