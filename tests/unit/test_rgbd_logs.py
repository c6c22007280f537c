"""Folders of RGB-D images: their layouts, times, units and intrinsics; a depth camera that plays them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.cli import main
from foveate.clock import VirtualClock
from foveate.errors import EndOfStream, NotSupported, ProtocolError, RecordingError
from foveate.messages import CameraInfo, DepthFrame, Frame, Message, Pose
from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import rotation_from
from foveate_drivers.depth.log import LogDepthCamera
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.intrinsics import intrinsics_of
from foveate_logbook.formats.listed import quaternion_of
from foveate_logbook.formats.opening import open_log

HEIGHT, WIDTH = 24, 32
BENCHMARK = (480, 640)  # height, width of the images of TUM and ICL-NUIM
PERIOD_NS = 1e9 / 30


def everything(log: Log) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {topic.name: [] for topic in log.topics}
    for name, _, message in log.messages():
        found[name].append(message)
    return found


def color(number: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.full((*size, 3), number, np.uint8)


def depth(number: int, hole: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    image = np.full(size, 1000 + number, np.uint16)
    image[0] = hole
    return image


def put(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def frames_folder(to: Path, numbers: range = range(5), hole: int = 65535) -> Path:
    for n in numbers:
        put(to / f"frame-{n:06}.color.png", color(n))
        put(to / f"frame-{n:06}.depth.png", depth(n, hole))
        pose = np.eye(4)
        pose[:3, :3] = rotation_from(np.array([0.1 * n, -0.2, 0.3]))
        pose[:3, 3] = n, 2 * n, 3
        np.savetxt(to / f"frame-{n:06}.pose.txt", pose)
    return to


def tum_folder(to: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    for n in range(4):
        put(to / f"rgb/{n}.png", color(n, size))
        put(to / f"depth/{n}.png", depth(n, size=size))
    for kind, late in (("rgb", 0.004), ("depth", 0)):
        lines = [f"{1_305_031_102 + n / 25 + late:.6f} {kind}/{n}.png" for n in range(4)]
        (to / f"{kind}.txt").write_text("# timestamp filename\n" + "\n".join(lines))
    (to / "groundtruth.txt").write_text("1305031102.0 1 2 3 0.1 0.2 0.3 0.9\n")
    return to


def matrix_of(message: Message, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[float]:
    assert isinstance(message, CameraInfo) and (message.height, message.width) == size
    return message.camera_matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()


# --- a file a frame -------------------------------------------------------------------------------------------------


def test_frames_are_timed_by_their_numbers_and_holes_are_zero(tmp_path: Path) -> None:
    folder = frames_folder(tmp_path, range(3, 11, 2))
    (folder / "camera-intrinsics.txt").write_text("585 0 320\n0 586 240\n0 0 1\n")
    with open_log(folder) as log:
        found = everything(log)
        assert {name: len(items) for name, items in found.items()} == {"/color": 4, "/depth": 4, "/pose": 4, "/info": 4}
        assert log.start_ns == 100_000_000 and not log.problems
        for k, (image, distance, pose) in enumerate(zip(found["/color"], found["/depth"], found["/pose"], strict=True)):
            n = 3 + 2 * k
            assert isinstance(image, Frame) and isinstance(distance, DepthFrame) and isinstance(pose, Pose)
            assert np.array_equal(image.image, color(n)) and np.array_equal(distance.depth, depth(n, 0))
            assert distance.scale_m == 0.001
            assert image.stamp == distance.stamp == pose.stamp
            assert log.start_ns + image.stamp.t_ns == round(n * PERIOD_NS)
            assert pose.position_m.tolist() == [n, 2 * n, 3]
            assert np.allclose(quaternion(pose.orientation), rotation_from(np.array([0.1 * n, -0.2, 0.3])), atol=1e-9)
        assert matrix_of(found["/info"][2]) == [585, 586, 320, 240]


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_poses_of_failed_tracking_are_left_out_and_counted(tmp_path: Path, value: str) -> None:
    folder = frames_folder(tmp_path)
    (folder / "frame-000002.pose.txt").write_text((f"{value} " * 4 + "\n") * 4)
    (folder / "frame-000003.pose.txt").write_text("1 0 0 0\n0 2 0 0\n0 0 1 0\n0 0 0 1\n")
    with open_log(folder) as log:
        poses = everything(log)["/pose"]
        assert [pose.position_m[0] for pose in poses] == [0, 1, 4]  # type: ignore[attr-defined]
        assert log.problems["/pose"] == (
            "2 of 5 messages could not be decoded: frame-000002.pose.txt has no pose (numbers that are not finite)"
        )


@pytest.mark.parametrize(("size", "hole", "known"), [
    ((480, 640), 65535, True), ((480, 640), 0, False), ((240, 320), 65535, False),
])  # fmt: skip
def test_intrinsics_of_seven_scenes_are_used_only_where_it_is_recognised(
    tmp_path: Path, size: tuple[int, int], hole: int, known: bool
) -> None:
    image = np.full(size, 1500, np.uint16)
    image[:9] = hole
    put(tmp_path / "frame-000000.depth.png", image)
    put(tmp_path / "frame-000000.color.png", np.zeros((*size, 3), np.uint8))
    with open_log(tmp_path) as log:
        infos = everything(log).get("/info", [])
    assert [info.camera_matrix[0].tolist() for info in infos] == ([[585, 0, 320]] if known else [])  # type: ignore[attr-defined]


# --- TUM's layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "numbers"), [
    ("rgbd_dataset_freiburg1_xyz", [517.306408, 516.469215, 318.643040, 255.313989]),
    ("fr2_desk", [520.9, 521.0, 325.1, 249.7]), ("Freiburg3_office", [535.4, 539.2, 320.1, 247.6]),
    ("traj0_frei_png", [481.2, 480, 319.5, 239.5]), ("fr10", None), ("vehicle1", None), ("freiburg4", None),
])  # fmt: skip
def test_the_camera_of_a_benchmark_is_known_by_its_name(tmp_path: Path, name: str, numbers: list[float] | None) -> None:
    for folder in (tmp_path / name, tmp_path / "of" / name / "part"):
        with open_log(tum_folder(folder, BENCHMARK)) as log:
            infos = everything(log).get("/info", [])
        assert len(infos) == (0 if numbers is None else 4)
        if numbers is not None:
            assert matrix_of(infos[0], BENCHMARK) == pytest.approx(numbers)
            assert bool(infos[0].distortion.any()) == ("fr2" in name or "freiburg1" in name)  # type: ignore[attr-defined]


def test_no_camera_is_guessed_of_names_further_up_other_sizes_and_other_layouts(tmp_path: Path) -> None:
    tum_folder(tmp_path / "fr1/of/mine", BENCHMARK)
    tum_folder(tmp_path / "fr1_small")
    for n in range(2):
        put(tmp_path / f"fr2_frames/frame-{n:06}.color.png", color(n, BENCHMARK))
        put(tmp_path / f"fr2_frames/frame-{n:06}.depth.png", depth(n, size=BENCHMARK))
        put(tmp_path / f"fr3_plain/rgb/{n}.png", color(n, BENCHMARK))
        put(tmp_path / f"fr3_plain/depth/{n}.png", depth(n, size=BENCHMARK))
    for name in ("fr1/of/mine", "fr1_small", "fr2_frames", "fr3_plain", "fr1/of/../of/mine"):
        with open_log(tmp_path / name) as log:
            assert [topic.name for topic in log.topics if topic.kind is CameraInfo] == [], name


def test_camera_txt_comes_before_the_name(tmp_path: Path) -> None:
    folder = tum_folder(tmp_path / "fr1_desk")
    (folder / "camera.txt").write_text("# fx fy cx cy k1 k2 p1 p2 k3\n500, 501, 16, 12, 0.1 -0.2 0.01 0.02 0.3\n")
    with open_log(folder) as log:
        found = everything(log)
    info = found["/info"][0]
    assert matrix_of(info) == [500, 501, 16, 12]
    assert info.distortion.tolist() == [0.1, -0.2, 0.01, 0.02, 0.3]  # type: ignore[attr-defined]
    (folder / "camera.txt").write_text("500 501 sixteen 12")
    with pytest.raises(RecordingError, match=r"camera.txt: no intrinsics .*write fx fy cx cy"):
        open_log(folder)


@pytest.mark.parametrize("text", ["1 2 3", "0 500 16 12", "500 500 16 nan", "500 3 16 0 500 12 0 0 1", "1 2 3 4 5"])
def test_numbers_that_are_no_camera_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"numbers|no camera's|skew"):
        intrinsics_of(tuple(float(word) for word in text.split()), "here")


def test_icl_nuim_in_pairs_and_frame_numbers_has_its_y_made_to_point_down(tmp_path: Path) -> None:
    """P' = S P S must hold of rays too: a point at row v lies on the same side of the path before and after."""
    folder = tmp_path / "living_room_traj1_frei_png"
    for n in (0, 1):
        put(folder / f"rgb/{n}.png", color(n, BENCHMARK))
        put(folder / f"depth/{n}.png", depth(n, size=BENCHMARK))
    (folder / "associations.txt").write_text("0 depth/0.png 0 rgb/0.png\n1 depth/1.png 1 rgb/1.png\n")
    turn = rotation_from(np.array([0.2, -0.4, 0.3]))
    x, y, z, w = quaternion_of(turn)
    (folder / "livingRoom1.gt.freiburg").write_text(f"1 0.5 -1.5 2 {x} {y} {z} {w}\n")
    with open_log(folder) as log:
        found = everything(log)
        assert log.metadata["times"].startswith("numbers of frames") and "y" in log.metadata["poses"]
        assert [m.stamp.t_ns for m in found["/depth"]] == [0, 33_333_333]
    pose, image = found["/groundtruth"][0], found["/rgb"][1]
    assert isinstance(pose, Pose) and isinstance(image, Frame) and image.image[0, 0, 0] == 1
    assert pose.stamp.t_ns == image.stamp.t_ns and matrix_of(found["/info"][0], BENCHMARK) == [481.2, 480, 319.5, 239.5]
    ray = np.array([0.3, 0.2, 1.0])  # of a pixel, y down
    mirror = np.array([1, -1, 1])
    theirs = turn @ (ray * mirror) + [0.5, -1.5, 2]  # the benchmark: fy = -480, so y up
    ours = quaternion(pose.orientation) @ ray + pose.position_m
    assert np.allclose(ours, theirs * mirror)


@settings(max_examples=40)
@given(st.lists(st.floats(-3.1, 3.1), min_size=3, max_size=3))
def test_quaternions_are_those_of_the_rotation(vector: list[float]) -> None:
    turn = rotation_from(np.array(vector))
    assert np.allclose(quaternion(quaternion_of(turn)), turn, atol=1e-12)


# --- a folder a kind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colors", ["rgb", "color", "image", "images"])
def test_plain_folders_pair_by_number(tmp_path: Path, colors: str) -> None:
    for n in (1, 2, 10):
        put(tmp_path / f"depth/d{n}.png", depth(n, 65535))
    for n in (1, 2, 3, 10):
        put(tmp_path / f"{colors}/c{n}.jpg", color(20 * n))
    (tmp_path / "pose").mkdir()
    np.savetxt(tmp_path / "pose/2.txt", np.eye(4))
    with open_log(tmp_path) as log:
        found = everything(log)
    by_time = {m.stamp.t_ns: int(m.depth[1, 1]) - 1000 for m in found["/depth"]}  # type: ignore[attr-defined]
    images = {m.stamp.t_ns: round(int(m.image[9, 9, 0]) / 20) for m in found["/rgb"]}  # type: ignore[attr-defined]
    assert list(images.values()) == [1, 2, 3, 10] and {t: images[t] for t in by_time} == by_time
    assert found["/pose"][0].stamp == found["/rgb"][1].stamp and "/info" not in found
    assert found["/depth"][0].depth[0, 0] == 0  # type: ignore[attr-defined]


def test_plain_folders_with_times_in_their_names_take_a_truth_of_those_times(tmp_path: Path) -> None:
    for n in range(3):
        put(tmp_path / f"depth/{1_305_031_102 + n / 25:.6f}.png", depth(n))
        put(tmp_path / f"rgb/{1_305_031_102 + n / 25 + 0.004:.6f}.png", color(n))
    (tmp_path / "groundtruth.txt").write_text("1305031102.02 1 2 3 0 0 0 1\n")
    with open_log(tmp_path) as log:
        found = everything(log)
        assert [m.stamp.t_ns for m in found["/rgb"]] == [4_000_000, 44_000_000, 84_000_000]
        assert found["/groundtruth"][0].stamp.t_ns == 20_000_000 and not log.problems
    (tmp_path / "groundtruth.txt").write_text("12.5 1 2 3 0 0 0 1\n")
    with open_log(tmp_path) as log:
        assert "/groundtruth" not in everything(log) and "not those of the images" in log.problems["/groundtruth"]


def test_folders_without_images_beside_something_else_are_not_taken_for_a_log(tmp_path: Path) -> None:
    for name in ("depth", "images"):
        (tmp_path / name).mkdir()
    put(tmp_path / "a.png", color(7))
    with open_log(tmp_path) as log:
        assert [topic.name for topic in log.topics] == ["/images"]
    put(tmp_path / "depth/1.png", depth(0))
    put(tmp_path / "images/1.png", color(0))
    (tmp_path / "run.mcap").write_bytes(b"")
    with pytest.raises(RecordingError, match="the file is empty"):  # a bag comes first
        open_log(tmp_path)


def test_images_that_cannot_be_told_together_are_refused(tmp_path: Path) -> None:
    for name in ("depth/a.png", "depth/b.png", "rgb/x.png"):
        put(tmp_path / name, depth(0))
    with pytest.raises(RecordingError, match="belong together is not clear: rgb 1, depth 2"):
        open_log(tmp_path)


# --- the command and the camera -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["frames", "tum", "plain"])
def test_the_log_command_works_on_every_layout(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "fr1_it"
    if kind == "plain":
        for n in range(4):
            put(folder / f"depth/{n}.png", depth(n))
            put(folder / f"rgb/{n}.png", color(n))
    else:
        tum_folder(folder) if kind == "tum" else frames_folder(folder)
    (folder / "camera.txt").write_text("517.25 516.5 16 12")
    count = 5 if kind == "frames" else 4
    assert main(["log", "info", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    by_kind = {topic["becomes"]: (topic["topic"], topic["messages"]) for topic in told["topics"]}
    assert by_kind["DepthFrame"] == ("/depth", count) and by_kind["CameraInfo"] == ("/info", count)
    assert main(["log", "cat", str(folder), "/info", "--count", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["camera_matrix"][0] == [517.25, 0.0, 16.0]
    assert main(["log", "ls", str(folder)]) == 0
    assert main(["log", "export", str(folder), "tum", str(tmp_path / "out")]) == 0
    with open_log(folder) as log, open_log(tmp_path / "out") as written:
        assert [matrix_of(info) for info in everything(written)["/info"]] == [
            matrix_of(info) for info in everything(log)["/info"]
        ]  # by camera.txt: the name of the copy tells nothing
        before, after = everything(log)["/depth"], everything(written)["/depth"]
        for a, b in zip(before, after, strict=True):
            assert isinstance(a, DepthFrame) and isinstance(b, DepthFrame)
            assert np.allclose(a.depth * a.scale_m, b.depth * b.scale_m)
            assert log.start_ns + a.stamp.t_ns == written.start_ns + b.stamp.t_ns


def played(address: Path, **options: object) -> tuple[LogDepthCamera, list[tuple[DepthFrame, Frame | None]]]:
    """An open camera and all its pairs."""
    camera, clock = LogDepthCamera(address=address, **options), VirtualClock()  # type: ignore[arg-type]
    camera.uri = "log:x"
    clock.advance(5_000_000)
    camera.open(clock)
    pairs = []
    with pytest.raises(EndOfStream):
        while True:
            clock.advance(camera.due_ns())
            pairs.append(camera.read(0.0))
    return camera, pairs


def test_a_folder_is_a_camera_without_any_option_and_tells_its_own_times(tmp_path: Path) -> None:
    camera, pairs = played(tum_folder(tmp_path / "fr1_desk", BENCHMARK))
    assert matrix_of(camera.intrinsics(), BENCHMARK) == [517.306408, 516.469215, 318.643040, 255.313989]
    assert [d.stamp.t_ns for d, _ in pairs] == [5_000_000 + n * 40_000_000 for n in range(4)]
    assert [d.device_ns for d, _ in pairs] == [1_305_031_102_000_000_000 + n * 40_000_000 for n in range(4)]
    assert [f and f.device_ns - d.device_ns for d, f in pairs] == [4_000_000] * 4
    camera, pairs = played(frames_folder(tmp_path / "frames"))
    assert [d.device_ns for d, _ in pairs] == [1, *(round(n * PERIOD_NS) for n in range(1, 5))]  # 0 would say: none
    assert all(frame is not None for _, frame in pairs)
    with pytest.raises(NotSupported, match="give option 'camera'"):
        camera.intrinsics()


def test_intrinsics_and_the_unit_of_depth_can_be_given_by_hand(tmp_path: Path) -> None:
    folder = tum_folder(tmp_path / "fr1_desk")
    camera, pairs = played(folder, camera="400 401 15.5 11.5", unit=0.0005, image="none")
    assert matrix_of(camera.intrinsics()) == [400, 401, 15.5, 11.5]
    assert all(d.scale_m == 0.0005 and frame is None for d, frame in pairs)
    with pytest.raises(ProtocolError, match="option 'camera' is '400': 1 numbers; write 'fx fy cx cy'"):
        played(folder, camera="400")


def test_of_several_image_topics_none_is_taken_unasked(tmp_path: Path) -> None:
    folder = frames_folder(tmp_path)
    for n in range(5):
        (folder / f"frame-{n:06}.color.png").rename(folder / f"frame-{n:06}.left.png")
        put(folder / f"frame-{n:06}.right.png", color(n))
    assert all(frame is None for _, frame in played(folder)[1])
    assert all(frame is not None for _, frame in played(folder, image="/left")[1])


@pytest.mark.parametrize("what", ["files", "folders"])
def test_links_in_the_folder_are_followed_and_paths_out_of_it_are_not(tmp_path: Path, what: str) -> None:
    real, folder = tum_folder(tmp_path / "real"), tmp_path / "links"
    folder.mkdir()
    for kind in ("rgb", "depth"):
        (folder / f"{kind}.txt").write_text((real / f"{kind}.txt").read_text())
        if what == "folders":
            (folder / kind).symlink_to(real / kind)
            continue
        (folder / kind).mkdir()
        for file in (real / kind).iterdir():
            (folder / kind / file.name).symlink_to(file)
    assert [d.depth[1, 1] for d, frame in played(folder)[1] if frame is not None] == [1000, 1001, 1002, 1003]
    for name in (str(real / "depth/0.png"), "depth/../../real/depth/0.png"):
        (folder / "depth.txt").write_text(f"1.5 {name}\n")
        with pytest.raises(ProtocolError, match=r"no depth frame can be decoded: '.*' lies outside the folder"):
            played(folder)
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "depth.txt").write_text("1.5 endless.png\n")
    with pytest.raises(ProtocolError, match=r"no depth frame can be decoded: endless.png is no file"):
        played(folder)


def test_the_last_reason_is_told_where_no_depth_can_be_decoded(tmp_path: Path) -> None:
    folder = tum_folder(tmp_path)
    for n in range(4):
        put(folder / f"depth/{n}.png", color(n))
    (folder / "depth/1.png").unlink()
    with pytest.raises(ProtocolError, match=r"no depth frame can be decoded: depth/2.png is no 16-bit depth image"):
        played(folder)
    (folder / "depth.txt").write_text("")
    with pytest.raises(ProtocolError, match=r"no depth frame can be decoded: the topic has no messages"):
        played(folder)


def test_images_that_cannot_be_read_are_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "frames"
    frames_folder(folder, range(12))
    camera, pairs = played(folder)
    camera.close()
    assert len(pairs) == 12 and not caplog.records and camera.health().state == "ok"
    (folder / "frame-000002.depth.png").unlink()
    (folder / "frame-000002.depth.png").symlink_to("gone.png")
    for n in (4, 6, 7, 8):  # the fourth and fifth are counted, not named
        whole = (folder / f"frame-{n:06}.depth.png").read_bytes()
        (folder / f"frame-{n:06}.depth.png").write_bytes(whole[: len(whole) // 2])
    (folder / "frame-000009.color.png").write_bytes(b"nothing")
    camera, pairs = played(folder)
    assert len(pairs) == 7 and [d.lost_before for d, _ in pairs] == [0, 0, 1, 1, 3, 0, 0]
    why = "5 of 12 messages could not be decoded: frame-000002.depth.png: No such file or directory"
    empty = "frame-000009.color.png: 7 bytes that are no image OpenCV can decode (they begin with 6e 6f 74 68)"
    health = camera.health()
    assert health.state == "degraded" and f"/depth: {why}" in health.detail
    camera.close()
    camera.close()
    assert [record.getMessage() for record in caplog.records] == [
        "log:x: /depth: left out: frame-000002.depth.png: No such file or directory",
        "log:x: /depth: left out: frame-000004.depth.png is damaged, or no image",
        "log:x: /depth: left out: frame-000006.depth.png is damaged, or no image",
        f"log:x: /color: left out: {empty}",
        f"log:x: /depth: {why}",
        f"log:x: /color: 1 of 12 messages could not be decoded: {empty}",
    ]


@pytest.mark.data
@pytest.mark.parametrize(("name", "focal", "count"), [
    ("tum_fr1_rpy", 517.306408, 42), ("7scenes_redkitchen", 585.0, 300), ("apc_box", 615.1951904, 30),
])  # fmt: skip
def test_shared_sequences_play_without_options(shared_data: Path, name: str, focal: float, count: int) -> None:
    folder = shared_data / "rgbd" / name
    with open_log(folder) as log:
        assert {t.kind for t in log.topics} >= {Frame, DepthFrame, Pose, CameraInfo}
        assert next(t.messages for t in log.topics if t.kind is DepthFrame) == count
        assert len(list(log.messages(["/info"]))) == count
    camera, clock = LogDepthCamera(address=folder), VirtualClock()
    camera.open(clock)
    assert camera.intrinsics().camera_matrix[0, 0] == pytest.approx(focal)
    pairs = []
    for _ in range(10):
        clock.advance(camera.due_ns())
        pairs.append(camera.read(0.0))
    camera.close()
    assert sum(frame is not None for _, frame in pairs) >= 9
