"""Intrinsics of folders of RGB-D images: from a text beside them, or of a benchmark whose camera is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.errors import RecordingError

CAMERA = "camera.txt"  # what the export writes
_FILES = (CAMERA, "camera-intrinsics.txt", "intrinsics.K.txt", "intrinsics.txt")
_FORMS = "fx fy cx cy [k1 k2 p1 p2 [k3]], or a 3 x 3 matrix"
# What the benchmarks publish (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats, intrinsic calibration;
# Handa et al. 2014 for ICL-NUIM). Depth is registered to the colour image as it is, so the distortion is that of both.
_KNOWN: tuple[tuple[str, tuple[float, ...]], ...] = (
    (
        r"(icl|nuim)(?![a-z])|(living_?room|office).*(traj|kt)_?\d|traj\d_frei|(lr|of)_?kt\d",
        (481.2, -480.0, 319.5, 239.5),
    ),
    (
        r"(freiburg|fr)1(?!\d)",
        (517.306408, 516.469215, 318.643040, 255.313989, 0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
    ),
    (r"(freiburg|fr)2(?!\d)", (520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    (r"(freiburg|fr)3(?!\d)", (535.4, 539.2, 320.1, 247.6)),
)
BENCHMARK_SIZE = (480, 640)  # height, width of all their images
SEVEN_SCENES = (585.0, 585.0, 320.0, 240.0)  # what that benchmark tells for its colour and depth alike


@dataclass(frozen=True, slots=True, eq=False)
class Intrinsics:
    """A camera as a folder tells it."""

    matrix: NDArray[np.float64]  # 3 x 3, fy above 0
    distortion: NDArray[np.float64]  # (5,): k1, k2, p1, p2, k3
    mirrored: bool  # it was told with fy below 0: y of the folder's poses points up, in the camera and in the world
    source: str


def intrinsics_of(numbers: NDArray[np.float64] | tuple[float, ...], source: str) -> Intrinsics:
    """Of `fx fy cx cy`, the same with 4 or 5 coefficients of distortion, or a matrix. Raises ValueError."""
    values = np.array(numbers, np.float64).ravel()
    if len(values) == 9 and values[6:].tolist() == [0, 0, 1] and values[3] == 0:
        values = values[[0, 4, 2, 5]]  # a matrix; its skew, which no pinhole here has, must be 0
        if numbers[1] != 0:
            raise ValueError("a matrix with skew")
    if len(values) not in (4, 8, 9) or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers")
    fx, fy, cx, cy = values[:4].tolist()
    if not (fx > 0 and fy != 0 and cx > 0 and cy > 0):
        raise ValueError(f"fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g} are no camera's")
    matrix = np.array([[fx, 0, cx], [0, abs(fy), cy], [0, 0, 1.0]])
    return Intrinsics(matrix, np.append(values[4:], np.zeros(9 - len(values))), fy < 0, source)


def folder_intrinsics(folder: Path) -> Intrinsics | None:
    """Of `camera.txt` (or a name of the like) in a folder, else None. Raises RecordingError for other text."""
    for name in _FILES:
        if (folder / name).is_file():
            return _of_file(folder / name)
    return None


def benchmark_intrinsics(folder: Path) -> Intrinsics | None:
    """Of the benchmark that the folder's own name tells, or that of the folder it is in; they are of 640x480 images."""
    place = folder.resolve() if ".." in folder.parts else folder.absolute()
    for part in (place.name, place.parent.name):
        for pattern, numbers in _KNOWN:
            if found := re.search(rf"(?<![a-z])({pattern})", part, re.IGNORECASE):
                return intrinsics_of(numbers, f"of '{found[0]}' in the folder's name")
    return None


def _of_file(path: Path) -> Intrinsics:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        words = " ".join(line.partition("#")[0] for line in lines).replace(",", " ").split()
        return intrinsics_of(tuple(float(word) for word in words), path.name)
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror}") from None
    except ValueError as error:
        raise RecordingError(f"{path}: no intrinsics ({error}); write {_FORMS}") from None
