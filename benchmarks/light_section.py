"""Accuracy of a whole scan: calibrated from simulated boards, 1100 x 1300 x 650 mm, gauge blocks, spheres and planes.

    python benchmarks/light_section.py --speckle 0.25 0.5 --seeds 1 2

Runs the graph light_section on the twin (mirrors as machined, 10 urad of landing error and of readback noise, 3 urad of
jitter), once for each speckle contrast and seed, and prints errors by kind of part and by place in the volume. Then
the same scanner with its camera's mirrors fixed, which sees one view: its errors there, and how much larger the whole
volume is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from foveate.recording.recording import Recording
from foveate_calibration.document import RigCalibration
from foveate_nodes.reconstruction import scan_result
from foveate_nodes.reconstruction.measuring import Measured

VOLUME = ((-0.55, 0.55), (-0.65, 0.65), (1.675, 2.325))
FIXED = (0.15, 0.31, -0.08, 0.08, 1.7, 2.3)  # in the view at one pair of angles: a plate and what stands on it


def run(folder: Path, settings: list[str]) -> tuple[scan_result.Scan, float]:
    """One scan; returns what its report tells, and the seconds it took."""
    command = [
        sys.executable,
        "-m",
        "foveate",
        "run",
        "light_section",
        "--executor",
        "virtual",
        "--no-report",
        "--quiet",
    ]
    start = time.perf_counter()
    options = [part for setting in settings for part in ("--set", setting)]
    subprocess.run([*command, "--output", str(folder), *options], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    with Recording(folder / "run.mcap") as log:
        return scan_result.read(log, "run"), seconds


def rig_of(seed: int) -> list[str]:
    """Settings of a rig and its bench."""
    names = ("mirror", "laser_mirror", "laser", "camera")
    return [f"rig.world.seed={seed}", *(f"rig.{name}.seed={10 * seed + k}" for k, name in enumerate(names, 1))]


def calibration_of(path: Path) -> Path:
    """The calibration in a recording, as a file beside it."""
    with Recording(path) as log:
        message = log.last("calibrate.calibration", RigCalibration)
    assert isinstance(message, RigCalibration)
    (path.parent / "rig.yaml").write_text(message.text)
    return path.parent / "rig.yaml"


def errors_mm(found: list[Measured], quantity: str) -> np.ndarray:
    """Measured minus true, of all parts of a kind."""
    return np.array(
        [1e3 * (m.measured_m - m.true_m) for m in found
         if m.quantity == quantity and m.measured_m is not None and m.true_m is not None]
    )  # fmt: skip


def told(errors: np.ndarray) -> str:
    """Mean size, standard deviation, largest."""
    if not len(errors):
        return "none"
    return f"{np.abs(errors).mean():.3f} | {errors.std():.3f} | {np.abs(errors).max():.3f} | {len(errors)}"


def table(scan: scan_result.Scan) -> None:
    """Errors by kind and by place."""
    truth = scan.truth
    assert truth is not None and scan.merged is not None
    found = truth.parts
    print("| quantity, mm | mean size | sigma | largest | parts |\n|---|---|---|---|---|")
    print(f"| step height | {told(errors_mm(found, 'step height'))} |")
    print(f"| sphere radius | {told(errors_mm(found, 'radius'))} |")
    planes = np.array([1e3 * m.spread_m for m in found if m.quantity == "flatness"])
    print(
        f"| points off their plane | {planes.mean():.3f} | | {1e3 * max(m.most_m for m in found):.3f} | {len(planes)} |"
    )
    distance = 1e3 * truth.distance_m
    near = np.abs(distance) < 3.0
    points = scan.merged.point_m
    print(f"| all points from the true surface | {np.abs(distance[near]).mean():.3f} | {distance[near].std():.3f} | "
          f"{np.percentile(np.abs(distance[near]), 99):.3f} (99 %) | {near.sum():,} |")  # fmt: skip
    print(f"points more than 3 mm off: {np.mean(~near):.2%}")
    print("\n| place | steps, mean size mm | spheres | points, mean size | mean |\n|---|---|---|---|---|")
    for axis, name in enumerate("xyz"):
        edges = np.linspace(*VOLUME[axis], 4)
        for low, high in pairwise(edges):
            here = [m for m in found if low <= m.center_m[axis] < high]
            inside = near & (points[:, axis] >= low) & (points[:, axis] < high)
            if not inside.any():
                continue
            means = [np.abs(errors_mm(here, kind)).mean() if len(errors_mm(here, kind)) else np.nan
                     for kind in ("step height", "radius")]  # fmt: skip
            print(f"| {name} {low:+.2f} to {high:+.2f} m | {means[0]:.3f} | {means[1]:.3f} | "
                  f"{np.abs(distance[inside]).mean():.3f} | {distance[inside].mean():+.3f} |")  # fmt: skip


def view_volume_m3(focal_px: float = 1e4, width: int = 1280, height: int = 1024) -> float:
    """What one view sees between the volume's nearest and farthest depth."""
    near, far = VOLUME[2]
    return width * height / focal_px**2 * (far**3 - near**3) / 3


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speckle", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            rig = rig_of(seed)
            for speckle in options.speckle:
                scan, seconds = run(Path(folder) / f"{seed}_{speckle}", [*rig, f"rig.world.speckle={speckle}"])
                print(f"\n### speckle contrast {speckle}, rig {seed} ({seconds:.0f} s)\n")
                table(scan)
        first = Path(folder) / f"{options.seeds[0]}_{options.speckle[0]}" / "run.mcap"
        fixed = [f"plan.volume={list(FIXED)}", f"rig.world.speckle={options.speckle[0]}", "rig.world.boards=0"]
        fixed += [*rig_of(options.seeds[0]), f"calibrate.file={calibration_of(first)}"]
        scan, seconds = run(Path(folder) / "fixed", fixed)
        print(f"\n### one view: the camera's mirrors fixed ({seconds:.0f} s)\n")
        table(scan)
        whole = float(np.prod([high - low for low, high in VOLUME]))
        print(f"\nrange: {whole:.3f} m3 by {view_volume_m3():.4f} m3 of one view: {whole / view_volume_m3():.1f}x")


if __name__ == "__main__":
    main()
