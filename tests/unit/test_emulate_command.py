"""`foveate emulate`: the real drivers run against it, alone and as a whole rig; it ends in order."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from foveate import Frame, MirrorState, Recording
from foveate.cli import main
from foveate.clock import LiveClock, process_ns
from foveate.errors import Disconnected, NotFound
from foveate_drivers.emulators import command as emulate
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.mirrors.mre2 import Mre2Mirror

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
RIG = ROOT / "launch/rigs/sim_procedural.yaml"


@contextmanager
def emulated(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, once it says that it is ready."""
    command = [sys.executable, "-m", "foveate.cli", "emulate", *arguments, "--json", "--duration", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 60)[0], "it did not get ready within a minute"
            line = process.stdout.readline()
            assert "emulators" in line, line + (process.stderr.read() if process.stderr else "")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def test_a_mirror_moves_behind_its_wire_and_the_command_ends_in_order(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    clock = LiveClock()
    clock.start()
    with emulated("mre2", "--link", str(link)) as process:
        assert link.is_symlink()
        mirror = Mre2Mirror(address=str(link), deadline=0.0)
        mirror.uri = f"mre2:{link}"
        with mirror:
            mirror.open(clock)
            for angle in ([0.1, -0.05], [-0.1, 0.02]):
                mirror.goto(np.array(angle))
                end_ns = process_ns() + 2_000_000_000
                while np.abs(mirror.position().angle_rad - angle).max() > 2e-4:
                    assert process_ns() < end_ns, mirror.position()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["uri"] == f"mre2:{link}" and sum(told["counters"].values()) > 4
    assert not link.is_symlink()


@pytest.mark.heavy
def test_a_planned_fault_comes(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    clock = LiveClock()
    clock.start()
    with emulated("mre2", "--link", str(link), "--fault", "unplug=1s"):
        mirror = Mre2Mirror(address=str(link), deadline=0.0)
        mirror.uri = f"mre2:{link}"
        mirror.open(clock)
        end_ns = process_ns() + 5_000_000_000
        with pytest.raises(Disconnected):
            while process_ns() < end_ns:
                mirror.position()
        mirror.close()
        with pytest.raises(NotFound):
            mirror.open(clock)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mre3"], "'mre3' is neither an emulator nor a rig file; did you mean 'mre2'?"),
        (["mre2", "limk=/tmp/x"], "the emulator 'mre2' has no option 'limk'; did you mean 'link'?"),
        (["mre2", "link"], "'link': write it as NAME=VALUE"),
        (["mre2", "--fault", "dorp=0.1"], "unknown fault 'dorp'"),
        (["mre2", "--fault", "unplug=soon"], "fault 'unplug=soon': not a duration: 'soon'"),
        (["mre2", "--fault", "unplug=5"], "fault 'unplug=5': a time needs its unit, such as unplug=5s"),
        (["mre2", "--fault", "delay=20"], "a probability is within 0 to 1"),
        (["mre2", "--fault", "drop=nan"], "a probability is within 0 to 1"),
        (["mre2", "--duration", "5"], "--duration: not a duration: '5'"),
        ([str(RIG)], "say which devices to serve"),
        ([str(RIG), "mirror=mre9"], "no emulator 'mre9' for 'mirror'; did you mean 'mre2'?"),
        ([str(RIG), "miror=mre2"], "the rig has no device 'miror'; did you mean 'mirror'?"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulate", *arguments]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert told in error and "\n" not in error


REAL = """\
foveate: 1
devices:
  world:  {{uri: "none:"}}
  mirror: {{uri: "mre2:{link}", limit: 0.24, scanner: saccade30}}
  wide:   {{uri: "gige:127.0.0.6", width: 960, height: 540, field: 0.9, rate: 5.0, exposure: 0.004, offset: 0.12}}
  search: {{uri: "gige:127.0.0.5", width: 256, height: 256, field: 0.0419, rate: 60.0, exposure: 0.001}}
"""


@pytest.mark.heavy
@pytest.mark.skipif(find_library("aravis-0.8") is None, reason="needs libaravis-0.8 (Debian: libaravis-0.8-0)")
def test_the_search_runs_on_a_rig_of_emulators_by_changing_only_the_rig_file(tmp_path: Path) -> None:
    link, rig, out = tmp_path / "tty", tmp_path / "real.yaml", tmp_path / "out"
    rig.write_text(REAL.format(link=link))
    parts = [f"mirror=mre2,link={link}", "search=gige,address=127.0.0.5", "wide=gige,address=127.0.0.6"]
    with emulated(str(RIG), *parts, "--set", "rig.search.rate=60.0"):
        command = [
            "run",
            "wide_area",
            "--rig",
            str(rig),
            "--duration",
            "6s",
            "--no-report",
            "--quiet",
            "--output",
            str(out),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "foveate.cli", *command], capture_output=True, text=True, timeout=90, check=False,
            cwd=ROOT, env=os.environ,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    with Recording(next(out.glob("*.mcap"))) as log:
        frames = [item[-1] for item in log.messages("search.frame", Frame)]
        states = [item[-1] for item in log.messages("mirror.state", MirrorState)]
    assert len(frames) > 200 and len(states) > 150
    assert all(frame.mirror is not None and frame.mirror.source in ("model", "readback") for frame in frames)
    aims = np.array([frame.mirror.angle_rad for frame in frames if frame.mirror is not None])
    assert np.ptp(aims, axis=0).min() > 0.05, "it looked around"
    assert np.mean([frame.image.std() for frame in frames]) > 3, "it saw the town"


def test_a_planned_fault_comes_to_each_emulator_of_a_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[FaultPlan] = []
    monkeypatch.setattr(emulate, "_serve", lambda emulators, *_: plans.extend(e.faults for e in emulators) or 0)
    rig = tmp_path / "rig.yaml"
    rig.write_text('foveate: 1\ndevices: {a: "sim:a", b: "sim:b"}\n')
    assert main(["emulate", str(rig), "a=mre2", "b=mre2", "--fault", "unplug=1s"]) == 0
    first, second = plans
    first.unplug_s = None  # it has happened there
    assert second.unplug_s == 1.0
