"""Ten rendered RGB-D sequences with exact poses, as folders in the layout of the TUM RGB-D benchmark.

    python benchmarks/rendered_sequences.py /tmp/rendered
    python benchmarks/rendered_sequences.py /tmp/rendered desk orbit --frames 60

Each has rgb/, depth/ (16 bits, 5000 a metre), rgb.txt, depth.txt, groundtruth.txt (world_from_camera at each frame) and
camera.txt (fx fy cx cy). Colour and depth are of the same moment and registered; stamps are mid-exposure. The same
command writes the same bytes. What is in them: drivers/foveate_drivers/world/room_sequences.py.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world.room_sensor import RgbdSensor
from foveate_drivers.world.room_sequences import RATE_HZ, SEQUENCES
from foveate_drivers.world.room_stage import Stage, named
from foveate_logbook.formats.listed import quaternion_of

BEGIN_S = 1000.0  # stamp of the first frame
PER_METRE = 5000.0


def write(folder: Path, name: str, width: int, most: int | None) -> tuple[str, int, float]:
    """One sequence into folder/name; returns its name, its frames and the seconds it took."""
    begun = time.perf_counter()
    sequence = named(name)
    stage = Stage(sequence)
    lens = Pinhole(width, width * 3 // 4, 525.0 * width / 640)
    sensor = RgbdSensor(lens, sequence.seed, sequence.color, sequence.depth)
    target = folder / name
    for kind in ("rgb", "depth"):
        (target / kind).mkdir(parents=True, exist_ok=True)
    images, depths, poses = ([f"# {name}: {sequence.about}", f"# {what}"] for what in (
        "timestamp filename", "timestamp filename", "timestamp tx ty tz qx qy qz qw"))  # fmt: skip
    count = min(sequence.frames, most or sequence.frames)
    for i in range(count):
        t_s, stamp = i / RATE_HZ, f"{BEGIN_S + i / RATE_HZ:.6f}"
        pose = stage.world_from_rig(t_s)
        sight = stage.sight(lens, t_s, sequence.exposure_s)
        depth = sensor.measured(sight, pose, stage.room.returns, i)
        for kind, lines, pixels in (
            ("rgb", images, sensor.image(sight.light, i)),
            ("depth", depths, np.rint(depth * PER_METRE).astype(np.uint16)),
        ):
            cv2.imwrite(str(target / kind / f"{stamp}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            lines.append(f"{stamp} {kind}/{stamp}.png")
        numbers = [*pose[:3, 3], *quaternion_of(pose[:3, :3])]
        poses.append(" ".join([stamp, *(f"{number:.9f}" for number in numbers)]))
    for file, lines in (("rgb.txt", images), ("depth.txt", depths), ("groundtruth.txt", poses)):
        (target / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    matrix = lens.matrix
    line = " ".join(f"{matrix[i, j]:.9g}" for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    (target / "camera.txt").write_text(line + "\n", encoding="utf-8")
    return name, count, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SEQUENCES)}; all where none is given")
    parser.add_argument("--width", type=int, default=640, help="of the images, 4:3, in pixels (640)")
    parser.add_argument("--frames", type=int, help="at most, of each sequence")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    names = args.names or list(SEQUENCES)
    unknown = ", ".join(set(names) - set(SEQUENCES))
    if unknown:
        parser.error(f"no sequence {unknown}; there are {', '.join(SEQUENCES)}")
    with ProcessPoolExecutor(args.processes) as pool:
        for done in [pool.submit(write, args.folder, name, args.width, args.frames) for name in names]:
            name, count, seconds = done.result()
            print(f"{name:14s} {count:4d} frames {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
