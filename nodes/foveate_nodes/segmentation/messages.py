"""What travels between the nodes of event segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.messages import Message


@dataclass(frozen=True, slots=True, eq=False)
class EventSlices(Message):
    """The slices that came to their end with one packet; `stamp.t_ns` is the end of the newest, and its exposure how
    long that one took to gather. Slice i has the events bound[i] .. bound[i + 1] - 1."""

    t_ns: NDArray[np.int64]  # N, never decreasing
    x: NDArray[np.uint16]  # N, column
    y: NDArray[np.uint16]  # N, row
    polarity: NDArray[np.uint8]  # N, 1 = brighter
    bound: NDArray[np.int64]  # S + 1
    begin_ns: NDArray[np.int64]  # S
    end_ns: NDArray[np.int64]  # S
    width: int  # px of the sensor
    height: int
    skipped: int = 0  # slices left out just before these, since there were too many at once
    fresh: bool = False  # these do not follow those of the message before: time began anew

    def __len__(self) -> int:
        return len(self.begin_ns)

    def events_of(self, i: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Times, columns, rows and polarities of slice i."""
        part = slice(int(self.bound[i]), int(self.bound[i + 1]))
        return self.t_ns[part], self.x[part], self.y[part], self.polarity[part]


@dataclass(frozen=True, slots=True, eq=False)
class EventTensor(Message):
    """Slices as arrays; the stamp is that of the slices."""

    value: NDArray[np.float32]  # S x channels x H x W
    kind: str  # "voxel_grid" | "time_surface" | "event_count"
    begin_ns: NDArray[np.int64]  # S
    end_ns: NDArray[np.int64]  # S
    outside: int = 0  # events off the sensor
    skipped: int = 0
    fresh: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LabelImage(Message):
    """The class of every pixel at `stamp.t_ns`."""

    label: NDArray[np.uint8]  # H x W, index into names; 255 = nobody says
    names: tuple[str, ...]
    slices: int = 0  # that it was made from, since the one before; 0 of a truth
    events: int = 0  # in the newest of them
    skipped: int = 0  # slices left out before


@dataclass(frozen=True, slots=True, eq=False)
class SliceEnergy(Message):
    """What a slice costs a network, as was counted on validation slices when it was made (`energy.py`): millijoules."""

    dense_mj: float  # every multiply-add
    literature_mj: float  # 4.6 pJ for each of the first layer, 0.9 pJ for an accumulate of another
    honest_mj: float  # with all that the literature leaves out
    firing_rate: float  # the share of neurons that fired, mean over layers
