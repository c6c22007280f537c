"""`foveate devices`: lists, shows, tests; says in one line what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from foveate.cli import main
from foveate_drivers import devices_command
from foveate_drivers.conformance import cameras, suite
from foveate_drivers.conformance.suite import Bench
from foveate_drivers.emulators.running import Note, announced, running

RIG = Path(__file__).resolve().parents[2] / "launch/rigs/sim_procedural.yaml"


@pytest.mark.heavy
def test_show_gives_settings_health_and_a_grab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grab = tmp_path / "grab.png"
    command = ["devices", "show", "--rig", str(RIG), "search", "--set", "width=64", "--set", "height=48"]
    assert main([*command, "--json", "--save", str(grab)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["width"]["value"] == 64 and told["simulated"] and told["health"] == "ok"
    assert told["grab"].startswith("64 x 48 Mono8, frame 65400")
    assert cv2.imread(str(grab), cv2.IMREAD_UNCHANGED).shape == (48, 64)
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "exposure" in text and "1e-06 to 0.00833333 s" in text and "test grab" in text


def test_a_device_that_keeps_its_promises_passes_and_the_report_says_what_was_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 200.0, (32, 24))
    for i in range(30):
        writer.write(cv2.merge([cv2.UMat(24, 32, cv2.CV_8U, (i,)).get()] * 3))
    writer.release()
    report = tmp_path / "report.json"
    assert main(["devices", "test", f"file:{video}", "--report", str(report)]) == 0
    told = json.loads(report.read_text())
    assert told["failed"] == 0 and told["passed"] >= 18 and len(told["checks"]) == len(suite.checks(cameras))
    assert all(check["why"] for check in told["checks"] if check["verdict"] != "passed")
    assert "could not be made" in capsys.readouterr().out


def test_a_device_that_breaks_a_promise_fails_with_what_it_broke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveate_drivers.cameras.files import ImageFolder

    for i in range(30):
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), cv2.UMat(24, 32, cv2.CV_8U, (i,)).get())
    honest = ImageFolder.read

    def repeats(self: ImageFolder, timeout_s: float) -> object:
        frame = honest(self, timeout_s)
        object.__setattr__(frame, "seq", frame.seq // 2)
        return frame

    monkeypatch.setattr(ImageFolder, "read", repeats)
    assert main(["devices", "test", f"images:{tmp_path}", "--set", "rate=300"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  Frame numbers grow" in out and "said to be lost" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "opnecv:0"], "opnecv:0: no driver for 'opnecv:'; did you mean 'opencv'?"),
        (["show", "sim:x"], "'sim:' may be a camera or a"),
        (["show", "file:/no/such.mp4"], "file:/no/such.mp4: no file '/no/such.mp4'"),
        (["show", "opencv:93"], "opencv:93: cannot open: there is no /dev/video93"),
        (["show", "sim:x", "--family", "mirror", "--set", "limit=9"], "'limit' = 9"),
        (["show", "sim:x", "--family", "mirror", "--set", "limt=0.1"], "did you mean 'limit'?"),
        (["test", "--rig", str(RIG), "serach"], "the rig has no device 'serach'; did you mean 'search'?"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", *arguments]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert told in error and "\n" not in error


def test_emulators_that_run_are_listed_and_dead_ones_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    import os

    with announced([Note(os.getpid(), "X", "mirror", "mre2:/dev/pts/no")]):
        assert any(note.uri == "mre2:/dev/pts/no" for note in running())
        assert main(["devices", "list", "--quick", "--family", "mirror", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert any(row["uri"] == "mre2:/dev/pts/no" and "emulated" in row["note"] for row in rows)
    assert not any(note.uri == "mre2:/dev/pts/no" for note in running())
    with announced([Note(2**22 + 1, "X", "mirror", "mre2:/dev/pts/dead")]):
        assert not any(note.uri == "mre2:/dev/pts/dead" for note in running())


def test_a_driver_that_raises_outside_the_tree_fails_its_check() -> None:
    def broken() -> object:
        raise RuntimeError("no driver should")

    outcomes = list(suite.run(cameras, Bench(broken)))  # type: ignore[arg-type]
    assert {outcome.verdict for outcome in outcomes} == {"failed"} | ({"skipped"} & {o.verdict for o in outcomes})
    assert any("RuntimeError: no driver should" in outcome.why for outcome in outcomes)


def test_every_family_has_a_suite_of_at_least_25_checks() -> None:
    from importlib import import_module

    for name in devices_command._SUITES.values():
        assert len(suite.checks(import_module(f"foveate_drivers.conformance.{name}"))) >= 25, name
