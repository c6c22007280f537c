"""Somebody's log as the source of a graph: at its times, checked by its topics, replayed without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

from foveate import catalog
from foveate.checking import load_graph
from foveate.cli import main
from foveate.errors import EndOfStream, GraphError
from foveate.messages import CameraInfo, DepthFrame, Events, Frame, Imu, Message, Pose, ProbabilityMap, Stamp
from foveate.node import Node
from foveate.recording import Recording
from foveate_nodes.devices.log_player import LogPlayer
from tests.unit.test_foreign_logs import PERIOD, START, depth_of, picture, write_rosbags

MS = 1_000_000
TUM_START = 1_305_031_102  # seconds


class Mean(Node):
    """The mean of every image."""

    class Outputs:
        out: ProbabilityMap

    def step(self, frame: Frame) -> ProbabilityMap:
        mean = np.array([[frame.image.mean()]], np.float32)
        return ProbabilityMap(Stamp(frame.stamp.t_ns), mean, 0.0, 0.0, 1.0)


@pytest.fixture(autouse=True)
def our_node() -> Iterator[None]:
    listing, load = catalog.listing, catalog.load
    point = {"mean": EntryPoint("mean", f"{__name__}:Mean", "foveate.nodes")}
    with (
        patch.object(catalog, "listing", lambda g: {**listing(g), **point} if g == "nodes" else listing(g)),
        patch.object(catalog, "load", lambda g, n: Mean if (g, n) == ("nodes", "mean") else load(g, n)),
    ):
        yield


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)


def tum_folder(to: Path) -> Path:
    """Three images 33 ms apart, two depths 5 ms after the first two, two poses before and after, one acceleration."""
    (to / "rgb").mkdir(parents=True)
    (to / "depth").mkdir()
    rgb, depth = [], []
    for i, ms in enumerate((10, 43, 76)):
        cv2.imwrite(str(to / f"rgb/{i}.png"), image(i))
        rgb.append(f"{TUM_START}.{ms:03} rgb/{i}.png")
    for i, ms in enumerate((15, 48)):
        cv2.imwrite(str(to / f"depth/{i}.png"), np.full((12, 16), 5000 * (i + 1), np.uint16))
        depth.append(f"{TUM_START}.{ms:03} depth/{i}.png")
    (to / "rgb.txt").write_text("# color images\n" + "\n".join(rgb) + "\n")
    (to / "depth.txt").write_text("\n".join(depth) + "\n")
    (to / "groundtruth.txt").write_text(f"{TUM_START}.000 1 2 3 0 0 0 1\n{TUM_START}.100 4 5 6 0 0 1 0\n")
    (to / "accelerometer.txt").write_text(f"{TUM_START}.050 0.5 0 9.81\n")
    return to


def play(player: LogPlayer) -> list[tuple[int, str, Message]]:
    """When, on which output, what; to the end."""
    player.open()
    found: list[tuple[int, str, Message]] = []
    try:
        while True:
            due_ns = player.due_ns()
            ((output, message),) = player.step().items()
            found.append((due_ns, output, message))
    except EndOfStream:
        return found
    finally:
        player.close()
        player.close()


def test_topics_of_a_tum_folder_come_at_their_times(tmp_path: Path) -> None:
    log = tum_folder(tmp_path / "tum")
    found = play(LogPlayer(log=log, frame="/rgb", depth="/depth", pose="/groundtruth", imu="/accelerometer"))
    assert [(t // MS, output) for t, output, _ in found] == [
        (0, "pose"), (10, "frame"), (15, "depth"), (43, "frame"), (48, "depth"), (50, "imu"), (76, "frame"),
        (100, "pose"),
    ]  # fmt: skip
    assert all(m.stamp.t_ns == t and m.stamp.clock == "log" for t, _, m in found)
    frames = [m for _, _, m in found if isinstance(m, Frame)]
    assert all(np.array_equal(m.image, image(i)) for i, m in enumerate(frames)) and len(frames) == 3
    depths = [m for _, _, m in found if isinstance(m, DepthFrame)]
    assert [float(m.depth.mean() * m.scale_m) for m in depths] == [pytest.approx(1.0), pytest.approx(2.0)]
    poses = [m for _, _, m in found if isinstance(m, Pose)]
    assert [m.position_m.tolist() for m in poses] == [[1, 2, 3], [4, 5, 6]]
    (imu,) = (m for _, _, m in found if isinstance(m, Imu))
    assert imu.acceleration_m_s2.tolist() == [0.5, 0, 9.81]


def test_only_topics_that_are_named_are_given(tmp_path: Path) -> None:
    log = tum_folder(tmp_path / "tum")
    assert [output for _, output, _ in play(LogPlayer(log=log, depth="/depth"))] == ["depth", "depth"]
    player = LogPlayer(log=log, pose="/groundtruth")
    assert [t // MS for t, _, _ in play(player)] == [0, 100], "times count from the log's first message"
    assert [t // MS for t, _, _ in play(player)] == [0, 100], "opened again it begins again"


@pytest.mark.parametrize("how", ["ros1", "ros2 mcap", "ros2 db3"])
def test_topics_of_a_bag_come_when_they_were_received(how: str, tmp_path: Path) -> None:
    log = write_rosbags(tmp_path / ("a.bag" if how == "ros1" else "a"), how)
    found = play(LogPlayer(log=log, frame="/cam/image", depth="/cam/depth"))
    assert len(found) == 12
    for output, kind in (("frame", Frame), ("depth", DepthFrame)):
        mine = [(t, m) for t, o, m in found if o == output]
        assert [t for t, _ in mine] == [i * PERIOD for i in range(6)]
        assert [m.stamp.t_ns for _, m in mine] == [i * PERIOD - 5 * MS for i in range(6)], "headers are 5 ms older"
        assert all(isinstance(m, kind) for _, m in mine)
    images = [m.image for _, _, m in found if isinstance(m, Frame)]
    assert all(np.array_equal(a, picture(i)) for i, a in enumerate(images))
    depths = [m.depth for _, _, m in found if isinstance(m, DepthFrame)]
    assert all(np.array_equal(a, depth_of(i)) for i, a in enumerate(depths))


def problems(log: Path, **topics: str | None) -> list[tuple[str, str]]:
    names = dict.fromkeys(("frame", "depth", "info", "imu", "pose", "events"))
    return [(p.parameter, p.text) for p in LogPlayer.check(log=log, **{**names, **topics})]


def test_check_names_the_topics_that_fit(tmp_path: Path) -> None:
    log = tum_folder(tmp_path / "tum")
    assert problems(log, frame="/rgb", depth="/depth", pose="/groundtruth", imu="/accelerometer") == []
    assert problems(log, frame="/image") == [("frame", "topic '/image' is not in the log; topics of Frame: /rgb")]
    assert problems(log, frame="/rgb", depth="/rgb", events="/dvs") == [
        ("depth", "topic '/rgb' is tum/rgb; topics of DepthFrame: /depth"),
        ("events", "topic '/dvs' is not in the log; topics of Events: none"),
    ]
    assert problems(log) == [
        ("log", "name a topic for an output; it has /accelerometer, /depth, /groundtruth, /rgb")
    ]  # fmt: skip
    empty = tmp_path / "empty.mcap"
    empty.write_bytes(b"")
    (found,) = problems(empty, frame="/rgb")
    assert found[0] == "log" and "the file is empty" in found[1]


def graph_file(folder: Path, log: str, topics: str) -> Path:
    path = folder / "g.yaml"
    path.write_text(
        f"""\
foveate: 1
nodes:
  bag: {{use: log_player, params: {{log: {log}, {topics}}}}}
  mean: {{use: mean, inputs: {{frame: {{from: bag.frame, queue: fifo(9)}}}}}}
record: {{streams: [bag.frame, bag.depth, mean.out]}}
"""
    )
    return path


def test_faults_of_a_graph_name_the_topics_and_their_place(tmp_path: Path) -> None:
    tum_folder(tmp_path / "tum")
    with pytest.raises(GraphError) as caught:
        load_graph(graph_file(tmp_path, "tum", "frame: /image, depth: /depth"))
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{tmp_path}/g.yaml:3:")
    assert "topic '/image' is not in the log; topics of Frame: /rgb" in str(fault)
    with pytest.raises(GraphError) as caught:
        load_graph(graph_file(tmp_path, "none", "frame: /rgb"))
    assert len(caught.value.faults) == 1 and "none" in str(caught.value)


@pytest.mark.parametrize("kind", ["tum", "bag"])
def test_a_run_of_a_log_is_replayed_without_the_log(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "tum":
        log, topics = tum_folder(tmp_path / "tum"), "frame: /rgb, depth: /depth"
        times = [10 * MS, 43 * MS, 76 * MS]
    else:
        log, topics = write_rosbags(tmp_path / "a.bag", "ros1"), "frame: /cam/image, depth: /cam/depth"
        times = [i * PERIOD for i in range(6)]
    graph = graph_file(tmp_path, log.name, topics)
    assert main(["run", str(graph), "--executor", "virtual", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    with Recording(tmp_path / "out/run.mcap") as run:
        frames = list(run.messages("bag.frame", Frame))
        assert [t for t, _ in frames] == times
        if kind == "tum":
            assert all(np.array_equal(m.image, image(i)) for i, (_, m) in enumerate(frames))  # type: ignore[attr-defined]
        means = list(run.messages("mean.out", ProbabilityMap))
        assert len(means) == len(times) and len(list(run.messages("bag.depth", DepthFrame))) >= 2
    shutil.rmtree(log) if log.is_dir() else log.unlink()
    graph.unlink()
    capsys.readouterr()
    command = ["replay", str(tmp_path / "out/run.mcap"), "--verify", "--json", "--output", str(tmp_path / "again")]
    code = main(command)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert json.loads(out)["verified"] == {"good": True, "first": None}
    with Recording(tmp_path / "again/replay.mcap") as again:
        assert [(t, value(m)) for t, m in again.messages("mean.out", ProbabilityMap)] == [
            (t, value(m)) for t, m in means
        ]


def value(message: Message) -> float:
    assert isinstance(message, ProbabilityMap)
    return float(message.expected[0, 0])


def test_an_imported_log_feeds_a_graph_by_the_names_of_its_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_rosbags(tmp_path / "a.bag", "ros1")
    assert main(["log", "import", str(bag), str(tmp_path / "a.mcap")]) == 0
    assert "/cam/image -> cam_image.frame" in capsys.readouterr().out
    bag.unlink()
    graph = tmp_path / "g.yaml"
    graph.write_text(
        """\
foveate: 1
rig: {front: "opencv:0"}
nodes:
  cam_image: {use: camera, device: "${rig.front}"}
  mean: {use: mean, cost: 2ms, inputs: {frame: {from: cam_image.frame, queue: fifo(9)}}}
record: {streams: [mean.out]}
"""
    )
    command = ["replay", str(tmp_path / "a.mcap"), "--graph", str(graph), "--json", "--output", str(tmp_path / "b")]
    code = main(command)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert json.loads(out)["balanced"]
    with Recording(tmp_path / "b/replay.mcap") as log:
        found = [(t, value(m)) for t, m in log.messages("mean.out", ProbabilityMap)]
        assert log.wall_start_ns == START + 5 * MS, "wall times are those of the bag"
    assert [t for t, _ in found] == [i * PERIOD + 2 * MS for i in range(6)]
    assert [v for _, v in found] == [pytest.approx(picture(i).mean(), abs=1e-3) for i in range(6)]


def test_an_imported_log_that_lacks_a_source_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_rosbags(tmp_path / "a.bag", "ros1")
    assert main(["log", "import", str(bag), str(tmp_path / "a.mcap"), "--topics", "/cam/depth"]) == 0
    graph = tmp_path / "g.yaml"
    nodes = '{cam: {use: camera, device: "${rig.front}"}, mean: {use: mean, inputs: {frame: cam.frame}}}'
    graph.write_text(f'foveate: 1\nrig: {{front: "opencv:0"}}\nnodes: {nodes}\n')
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "a.mcap"), "--graph", str(graph), "--no-record"]) == 1
    err = capsys.readouterr().err
    assert "'cam.frame' was not recorded, and the graph needs it" in err and "Traceback" not in err


def test_faults_of_another_graph_are_said_to_be_in_that_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_rosbags(tmp_path / "a.bag", "ros1")
    assert main(["log", "import", str(bag), str(tmp_path / "a.mcap")]) == 0
    graph = tmp_path / "g.yaml"
    graph.write_text("foveate: 1\nnodes: {mean: {use: maen}}\n")
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "a.mcap"), "--graph", str(graph), "--no-record"]) == 2
    assert capsys.readouterr().err.startswith(f"{graph}:2:21: unknown node type 'maen'")


def test_the_player_has_an_output_for_every_kind_that_logs_give() -> None:
    from foveate.node import schema_of

    outputs = {name: port.type for name, port in schema_of(LogPlayer).outputs.items()}
    assert set(outputs.values()) == {Frame, DepthFrame, CameraInfo, Imu, Pose, Events}
    assert set(outputs) < set(schema_of(LogPlayer).parameters)
