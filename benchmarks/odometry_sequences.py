"""RGB-D sequences for the benchmark of odometry, read once into plain arrays that any interpreter can map."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.errors import RecordingError
from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import transform
from foveate_logbook.formats.folders import TumFolder

_TOGETHER_NS = 20_000_000  # colour, depth and truth of TUM sequences belong together up to this
_TUM_CAMERAS = {"fr1": (517.3, 516.5, 318.6, 255.3), "fr2": (520.9, 521.0, 325.1, 249.7)}  # published; fx fy cx cy
_TUM_OTHER = (525.0, 525.0, 319.5, 239.5)


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """What is known of a sequence without its images."""

    name: str
    folder: Path
    matrix: NDArray[np.float64]  # 3 x 3
    scale_m: float  # metres a unit of depth
    time_s: NDArray[np.float64]  # N
    truth: NDArray[np.float64]  # N x 4 x 4, world_from_camera; NaN where not known
    read: Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint16]]]  # image H x W x 3 and depth H x W of a frame

    def unpack(self, target: Path) -> None:
        """Write image.npy, depth.npy, time_s.npy and camera.json into a folder."""
        image, depth = self.read(0)
        count = len(self.time_s)
        images = np.lib.format.open_memmap(target / "image.npy", "w+", np.uint8, (count, *image.shape))
        depths = np.lib.format.open_memmap(target / "depth.npy", "w+", np.uint16, (count, *depth.shape))
        for number in range(count):
            images[number], depths[number] = self.read(number)
        np.save(target / "time_s.npy", self.time_s)
        height, width = depth.shape
        camera = {"matrix": self.matrix.tolist(), "width": width, "height": height, "scale_m": self.scale_m}
        (target / "camera.json").write_text(json.dumps(camera))


def sequence(folder: Path, frames: int) -> Sequence:
    """The first frames of a TUM or a 7-Scenes folder. Raises RecordingError."""
    if (folder / "rgb.txt").is_file():
        return _tum(folder, frames)
    if next(folder.glob("frame-*.pose.txt"), None):
        return _seven_scenes(folder, frames)
    raise RecordingError(f"{folder}: neither rgb.txt nor frame-*.pose.txt; name a TUM or 7-Scenes folder")


def _matrix(fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _tum(folder: Path, frames: int) -> Sequence:
    """Frames are colour images with the depth nearest in time. Lens distortion is left as it is, as in the sequences'
    own odometry papers: the depth was registered to the distorted image.
    """
    with TumFolder(folder) as log:
        found: dict[str, list[tuple[int, Any]]] = {"/rgb": [], "/depth": [], "/groundtruth": []}
        for topic, time_ns, message in log.messages(found):
            found[topic].append((time_ns, message))
    depth_ns, truth_ns = (np.array([time for time, _ in found[t]], np.int64) for t in ("/depth", "/groundtruth"))
    pairs, truth = [], []
    for time_ns, frame in found["/rgb"]:
        near = int(np.argmin(np.abs(depth_ns - time_ns)))
        if abs(int(depth_ns[near]) - time_ns) > _TOGETHER_NS or len(pairs) == frames:
            continue
        pairs.append((time_ns, frame, found["/depth"][near][1]))
        known = int(np.argmin(np.abs(truth_ns - time_ns)))
        if abs(int(truth_ns[known]) - time_ns) > _TOGETHER_NS:
            truth.append(np.full((4, 4), np.nan))
        else:
            pose = found["/groundtruth"][known][1]
            truth.append(transform(quaternion(pose.orientation), pose.position_m))
    text, folder_name = folder / "camera.txt", folder.name.replace("freiburg", "fr")
    numbers = (
        [float(word) for word in text.read_text().split()[:4]] if text.is_file()
        else next((value for key, value in _TUM_CAMERAS.items() if key in folder_name), _TUM_OTHER)
    )  # fmt: skip
    return Sequence(
        folder.name, folder, _matrix(*numbers), pairs[0][2].scale_m, np.array([time for time, _, _ in pairs]) / 1e9,
        np.array(truth), lambda number: (_bgr(pairs[number][1].image), pairs[number][2].depth),
    )  # fmt: skip


def _bgr(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))


def _seven_scenes(folder: Path, frames: int) -> Sequence:
    """Depth in millimetres, 65535 a hole; 30 frames a second."""
    places = sorted(folder.glob("frame-*.pose.txt"))[:frames]
    stems = [str(place)[: -len(".pose.txt")] for place in places]
    color = ".color.jpg" if Path(stems[0] + ".color.jpg").is_file() else ".color.png"

    def read(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        image, depth = cv2.imread(stems[number] + color), cv2.imread(stems[number] + ".depth.png", cv2.IMREAD_UNCHANGED)
        if image is None or depth is None:
            raise RecordingError(f"{stems[number]}: an image is missing or broken")
        depth[depth == 65535] = 0
        return np.asarray(image), np.asarray(depth)

    return Sequence(
        folder.name, folder, np.loadtxt(next(folder.glob("*ntrinsics*.txt"))), 1e-3, np.arange(len(places)) / 30.0,
        np.array([np.loadtxt(place) for place in places]), read,
    )  # fmt: skip
