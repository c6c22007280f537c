"""Folders of pictures as logs: TUM RGB-D sequences, and images with or without times."""

from __future__ import annotations

import csv
import heapq
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate.messages import DepthFrame, Frame, Imu, Message, Pose
from foveate_logbook.formats.channels import Arrival, Channel, ChannelLog, Decoder, Undecodable
from foveate_logbook.formats.pixels import packed_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
TUM_DEPTH_M = 1 / 5000  # a unit of TUM's depth images
TUM_LISTS = ("rgb.txt", "depth.txt", "groundtruth.txt", "accelerometer.txt")
INDEX = "index.csv"  # seq, t_ns, file: what the export of images writes
_IMAGE_PERIOD_NS = 1_000_000_000 / 30
_SECONDS = re.compile(r"(\d+)(?:\.(\d{1,9})\d*)?")


def seconds_ns(text: str) -> int:
    """`1305031235.861603` as nanoseconds, exactly. Raises ValueError."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:40]}' is no time in seconds")
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


class _ListedLog(ChannelLog):
    """A log whose messages stand in lists of (time, text): names of files, or numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rows: dict[str, list[tuple[int, str]]] = {}

    def _add(self, topic: str, schema: str, rows: list[tuple[int, str]], decoder: Decoder) -> None:
        self._rows[topic] = sorted(rows, key=lambda row: row[0])
        self._channels[topic] = Channel(topic, schema, len(rows), decoder)

    def _listed(self) -> None:
        """To be called when all lists are there."""
        ends = [(rows[0][0], rows[-1][0]) for rows in self._rows.values() if rows]
        self.start_ns, self.end_ns = min((a for a, _ in ends), default=0), max((b for _, b in ends), default=0)
        self._describe()

    def _raw(self, keys: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        lists = [[(time_ns, key, text) for time_ns, text in self._rows[key]] for key in keys]
        for time_ns, key, text in heapq.merge(*lists):
            yield key, time_ns, text.encode()

    def _content(self, name: bytes) -> bytes:
        """The bytes of a file of the folder. Raises Undecodable."""
        place = self.path / name.decode()
        if not place.resolve().is_relative_to(self.path.resolve()):
            raise Undecodable(f"'{name.decode()}' lies outside the folder")
        try:
            return place.read_bytes()
        except OSError as error:
            raise Undecodable(f"{name.decode()}: {error.strerror}") from None


class TumFolder(_ListedLog):
    """A sequence of the TUM RGB-D benchmark (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats).

    /rgb: Frame, /depth: DepthFrame (1/5000 m), /groundtruth: Pose of the camera in the world, /accelerometer: Imu whose
    angular velocity is zero, for the benchmark has none.
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.metadata = {"format": "TUM RGB-D"}
        kinds: list[tuple[str, type[Message], int, Callable[[bytes, Arrival], Iterable[Message]]]] = [
            ("rgb", Frame, 1, self._frame), ("depth", DepthFrame, 1, self._depth),
            ("groundtruth", Pose, 7, self._pose), ("accelerometer", Imu, 3, self._imu),
        ]  # fmt: skip
        for name, kind, columns, decode in kinds:
            if (path / f"{name}.txt").is_file():
                self._add(f"/{name}", f"tum/{name}", self._list(f"{name}.txt", columns), Decoder(kind, "", decode))
        self._listed()

    def _list(self, name: str, columns: int) -> list[tuple[int, str]]:
        rows, wrong = [], 0
        try:
            lines = (self.path / name).read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise RecordingError(f"{self.path / name}: cannot read: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            time, _, rest = line.strip().partition(" ")
            if not time or time.startswith("#"):
                continue
            try:
                rows.append((seconds_ns(time), rest.strip()))
                if len(rest.split()) < columns:
                    raise ValueError(f"{columns + 1} columns are needed")
            except ValueError as error:
                wrong = wrong + 1
                self.problems[f"/{Path(name).stem}"] = (
                    f"{wrong} bad lines in {name}, the last is line {number}: {error}"
                )
                rows = rows[:-1] if rows and rows[-1][1] == rest.strip() else rows
        return rows

    def _frame(self, data: bytes, at: Arrival) -> Iterable[Message]:
        return [packed_image(self._content(data), at, at.stamp())]

    def _depth(self, data: bytes, at: Arrival) -> Iterable[Message]:
        cv2 = optional("cv2", str(self.path), "vision")
        content = np.frombuffer(self._content(data), np.uint8)
        depth = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
        if depth is None or depth.dtype != np.uint16 or depth.ndim != 2:
            raise Undecodable(f"{data.decode()} is no 16-bit depth image")
        return [DepthFrame(at.stamp(), depth, TUM_DEPTH_M, at.seq, at.lost_before)]

    def _pose(self, data: bytes, at: Arrival) -> Iterable[Message]:
        numbers = np.array(data.split()[:7], np.float64)
        norm = math.hypot(*numbers[3:])
        if not np.isfinite(numbers).all() or norm < 1e-6:
            raise Undecodable(f"'{data.decode()}' is no pose")
        return [Pose(at.stamp(), numbers[:3], numbers[3:] / norm)]

    def _imu(self, data: bytes, at: Arrival) -> Iterable[Message]:
        return [Imu(at.stamp(), np.zeros(3), np.array(data.split()[:3], np.float64))]


class ImagesLog(_ListedLog):
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
        times = {topic: _times_of([Path(name).stem for name in names]) for topic, names in groups.items()}
        self.metadata["times"] = "names" if all(value is not None for value in times.values()) else "30 Hz"
        rows = {}
        for topic, names in groups.items():
            steady = [round(number * _IMAGE_PERIOD_NS) for number in range(len(names))]
            rows[topic] = list(zip(times[topic] or steady, names, strict=True))
        return rows

    def _image(self, data: bytes, at: Arrival) -> Iterable[Message]:
        message = packed_image(self._content(data), at, at.stamp())
        scale = self._scales.get(data.decode())
        return [replace(message, scale_m=scale) if scale and isinstance(message, DepthFrame) else message]


def _times_of(names: list[str]) -> list[int] | None:
    """Unix times in names that are nothing else, in nanoseconds; None where they are not."""
    if not all(re.fullmatch(r"\d{9,19}(\.\d+)?", name) for name in names):
        return None
    if any("." in name for name in names):
        return [seconds_ns(name) for name in names]
    digits = max(len(name) for name in names)
    scale = {18: 1, 19: 1, 15: 1000, 16: 1000, 12: 1_000_000, 13: 1_000_000, 9: 10**9, 10: 10**9}.get(digits)
    return None if scale is None else [int(name) * scale for name in names]
