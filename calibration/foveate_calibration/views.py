"""What the procedures work on: points of a board and of a laser stripe, seen in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BoardView:
    """One image of a calibration board."""

    board_m: Array  # N x 3, in the board's frame (z = 0)
    pixel: Array  # N x 2
    name: str = ""  # the image's file, or stream and number
    placement: int = 0  # views of a board that stood still in between have the same
    angle_rad: Array | None = None  # (axes,) of the camera's mirror
    t_ns: int = 0
    stripe_px: Array | None = None  # M x 2, points of the laser's stripe on the board, where it was seen
    laser_rad: Array | None = None  # (axes,) of the laser's mirror
