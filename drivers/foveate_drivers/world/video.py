"""A video as a scene: its frames on the plane, its tracks (CVML XML) as the truth."""

from __future__ import annotations

import threading
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from foveate.errors import NotFound, ProtocolError
from foveate_drivers.world.scene import Matrix, Pixels, Texture, Truth

_MAX_TRACK_BYTES = 64 * 1024 * 1024


def read_tracks(path: Path) -> dict[int, np.ndarray]:
    """Frame number -> N x 5 (id, centre x, centre y, width, height; pixels) of a CVML file.

    Raises ProtocolError naming the file; XML with its own entities is refused (expansion bombs).
    """
    data = path.read_bytes()
    if len(data) > _MAX_TRACK_BYTES or b"<!ENTITY" in data:
        raise ProtocolError(str(path), "read tracks", "too large, or it declares entities")
    try:
        root = ElementTree.fromstring(data)
        frames = {}
        for frame in root.iter("frame"):
            rows = []
            for item in frame.iter("object"):
                box = item.find("box")
                if box is not None:
                    rows.append([float(item.attrib["id"]), *(float(box.attrib[k]) for k in ("xc", "yc", "w", "h"))])
            frames[int(frame.attrib["number"])] = np.array(rows, np.float64).reshape(-1, 5)
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise ProtocolError(str(path), "read tracks", f"not a CVML track file: {error}") from None
    return frames


class VideoScene:
    """Plays with scene time, and stands still after its last labelled (or last) frame."""

    names = ("person",)

    def __init__(self, video: Path, tracks: Path | None, *, width_m: float) -> None:
        self._capture = cv2.VideoCapture(str(video))
        if not self._capture.isOpened():
            raise NotFound(str(video), "open video", "OpenCV cannot decode it")
        self._rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 25.0
        self._pixels = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        )  # fmt: skip
        self._tracks = read_tracks(tracks) if tracks is not None else {}
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._last = min(max(self._tracks, default=count - 1), count - 1)
        self.width_m = width_m
        self.height_m = width_m * self._pixels[1] / self._pixels[0]
        self._lock = threading.Lock()  # two cameras read one video
        self._kept: dict[int, tuple[Texture, Texture]] = {}
        self._next = 0

    def _frame_index(self, t_s: float) -> int:
        return min(int(t_s * self._rate), self._last)

    def _textures(self, index: int) -> tuple[Texture, Texture]:
        """(colour, grey) of a frame; keeps the last four, so that cameras a little apart share them."""
        with self._lock:
            if index not in self._kept:
                if index < self._next:
                    self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                    self._next = index
                image = None
                while self._next <= index:
                    ok, image = self._capture.read()
                    self._next += 1
                    if not ok:
                        raise ProtocolError("video", "read", f"frame {index} cannot be decoded")
                assert image is not None
                gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
                self._kept[index] = (Texture(image, self.width_m, 2), Texture(gray, self.width_m, 2))
                while len(self._kept) > 4:
                    del self._kept[min(self._kept)]
            return self._kept[index]

    def truth(self, t_s: float) -> Truth:
        """The tracks of the frame shown at `t_s`."""
        rows = self._tracks.get(self._frame_index(t_s), np.zeros((0, 5)))
        scale = self.width_m / self._pixels[0]
        center = (rows[:, 1:3] - np.array(self._pixels) / 2) * scale
        return Truth(rows[:, 0].astype(np.int64), np.zeros(len(rows), np.int32), center, rows[:, 3:5] * scale)

    def render(self, image_from_plane: Matrix, width: int, height: int, color: bool, t_s: float) -> Pixels:
        """The frame shown at `t_s` seen through `image_from_plane`."""
        textures = self._textures(self._frame_index(t_s))
        return textures[0 if color else 1].render(image_from_plane, width, height)
