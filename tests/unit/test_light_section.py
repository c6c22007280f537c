"""The scanner's graph from end to end on the twin, small: boards, calibration, scan, report, replay. Needs numba."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foveate.cli import main
from foveate.messages import Gaze
from foveate.recording import Recording
from foveate_calibration.document import RigCalibration
from foveate_nodes.reconstruction import ply

pytest.importorskip("numba")

# two stations in 0.9 x 0.35 x 0.5 m, and boards held up for 4.8 s
WORLD = {"boards": 8, "dwell": 0.6, "width": 0.9, "height": 0.35, "depth": 0.5, "columns": 2, "rows": 1}
GRAPH = {
    "boards": 8,
    "dwell": 0.6,
    "pitch": 0.006,
    "plan.looks": 8,
    "plan.volume": "[-0.45,0.45,-0.175,0.175,1.75,2.25]",
}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_small_scan_is_exact_ends_by_itself_and_can_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**{f"rig.world.{name}": value for name, value in WORLD.items()}, **GRAPH}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    out = tmp_path / "scan"
    assert main(["run", "light_section", "--executor", "virtual", "--json", "--output", str(out), *sets]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["balanced"] and result["failure"] is None
    with Recording(out / "run.mcap") as log:
        known = log.last("calibrate.calibration", RigCalibration)
        reasons = [gaze.reason for _, gaze in log.messages("plan.view", Gaze) if isinstance(gaze, Gaze)]
        stripes = [stream for stream in log.streams() if stream.name == "stripe.stripe"]
    assert isinstance(known, RigCalibration) and known.calibration().origin["procedure"] == "rig"
    assert reasons[-1] == "done" and stripes[0].messages > 500
    page = (out / "report.html").read_text()
    assert "step height" in page and "The mesh" in page
    told = " ".join(result["report"])
    largest = float(told.split("step height of")[1].split("largest ")[1].split(" mm")[0])
    assert largest < 0.3, told
    cloud, mesh = ply.read(out / "cloud.ply"), ply.read(out / "mesh.ply")
    assert len(cloud.point_m) > 3000 and np.median(np.abs(cloud.scalar["error"])) < 2e-4
    assert (np.abs(cloud.scalar["error"]) > 2e-3).mean() < 2e-3
    assert mesh.triangle is not None and len(mesh.triangle) > 1000
    again = ["replay", str(out / "run.mcap"), "--nodes", "points,cloud", "--verify", "--no-record", "--json"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["balanced"]
