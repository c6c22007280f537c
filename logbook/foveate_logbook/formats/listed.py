"""Logs whose messages stand in lists of (time, text): names of files, or numbers."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate.messages import CameraInfo, DepthFrame, Message, Pose
from foveate_logbook.formats.channels import Arrival, Channel, ChannelLog, Decoder, Undecodable
from foveate_logbook.formats.intrinsics import Intrinsics
from foveate_logbook.formats.pixels import packed_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
IMAGE_PERIOD_NS = 1_000_000_000 / 30  # of images that come without times
_SECONDS = re.compile(r"(\d+)(?:\.(\d{1,9})\d*)?")
Rows = list[tuple[int, str]]
_TURN_OFF = 0.01  # most that a row of a rotation in a file is off unit length; 7-Scenes has 7 digits, others 3


def seconds_ns(text: str) -> int:
    """`1305031235.861603` as nanoseconds, exactly. Raises ValueError."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:40]}' is no time in seconds")
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


class ListedLog(ChannelLog):
    """A log whose messages stand in lists; a subclass calls `_add` for each topic and then `_listed`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rows: dict[str, Rows] = {}
        self._mirrored = False  # y of the folder's poses points up: they are given with y down

    def _add(self, topic: str, schema: str, rows: Rows, decoder: Decoder) -> None:
        self._rows[topic] = sorted(rows, key=lambda row: row[0])
        self._channels[topic] = Channel(topic, schema, len(rows), decoder)

    def _add_info(self, intrinsics: Intrinsics | None, of: str) -> None:
        """Intrinsics with every image of the topic `of`; its first image that can be read tells the size."""
        if intrinsics is None or not self._rows.get(of):
            return
        self.metadata["intrinsics"] = intrinsics.source
        self._mirrored = intrinsics.mirrored
        if intrinsics.mirrored:
            self.metadata["poses"] = "y, which points up in them (fy is below 0), made to point down"
        rows = self._rows[of]
        sizes: list[tuple[int, int]] = []

        def decode(data: bytes, at: Arrival) -> Iterable[Message]:
            if not sizes:
                sizes.append(self._size_of(rows, at))
            height, width = sizes[0]
            return [CameraInfo(at.stamp(), width, height, "plumb_bob", intrinsics.matrix, intrinsics.distortion)]

        self._add("/info", "intrinsics", rows, Decoder(CameraInfo, "", decode))

    def _size_of(self, rows: Rows, at: Arrival) -> tuple[int, int]:
        for _, name in rows:
            try:
                image = self._packed(name.encode(), at)
            except Undecodable:
                continue
            pixels = image.depth if isinstance(image, DepthFrame) else image.image  # type: ignore[attr-defined]
            return int(pixels.shape[0]), int(pixels.shape[1])
        raise Undecodable("no image can be read, so the size is not known")

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
        """The bytes of a file of the folder; links that the folder has in it are followed. Raises Undecodable."""
        listed = Path(name.decode())
        if listed.is_absolute() or ".." in listed.parts:
            raise Undecodable(f"'{listed}' lies outside the folder")
        place = self.path / listed
        try:
            if not S_ISREG(place.stat().st_mode):
                raise Undecodable(f"{listed} is no file")  # a link to /dev/zero has no end
            return place.read_bytes()
        except OSError as error:
            raise Undecodable(f"{listed}: {error.strerror}") from None

    def _packed(self, name: bytes, at: Arrival) -> Message:
        """The image in a file of the folder. Raises Undecodable, which names it."""
        content = self._content(name)
        try:
            return packed_image(content, at, at.stamp())
        except Undecodable as error:
            raise Undecodable(f"{name.decode()}: {error}") from None

    def _frame(self, data: bytes, at: Arrival) -> Iterable[Message]:
        return [self._packed(data, at)]

    def _depth_of(self, unit_m: float, invalid: int = 0) -> Callable[[bytes, Arrival], Iterable[Message]]:
        """Decodes 16-bit images of `unit_m`; pixels of `invalid` become 0, not measured."""

        def decode(data: bytes, at: Arrival) -> Iterable[Message]:
            cv2 = optional("cv2", str(self.path), "vision")
            content = np.frombuffer(self._content(data), np.uint8)
            depth = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
            if depth is None:
                raise Undecodable(f"{data.decode()} is damaged, or no image")
            if depth.dtype != np.uint16 or depth.ndim != 2:
                raise Undecodable(f"{data.decode()} is no 16-bit depth image")
            if invalid:
                depth[depth == invalid] = 0
            return [DepthFrame(at.stamp(), depth, unit_m, at.seq, at.lost_before)]

        return decode

    def _list(self, name: str, columns: int, topic: str = "") -> Rows:
        rows, wrong = [], 0
        try:
            lines = (self.path / name).read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise RecordingError(f"{self.path / name}: cannot read: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            words = line.split(maxsplit=1)
            if not words or words[0].startswith("#"):
                continue
            try:
                time_ns, rest = seconds_ns(words[0]), "".join(words[1:]).strip()
                if len(rest.split()) < columns:
                    raise ValueError(f"{columns + 1} columns are needed")
                rows.append((time_ns, rest))
            except ValueError as error:
                wrong += 1
                self.problems[f"/{topic or Path(name).stem}"] = (
                    f"{wrong} bad lines in {name}, the last is line {number}: {error}"
                )
        return rows

    def _listed_pose(self, data: bytes, at: Arrival) -> Iterable[Message]:
        numbers = np.array(data.split()[:7], np.float64)
        norm = math.hypot(*numbers[3:])
        if not np.isfinite(numbers).all() or norm < 1e-6:
            raise Undecodable(f"'{data.decode()}' is no pose")
        return [self._pose_of(at, numbers[:3], numbers[3:] / norm)]

    def _matrix_pose(self, data: bytes, at: Arrival) -> Iterable[Message]:
        """The pose in a file of 4 x 4 numbers, world_from_camera."""
        name = data.decode()
        try:
            words = self._content(data).split()
            numbers = np.array(words, np.float64)
        except ValueError:
            raise Undecodable(f"{name} holds words that are no numbers") from None
        if len(numbers) not in (12, 16):
            raise Undecodable(f"{name} has {len(numbers)} numbers, not 4 x 4")
        rows = numbers[:12].reshape(3, 4)
        if not np.isfinite(rows).all():
            raise Undecodable(f"{name} has no pose (numbers that are not finite)")
        left, sizes, right = np.linalg.svd(rows[:, :3])
        if np.abs(sizes - 1).max() > _TURN_OFF or np.linalg.det(left @ right) < 0:
            raise Undecodable(f"{name} has no rotation")
        return [self._pose_of(at, rows[:, 3].copy(), quaternion_of(left @ right))]

    def _pose_of(self, at: Arrival, position_m: NDArray[np.float64], orientation: NDArray[np.float64]) -> Pose:
        if self._mirrored:  # S T S with S = diag(1, -1, 1): turns about y stay, those about x and z go the other way
            position_m, orientation = position_m * [1, -1, 1], orientation * [-1, 1, -1, 1]
        return Pose(at.stamp(), position_m, orientation)


def quaternion_of(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit quaternion x, y, z, w (4,) of a rotation (3 x 3), w >= 0.

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack 2000), well-conditioned for
    every turn, and the nearest where the matrix is off by rounding.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    square = np.array([
        [a - e - i, d + b, g + c, h - f], [d + b, e - a - i, h + f, c - g],
        [g + c, h + f, i - a - e, d - b], [h - f, c - g, d - b, a + e + i],
    ])  # fmt: skip
    found: NDArray[np.float64] = np.linalg.eigh(square)[1][:, 3]
    return found if found[3] >= 0 else -found


def steady(count: int) -> list[int]:
    """Times of `count` images, 30 a second, nanoseconds."""
    return [round(number * IMAGE_PERIOD_NS) for number in range(count)]
