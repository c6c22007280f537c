"""A recording of others as a camera passes what every camera passes."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.writer import Writer

from foveate.clock import VirtualClock
from foveate.errors import EndOfStream, NotFound, ProtocolError
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.log import LogCamera
from foveate_drivers.conformance import cameras as suite
from foveate_drivers.conformance.suite import Bench, Check, checks
from tests.conformance.test_cameras import take

START = 1_700_000_000_000_000_000
GAPS = [0, 40, 80, 130, 130, 120, 200, 240, 280, 320, 360, 400]  # ms; one stamp stands still, one goes back


def write(path: Path, topics: tuple[str, ...] = ("/image",), bad: frozenset[int] = frozenset()) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema("foxglove.CompressedImage", "jsonschema", b"{}")
        imu = writer.register_schema("foxglove.Log", "jsonschema", b"{}")
        writer.add_message(writer.register_channel("/text", "json", imu), START, b"{}", START)
        for topic in topics:
            channel = writer.register_channel(topic, "json", schema)
            for i, gap in enumerate(GAPS):
                t_ns = START + gap * 1_000_000
                png = cv2.imencode(".png", np.full((48, 64, 3), 20 * i, np.uint8))[1].tobytes()
                data = b64encode(png if i not in bad else b"bad").decode()
                stamp = {"sec": t_ns // 10**9, "nsec": t_ns % 10**9}
                text = json.dumps({"timestamp": stamp, "format": "png", "data": data})
                writer.add_message(channel, START + 500_000_000 + i, text.encode(), t_ns)
        writer.finish()
    return path


def recorded(tmp_path: Path) -> Camera:
    return LogCamera(address=write(tmp_path / "a.mcap"))


def folder_of_images(tmp_path: Path) -> Camera:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{START + i * 10**7}.png"), np.full((48, 64), 20 * i, np.uint8))
    return LogCamera(address=tmp_path)


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", [recorded, folder_of_images])
def test_conformance(make: Callable[[Path], Camera], check: Check, tmp_path: Path) -> None:
    check(Bench(lambda: make(tmp_path), VirtualClock(), finite=True))


def test_frames_come_at_their_recorded_times_and_never_go_back(tmp_path: Path) -> None:
    camera, clock = recorded(tmp_path), VirtualClock()
    clock.advance(7_000)
    camera.open(clock)
    frames = take(camera, clock, 12)
    times = [frame.stamp.t_ns - 7_000 for frame in frames]
    assert times[:4] == [0, 40_000_000, 80_000_000, 130_000_000] and times[6:8] == [200_000_000, 240_000_000]
    assert all(b > a for a, b in itertools.pairwise(times)) and times[4:6] == [130_000_001, 130_000_002]
    assert [frame.seq for frame in frames] == list(range(1, 13))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [20 * i for i in range(12)]
    camera.close()


def test_a_loop_goes_on_counting_and_in_time(tmp_path: Path) -> None:
    camera, clock = LogCamera(address=write(tmp_path / "a.mcap"), loop=True), VirtualClock()
    camera.open(clock)
    frames = take(camera, clock, 30)
    assert [frame.seq for frame in frames] == list(range(1, 31)) and not any(f.lost_before for f in frames)
    assert frames[12].stamp.t_ns == 440_000_000  # as long after the last as that was after the one before
    assert np.array_equal(frames[12].image, frames[0].image) and frames[13].stamp.t_ns == 480_000_000
    camera.close()


def test_frames_that_cannot_be_decoded_are_lost_and_told(tmp_path: Path) -> None:
    camera, clock = LogCamera(address=write(tmp_path / "a.mcap", bad=frozenset({3, 4}))), VirtualClock()
    camera.open(clock)
    frames = take(camera, clock, 10)
    assert [frame.seq for frame in frames] == [1, 2, 3, 6, 7, 8, 9, 10, 11, 12]
    assert [frame.lost_before for frame in frames] == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    with pytest.raises(EndOfStream):
        camera.read(0.1)
    camera.close()


def test_topics_are_chosen_and_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mcap", ("/left", "/right"))
    for topic, words in (
        (None, "must name one of its topics with images: /left, /right"),
        ("/middle", "'/middle' is not in the log; topics with images: /left, /right"),
        ("/text", "'/text' has no images .foxglove.Log has no counterpart in foveate."),
    ):
        camera = LogCamera(address=path, topic=topic)
        camera.uri = "log:a.mcap"
        with pytest.raises(NotFound, match=f"log:a.mcap: cannot open: .*{words}"):
            camera.open(VirtualClock())
    camera = LogCamera(address=path, topic="/right")
    camera.open(VirtualClock())
    assert camera.info().model == "a.mcap /right"
    camera.close()


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "b.mcap"
    bad.write_bytes(b"")
    camera = LogCamera(address=bad)
    camera.uri = "log:b.mcap"
    with pytest.raises(ProtocolError, match=r"log:b\.mcap: cannot open: the file is empty"):
        camera.open(VirtualClock())
    with pytest.raises(NotFound):
        LogCamera(address=tmp_path / "gone").open(VirtualClock())
    write(bad, bad=frozenset(range(12)))
    with pytest.raises(NotFound, match="topics with images: none"):
        LogCamera(address=bad).open(VirtualClock())


def test_what_a_recording_does_not_say_of_its_camera_the_rig_does(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mcap")
    camera = LogCamera(address=path, field=0.5, width=64, height=48, offset=0.12, rate=25.0)
    assert camera.pinhole is not None and camera.period_ns == 40_000_000
    assert camera.rig_from_camera is not None and camera.rig_from_camera[0, 3] == 0.12
    camera.open(VirtualClock())
    camera.close()
    camera = LogCamera(address=path, field=0.5)
    camera.open(VirtualClock())
    assert camera.pinhole is not None and (camera.pinhole.width, camera.pinhole.height) == (64, 48)
    camera.close()
    camera = LogCamera(address=path, field=0.5, width=640, height=480)
    camera.uri = "log:a.mcap"
    with pytest.raises(ProtocolError, match="images have 64 x 48 pixels, not 640 x 480 as options"):
        camera.open(VirtualClock())
