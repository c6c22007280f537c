"""A room with a camera rig that moves through it: what a sequence's name stands for, ready to be looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotFound
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world.room import Light, Sight
from foveate_drivers.world.room_sequences import SEQUENCES, Sequence

Array = NDArray[np.float64]
_SMEAR_PX = 2.0  # of the picture from one rendering to the next, within an exposure
_MOST_PARTS = 11


def named(name: str, who: str = "sim") -> Sequence:
    """A sequence; raises NotFound, of `who`, with the names there are."""
    if name not in SEQUENCES:
        raise NotFound(who, f"find sequence {name!r}", f"there are {', '.join(SEQUENCES)}")
    return SEQUENCES[name]


class Stage:
    """Its time begins at 0 and goes on after the sequence's frames: ways and walkers repeat themselves."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.room = sequence.room()

    def world_from_rig(self, t_s: float) -> Array:
        """4 x 4, exact."""
        return self.sequence.path.pose(t_s)

    def sight(
        self, pinhole: Pinhole, t_s: float, exposure_s: float = 0.0, rig_from_camera: Array | None = None
    ) -> Sight:
        """What a camera of the rig sees: everything at `t_s`, the light as the mean of an exposure around it."""
        place = np.eye(4) if rig_from_camera is None else rig_from_camera
        middle = self.room.render(pinhole, self.world_from_rig(t_s) @ place, t_s)
        parts = self._parts(pinhole, t_s, exposure_s, place)
        if parts == 1:
            return middle
        light: Light = np.zeros_like(middle.light)
        for i in range(parts):
            if 2 * i + 1 == parts:
                light += middle.light
                continue
            then_s = t_s + exposure_s * ((i + 0.5) / parts - 0.5)
            light += self.room.render(pinhole, self.world_from_rig(then_s) @ place, then_s).light
        return replace(middle, light=light / np.float32(parts))

    def _parts(self, pinhole: Pinhole, t_s: float, exposure_s: float, place: Array) -> int:
        """How many renderings an exposure needs: a turn smears everything, a shift what is 1.5 m away; always odd."""
        if exposure_s <= 0:
            return 1
        a, b = (self.world_from_rig(t_s + end * exposure_s / 2) @ place for end in (-1, 1))
        turn = float(np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1)))
        smear_px = pinhole.focal_px * (turn + float(np.linalg.norm(a[:3, 3] - b[:3, 3])) / 1.5)
        return int(min(2 * (smear_px // (2 * _SMEAR_PX)) + 1, _MOST_PARTS))
