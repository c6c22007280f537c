"""Every camera driver passes this suite: the twin, a video file, an image folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.clock import VirtualClock
from foveate.errors import EndOfStream, NotFound, ProtocolError, StateError, Timeout
from foveate.messages import Frame
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.files import ImageFolder, VideoFile
from foveate_drivers.cameras.frame_ids import FrameIds
from foveate_drivers.cameras.opencv import OpenCVCamera
from foveate_drivers.cameras.sim import SimCamera
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


makers = pytest.mark.parametrize("make", [sim, video, folder])


def take(camera: Camera, clock: VirtualClock, count: int) -> list[Frame]:
    frames = []
    for _ in range(count):
        due_ns = camera.due_ns()
        assert due_ns is not None
        clock.advance(due_ns)
        frames.append(camera.read(0.1))
    return frames


@makers
def test_frames_come_once_in_order_with_times_that_grow(make: Callable[[Path], Camera], tmp_path: Path) -> None:
    camera, clock = make(tmp_path), VirtualClock()
    camera.open(clock)
    frames = take(camera, clock, 8)
    assert all(b.seq - a.seq == 1 and b.lost_before == 0 for a, b in itertools.pairwise(frames))
    assert all(b.stamp.t_ns - a.stamp.t_ns == camera.period_ns for a, b in itertools.pairwise(frames))
    assert all(f.stamp.t_ns <= clock.now_ns() for f in frames)
    camera.close()


@makers
def test_frames_are_read_only_typed_and_stay_as_they_were(make: Callable[[Path], Camera], tmp_path: Path) -> None:
    camera, clock = make(tmp_path), VirtualClock()
    camera.open(clock)
    first = take(camera, clock, 1)[0]
    copy = first.image.copy()
    take(camera, clock, 5)
    assert np.array_equal(first.image, copy)
    assert not first.image.flags.writeable and first.image.dtype == np.uint8
    assert first.encoding == ("Mono8" if first.image.ndim == 2 else "BGR8")
    camera.close()


@makers
def test_a_camera_that_is_not_open_says_so_and_closes_twice(make: Callable[[Path], Camera], tmp_path: Path) -> None:
    camera = make(tmp_path)
    with pytest.raises(StateError):
        camera.read(0.1)
    camera.open(VirtualClock())
    camera.close()
    camera.close()


@pytest.mark.parametrize("make", [video, folder])
def test_a_file_ends(make: Callable[[Path], Camera], tmp_path: Path) -> None:
    camera, clock = make(tmp_path), VirtualClock()
    camera.open(clock)
    take(camera, clock, 12)
    with pytest.raises(EndOfStream):
        camera.read(0.1)


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
