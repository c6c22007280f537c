"""The graphs odometry, slam and mapping as shipped: what they record, how they end, what they say is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="odometry's loops are compiled by numba (extra odometry)")
pytest.importorskip("gtsam", reason="loops are closed with gtsam (extra slam)")

from foveate import load_graph
from foveate.cli import main
from foveate.clock import VirtualClock
from foveate.errors import EndOfStream, GraphError
from foveate.messages import DepthFrame, Message, Stamp
from foveate.node import Node, parameters_of
from foveate.recording import Recording
from foveate.replay import replaced_nodes
from foveate_drivers import log_topic
from foveate_drivers.depth.log import LogDepthCamera
from foveate_nodes.devices.log_player import LogPlayer
from foveate_nodes.odometry import agreement, odometry_charts
from foveate_nodes.odometry.loop_closure import LoopClosure
from foveate_nodes.odometry.messages import Tracking
from foveate_nodes.odometry.odometry import Odometry
from foveate_nodes.odometry.odometry_result import _why_no_pose
from foveate_nodes.reconstruction.tsdf_map import TsdfMap
from tests.unit.test_log_player import play, tum_folder

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
ROOM = f"rig={LAUNCH / 'rigs/sim_room.yaml'}"
GRAPHS = ("odometry", "slam", "mapping")
MS = 1_000_000


@pytest.fixture
def open3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", ModuleType("open3d"))


# --- as they are shipped


@pytest.mark.parametrize("name", GRAPHS)
def test_what_a_replay_needs_is_recorded_and_live_the_newest_frames_count(name: str, open3d: None) -> None:
    graph = load_graph(LAUNCH / f"graphs/{name}.yaml")
    assert graph.report is not None and graph.report.use == "odometry_report" and graph.record is not None
    fed = replaced_nodes(graph, set())
    needed = {(wire.source, wire.output) for wire in graph.wires if wire.source in fed and wire.target not in fed}
    whole = {(node, output) for node, output, queue in graph.record.streams if queue.kind == "fifo"}
    assert needed == {("camera", "depth"), ("camera", "frame"), ("camera", "info")} and needed <= whole
    waiting = {wire.input: wire.policy.size for wire in graph.incoming("odometry")}
    assert waiting == {"depth": 4, "frame": 4, "info": 4}


def test_a_parameter_that_the_rig_made_idle_is_named_with_the_way_out() -> None:
    path = LAUNCH / "graphs/odometry.yaml"
    for setting in ("screen=page:127.0.0.1:8010", "params.camera=log:X"):
        with pytest.raises(GraphError) as caught:
            load_graph(path, [ROOM, setting])
        (fault,) = caught.value.faults
        name = setting.removeprefix("params.").partition("=")[0]
        assert str(fault).startswith(f"--set {setting}") and "\n" not in str(fault)
        assert f"nothing uses the parameter '{name}'" in fault.text and f"rig.{name}.uri=" in fault.text
    graph = load_graph(path, [ROOM, "rig.screen.uri=page:127.0.0.1:8010", "residual=both"])
    assert graph.devices["screen"].uri == "page:127.0.0.1:8010" and graph.nodes["odometry"].parameters["window"] == 6
    assert load_graph(path, ["screen=page:127.0.0.1:8010"]).devices["screen"].uri == "page:127.0.0.1:8010"


def test_a_parameter_that_no_node_takes_is_named(tmp_path: Path) -> None:
    graph = tmp_path / "g.yaml"
    graph.write_text("foveate: 1\nparams: {a: 1}\nnodes: {}\n")
    with pytest.raises(GraphError, match=r"nothing uses the parameter 'a'$"):
        load_graph(graph, ["a=2"])
    assert load_graph(graph).nodes == {}


@pytest.mark.parametrize(("kind", "module", "extra"), [
    (Odometry, "numba", "odometry"), (Odometry, "cv2", "odometry"), (LoopClosure, "gtsam", "slam"),
    (TsdfMap, "open3d", "recon"),
])  # fmt: skip
def test_check_names_what_is_not_installed(
    kind: type[Node], module: str, extra: str, open3d: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {name: each.default for name, each in parameters_of(kind).items()}
    assert list(kind.check(**defaults)) == []
    monkeypatch.setitem(sys.modules, module, None)
    (problem,) = kind.check(**defaults)
    assert problem.parameter == "use" and f"import {module}" in problem.text and f"foveate[{extra}]" in problem.text


def test_the_limit_in_the_report_is_that_of_the_tracker() -> None:
    assert odometry_charts.LEAST_EDGE == agreement._LEAST_EDGE


# --- times of a log


def test_depth_and_truth_of_a_log_come_at_the_same_times(tmp_path: Path) -> None:
    """The truth begins 15 ms before the first depth frame."""
    log = tum_folder(tmp_path / "tum")
    truth = {output: message for _, output, message in play(LogPlayer(log=log, depth="/depth", pose="/groundtruth"))}
    assert depth_ms(LogDepthCamera(address=log)) == [15, 48] and truth["depth"].stamp.t_ns == 48 * MS
    assert depth_ms(LogDepthCamera(address=log), 7 * MS) == [22, 55]  # a device that is opened again begins anew


def depth_ms(camera: LogDepthCamera, begin_ns: int = 0) -> list[int]:
    clock, found = VirtualClock(), []
    clock.advance(begin_ns)
    camera.open(clock)
    with pytest.raises(EndOfStream):
        while True:
            clock.advance(camera.due_ns())
            found.append(camera.read(0.0)[0].stamp.t_ns // MS)
    camera.close()
    return found


@pytest.mark.parametrize(("first_ms", "expected"), [(-5, [-5, 28]), (10**13, [0, 33]), (-(10**13), [0, 33])])
def test_stamps_of_another_clock_count_from_the_first(
    first_ms: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = np.ones((4, 4), np.uint16)
    frames: list[Message] = [DepthFrame(Stamp((first_ms + ms) * MS), depth, 0.001, 0) for ms in (0, 33)]
    log = SimpleNamespace(
        topics=[SimpleNamespace(name="/depth", kind=DepthFrame)], start_ns=1, end_ns=100 * MS, problems={}, reasons={},
        messages=lambda topics: (("/depth", 0, frame) for frame in frames), close=lambda: None,
    )  # fmt: skip
    monkeypatch.setattr(log_topic, "opened", lambda uri, path: log)
    assert depth_ms(LogDepthCamera(address=Path("any"))) == expected


# --- runs without a pose


def folder_of(to: Path, gray: np.ndarray) -> Path:
    """Four times the same image at 1.5 m, and nothing that tells intrinsics."""
    for kind, image in (("rgb", gray), ("depth", np.full(gray.shape, 1500, np.uint16))):
        (to / kind).mkdir(parents=True)
        for k in range(4):
            cv2.imwrite(str(to / f"{kind}/{k}.png"), image)
    return to


def ran(folder: Path, out: Path, *more: str) -> int:
    return main(["run", "odometry", "--set", f"camera=log:{folder}", "--executor", "virtual", "--output", str(out),
                 "--quiet", *more])  # fmt: skip


def test_without_intrinsics_the_run_says_how_to_give_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "some", np.full((120, 160), 128, np.uint8))
    assert ran(folder, tmp_path / "out") == 1
    out = capsys.readouterr().out
    assert "node 'camera' failed in step" in out and "give option 'camera' (fx fy cx cy)" in out
    assert "every message accounted for" in out
    ran(folder, tmp_path / "given", "--set", "rig.camera.camera=150 150 80 60")
    assert "node 'camera' failed" not in capsys.readouterr().out


def test_where_no_frame_is_tracked_the_run_says_why_below_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "some", np.full((120, 160), 128, np.uint8))
    (folder / "camera.txt").write_text("150 150 80 60\n")
    assert ran(folder, tmp_path / "out") == 1
    table, _, said = capsys.readouterr().out.partition("every message accounted for")
    assert "camera.depth -> odometry.depth" in table
    assert "no report: " in said and "none of 4 frames has a pose; 4 times: only 0 points of edges with depth" in said
    with Recording(tmp_path / "out/run.mcap") as log:
        assert len(list(log.messages("odometry.tracking", Tracking))) == 4


@pytest.mark.parametrize(("ledger", "notes", "why"), [
    ({"depth": (5, 0), "frame": (5, 0), "info": (0, 0)}, [], "'odometry' got no intrinsics: 'camera.info' gave none"),
    ({"depth": (5, 0), "frame": (0, 0), "info": (5, 0)}, [], "'odometry' got no images: 'camera.frame' gave none"),
    ({"depth": (5, 5), "frame": (5, 0)}, ["odometry: camera.frame off by 40 ms > window 20 ms, 5 times"],
     "'odometry' gave no pose: 5 of 5 messages of 'camera.depth' never came to 'odometry': 5 without a partner in time "
     "(camera.frame off by 40 ms > window 20 ms, 5 times); 5 of 5 messages of 'camera.frame' never came to 'odometry': "
     "5 still waiting when the run ended"),
    ({}, [], "'odometry' gave no pose: it worked on no frame"),
])  # fmt: skip
def test_of_a_run_in_which_odometry_said_nothing_the_ledger_tells(
    ledger: dict[str, tuple[int, int]], notes: list[str], why: str
) -> None:
    wires = [
        {"wire": f"camera.{port} -> odometry.{port}", "produced": produced, "delivered": 0,
         "dropped": {"unmatched": unmatched} if unmatched else {}, "in_flight": produced - unmatched}
        for port, (produced, unmatched) in ledger.items()
    ]  # fmt: skip
    stream = SimpleNamespace(name="odometry.pose", type="PoseEstimate", messages=0)
    log = SimpleNamespace(streams=lambda: [stream], end={"ledger": wires, "notes": notes}, seal={"executor": "virtual"})
    assert _why_no_pose(log, {}) == why  # type: ignore[arg-type]
