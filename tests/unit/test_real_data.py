"""Photographs and a video that the project did not make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveate.cli import main

pytestmark = pytest.mark.data


def run(capsys: pytest.CaptureFixture[str], folder: Path, seconds: int, *settings: str) -> str:
    arguments = [
        "run",
        "wide_area",
        "--executor",
        "virtual",
        "--duration",
        f"{seconds}s",
        "--json",
        "--no-compare",
        "--output",
        str(folder),
    ]
    for setting in settings:
        arguments += ["--set", setting]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["balanced"] and result["failure"] is None
    return str(result["report"][0])


@pytest.mark.heavy
def test_cars_on_a_photograph_with_the_shipped_weights(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped detector has seen only rendered towns; it must still find most cars."""
    image = shared_data / "wide_area/jekhor_cars/DJI_0005-0018.jpg"
    line = run(capsys, tmp_path, 2, "scene=photo", f"rig.world.image={image}")
    recall = int(line.split("recall ")[1].split("%")[0])
    assert recall >= 70, line


@pytest.mark.heavy
def test_people_in_a_video_with_a_foreign_detector(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, models = shared_data / "wide_area", shared_data / "models/detectors/yolox_nano"
    line = run(
        capsys, tmp_path, 4, "scene=video", f"rig.world.video={wide / 'pets2009_s2l1.avi'}",
        f"rig.world.tracks={wide / 'pets2009/PETS2009-S2L1_frames_0_397.xml'}",
        f"detector={models / 'yolox_nano.onnx'}",
        f"find.names={models / 'coco_classes.txt'}", "find.keep=[person]", "height=0.64", "track.speed=10",
    )  # fmt: skip
    recall = int(line.split("recall ")[1].split("%")[0])
    assert recall >= 60, line
