"""A sheet of laser light as the world takes it: a Gaussian beam that a lens has spread into a fan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Beam:
    """Light of one moment, in the frame of the rig."""

    plane: Array  # (4,) unit normal n and distance d of the middle of the sheet, n x = d
    source_m: Array  # (3,) from where the fan spreads, seen in the last mirror
    along: Array  # (3,) unit, across the fan within the sheet
    ahead: Array  # (3,) unit, the middle of the fan
    fan_rad: float  # half of its angle
    waist_m: float  # half thickness (1 / e^2) where it is thinnest
    waist_at_m: float  # how far from the source that is
    rayleigh_m: float  # how much further it is sqrt(2) as thick
    level: float  # grey levels on white that faces it at the waist, in the nominal exposure
    place: int = 0  # the same number = the same speckle

    def row(self) -> Array:
        """(18,) in the order of stripe_light's columns; the level is that at 1 m."""
        numbers = [self.fan_rad, self.waist_m, self.waist_at_m, self.rayleigh_m, self.level * self.waist_at_m]
        return np.concatenate([self.plane, self.source_m, self.along, self.ahead, numbers])


class Light(Protocol):
    """What shines into a world."""

    def smear_rad(self, begin_s: float, end_s: float) -> float:
        """How far its direction turns between two moments."""

    def beams(self, times_s: list[float], middle_ns: int) -> list[Beam]:
        """Its light at some moments of an exposure around `middle_ns`; [] where it is dark."""
