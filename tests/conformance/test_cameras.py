"""Every camera passes the suite that ships: here the twin in simulated and in real time, files, a recording."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.clock import LiveClock, VirtualClock
from foveate.errors import NotFound, ProtocolError, Timeout
from foveate.messages import Frame
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.files import ImageFolder, VideoFile
from foveate_drivers.cameras.frame_ids import FrameIds
from foveate_drivers.cameras.log import LogCamera
from foveate_drivers.cameras.opencv import OpenCVCamera
from foveate_drivers.cameras.sim import Cable, SimCamera
from foveate_drivers.conformance import cameras as suite
from foveate_drivers.conformance.suite import Bench, Check, checks
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Truth


class Flat:
    """A grey scene with nothing on it."""

    names = ("thing",)
    width_m = height_m = 100.0

    def truth(self, t_s: float) -> Truth:
        return Truth(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 2)), np.zeros((0, 2)))

    def render(self, image_from_plane: np.ndarray, width: int, height: int, color: bool, t_s: float) -> np.ndarray:
        return np.full((height, width, 3) if color else (height, width), 128, np.uint8)


def sim(tmp_path: Path) -> Camera:
    world = World()
    world._scene = Flat()  # type: ignore[assignment]
    return SimCamera(address="x", world=world, width=64, height=48, rate=100.0)


def video(tmp_path: Path) -> Camera:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for i in range(12):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return VideoFile(address=path)


def folder(tmp_path: Path) -> Camera:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), np.full((48, 64, 3), 20 * i, np.uint8))
    return ImageFolder(address=tmp_path, rate=50.0)


def log(tmp_path: Path) -> Camera:
    video(tmp_path)
    return LogCamera(address=tmp_path / "clip.avi")


def live_sim(tmp_path: Path) -> Camera:
    return sim(tmp_path)


DRIVERS = {"sim": sim, "sim in real time": live_sim, "file": video, "images": folder, "log": log}


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=pytest.mark.heavy if "real" in name else ()) for name in DRIVERS]
)
def test_conformance(driver: str, check: Check, tmp_path: Path) -> None:
    cable = Cable()

    def make() -> Camera:
        camera = DRIVERS[driver](tmp_path)
        camera.uri = f"test:{driver}"
        if isinstance(camera, SimCamera):
            camera.cable = cable
        return camera

    clock = LiveClock() if driver == "sim in real time" else VirtualClock()
    bench = Bench(make, clock, patience_s=1.0, finite=driver in ("file", "images", "log"))
    if driver.startswith("sim"):
        bench.unplug, bench.replug = cable.unplug, cable.replug
    check(bench)


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(checks(suite)) >= 25


def take(camera: Camera, clock: VirtualClock, count: int) -> list[Frame]:
    frames = []
    for _ in range(count):
        end_ns = clock.now_ns() + 500_000_000
        while True:
            due_ns = camera.due_ns()
            assert due_ns is not None and due_ns < end_ns
            clock.advance(due_ns)
            try:
                frames.append(camera.read(0.1))
                break
            except Timeout:  # it waits for a mirror
                continue
    return frames


def test_the_twin_times_out_before_its_frame_is_ready(tmp_path: Path) -> None:
    camera = sim(tmp_path)
    camera.open(VirtualClock())
    with pytest.raises(Timeout):
        camera.read(0.01)


def test_a_reader_that_is_late_loses_frames_and_is_told_how_many(tmp_path: Path) -> None:
    camera, clock = sim(tmp_path), VirtualClock()
    camera.open(clock)
    first = take(camera, clock, 1)[0]
    clock.advance(clock.now_ns() + 20 * 10_000_000)
    late = camera.read(0.1)
    assert late.lost_before > 0 and late.seq - first.seq == late.lost_before + 1


def test_ids_unwrap_across_65535_to_1() -> None:
    ids = FrameIds()
    assert [ids.unwrap(i) for i in (65534, 65535, 1, 2, 5)] == [
        (65534, 0),
        (65535, 0),
        (65536, 0),
        (65537, 0),
        (65540, 2),
    ]


def test_the_twin_starts_near_the_wrap_and_its_numbers_go_on(tmp_path: Path) -> None:
    world = World()
    world._scene = Flat()  # type: ignore[assignment]
    camera, clock = SimCamera(address="x", world=world, width=16, height=16, first_id=65530), VirtualClock()
    camera.open(clock)
    assert [f.seq for f in take(camera, clock, 10)] == list(range(65530, 65540))


def test_missing_devices_and_files_are_named(tmp_path: Path) -> None:
    gone = OpenCVCamera(address="93")
    gone.uri = "opencv:93"
    with pytest.raises(NotFound, match="opencv:93: cannot open: there is no /dev/video93"):
        gone.open(VirtualClock())
    empty = ImageFolder(address=tmp_path)
    with pytest.raises(NotFound, match="no images"):
        empty.open(VirtualClock())
    text = tmp_path / "text.avi"
    text.write_text("no video")
    with pytest.raises(ProtocolError, match="not a video"):
        VideoFile(address=text).open(VirtualClock())


def steered(sync: str) -> tuple[SimCamera, SimMirror, VirtualClock]:
    world, clock = World(), VirtualClock()
    world._scene = Flat()  # type: ignore[assignment]
    mirror = SimMirror(sync=sync)  # type: ignore[arg-type]
    camera = SimCamera(address="x", world=world, through=mirror, width=32, height=32, rate=100.0, readout=0.002)
    mirror.open(clock)
    camera.open(clock)
    return camera, mirror, clock


def test_strobed_moves_start_where_an_exposure_ends_whenever_they_are_commanded() -> None:
    for late_ns in (0, 1_000_000, 4_000_000, 9_000_000):
        camera, mirror, clock = steered("strobe")
        take(camera, clock, 3)
        clock.advance(clock.now_ns() + late_ns)
        mirror.goto(np.array([0.1, 0.1]))
        for frame in take(camera, clock, 4):
            half_ns = frame.stamp.exposure_ns // 2
            ends = [mirror.true_angle((frame.stamp.t_ns + side * half_ns) / 1e9) for side in (-1, 1)]
            assert np.ptp(ends, axis=0).max() < mirror.tolerance_rad, "an exposure saw the mirror move"
        assert abs(mirror.true_angle(clock.now_ns() / 1e9)[0] - 0.1) < 1e-4


def test_triggered_frames_are_taken_once_a_move_has_settled() -> None:
    camera, mirror, clock = steered("trigger")
    first = take(camera, clock, 1)[0]
    for angle in (0.2, -0.1, 0.05):
        commanded_ns = clock.now_ns()
        mirror.goto(np.array([angle, 0.0]))
        frame = take(camera, clock, 1)[0]
        assert frame.seq == first.seq + 1 and frame.lost_before == 0
        state = mirror.reading(frame.stamp.t_ns, frame.stamp.exposure_ns)
        assert not state.moved and abs(state.angle_rad[0] - angle) < 1e-3
        settle_ns = mirror.settle_s(np.array([0.3])).max() * 1e9
        assert frame.stamp.t_ns - frame.stamp.exposure_ns // 2 - commanded_ns <= settle_ns + 2_000_000
        first = frame


def test_a_triggered_camera_does_not_wait_for_ever_when_commands_cease() -> None:
    camera, mirror, clock = steered("trigger")
    take(camera, clock, 1)
    mirror.goto(np.array([0.2, 0.0]))
    take(camera, clock, 1)
    clock.advance(clock.now_ns() + 150_000_000)  # the mirror parks, and the controller tells the camera so
    frame = camera.read(0.0)
    assert not mirror.reading(frame.stamp.t_ns, frame.stamp.exposure_ns).moved
    assert abs(mirror.true_angle(frame.stamp.t_ns / 1e9)[0]) < 1e-3


def test_light_and_gain_act_on_the_twins_image() -> None:
    world = World()
    world._scene = Flat()  # type: ignore[assignment]
    camera, clock = SimCamera(address="x", world=world, width=64, height=64, vignetting=0.0), VirtualClock()
    camera.open(clock)
    full = take(camera, clock, 1)[0].image.mean()
    camera.set("exposure", 0.0005)
    half = take(camera, clock, 1)[0].image.mean()
    camera.set("gain", 6.0206)
    again = take(camera, clock, 1)[0].image.mean()
    assert abs(half - full / 2) < 1 and abs(again - full) < 2
