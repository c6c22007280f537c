"""A sheet of laser light that a galvanometer mirror turns: a plane for each angle.

Planes are (n, d) with n x = d in the frame of the rig; reflection S maps them by S^-T, with no trap of signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.galvanometer import Galvanometer, vector
from foveate_calibration.rigid import cross, perpendicular, rotation_from

Array = NDArray[np.float64]
PARAMETERS = ("sheet_a", "sheet_b", "sheet_d")  # of the source: two tilts (radians) and the distance (metres)


@dataclass(frozen=True, slots=True, eq=False)
class LaserPlane:
    """A sheet of light that does not move."""

    sheet: Array  # (4,): unit normal and distance (metres)

    def plane(self, angle_rad: Array | None = None) -> Array:
        """(4,) the sheet, whatever the angle."""
        return self.sheet

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        return {"normal": self.sheet[:3].tolist(), "distance_m": float(self.sheet[3])}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        return cls(unit_plane(np.append(vector(plain["normal"], 3), float(plain["distance_m"]))))


@dataclass(frozen=True, slots=True, eq=False)
class SteeredLaser:
    """A fixed sheet before one mirror."""

    sheet: Array  # (4,) unit normal and distance (metres), before the mirror
    mirror: Galvanometer

    def plane(self, angle_rad: Array) -> Array:
        """(4,) unit normal and distance of the sheet behind the mirror, at its angle (1,), commanded and mechanical."""
        mirror = self.mirror.plane(float(np.ravel(angle_rad)[0]))
        return _reflected(self.sheet, mirror)

    def linearize(self, angle_rad: Array) -> tuple[Array, Array, Array]:
        """The plane (4,), its derivatives by steps of the sheet and the mirror (3 + 9) x 4, and by the angle (4,)."""
        command = float(np.ravel(angle_rad)[0])
        mirror, by = self.mirror.linearize(command)
        n, m = self.sheet[:3], mirror[:3]
        along = float(n @ m)
        out = np.zeros((12, 4))
        for k, side in enumerate(perpendicular(n)):
            turned = cross(side, n)
            out[k, :3] = turned - 2 * (turned @ m) * m
            out[k, 3] = -2 * mirror[3] * (turned @ m)
        out[2, 3] = 1.0
        slope = by[:, :3] @ n
        out[3:, :3] = -2 * (slope[:, None] * m + along * by[:, :3])
        out[3:, 3] = -2 * (by[:, 3] * along + mirror[3] * slope)
        by_angle = out[11] * (self.mirror.gain + 3 * self.mirror.cubic * command**2)
        return _reflected(self.sheet, mirror), out, by_angle

    def stepped(self, step: Array) -> SteeredLaser:
        """After a step (12,): of the sheet, then of the mirror."""
        sides = perpendicular(self.sheet[:3])
        normal = rotation_from(step[0] * sides[0] + step[1] * sides[1]) @ self.sheet[:3]
        sheet = np.append(normal / np.linalg.norm(normal), self.sheet[3] + step[2])
        return replace(self, sheet=sheet, mirror=self.mirror.stepped(step[3:]))

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        return {**LaserPlane(self.sheet).plain(), "mirror": self.mirror.plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        return cls(LaserPlane.from_plain(plain).sheet, Galvanometer.from_plain(plain["mirror"]))


def unit_plane(plane: Array) -> Array:
    """The same plane with a normal of length 1. Raises ValueError."""
    length = float(np.linalg.norm(plane[:3]))
    if not length > 0 or not np.isfinite(plane).all():
        raise ValueError("a plane needs a normal")
    return plane / length


def _reflected(plane: Array, mirror: Array) -> Array:
    """A plane seen in a mirror, both (n, d)."""
    along = float(plane[:3] @ mirror[:3])
    return np.append(plane[:3] - 2 * along * mirror[:3], plane[3] - 2 * mirror[3] * along)
