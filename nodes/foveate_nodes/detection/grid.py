"""The grid of directions that maps of a search are made on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from foveate.messages import ProbabilityMap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Square cells over the field of regard, rows from top to bottom."""

    left_rad: float
    top_rad: float
    cell_rad: float
    rows: int
    columns: int

    @classmethod
    def over(cls, width_rad: float, height_rad: float, cell_rad: float) -> Grid:
        """A centred grid that covers at least the given field."""
        columns, rows = (int(np.ceil(size / cell_rad)) for size in (width_rad, height_rad))
        return cls(-columns * cell_rad / 2, -rows * cell_rad / 2, cell_rad, rows, columns)

    @classmethod
    def of(cls, message: ProbabilityMap) -> Grid:
        """The grid a map was made on."""
        rows, columns = message.expected.shape
        return cls(message.left_rad, message.top_rad, message.cell_rad, rows, columns)

    @cached_property
    def azimuth_rad(self) -> Array:
        """Centres of the columns."""
        return self.left_rad + (np.arange(self.columns, dtype=np.float64) + 0.5) * self.cell_rad

    @cached_property
    def elevation_rad(self) -> Array:
        """Centres of the rows."""
        return self.top_rad + (np.arange(self.rows, dtype=np.float64) + 0.5) * self.cell_rad

    @cached_property
    def directions_rad(self) -> Array:
        """Centres of all cells: rows x columns x 2."""
        return np.stack(np.meshgrid(self.azimuth_rad, self.elevation_rad), axis=-1)

    def cells(self, direction_rad: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, column) of each direction (N x 2); the nearest cell for one outside."""
        column = (direction_rad[:, 0] - self.left_rad) / self.cell_rad
        row = (direction_rad[:, 1] - self.top_rad) / self.cell_rad
        return (
            np.clip(row.astype(np.int64), 0, self.rows - 1),
            np.clip(column.astype(np.int64), 0, self.columns - 1),
        )

    def window(self, center_rad: Array, half_rad: Array) -> tuple[slice, slice]:
        """Rows and columns whose centres lie within `half_rad` of `center_rad` (both (2,))."""
        low = np.ceil((center_rad - half_rad - [self.left_rad, self.top_rad]) / self.cell_rad - 0.5)
        high = np.floor((center_rad + half_rad - [self.left_rad, self.top_rad]) / self.cell_rad - 0.5) + 1
        c0, r0 = np.clip(low, 0, [self.columns, self.rows]).astype(int)
        c1, r1 = np.clip(high, 0, [self.columns, self.rows]).astype(int)
        return slice(r0, max(r1, r0)), slice(c0, max(c1, c0))
