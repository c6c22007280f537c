"""A photograph as a scene, with boxes in YOLO text form as the truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from foveate.errors import NotFound, ProtocolError
from foveate_drivers.world.scene import Matrix, Pixels, Texture, Truth


def read_boxes(path: Path) -> np.ndarray:
    """N x 5 (class, centre x, centre y, width, height; fractions of the image) of a YOLO text file.

    Raises ProtocolError with the file and line of the first row that is not five numbers.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()]
            if len(row) != 5 or not np.isfinite(row).all():
                raise ValueError
        except ValueError:
            raise ProtocolError(
                f"{path}:{number}", "read boxes", f"not 'class x y width height': {line[:60]!r}"
            ) from None
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, 5)


class PhotoScene:
    """The photograph fills the plane; every box is a vehicle that stands still."""

    names = ("vehicle",)

    def __init__(self, image: Path, boxes: Path | None, *, width_m: float) -> None:
        """`boxes` defaults to the image's name with .txt; without such a file nothing is known."""
        picture = cv2.imread(str(image))
        if picture is None:
            raise NotFound(str(image), "open photograph", "no readable image at this path")
        self.width_m = width_m
        self.height_m = width_m * picture.shape[0] / picture.shape[1]
        self._color = Texture(picture, width_m)
        self._gray = Texture(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), width_m)
        source = boxes if boxes is not None else image.with_suffix(".txt")
        if boxes is not None and not source.exists():
            raise NotFound(str(source), "open boxes", "no such file")
        rows = read_boxes(source) if source.exists() else np.zeros((0, 5))
        size = np.array([self.width_m, self.height_m])
        self._truth = Truth(
            np.arange(len(rows), dtype=np.int64), np.zeros(len(rows), np.int32),
            (rows[:, 1:3] - 0.5) * size, rows[:, 3:5] * size,
        )  # fmt: skip

    def truth(self, t_s: float) -> Truth:
        """The boxes; they do not move."""
        return self._truth

    def render(self, image_from_plane: Matrix, width: int, height: int, color: bool, t_s: float) -> Pixels:
        """The photograph seen through `image_from_plane`."""
        return (self._color if color else self._gray).render(image_from_plane, width, height)
