"""The graph that does everything at once: each capability gives what it gives alone, every message is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("open3d", reason="needs the extra 'recon'")
pytest.importorskip("gtsam", reason="needs the extra 'slam'")

from foveate.cli import main
from foveate.recording import Recording

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def test_search_odometry_map_and_segmentation_run_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    code = main(["run", "robot", "--executor", "virtual", "--duration", "700ms", "--output", str(folder)])
    said = capsys.readouterr().out
    assert code == 0 and said.count(": kept: ") == 4 and "every message accounted for" in said
    with Recording(folder / "run.mcap") as log:
        count = {stream.name: stream.messages for stream in log.streams()}
    assert count["find.boxes"] >= 80 and count["mirror.state"] >= 80  # 120 Hz
    assert count["odometry.pose"] >= 20 and count["odometry.keyframe"] >= 1
    assert count["segment.labels"] >= 12
