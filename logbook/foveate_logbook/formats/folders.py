"""Folders of pictures as logs: TUM RGB-D sequences, and images with or without times."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveate.errors import BackendMissing, RecordingError
from foveate.messages import DepthFrame, Frame, Imu, Message, Pose
from foveate_logbook.formats.channels import Arrival, Decoder, Timeline, Undecodable
from foveate_logbook.formats.intrinsics import BENCHMARK_SIZE, Intrinsics, benchmark_intrinsics, folder_intrinsics
from foveate_logbook.formats.listed import IMAGE_PERIOD_NS, SUFFIXES, ListedLog, Rows, seconds_ns, steady

TUM_DEPTH_M = 1 / 5000  # a unit of TUM's depth images
TUM_LISTS = ("rgb.txt", "depth.txt", "groundtruth.txt", "accelerometer.txt")
TUM_PAIRS = ("associations.txt", "association.txt", "associated.txt")  # time file time file, of both kinds of images
TUM_IMAGES = ("rgb.txt", "depth.txt", *TUM_PAIRS)
_MOST_NUMBER = 10**6  # whole times that are all below it are numbers of frames, as ICL-NUIM has them
INDEX = "index.csv"  # seq, t_ns, file: what the export of images writes


class TumFolder(ListedLog):
    """A sequence of the TUM RGB-D benchmark (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats), or of
    ICL-NUIM in its layout (one list of pairs, numbers of frames in the place of times).

    /rgb: Frame, /depth: DepthFrame (1/5000 m), /groundtruth: Pose of the camera in the world, /accelerometer: Imu whose
    angular velocity is zero, for the benchmark has none; /info: CameraInfo with every depth image, of `camera.txt` or
    of the camera that the folder's name or its parent's tells (freiburg1, fr2, icl, ...) where images are 640x480.
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.metadata = {"format": "TUM RGB-D"}
        kinds: list[tuple[str, type[Message], int, Callable[[bytes, Arrival], Iterable[Message]]]] = [
            ("rgb", Frame, 1, self._frame), ("depth", DepthFrame, 1, self._depth_of(TUM_DEPTH_M)),
            ("groundtruth", Pose, 7, self._listed_pose), ("accelerometer", Imu, 3, self._imu),
        ]  # fmt: skip
        lists = {name: self._list(f"{name}.txt", columns) for name, _, columns, _ in kinds if self._has(f"{name}.txt")}
        pairs = next((name for name in TUM_PAIRS if self._has(name)), None)
        if pairs is not None and not {"rgb", "depth"} & set(lists):
            lists |= self._pairs(pairs)
        truth = sorted(item.name for item in path.glob("*.gt.freiburg"))
        if len(truth) == 1 and "groundtruth" not in lists:
            lists["groundtruth"] = self._list(truth[0], 7, "groundtruth")
        if _numbered(lists):
            lists = {name: [(round(t / 10**9 * IMAGE_PERIOD_NS), text) for t, text in lists[name]] for name in lists}
            self.metadata["times"] = "numbers of frames, 30 Hz"
        for name, kind, _, decode in kinds:
            if name in lists:
                self._add(f"/{name}", f"tum/{name}", lists[name], Decoder(kind, "", decode))
        images = "/depth" if "depth" in lists else "/rgb"
        self._add_info(folder_intrinsics(path) or self._benchmarks(images), images)
        self._listed()

    def _benchmarks(self, images: str) -> Intrinsics | None:
        """Intrinsics of the benchmark that is named where the images are as large as all of its are."""
        found = benchmark_intrinsics(self.path)
        try:
            at = Arrival(images, 0, 1, 0, Timeline(0), {})
            fits = found is not None and self._size_of(self._rows.get(images, []), at) == BENCHMARK_SIZE
        except (Undecodable, BackendMissing):
            return None
        return found if fits else None

    def _has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def _pairs(self, name: str) -> dict[str, Rows]:
        """Lists of images of lines `time file time file`; which of the files is depth, its folder says."""
        found: dict[str, Rows] = {"rgb": [], "depth": []}
        for time_ns, rest in self._list(name, 3, "depth"):
            file, time, other = rest.split()[:3]
            try:
                both = ((time_ns, file), (seconds_ns(time), other))
            except ValueError as error:
                raise RecordingError(f"{self.path / name}: {error}; each line is: time file time file") from None
            for at_ns, one in both:
                found["depth" if "depth" in one.lower() else "rgb"].append((at_ns, one))
        return found

    def _imu(self, data: bytes, at: Arrival) -> Iterable[Message]:
        return [Imu(at.stamp(), np.zeros(3), np.array(data.split()[:3], np.float64))]


def _numbered(lists: dict[str, Rows]) -> bool:
    """All times are whole and small: they are numbers of frames."""
    times = [time_ns for rows in lists.values() for time_ns, _ in rows]
    return len(times) > 1 and all(time_ns % 10**9 == 0 and time_ns < _MOST_NUMBER * 10**9 for time_ns in times)


class ImagesLog(ListedLog):
    """The images of a folder.

    Their times are those of `index.csv`, else their names where all are numbers (nanoseconds, microseconds or seconds
    of Unix time), else 30 images a second. Names such as `frame-0007.depth.png` make a topic of their own (/depth).
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.metadata = {"format": "images"}
        self._scales: dict[str, float] = {}  # metres a unit of depth, by file
        if (path / INDEX).is_file():
            groups = {"/images": self._indexed()}
            self.metadata["times"] = INDEX
        else:
            groups = self._named()
        for topic, rows in groups.items():
            self._add(topic, "image", rows, Decoder(Frame, "", self._image, look=True))
        self._listed()

    def _indexed(self) -> list[tuple[int, str]]:
        place = self.path / INDEX
        try:
            with place.open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            self._scales = {row["file"]: float(row["scale_m"]) for row in rows if row.get("scale_m")}
            return [(int(row["t_ns"]), row["file"]) for row in rows]
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise RecordingError(f"{place}: it needs columns t_ns and file ({error!r}); or delete it") from None

    def _named(self) -> dict[str, list[tuple[int, str]]]:
        files = sorted(item.name for item in self.path.iterdir() if item.suffix.lower() in SUFFIXES)
        groups: dict[str, list[str]] = {}
        for name in files:
            part = Path(Path(name).stem).suffix[1:]
            groups.setdefault(f"/{part}" if part and not part.isdigit() else "/images", []).append(name)
        times = {topic: times_of([Path(name).stem for name in names]) for topic, names in groups.items()}
        self.metadata["times"] = "names" if all(value is not None for value in times.values()) else "30 Hz"
        rows = {}
        for topic, names in groups.items():
            rows[topic] = list(zip(times[topic] or steady(len(names)), names, strict=True))
        return rows

    def _image(self, data: bytes, at: Arrival) -> Iterable[Message]:
        message = self._packed(data, at)
        scale = self._scales.get(data.decode())
        return [replace(message, scale_m=scale) if scale and isinstance(message, DepthFrame) else message]


def times_of(names: list[str]) -> list[int] | None:
    """Unix times in names that are nothing else, in nanoseconds; None where they are not."""
    if not all(re.fullmatch(r"\d{9,19}(\.\d+)?", name) for name in names):
        return None
    if any("." in name for name in names):
        return [seconds_ns(name) for name in names]
    digits = max(len(name) for name in names)
    scale = {18: 1, 19: 1, 15: 1000, 16: 1000, 12: 1_000_000, 13: 1_000_000, 9: 10**9, 10: 10**9}.get(digits)
    return None if scale is None else [int(name) * scale for name in names]
