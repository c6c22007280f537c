"""The pixels that a network sees: a sensor's picture, made as large as fits and set into the upper left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.segmentation.labelled import UNLABELLED

_OFF = 65_000  # px, beyond any canvas


@dataclass(frozen=True, slots=True)
class Canvas:
    """From `sensor` (width, height of what of it is used) to `size` (width, height of the network's input)."""

    sensor: tuple[int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Canvas pixels a sensor pixel; the same along both sides."""
        return self._ratio[0] / self._ratio[1]

    @property
    def _ratio(self) -> tuple[int, int]:
        """The scale as a fraction, so that a pixel's place does not hang on rounding."""
        wide = self.size[0] * self.sensor[1] <= self.size[1] * self.sensor[0]
        return (self.size[0], self.sensor[0]) if wide else (self.size[1], self.sensor[1])

    @property
    def used(self) -> tuple[int, int]:
        """Width and height of the part of the canvas that the picture fills."""
        up, down = self._ratio
        width, height = (max(int(self._places(side)[-1]) + 1, -((down - 2 * side * up) // (2 * down)))
                         for side in self.sensor)  # fmt: skip
        return width, height

    def _places(self, side: int) -> NDArray[np.uint16]:
        """In which pixel of the canvas the middle of each sensor pixel lies, along a side."""
        up, down = self._ratio
        return ((2 * np.arange(side) + 1) * up // (2 * down)).astype(np.uint16)

    def place(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Events' columns and rows on the canvas; whole where they were. Those beside what is used of the sensor fall
        off it."""
        if self.sensor == self.size:
            return x, y
        return self._along(x, self.sensor[0]), self._along(y, self.sensor[1])

    def _along(self, values: NDArray[Any], side: int) -> NDArray[Any]:
        if not np.issubdtype(values.dtype, np.floating):
            return np.append(self._places(side), np.uint16(_OFF)).take(values, mode="clip")
        moved = ((values + 0.5) * self.scale - 0.5).astype(np.float32)
        moved[(values <= -1) | (values >= side)] = _OFF
        return moved

    def shrink(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image of classes of the sensor as one of the canvas, each pixel as the sensor's in its middle; beside it
        nothing is labelled."""
        out = np.full(self.size[::-1], UNLABELLED, np.uint8)
        (up, down), (width, height) = self._ratio, self.used
        columns, rows = (np.minimum((2 * np.arange(used) + 1) * down // (2 * up), side - 1)
                         for used, side in zip((width, height), self.sensor, strict=True))  # fmt: skip
        out[:height, :width] = label.take(rows, 0).take(columns, 1)
        return out

    def widen(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The way back: every sensor pixel as the canvas pixel into which its events fall."""
        columns, rows = (self._places(side) for side in self.sensor)
        return label.take(rows, 0).take(columns, 1)
