"""The command, as a user calls it, on the shipped graph in simulated time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.cli import main
from foveate.messages import Boxes, Frame, Objects
from foveate.recording import Recording

SHORT = ["run", "wide_area", "--executor", "virtual", "--duration", "700ms", "--set", "rig.world.vehicles=8"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert main([*SHORT, "--output", str(folder), "--quiet"]) == 0
    return folder


def test_a_run_writes_a_recording_and_a_report(recorded: Path) -> None:
    page = (recorded / "report.html").read_text(encoding="utf-8")
    assert "Recall over time" in page and "raster" in page and "random" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert {p.name for p in recorded.iterdir()} == {"run.mcap", "raster.mcap", "random.mcap", "report.html"}


def test_each_search_frame_carries_the_mirror_at_mid_exposure(recorded: Path) -> None:
    with Recording(recorded / "run.mcap") as log:
        frames = [m for _, m in log.messages("search.frame", Frame)]
        boxes = [m for _, m in log.messages("find.boxes", Boxes)]
    assert len(frames) > 70
    assert all(isinstance(f, Frame) and f.mirror is not None and f.mirror.stamp.t_ns == f.stamp.t_ns for f in frames)
    assert {b.seq for b in boxes} <= {f.seq for f in frames}  # type: ignore[attr-defined]
    moved = sum(f.mirror.moved for f in frames)  # type: ignore[attr-defined, union-attr]
    assert moved == 0, "moves happen in the readout"


def test_one_seed_gives_one_recording(recorded: Path, tmp_path: Path) -> None:
    assert main([*SHORT, "--output", str(tmp_path), "--quiet", "--no-report"]) == 0
    with Recording(recorded / "run.mcap") as a, Recording(tmp_path / "run.mcap") as b:
        for stream, kind in (("search.frame", Frame), ("track.objects", Objects)):
            first = [(t, _key(m)) for t, m in a.messages(stream, kind)]
            second = [(t, _key(m)) for t, m in b.messages(stream, kind)]
            assert first == second and len(first) > 70


def _key(message: object) -> bytes:
    if isinstance(message, Frame):
        return message.image.tobytes()
    assert isinstance(message, Objects)
    return message.direction_rad.tobytes() + message.probability.tobytes()


def test_a_recording_is_an_mcap_that_others_read(recorded: Path) -> None:
    from mcap.reader import make_reader

    with (recorded / "run.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    names = {schema.name for schema in summary.schemas.values()}
    assert {"foxglove.RawImage", "foxglove.ImageAnnotations", "foveate.Objects"} <= names


def test_replay_feeds_the_recording_back_without_devices(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(recorded / "run.mcap"), "--output", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["balanced"]
    with Recording(recorded / "run.mcap") as a, Recording(tmp_path / "replay.mcap") as b:
        before = [_boxes(m) for _, m in a.messages("find.boxes", Boxes)]
        after = [_boxes(m) for _, m in b.messages("find.boxes", Boxes)]
    assert before[: len(after)] == after and len(before) - len(after) <= 1


def _boxes(message: object) -> tuple[int, bytes]:
    assert isinstance(message, Boxes)
    return message.seq, message.box_px.tobytes()


def test_log_info_says_what_is_inside(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "info", str(recorded / "run.mcap"), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    topics = {row["topic"]: row["messages"] for row in info["streams"]}
    assert topics["/search.frame"] > 70
    wire = next(w for w in info["end"]["ledger"] if w["wire"].startswith("search.frame -> record"))
    assert wire["delivered"] == topics["/search.frame"]


def test_errors_are_one_line_with_their_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("run", "wide_arae"): (2, "did you mean 'wide_area'?"),
        ("run", "wide_area", "--duration", "soon"): (2, "not a duration"),
        ("log", "info", str(tmp_path / "none.mcap")): (1, "cannot read"),
        ("replay", str(Path(__file__))): (1, "not an MCAP file"),
        ("run", "wide_area", "--set", "scene=photo", "--no-record", "--quiet"): (1, "--set rig.world.image=FILE"),
        ("report", "search_report", str(tmp_path / "none.mcap")): (1, "cannot read"),
    }
    for arguments, (code, text) in cases.items():
        assert main(list(arguments)) == code, arguments
        captured = capsys.readouterr()
        said = captured.err + captured.out
        assert text in said and "Traceback" not in said


def test_list_and_graph_show_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    nodes = {node["name"]: node for node in listed["nodes"]}
    assert {p["unit"] for p in nodes["gaze_scheduler"]["parameters"]} >= {"m", "s", "rad"}
    assert all(item["summary"] and "cannot be used" not in item["summary"] for part in listed.values() for item in part)
    assert main(["graph", "wide_area"]) == 0
    assert "search: camera" in capsys.readouterr().out
    assert main(["graph", "wide_area", "--svg", str(tmp_path / "g.svg")]) == 0
    assert (tmp_path / "g.svg").read_text(encoding="utf-8").count("<rect") > 9
    capsys.readouterr()
    assert main(["graph", "wide_area", "--expanded"]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["check", str(again)]) == 0


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from foveate.cli import parser; parser().format_help(); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("numpy", "pydantic", "yaml", "cv2", "mcap"):
        assert f"'{name}'" not in out
