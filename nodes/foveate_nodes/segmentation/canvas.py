"""The pixels that a network sees: a sensor's picture, made as large as fits and set into the upper left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.segmentation.labelled import UNLABELLED


@dataclass(frozen=True, slots=True)
class Canvas:
    """From `sensor` (width, height of what of it is used) to `size` (width, height of the network's input)."""

    sensor: tuple[int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Canvas pixels a sensor pixel; the same along both sides."""
        return min(self.size[0] / self.sensor[0], self.size[1] / self.sensor[1])

    @property
    def used(self) -> tuple[int, int]:
        """Width and height of the part of the canvas that the picture fills."""
        return tuple(min(round(side * self.scale), most) for side, most in zip(self.sensor, self.size, strict=True))  # type: ignore[return-value]

    def place(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Events' columns and rows on the canvas; whole where they were. Those below what is used fall off it."""
        if self.scale == 1.0 and self.sensor[1] == self.size[1]:
            return x, y
        below = y >= self.sensor[1]
        if np.issubdtype(x.dtype, np.floating):
            moved = [((side + 0.5) * self.scale - 0.5).astype(np.float32) for side in (x, y)]
        else:
            factor = np.float32(self.scale)
            moved = [np.minimum(side * factor, 65_000).astype(np.uint16) for side in (x, y)]
        moved[1][below] = 65_000
        return moved[0], moved[1]

    def shrink(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image of classes of the sensor as one of the canvas; beside it nothing is labelled."""
        out = np.full(self.size[::-1], UNLABELLED, np.uint8)
        width, height = self.used
        out[:height, :width] = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        return out

    def widen(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The way back."""
        width, height = self.used
        part = np.ascontiguousarray(label[:height, :width])
        return np.asarray(cv2.resize(part, self.sensor, interpolation=cv2.INTER_NEAREST), np.uint8)
