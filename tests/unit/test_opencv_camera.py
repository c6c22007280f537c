"""`opencv:` without a camera: V4L2's layouts against the kernel's header, the driver over a stand-in for both."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from foveate.clock import VirtualClock, process_ns
from foveate.errors import Disconnected, NotSupported, OutOfRange, StateError, Timeout
from foveate_drivers.cameras import v4l2
from foveate_drivers.cameras.opencv import OpenCVCamera

pytestmark = pytest.mark.live

_C = """
#include <stdio.h>
#include <linux/videodev2.h>
int main(void) {
    printf("%lu %lu ", (unsigned long)VIDIOC_QUERYCAP, (unsigned long)VIDIOC_QUERYCTRL);
    printf("%lu %lu ", (unsigned long)VIDIOC_G_CTRL, (unsigned long)VIDIOC_S_CTRL);
    printf("%d %d ", V4L2_CID_EXPOSURE_AUTO, V4L2_CID_EXPOSURE_ABSOLUTE);
    printf("%d %d %d %d ", V4L2_CID_GAIN, V4L2_CID_AUTOGAIN, V4L2_CID_ANALOGUE_GAIN, V4L2_EXPOSURE_MANUAL);
    printf("%zu %zu %zu", sizeof(struct v4l2_capability), sizeof(struct v4l2_queryctrl), sizeof(struct v4l2_control));
    return 0;
}
"""


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path("/usr/include/linux/videodev2.h").exists(),
    reason="needs a C compiler and the kernel's headers",
)
def test_numbers_and_layouts_are_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "told.c").write_text(_C)
    subprocess.run(["cc", "-o", str(tmp_path / "told"), str(tmp_path / "told.c")], check=True, timeout=60)
    told = subprocess.run([str(tmp_path / "told")], check=True, capture_output=True, text=True, timeout=10).stdout
    assert [int(number) for number in told.split()] == [
        v4l2.QUERY_CAPABILITY, v4l2.QUERY_CONTROL, v4l2.GET_CONTROL, v4l2.SET_CONTROL, v4l2.EXPOSURE_AUTO,
        v4l2.EXPOSURE_ABSOLUTE, v4l2.GAIN, v4l2.AUTOGAIN, v4l2.ANALOGUE_GAIN, v4l2.MANUAL, v4l2.CAPABILITY.size,
        v4l2.QUERY.size, v4l2.CONTROL.size,
    ]  # fmt: skip


class Kernel:
    """The controls of a camera that exposes by itself until it is told not to."""

    def __init__(self) -> None:
        self.values = {v4l2.EXPOSURE_AUTO: 3, v4l2.EXPOSURE_ABSOLUTE: 156, v4l2.GAIN: 10}
        self.ranges = {v4l2.EXPOSURE_AUTO: (0, 3, 1), v4l2.EXPOSURE_ABSOLUTE: (3, 2047, 1), v4l2.GAIN: (0, 255, 1)}
        self.sticks = True

    def ioctl(self, file: int, number: int, data: bytes) -> bytes:
        if number == v4l2.QUERY_CAPABILITY:
            return v4l2.CAPABILITY.pack(b"uvcvideo", b"Web", b"usb-1", 0x60100, 0x84A00001, 0x04200001)
        if number == v4l2.QUERY_CONTROL:
            control = v4l2.QUERY.unpack(data)[0]
            if control not in self.ranges:
                raise OSError(22, "Invalid argument")
            return v4l2.QUERY.pack(control, 1, b"a control", *self.ranges[control], 0, 0)
        control, value = v4l2.CONTROL.unpack(data)
        if number == v4l2.SET_CONTROL:
            automatic = control == v4l2.EXPOSURE_ABSOLUTE and self.values[v4l2.EXPOSURE_AUTO] != v4l2.MANUAL
            if self.sticks and not automatic:
                self.values[control] = value
        return v4l2.CONTROL.pack(control, self.values[control])


class Capture:
    """A stand-in for cv2.VideoCapture with V4L2 behind it: pictures wait in a queue with their times."""

    waiting: ClassVar[deque[tuple[int, int]]] = deque()  # (picture, milliseconds)
    backend = "V4L2"

    def __init__(self, index: Any) -> None:
        self.properties = {
            cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_POS_MSEC: 0.0,
        }  # fmt: skip
        self.open = True

    def isOpened(self) -> bool:  # noqa: N802
        return self.open

    def getBackendName(self) -> str:  # noqa: N802
        return self.backend

    def get(self, key: int) -> float:
        return self.properties[key]

    def set(self, key: int, value: float) -> bool:
        if key == cv2.CAP_PROP_FRAME_WIDTH and value > 1920:
            return True  # says yes, and does not
        self.properties[key] = value
        return True

    @staticmethod
    def waitAny(captures: list[Capture], timeout_ns: int) -> tuple[bool, list[int]]:  # noqa: N802
        assert timeout_ns > 0, "OpenCV waits for ever"
        return bool(Capture.waiting), [0]

    def grab(self) -> bool:
        return self.read()[0]

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not Capture.waiting:
            return False, None
        picture, at_ms = Capture.waiting.popleft()
        self.properties[cv2.CAP_PROP_POS_MSEC] = at_ms
        return True, np.full((48, 64, 3), picture, np.uint8)

    def release(self) -> None:
        self.open = False


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(v4l2.fcntl, "ioctl", made.ioctl)
    Capture.waiting.clear()
    return made


def opened(place: Path = Path("/dev/null"), **options: Any) -> OpenCVCamera:
    camera = OpenCVCamera(address=str(place), **options)
    camera.uri = f"opencv:{place}"
    clock = VirtualClock()
    clock.advance(10_000_000_000)
    camera.open(clock)
    return camera


def offer(count: int, age_ms: int = 0) -> None:
    now_ms = process_ns() // 1_000_000
    Capture.waiting.extend((i, now_ms - age_ms - 33 * (count - 1 - i)) for i in range(count))


def test_settings_are_the_drivers_with_its_bounds(kernel: Kernel) -> None:
    with opened() as camera:
        known = camera.capabilities()
        assert str(known["exposure"]) == "0.0003 to 0.2047 s in steps of 0.0001"
        assert (known["gain_raw"].lo, known["gain_raw"].hi) == (0, 255)
        assert camera.get("exposure") == pytest.approx(0.0156)
        assert (camera.get("width"), camera.get("height"), camera.get("rate")) == (64, 48, 30.0)


def test_exposure_is_truly_set(kernel: Kernel) -> None:
    """The camera exposed by itself: without taking that from it the driver ignores the value."""
    with opened(exposure=0.01) as camera:
        assert kernel.values[v4l2.EXPOSURE_AUTO] == v4l2.MANUAL and kernel.values[v4l2.EXPOSURE_ABSOLUTE] == 100
        offer(1)
        assert camera.read(0.1).stamp.exposure_ns == 10_000_000
        with pytest.raises(OutOfRange, match=r"within 0\.0003 to 0\.2047 s"):
            camera.set("exposure", 0.5)


def test_settings_that_do_not_stick_are_refused(kernel: Kernel) -> None:
    kernel.sticks = False
    with pytest.raises(NotSupported, match=r"set exposure to 0\.01: the device made it 0\.0156"):
        opened(exposure=0.01)
    with pytest.raises(NotSupported, match="set width to 4096: the device made it 64"):
        opened(width=4096)


def test_a_camera_whose_driver_tells_no_exposure_offers_none(kernel: Kernel) -> None:
    del kernel.ranges[v4l2.EXPOSURE_ABSOLUTE]
    with pytest.raises(NotSupported, match="no such setting"):
        opened(exposure=0.01)


def test_frames_have_the_drivers_times(kernel: Kernel) -> None:
    with opened() as camera:
        offer(3, age_ms=50)
        frames = [camera.read(0.1) for _ in range(3)]
    ages_ms = [(frame.received_ns - frame.stamp.t_ns) / 1e6 for frame in frames]
    assert all(age > least for age, least in zip(ages_ms, (115, 82, 49), strict=True))
    assert all(b.stamp.t_ns > a.stamp.t_ns and b.seq == a.seq + 1 for a, b in itertools.pairwise(frames))


def test_latest_passes_over_what_waits_in_the_driver(kernel: Kernel) -> None:
    with opened() as camera:
        offer(5)
        frame = camera.latest(1.0)
    assert frame.image[0, 0, 0] == 4 and frame.lost_before == 4


def test_without_frames_it_times_out_and_without_its_node_it_is_lost(kernel: Kernel, tmp_path: Path) -> None:
    place = Path("/dev/shm/foveate-test-video")  # only paths under /dev are cameras
    place.touch()
    try:
        camera = opened(place)
        with pytest.raises(Timeout, match=r"no frame within 0\.1 s"):
            camera.read(0.1)
    finally:
        place.unlink()
    with pytest.raises(Disconnected, match="is gone"):
        camera.read(0.1)
    assert camera.health().state == "lost"
    camera.close()
    with pytest.raises(StateError):
        camera.read(0.1)


def test_stopping_drops_what_waits(kernel: Kernel) -> None:
    with opened() as camera:
        offer(3)
        camera.read(0.1)
        with pytest.raises(StateError):
            camera.set("width", 32)
        camera.stop()
        assert not Capture.waiting
        camera.set("width", 32)


def test_video_devices_are_listed_by_their_names(kernel: Kernel, tmp_path: Path) -> None:
    for name, model in (("video10", "Late"), ("video2", "Web camera")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{model}\n")
    assert v4l2.devices(tmp_path) == [(Path("/dev/video2"), "Web camera"), (Path("/dev/video10"), "Late")]
    controls = v4l2.Controls(Path("/dev/null"))
    assert controls.is_camera()
    controls.close()
    assert all(item.uri.startswith("opencv:/dev/video") for item in OpenCVCamera.probe())
