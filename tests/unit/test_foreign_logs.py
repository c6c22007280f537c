"""Recordings of others: every sample opens or says why not; what is written comes back; damage is named."""

from __future__ import annotations

import base64
import json
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from foveate import codec
from foveate.clock import VirtualClock
from foveate.errors import BackendMissing, FoveateError, NotFound, RecordingError
from foveate.messages import CameraInfo, DepthFrame, Events, Frame, Imu, Message, Pose, Stamp
from foveate_drivers.events.log import LogEventCamera
from foveate_logbook.formats import (
    export_csv,
    export_images,
    export_ros2,
    export_tum,
    export_video,
    pixels,
)
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.channels import Arrival, Timeline, Undecodable
from foveate_logbook.formats.event_packets import Evt3Decoder
from foveate_logbook.formats.opening import open_log
from foveate_logbook.formats.ros_types import type_name

START = 1_700_000_000_000_000_000
PERIOD = 33_333_333


def everything(log: Log) -> dict[str, list[Message]]:
    """All messages by topic; their receipt never goes back."""
    found: dict[str, list[Message]] = {topic.name: [] for topic in log.topics}
    last = None
    for name, t_ns, message in log.messages():
        assert last is None or t_ns >= last
        last = t_ns
        found[name].append(message)
    return found


def at(topic: str = "/x") -> Arrival:
    return Arrival(topic, START, 1, 0, Timeline(START), {})


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)


def depth_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 9000, (48, 64), np.uint16)


# --- bags written by the packages of others ---


def ros_image(types: Any, t_ns: int, image: np.ndarray, encoding: str, **more: Any) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](t_ns // 10**9, t_ns % 10**9)
    header = types["std_msgs/msg/Header"]
    head = header(0, stamp, "cam") if "seq" in header.__annotations__ else header(stamp, "cam")
    step = image[0].nbytes
    flat = np.ascontiguousarray(image).view(np.uint8).reshape(-1)
    values = {"height": image.shape[0], "width": image.shape[1], "is_bigendian": 0, "step": step, **more}
    return types["sensor_msgs/msg/Image"](header=head, encoding=encoding, data=flat, **values)


def write_rosbags(to: Path, how: str, count: int = 6, images: Callable[[int], Any] = picture) -> Path:
    """/cam/image in bgr8 and /cam/depth in 16UC1; their headers are 5 ms older than their receipt."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_typestore

    one = how.startswith("ros1")
    store = get_typestore(Stores.ROS1_NOETIC if one else Stores.ROS2_HUMBLE)
    if one:
        writer: Any = Writer1(to)
        if how == "ros1 lz4":
            writer.set_compression(Writer1.CompressionFormat.LZ4)
    else:
        writer = Writer2(to, version=9, storage_plugin=StoragePlugin.SQLITE3 if "db3" in how else StoragePlugin.MCAP)
        if "zstd" in how:
            mode = CompressionMode.FILE if "file" in how else CompressionMode.MESSAGE
            writer.set_compression(mode, CompressionFormat.ZSTD)
    serialize = store.serialize_ros1 if one else store.serialize_cdr
    kind = "sensor_msgs/msg/Image"
    with writer:
        color, depth = (writer.add_connection(f"/cam/{name}", kind, typestore=store) for name in ("image", "depth"))
        for i in range(count):
            t_ns = START + i * PERIOD
            writer.write(color, t_ns + 5_000_000, serialize(ros_image(store.types, t_ns, images(i), "bgr8"), kind))
            writer.write(depth, t_ns + 5_000_000, serialize(ros_image(store.types, t_ns, depth_of(i), "16UC1"), kind))
    return to


def assert_as_written(log: Log, count: int = 6, images: Callable[[int], Any] = picture) -> None:
    found = everything(log)
    assert [(t.name, t.messages, t.kind) for t in log.topics] == [
        ("/cam/depth", count, DepthFrame), ("/cam/image", count, Frame),
    ]  # fmt: skip
    assert log.start_ns == START + 5_000_000 and log.end_ns == START + (count - 1) * PERIOD + 5_000_000
    for i, (frame, depth) in enumerate(zip(found["/cam/image"], found["/cam/depth"], strict=True)):
        assert isinstance(frame, Frame) and isinstance(depth, DepthFrame)
        assert np.array_equal(frame.image, images(i)) and frame.encoding == "BGR8"
        assert np.array_equal(depth.depth, depth_of(i)) and depth.scale_m == 0.001
        assert not frame.image.flags.writeable and not depth.depth.flags.writeable
        assert log.start_ns + frame.stamp.t_ns == log.start_ns + depth.stamp.t_ns == START + i * PERIOD
        assert frame.seq == depth.seq == i + 1
    assert not log.problems


@pytest.mark.parametrize(
    "how", ["ros1", "ros1 lz4", "ros2 db3", "ros2 mcap", "ros2 db3 zstd file", "ros2 mcap zstd file",
            "ros2 db3 zstd message"],
)  # fmt: skip
def test_what_rosbags_wrote_comes_back(how: str, tmp_path: Path) -> None:
    place = write_rosbags(tmp_path / ("a.bag" if how.startswith("ros1") else "a"), how)
    for path in [place] if place.is_file() else [place, place / "metadata.yaml"]:
        with open_log(path) as log:
            assert_as_written(log)


@pytest.mark.data
def test_real_frames_come_back_from_each_kind_of_bag(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "rgbd/7scenes_redkitchen"

    def kitchen(number: int) -> np.ndarray:
        return cv2.imread(str(folder / f"frame-{number:06d}.color.jpg"))

    for how in ("ros1", "ros2 db3", "ros2 mcap"):
        with open_log(write_rosbags(tmp_path / how.replace(" ", "_"), how, 3, kitchen)) as log:
            assert_as_written(log, 3, kitchen)


def test_what_mcap_ros2_support_wrote_comes_back(tmp_path: Path) -> None:
    from mcap_ros2.writer import Writer
    from rosbags.typesys import Stores, get_typestore

    definition, _ = get_typestore(Stores.ROS2_HUMBLE).generate_msgdef("sensor_msgs/msg/Image", ros_version=2)
    place = tmp_path / "b.mcap"
    with place.open("wb") as stream:
        writer = Writer(stream)
        schema = writer.register_msgdef("sensor_msgs/msg/Image", definition)
        for i in range(4):
            image = picture(i, 16, 12)
            t_ns = START + i * PERIOD
            message = {
                "header": {"stamp": {"sec": t_ns // 10**9, "nanosec": t_ns % 10**9}, "frame_id": "cam"},
                "height": 12, "width": 16, "encoding": "rgb8", "is_bigendian": 0, "step": 48,
                "data": image[..., ::-1].reshape(-1).tolist(),
            }  # fmt: skip
            writer.write_message("/image", schema, message, log_time=t_ns + 7, publish_time=t_ns)
        writer.finish()
    with open_log(place) as log:
        frames = everything(log)["/image"]
        assert len(frames) == 4 and not log.problems
        for i, frame in enumerate(frames):
            assert isinstance(frame, Frame) and np.array_equal(frame.image, picture(i, 16, 12))
            assert log.start_ns + frame.stamp.t_ns == START + i * PERIOD


def test_a_split_bag_is_one_log_with_or_without_its_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for part, name in enumerate(("drive_0.mcap", "drive_1.mcap", "drive_10.mcap")):
        with (folder / name).open("wb") as stream:
            writer = McapWriter(stream)
            writer.start()
            schema = writer.register_schema("foxglove.PoseInFrame", "jsonschema", b"{}")
            channel = writer.register_channel("/pose", "json", schema)
            for i in range(3):
                t_ns = START + (part * 3 + i) * PERIOD
                stamp = {"sec": t_ns // 10**9, "nsec": t_ns % 10**9}
                pose = {"position": {"x": part * 3 + i}, "orientation": {"w": 1}}
                data = json.dumps({"timestamp": stamp, "frame_id": "map", "pose": pose}).encode()
                writer.add_message(channel, t_ns, data, t_ns)
            writer.finish()
    for metadata in (None, "rosbag2_bagfile_information: [", "rosbag2_bagfile_information:\n  relative_file_paths:\n"
                     "  - drive/drive_0.mcap\n  - drive_1.mcap\n  - drive_10.mcap\n"):  # fmt: skip
        if metadata is not None:
            (folder / "metadata.yaml").write_text(metadata)
        with open_log(folder) as log:
            poses = everything(log)["/pose"]
            assert [p.position_m[0] for p in poses if isinstance(p, Pose)] == list(range(9))
            assert ("" in log.problems) == (metadata is not None and metadata.endswith("["))
    (folder / "other.mcap").write_bytes((folder / "drive_0.mcap").read_bytes())
    (folder / "metadata.yaml").unlink()
    with pytest.raises(RecordingError, match="several recordings"):
        open_log(folder)


def test_a_write_ahead_log_is_part_of_the_bag(tmp_path: Path) -> None:
    place = write_rosbags(tmp_path / "a", "ros2 db3") / "a.db3"
    base = sqlite3.connect(place)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("PRAGMA wal_autocheckpoint = 0")
    base.execute("INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data FROM messages")
    base.commit()
    try:
        assert (tmp_path / "a/a.db3-wal").stat().st_size > 0
        with open_log(place) as log:
            assert sorted(topic.messages for topic in log.topics) == [12, 12]
            assert {len(v) for v in everything(log).values()} == {12}
    finally:
        base.close()


# --- every sample ---


def samples(shared_data: Path) -> Iterator[Path]:
    for root in (shared_data / "logs", shared_data / "events/event_camera_py"):
        yield from sorted(root.rglob("*"))
    yield from (item for item in sorted((shared_data / "rgbd").iterdir()) if "7scenes" not in item.name)


@pytest.mark.heavy
@pytest.mark.data
def test_every_sample_is_decoded_or_says_why_not(shared_data: Path) -> None:
    decoded = {}
    opened = 0
    for path in samples(shared_data):
        try:
            log = open_log(path)
        except FoveateError as error:
            assert "\n" not in str(error) and path.name in str(error) and "Error" not in str(error).split(":")[0]
            continue
        with log:
            opened += 1
            found = everything(log)
            for topic in log.topics:
                assert (topic.kind is None) == bool(topic.reason), topic
                if topic.kind is not None and topic.messages:
                    decoded[path.name, topic.name] = len(found[topic.name])
                    assert found[topic.name], topic
    assert opened >= 55
    expected = {
        ("test_events_1.bag", "/event_camera/events"): 517, ("test_events_1.db3", "/event_camera/events"): 517,
        ("example-lz4.bag", "/tf"): 2688, ("tilt_laser.bag", "/imu_data"): 356,
        ("rosbag2_test_0.db3", "/imu"): 1565, ("rosbag2_test_0.db3", "/pose"): 1565,
        ("custom-camera-model.mcap", "/image/compressed"): 10, ("tum_fr1_rpy", "/depth"): 42,
        ("apc_box", "/color"): 30,
    }  # fmt: skip
    assert expected.items() <= decoded.items()


def test_topics_without_counterpart_or_definition_say_so(tmp_path: Path) -> None:
    place = tmp_path / "c.mcap"
    with place.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start()
        for name, encoding, data in (
            ("sensor_msgs/msg/LaserScan", "cdr", b""), ("my_pkg/msg/X", "cdr", b""), ("a.B", "flatbuffer", b"x"),
            ("foxglove.Grid", "protobuf", b""), ("foxglove.RawImage", "protobuf", b"\xff\xff"),
            ("sensor_msgs/msg/Imu", "cdr", b"float64[ what"),
        ):  # fmt: skip
            schema = writer.register_schema(name, "ros2msg" if encoding == "cdr" else encoding, data)
            writer.add_message(writer.register_channel(f"/{name}", encoding, schema), START, b"1234", START)
        writer.finish()
    with open_log(place) as log:
        reasons = {topic.schema: topic.reason for topic in log.topics}
        assert not any(everything(log).values())
    assert reasons["sensor_msgs/msg/LaserScan"] == "sensor_msgs/msg/LaserScan has no counterpart in foveate"
    assert reasons["my_pkg/msg/X"] == "no definition of my_pkg/msg/X in the file"
    assert reasons["a.B"].startswith("messages encoded as 'flatbuffer' are not read")
    assert reasons["foxglove.Grid"] == "foxglove.Grid has no counterpart in foveate"
    assert reasons["foxglove.RawImage"].startswith("the definition of foxglove.RawImage cannot be read")
    assert reasons["sensor_msgs/msg/Imu"].startswith("the definition of sensor_msgs/msg/Imu cannot be read")


def test_without_rosbags_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag, mcap = write_rosbags(tmp_path / "a.bag", "ros1", 2), write_rosbags(tmp_path / "a", "ros2 mcap", 2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rosbags"] + ["rosbags"]:
        monkeypatch.setitem(sys.modules, name, None)
    for path in (bag, mcap):
        with pytest.raises(BackendMissing, match=r"pip install 'foveate\[ros\]'"):
            open_log(path)
    with pytest.raises(BackendMissing, match=r"foveate\[ros\]"):
        export_ros2.write(held(), ["cam.frame"], tmp_path / "x", print)


# --- damage ---


def damaged(path: Path) -> tuple[int, dict[str, str]]:
    """How many messages come out, and the problems; any error is one line of foveate's."""
    try:
        with open_log(path) as log:
            count = sum(map(len, everything(log).values()))
            reasons = {topic.name: topic.reason for topic in log.topics if topic.kind is None}
            return count, {**reasons, **log.problems}
    except FoveateError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return 0, {"": str(error)}


@pytest.mark.parametrize("how", ["ros1", "ros1 lz4", "ros2 db3", "ros2 mcap"])
def test_what_is_cut_off_gives_a_prefix_and_a_problem(how: str, tmp_path: Path) -> None:
    place = write_rosbags(tmp_path / "a", how, 40)
    whole = place if place.is_file() else next(item for item in place.iterdir() if item.name != "metadata.yaml")
    content = whole.read_bytes()
    counts = []
    for share in (0.0, 0.0001, 0.01, 0.3, 0.6, 0.9, 0.999):
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(content[: int(share * len(content))])
        count, problems = damaged(cut)
        assert problems, f"{share} of {how} says nothing"
        counts.append(count)
    assert counts == sorted(counts) and counts[0] == 0
    assert counts[-1] >= 40, counts  # most of 80 are in what is left


@pytest.mark.parametrize("how", ["ros1 lz4", "ros2 db3", "ros2 mcap"])
def test_flipped_bits_never_raise_what_is_not_foveates(how: str, tmp_path: Path) -> None:
    place = write_rosbags(tmp_path / "a", how, 4, lambda i: picture(i, 16, 12))
    whole = place if place.is_file() else next(item for item in place.iterdir() if item.name != "metadata.yaml")
    content = whole.read_bytes()
    random = np.random.default_rng(1)
    hurt = 0
    for _ in range(60):
        bad = bytearray(content)
        for byte in random.integers(0, len(bad), 20):
            bad[byte] ^= 1 << int(random.integers(0, 8))
        flipped = tmp_path / f"flipped{whole.suffix}"
        flipped.write_bytes(bad)
        count, problems = damaged(flipped)
        assert count == 8 or problems
        hurt += count < 8
    assert hurt > 0


@pytest.mark.parametrize("compression", list(CompressionType))
def test_a_damaged_chunk_is_left_out_and_the_others_are_read(compression: CompressionType, tmp_path: Path) -> None:
    place = tmp_path / "e.mcap"
    with place.open("wb") as stream:
        writer = McapWriter(stream, chunk_size=2000, compression=compression)
        writer.start()
        schema = writer.register_schema("foxglove.PoseInFrame", "jsonschema", b"{}")
        channel = writer.register_channel("/pose", "json", schema)
        for i in range(300):
            data = json.dumps({"frame_id": f"{i * 7919 % 1009:060d}", "pose": {"orientation": {"w": 1}}}).encode()
            writer.add_message(channel, START + i, data, START)
        writer.finish()
    content = place.read_bytes()
    random = np.random.default_rng(2)
    hurt = 0
    for index in (True, False):
        for _ in range(10):
            bad = bytearray(content if index else content[:-600])
            for byte in random.integers(500, len(content) // 2, 3):
                bad[byte] ^= 4
            place.write_bytes(bad)
            count, problems = damaged(place)
            hurt += count < 300
            assert count > 150 or not index, problems  # without it a wrong length hides the rest
            assert count == 300 or "damaged" in problems[""] or "cut off" in problems[""], problems
    assert hurt > 10
    place.write_bytes(content)
    assert damaged(place) == (300, {})


def test_an_mcap_without_index_is_read_in_full(tmp_path: Path) -> None:
    """What a recorder leaves that was killed: no chunks, no summary; and an index whose checksum is wrong."""
    for chunking in (False, True):
        place = tmp_path / f"{chunking}.mcap"
        with place.open("wb") as stream:
            writer = McapWriter(stream, use_chunking=chunking)
            writer.start()
            schema = writer.register_schema("foxglove.FrameTransform", "jsonschema", b"{}")
            channel = writer.register_channel("/tf", "json", schema)
            for i in range(5):
                data = json.dumps({"rotation": {"w": 2}, "translation": {"y": i}, "child_frame_id": "c"}).encode()
                writer.add_message(channel, START + 4 - i, data, START)
            writer.finish()
        content = bytearray(place.read_bytes())
        for index in ("whole", "wrong", "gone"):
            if index == "wrong":
                content[-40] ^= 0xFF
            place.write_bytes(content if index != "gone" else content[: content.index(b"\x0f\x04" + bytes(7))])
            with open_log(place) as log:
                poses = everything(log)["/tf"]
                assert [p.position_m[1] for p in poses if isinstance(p, Pose)] == [4, 3, 2, 1, 0]
                assert all(isinstance(p, Pose) and p.orientation[3] == 1 and p.child == "c" for p in poses)
                words = {"whole": "", "wrong": "its index cannot be read", "gone": "the file is cut off"}[index]
                assert log.problems.get("", "").startswith(words) and bool(log.problems) == (index != "whole")


def test_files_that_are_no_recordings_are_named_in_one_line(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.mcap", b"", "the file is empty"), ("a.bag", b"hello world", "no recording that can be read"),
        ("a.mcap", b"#ROSBAG V2.0\n", "nothing in it"), ("a.db3", b"\x89MCAP0\r\n", "ends before its first message"),
        ("a.bag", b"#ROSBAG V1.2\n", "version 1.2"), ("a.db3", b"SQLite format 3\0" + bytes(84), "cannot read"),
        ("a.mp4", b"text", "not a video"), ("a.png", b"\x89PNG", "name its folder"),
        ("a.zstd", b"\x28\xb5\x2f\xfd1234", "packed with zstd and damaged"),
    ):  # fmt: skip
        place = tmp_path / name
        place.write_bytes(content)
        with pytest.raises(RecordingError, match=words) as raised:
            open_log(place)
        assert str(raised.value).count(name) >= 1 and "\n" not in str(raised.value)
        place.unlink()
    with pytest.raises(RecordingError, match="no recording in this folder"):
        open_log(tmp_path)
    with pytest.raises(NotFound, match="there is no such file"):
        open_log(tmp_path / "gone")
    base = sqlite3.connect(tmp_path / "other.db")
    base.execute("CREATE TABLE x (y)")
    base.commit()
    base.close()
    with pytest.raises(RecordingError, match="no ROS 2 bag"):
        open_log(tmp_path / "other.db")


def test_a_bad_message_is_left_out_and_counted(tmp_path: Path) -> None:
    place = tmp_path / "d.mcap"
    good = cv2.imencode(".png", picture(0))[1].tobytes()
    with place.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start()
        schema = writer.register_schema("foxglove.CompressedImage", "jsonschema", b"{}")
        channel = writer.register_channel("/image", "json", schema)
        for i, data in enumerate((good, good, b"no image", good)):
            text = json.dumps({"format": "png", "data": base64.b64encode(data).decode()})
            writer.add_message(channel, START + i, text.encode() if i != 1 else b"{", START)
        writer.finish()
    with open_log(place) as log:
        frames = [m for m in everything(log)["/image"] if isinstance(m, Frame)]
        assert [(f.seq, f.lost_before) for f in frames] == [(1, 0), (4, 2)]
        assert log.problems["/image"].startswith("2 of 4 messages could not be decoded: no JSON")
        with pytest.raises(RecordingError, match="has no topic '/imagee'; it has /image"):
            list(log.messages(["/imagee"]))


# --- pixels ---


def test_pixels_of_every_encoding() -> None:
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[:] = (10, 60, 200)
    gray = np.arange(24, dtype=np.uint8).reshape(4, 6)

    def read(array: np.ndarray, encoding: str, *, padding: int = 0, big: bool = False, topic: str = "/x") -> Message:
        rows = np.ascontiguousarray(array).view(np.uint8).reshape(array.shape[0], -1)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
        height, width = array.shape[:2]
        return pixels.raw_image(rows.tobytes(), width, height, rows.shape[1], encoding, big, at(topic), Stamp(0))

    alpha = np.full((4, 6, 1), 9, np.uint8)
    for encoding, array in (
        ("bgr8", bgr), ("rgb8", bgr[..., ::-1]), ("8UC3", bgr), ("bgra8", np.dstack([bgr, alpha])),
        ("rgba8", np.dstack([bgr[..., ::-1], alpha])),
    ):  # fmt: skip
        for padding in (0, 5):
            frame = read(array, encoding, padding=padding)
            assert isinstance(frame, Frame) and np.array_equal(frame.image, bgr), encoding
    for padding in (0, 3):
        frame = read(gray, "mono8", padding=padding)
        assert isinstance(frame, Frame) and np.array_equal(frame.image, gray) and frame.encoding == "Mono8"
    # a red, a green and a blue scene each tells the place of its filter
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        for channel, letter in enumerate("bgr"):
            filters = np.array([letter == item for item in pattern], np.uint8).reshape(2, 2) * 200
            mosaic = np.tile(filters, (4, 4))
            frame = read(mosaic, f"bayer_{pattern}8")
            assert isinstance(frame, Frame) and frame.image[3:5, 3:5].mean((0, 1)).argmax() == channel, pattern
            for big in (False, True):
                wide = (mosaic.astype(np.uint16) << 8).astype(">u2" if big else "<u2")
                assert np.array_equal(read(wide, f"bayer_{pattern}16", big=big).image, frame.image)  # type: ignore[attr-defined]
    uyvy = np.zeros((4, 6, 2), np.uint8)
    uyvy[..., 0], uyvy[..., 1] = 128, gray
    for encoding, array in (
        ("yuv422", uyvy),
        ("uyvy", uyvy),
        ("yuyv", uyvy[..., ::-1]),
        ("yuv422_yuy2", uyvy[..., ::-1]),
    ):
        frame = read(array, encoding)
        assert isinstance(frame, Frame) and np.ptp(frame.image.astype(int), axis=2).max() == 0  # grey stays grey


def test_depth_of_every_encoding() -> None:
    values = np.array([[0, 1000, 40000]], np.uint16)
    for big in (False, True):
        data = values.astype(">u2" if big else "<u2").tobytes()
        for encoding, topic in (("16UC1", "/x"), ("mono16", "/cam/depth/raw")):
            depth = pixels.raw_image(data, 3, 1, 6, encoding, big, at(topic), Stamp(0))
            assert isinstance(depth, DepthFrame) and np.array_equal(depth.depth, values)
        thermal = pixels.raw_image(data, 3, 1, 6, "mono16", big, at("/thermal"), Stamp(0))
        assert isinstance(thermal, Frame) and thermal.image.tolist() == [[0, 3, 156]]
        metres = np.array([[np.nan, 1.2344, 65.6, -1, np.inf]], ">f4" if big else "<f4")
        depth = pixels.raw_image(metres.tobytes(), 5, 1, 20, "32FC1", big, at(), Stamp(0))
        assert isinstance(depth, DepthFrame) and depth.depth.tolist() == [[0, 1234, 0, 0, 0]]
    png = cv2.imencode(".png", values)[1].tobytes()
    packed = pixels.packed_depth(struct.pack("<iff", 0, 0, 0) + png, "16UC1", at(), Stamp(0))
    assert np.array_equal(packed.depth, values)
    a, b = 100 * 101.0, 101 / 10 - 1  # as the codec makes them of depth_quantization 100 and depth_max 10
    inverse = np.array([[0, round(a / 2.0 + b)]], np.uint16)
    head = struct.pack("<iff", 0, a, b)
    packed = pixels.packed_depth(head + cv2.imencode(".png", inverse)[1].tobytes(), "32FC1", at(), Stamp(0))
    assert packed.depth.tolist() == [[0, 2000]]


def test_pixels_that_do_not_fit_are_refused() -> None:
    for width, height, step, encoding in ((6, 4, 17, "bgr8"), (6, 5, 18, "bgr8"), (0, 4, 0, "mono8"), (6, 4, 0, "xyz")):
        with pytest.raises(Undecodable):
            pixels.raw_image(bytes(72), width, height, step, encoding, False, at(), Stamp(0))
    with pytest.raises(Undecodable, match="no image OpenCV can decode"):
        pixels.packed_image(b"", at(), Stamp(0))


def test_names_of_types_and_headers_of_another_clock() -> None:
    assert type_name("sensor_msgs/Image") == type_name("sensor_msgs::msg::dds_::Image_") == "sensor_msgs/msg/Image"
    assert type_name("a/srv/B_Event") == "a/srv/B_Event"
    timeline = Timeline(START)
    assert timeline.t_ns(START + 5, START + 9) == 5 and timeline.t_ns(0, START + 9) == 9
    assert [timeline.t_ns(1000 + i, START + 10) for i in (0, 7)] == [10, 17]  # since boot: shifted, distances kept
    assert timeline.t_ns(10**17, START + 30) == 30


# --- events ---


def evt3_words(word: Callable[[int, int], int]) -> list[int]:
    """A stream with singles, vectors, a wrap of TIME_HIGH, and rows that hold over packets."""
    random = np.random.default_rng(3)
    words = [word(0x8, 4094), word(0x6, 5)]
    high = 4094
    for i in range(3000):
        choice = random.integers(0, 12)
        if choice == 0:
            high = (high + 1) % 4096
            words += [word(0x8, high)] + ([word(0x6, int(random.integers(0, 100)))] if i % 3 else [])
        elif choice < 3:
            words.append(word(0x0, int(random.integers(0, 480))))
        elif choice < 7:
            words.append(word(0x2, int(random.integers(0, 640)) | int(random.integers(0, 2)) << 11))
        elif choice == 7:
            words += [word(0x3, int(random.integers(0, 600)) | int(random.integers(0, 2)) << 11)]
            words += [word(0x4, int(random.integers(0, 4096))), word(0x4, 0xFFF), word(0x5, 0x81)]
        elif choice == 8:
            words.append(word(0xA, 1))
        else:
            words.append(word(0x6, int(random.integers(0, 4096))))
    return words


def events_one_by_one(words: list[int]) -> list[tuple[int, int, int, int]]:
    """The same by the book: (t us, x, y, polarity), each word in turn."""
    found = []
    high = turns = low = y = base = 0
    known = False
    polarity = 0
    latest = 0
    for item in words:
        kind, value = item >> 12, item & 0xFFF
        if kind == 0x8:
            if known and value < high - 2048:
                turns += 1
            low = low if value == high and known else 0 if known else low
            high, known = value, True
        elif kind == 0x6:
            low = value
        elif kind == 0x0:
            y = value & 0x7FF
        elif kind == 0x3:
            base, polarity = value & 0x7FF, value >> 11
        columns: list[tuple[int, int]] = []
        if kind == 0x2:
            columns = [(value & 0x7FF, value >> 11)]
        elif kind in (0x4, 0x5):
            size = 12 if kind == 0x4 else 8
            columns = [(base + bit, polarity) for bit in range(size) if value >> bit & 1]
            base += size
        for x, sign in columns:
            if known and x < 640 and y < 480:
                latest = max(latest, (turns << 24) + (high << 12) + low)
                found.append((latest, x, y, sign))
    return found


def test_evt3_as_one_by_one_however_it_is_cut_into_packets() -> None:
    words = evt3_words(lambda kind, value: kind << 12 | value)
    expected = events_one_by_one(words)
    assert len(expected) > 3000 and expected[-1][0] > 1 << 24
    data = np.array(words, "<u2").tobytes()
    for size in (2, 14, 998, len(data)):
        decoder = Evt3Decoder(640, 480)
        packets = [e for i in range(0, len(data), size) for e in decoder.events(data[i : i + size], 1_000_000)]
        t = np.concatenate([p.t_ns for p in packets])
        assert t[0] == 1_000_000 and (np.diff(t) >= 0).all()
        columns = [np.concatenate([getattr(p, name) for p in packets]) for name in ("x", "y", "polarity")]
        rows = zip((t - t[0]) // 1000 + expected[0][0], *columns, strict=True)
        assert [tuple(map(int, row)) for row in rows] == expected


@pytest.mark.data
def test_the_same_events_from_ros1_and_ros2(shared_data: Path) -> None:
    both = []
    for name in ("test_events_1.bag", "test_events_1"):
        with open_log(shared_data / "events/event_camera_py" / name) as log:
            both.append([m for m in everything(log)["/event_camera/events"] if isinstance(m, Events)])
            assert not log.problems
    assert len(both[0]) == len(both[1]) == 517
    for a, b in zip(*both, strict=True):
        for field in ("t_ns", "x", "y", "polarity"):
            assert np.array_equal(getattr(a, field), getattr(b, field))
        assert a.stamp == b.stamp and (a.width, a.height) == (b.width, b.height) == (640, 480)
    span_ns = int(both[0][-1].t_ns[-1] - both[0][0].t_ns[0])
    assert 1.9e9 < span_ns < 2.2e9  # receipt says 2.076 s


# --- Foxglove, foveate's own, folders ---


def test_foveates_own_frames_are_read_as_foxglove_raw_images(tmp_path: Path) -> None:
    place = tmp_path / "run.mcap"
    coder = codec.codec_of(Frame)
    with place.open("wb") as stream:
        writer = McapWriter(stream, chunk_size=30_000, compression=CompressionType.NONE)
        writer.start(library="foveate")
        schema = writer.register_schema(coder.schema_name, coder.encoding, coder.schema_data)
        channel = writer.register_channel("/cam.frame", coder.encoding, schema)
        for i in range(8):
            frame = Frame(Stamp(1 + i * PERIOD), picture(i), "BGR8", i)
            data = coder.encode(frame, START)
            data = data if isinstance(data, bytes) else b"".join(data)
            writer.add_message(channel, START + 9 + i * PERIOD, data, START)
        writer.finish()
    with open_log(place) as log:
        frames = everything(log)["/cam.frame"]
        assert len(frames) == 8 and not log.problems
        for i, frame in enumerate(frames):
            assert isinstance(frame, Frame) and np.array_equal(frame.image, picture(i))
            assert log.start_ns + frame.stamp.t_ns == START + 1 + i * PERIOD
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(place.read_bytes()[:-40_000])
    with open_log(cut) as log:
        assert 3 <= len(everything(log)["/cam.frame"]) < 8 and "cut off" in log.problems[""]


def test_foveates_own_events_play_as_an_event_camera(tmp_path: Path) -> None:
    place, coder = tmp_path / "run.mcap", codec.codec_of(Events)
    with place.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(library="foveate")
        for topic, name in (("/dvs.events", coder.schema_name), ("/other", "foveate.Codec")):
            schema = writer.register_schema(name, coder.encoding, coder.schema_data)
            channel = writer.register_channel(topic, coder.encoding, schema)
            for i in range(4):
                t_ns = np.array([i * PERIOD - 5, i * PERIOD])
                ones = np.ones(2, np.uint16)
                events = Events(Stamp(i * PERIOD), t_ns, ones, i * ones, np.array([0, 1], np.uint8), 64, 48)
                writer.add_message(channel, START + 9 + i * PERIOD, b"".join(coder.encode(events)), START)
        writer.finish()
    with open_log(place) as log:
        found = everything(log)
        assert not found["/other"] and "foveate.Codec is not a message of this foveate" in {
            topic.reason for topic in log.topics
        }
        for i, events in enumerate(found["/dvs.events"]):
            assert (
                isinstance(events, Events) and events.y.tolist() == [i, i] and (events.width, events.height) == (64, 48)
            )
            assert log.start_ns + events.stamp.t_ns == START + 9 + i * PERIOD
            assert (events.t_ns - events.stamp.t_ns).tolist() == [-5, 0]
    camera, clock = LogEventCamera(address=place), VirtualClock()
    camera.open(clock)
    clock.advance(camera.due_ns())
    assert camera.read(1.0).y.tolist() == [0, 0]
    camera.close()


@pytest.mark.data
def test_tum_folder_in_its_units(shared_data: Path) -> None:
    folder = shared_data / "rgbd/tum_fr1_rpy"
    with open_log(folder) as log:
        found = everything(log)
        assert {t.name: t.kind for t in log.topics} == {
            "/rgb": Frame, "/depth": DepthFrame, "/groundtruth": Pose, "/accelerometer": Imu, "/info": CameraInfo,
        }  # fmt: skip
        depth, imu, pose = found["/depth"][0], found["/accelerometer"][0], found["/groundtruth"][0]
        assert isinstance(depth, DepthFrame) and isinstance(imu, Imu) and isinstance(pose, Pose)
        raw = cv2.imread(str(folder / "depth/1305031235.838812.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(depth.depth, raw) and depth.scale_m == 1 / 5000
        assert log.start_ns + depth.stamp.t_ns == 1_305_031_235_838_812_000
        assert imu.acceleration_m_s2.tolist() == [1.209367, 5.328400, -7.423838]
        assert pose.position_m.tolist() == [1.2590, 0.6506, 1.4580]
        assert log.problems["/rgb"].startswith("1 of 41 messages could not be decoded: rgb/1305031237.193642.png")


def test_images_are_timed_by_their_names_or_at_30_hz(tmp_path: Path) -> None:
    for names, times in (
        (["a.png", "b.png"], [0, 33_333_333]),
        (["1403636579763555584.png", "1403636579813555456.png"], [0, 49_999_872]),
        (["1403636579763555.png", "1403636579813555.png"], [0, 50_000_000]),
        (["1305031235.861603.png", "1305031235.893698.png"], [0, 32_095_000]),
    ):
        folder = tmp_path / names[0]
        folder.mkdir()
        for i, name in enumerate(names):
            cv2.imwrite(str(folder / name), picture(i))
        with open_log(folder) as log:
            frames = everything(log)["/images"]
            assert [f.stamp.t_ns for f in frames] == times and len(log.topics) == 1
            assert isinstance(frames[1], Frame) and np.array_equal(frames[1].image, picture(1))


def test_a_list_that_leads_out_of_its_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "tum"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), picture(0))
    (folder / "rgb.txt").write_text("1.5 ../secret.png\nnonsense\n")
    with open_log(folder) as log:
        assert "/rgb" in log.problems and "line 2" in log.problems["/rgb"]
        assert not everything(log)["/rgb"] and "outside the folder" in log.problems["/rgb"]


# --- export ---


@dataclass
class Held:
    """What the writers ask of a recording."""

    path: Path
    held: dict[str, list[Message]]
    wall_start_ns: int = START

    def streams(self) -> list[Any]:
        stream = type("Stream", (), {})
        made = []
        for name, items in self.held.items():
            made.append(stream())
            made[-1].__dict__.update(topic=f"/{name}", messages=len(items), type=type(items[0]).__name__)
        return made

    def messages(self, stream: str, kind: type[Message]) -> Iterator[tuple[int, Message]]:
        for message in self.held[stream]:
            assert type(message) is kind
            yield message.stamp.t_ns + 1_000_000, message


def held(count: int = 5) -> Any:
    stamps = [Stamp(1 + i * 40_000_000) for i in range(count)]
    matrix = np.array([[500.0, 0, 32], [0, 501, 24], [0, 0, 1]])
    turn = np.array([0.1, 0.2, -0.3, 0.9])
    return Held(Path("run.mcap"), {
        "cam.frame": [Frame(s, picture(i), "BGR8", i + 1) for i, s in enumerate(stamps)],
        "gray.frame": [Frame(s, picture(i)[..., 0].copy(), "Mono8", i + 1) for i, s in enumerate(stamps)],
        "cam.depth": [DepthFrame(s, depth_of(i), 0.001, i + 1) for i, s in enumerate(stamps)],
        "cam.info": [CameraInfo(s, 64, 48, "plumb_bob", matrix, np.array([0.1, -0.2, 0, 0, 0.3])) for s in stamps],
        "imu.sample": [Imu(s, np.array([0.1, 0, i]), np.array([0, 9.8, i])) for i, s in enumerate(stamps)],
        "slam.pose": [Pose(s, np.array([i, 0.1, 1 / 3]), turn / np.linalg.norm(turn), "map", "") for i, s in
                      enumerate(stamps)],
        "dvs.events": [Events(s, np.array([1, 2]), np.ones(2, np.uint16), np.ones(2, np.uint16),
                              np.ones(2, np.uint8), 64, 48) for s in stamps],
    })  # fmt: skip


def same(a: Message, a_start: int, b: Message, b_start: int) -> None:
    """Equal in everything but the clock's origin; quaternions to the last bits."""
    assert type(a) is type(b) and a_start + a.stamp.t_ns == b_start + b.stamp.t_ns
    for name in a.__dataclass_fields__:
        if name != "stamp":
            x, y = getattr(a, name), getattr(b, name)
            assert np.allclose(x, y, rtol=0, atol=1e-15) if name == "orientation" else np.array_equal(x, y), name


@pytest.mark.parametrize("name", ["bag", "bag.mcap", "bag.db3"])
def test_a_ros_bag_gives_back_what_was_written(name: str, tmp_path: Path) -> None:
    log = held()
    shares: list[float] = []
    lines = export_ros2.write(log, list(log.held), tmp_path / name, shares.append)
    assert "dvs.events: left out, Events has no ROS type" in lines and len(lines) == 7
    assert shares[-1] == 1.0 and shares == sorted(shares)
    assert (tmp_path / name).is_file() == ("." in name) and len(list(tmp_path.iterdir())) == 1
    with open_log(tmp_path / name) as read:
        found = everything(read)
        assert not read.problems and len(found) == 6
        for stream, messages in log.held.items():
            for a, b in zip(messages, found.get("/" + stream.replace(".", "/"), messages), strict=True):
                same(a, START, b, read.start_ns if a is not b else START)
    with pytest.raises(RecordingError, match="exists already"):
        export_ros2.write(log, ["cam.frame"], tmp_path / name, print)


def test_images_give_back_what_was_written(tmp_path: Path) -> None:
    log = held()
    log.held["fine.depth"] = [replace(m, scale_m=0.0002) for m in log.held["cam.depth"]]
    for stream in ("cam.frame", "gray.frame", "cam.depth", "fine.depth"):
        lines = export_images.write(log, [stream], tmp_path / stream, lambda share: None)
        assert lines == [f"{tmp_path / stream}: {stream}, 5 images"]
        with open_log(tmp_path / stream) as read:
            for a, b in zip(log.held[stream], everything(read)["/images"], strict=True):
                same(a, START, b, read.start_ns)
    export_images.write(log, ["cam.frame", "cam.depth", "imu.sample"], tmp_path / "both", lambda share: None)
    assert sorted(p.name for p in (tmp_path / "both").iterdir()) == ["cam.depth", "cam.frame"]
    with pytest.raises(RecordingError, match=r"holds images"):
        export_images.write(log, ["imu.sample"], tmp_path / "none", print)
    assert not (tmp_path / "none").exists()


def test_a_tum_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    log = held()
    chosen = {"cam.frame": "/rgb", "cam.depth": "/depth", "slam.pose": "/groundtruth"}
    lines = export_tum.write(log, [*chosen, "imu.sample", "cam.info"], tmp_path / "tum", lambda share: None)
    assert f"{tmp_path / 'tum/camera.txt'}: cam.info" in lines and any("angular velocity left out" in x for x in lines)
    with open_log(tmp_path / "tum") as read:
        found = everything(read)
        assert not read.problems
        for stream, topic in chosen.items():
            for a, b in zip(log.held[stream], found[topic], strict=True):
                if isinstance(a, DepthFrame):
                    a = replace(a, depth=a.depth * 5, scale_m=1 / 5000)  # the same metres in the format's unit
                if isinstance(a, Pose):
                    a = replace(a, parent="world", child="camera")
                same(a, START, b, read.start_ns)
        assert np.array_equal(found["/accelerometer"][3].acceleration_m_s2, [0, 9.8, 3])  # type: ignore[attr-defined]
        for a, b in zip(log.held["cam.info"], found["/info"], strict=True):
            same(a, START, b, read.start_ns)
    wide = replace(log.held["cam.info"][0], model="equidistant", distortion=np.full(4, 0.1))  # type: ignore[type-var]
    fisheye = Held(log.path, {"cam.depth": log.held["cam.depth"], "cam.info": [wide]})
    lines = export_tum.write(fisheye, ["cam.depth", "cam.info"], tmp_path / "wide", lambda share: None)  # type: ignore[arg-type]
    assert "cam.info: left out, TUM has no CameraInfo" in lines and not (tmp_path / "wide/camera.txt").exists()
    export_tum.write(log, ["slam.pose"], tmp_path / "poses.txt", lambda share: None)
    rows = [line for line in (tmp_path / "poses.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(rows) == 5 and rows[1].startswith("1700000000.040000001 1.0 0.1 0.3333333333333333 0.10259")
    with pytest.raises(RecordingError, match="one stream of Frame"):
        export_tum.write(log, ["cam.frame", "gray.frame"], tmp_path / "two", print)


@pytest.mark.parametrize("how", ["one clock", "two clocks", "none of one", "0 once"])
def test_a_tum_folder_has_the_cameras_own_times_where_all_streams_are_on_one_clock(how: str, tmp_path: Path) -> None:
    log, camera_ns = held(), 1_305_031_102 * 10**9
    for name, late in (("cam.frame", 3), ("cam.depth", 3 if how != "two clocks" else 5 * 10**9)):
        if how != "none of one" or name != "cam.depth":
            log.held[name] = [replace(m, device_ns=camera_ns + late + m.stamp.t_ns) for m in log.held[name]]
    if how == "0 once":
        log.held["cam.depth"][2] = replace(log.held["cam.depth"][2], device_ns=0)
    lines = export_tum.write(log, ["cam.frame", "cam.depth"], tmp_path / "tum", lambda share: None)
    own = how in ("one clock", "0 once")
    assert (f"{tmp_path / 'tum'}: times are the camera's or log's own (device_ns)" in lines) == own
    for name in ("rgb", "depth"):
        rows = [line.split()[0] for line in (tmp_path / f"tum/{name}.txt").read_text().splitlines() if line[0] != "#"]
        first_ns = camera_ns + 4 if own else START + 1
        assert rows == [f"{first_ns // 10**9 + k * 0.04:.2f}{first_ns % 10**9:07d}" for k in range(5)]


def test_a_video_has_the_frames_and_the_median_rate(tmp_path: Path) -> None:
    log = held(12)
    log.held["cam.frame"][-1] = replace(log.held["cam.frame"][-1], stamp=Stamp(10**9))  # one late frame
    for name in ("a.avi", "a.mp4"):
        (line,) = export_video.write(log, ["cam.frame"], tmp_path / name, lambda share: None)
        assert "12 frames of 64x48 at 25.000 Hz, times between frames were 40.0 to 600.0 ms" in line
        with open_log(tmp_path / name) as read:
            frames = everything(read)["/video"]
            assert [f.stamp.t_ns for f in frames] == [i * 40_000_000 for i in range(12)]
    smooth = np.full((48, 64), 90, np.uint8)
    log.held["gray.frame"] = [replace(m, image=smooth) for m in log.held["gray.frame"]]
    export_video.write(log, ["gray.frame"], tmp_path / "gray.avi", lambda share: None)
    with open_log(tmp_path / "gray.avi") as read:
        assert all(isinstance(f, Frame) and abs(int(f.image.mean()) - 90) <= 2 for f in everything(read)["/video"])
    for streams, to, words in ((["imu.sample"], "b.avi", "one stream of Frame"), (["cam.frame"], "b.gif", "no video")):
        with pytest.raises(RecordingError, match=words):
            export_video.write(log, streams, tmp_path / to, print)
    log.held["cam.frame"][3] = replace(log.held["cam.frame"][3], image=picture(0, 32, 24))
    with pytest.raises(RecordingError, match="frame 4 is 32x24, not 64x48"):
        export_video.write(log, ["cam.frame"], tmp_path / "c.avi", lambda share: None)
    assert not (tmp_path / "c.avi").exists()


def test_csv_has_a_column_for_every_number(tmp_path: Path) -> None:
    import csv

    log = held()
    log.held["dvs.events"][1] = replace(log.held["dvs.events"][1], x=np.zeros(20, np.uint16))
    lines = export_csv.write(log, ["slam.pose", "cam.frame", "dvs.events"], tmp_path / "t", lambda share: None)
    assert lines[1].endswith("cam.frame.csv: 5 rows; of image only the shape")
    tables = {}
    for file in (tmp_path / "t").iterdir():
        with file.open(newline="") as stream:
            tables[file.stem] = list(csv.DictReader(stream))
    row = tables["slam.pose"][2]
    assert int(row["unix_ns"]) == START + 80_000_001 and int(row["log_ns"]) == 81_000_001
    assert [float(row[f"position_m.{i}"]) for i in range(3)] == [2, 0.1, 1 / 3] and row["parent"] == "map"
    assert tables["cam.frame"][0]["image"] == "48x64x3 uint8" and tables["cam.frame"][0]["seq"] == "1"
    assert [json.loads(r["x"]) for r in tables["dvs.events"][:2]] == [[1, 1], [0] * 20]  # its size changes
    assert tables["dvs.events"][0]["t_ns.1"] == "2"


def test_a_stream_that_is_not_there_is_named(tmp_path: Path) -> None:
    for writer in (export_csv, export_images, export_ros2, export_tum, export_video):
        with pytest.raises(RecordingError, match=r"run.mcap: has no stream 'cam.frme'; it has cam.depth, "):
            writer.write(held(), ["cam.frme"], tmp_path / "x.avi", print)
    assert not list(tmp_path.iterdir())
