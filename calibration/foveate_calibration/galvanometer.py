"""A plane mirror that a galvanometer turns about an axis: where its plane is for a commanded angle.

With the command c (mechanical radians) the shaft stands at gain c + cubic c^3 + bias. The mirror's surface may lie
beside the axis, and its normal may lean towards the axis: machining allows both, and both show at 0.1 mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import cross, perpendicular, rotation, rotation_from

Array = NDArray[np.float64]

# What a step of a fit changes: the axis' direction (2, radians) and place (2, metres) at right angles to itself, the
# normal's lean towards the axis (radians), the surface beside the axis (metres), gain, cubic (1 / rad^2), bias (rad).
PARAMETERS = ("tilt_a", "tilt_b", "point_a", "point_b", "lean", "offset", "gain", "cubic", "bias")


@dataclass(frozen=True, slots=True, eq=False)
class Galvanometer:
    """One mirror, in the frame of the rig."""

    axis: Array  # (3,) unit; a positive angle turns the normal about it by the right hand
    point_m: Array  # (3,) a point of the axis
    normal: Array  # (3,) unit, of the mirror when the shaft stands at 0
    offset_m: float = 0.0  # of the surface from the axis, along the normal
    gain: float = 1.0  # mechanical radians of the shaft by commanded ones
    cubic: float = 0.0  # 1 / rad^2
    bias_rad: float = 0.0

    def shaft_rad(self, command_rad: float | Array) -> float | Array:
        """Where the shaft stands."""
        return self.gain * command_rad + self.cubic * command_rad**3 + self.bias_rad

    def plane(self, command_rad: float) -> Array:
        """(4,): unit normal n and distance d of the mirror's plane n x = d, as (n, d)."""
        normal = rotation(self.axis, float(self.shaft_rad(command_rad))) @ self.normal
        return np.append(normal, normal @ self.point_m + self.offset_m)

    def reflection(self, command_rad: float) -> Array:
        """4 x 4 reflection in the mirror."""
        return reflection_in(self.plane(command_rad))

    def linearize(self, command_rad: float) -> tuple[Array, Array]:
        """The plane (4,) and its derivatives (9 x 4) by a step of PARAMETERS."""
        plane = self.plane(command_rad)
        normal = plane[:3]
        sides = perpendicular(self.axis)
        upright = cross(self.axis, cross(normal, self.axis))  # the part of the normal across the axis
        upright /= np.linalg.norm(upright)
        turning = cross(self.axis, normal)
        by = np.zeros((len(PARAMETERS), 4))
        by[0, :3], by[1, :3] = cross(sides[0], normal), cross(sides[1], normal)
        by[4, :3] = self.axis * (normal @ upright) - upright * (normal @ self.axis)
        command = float(command_rad)
        by[6, :3], by[7, :3], by[8, :3] = turning * command, turning * command**3, turning
        by[:, 3] = by[:, :3] @ self.point_m
        by[2, 3], by[3, 3], by[5, 3] = normal @ sides[0], normal @ sides[1], 1.0
        return plane, by

    def stepped(self, step: Array) -> Galvanometer:
        """The mirror after a step (9,) of PARAMETERS; `linearize` gives its derivatives at 0."""
        sides = perpendicular(self.axis)
        turn = rotation_from(step[0] * sides[0] + step[1] * sides[1])
        lean_about = cross(self.normal, self.axis)
        leaning = rotation(lean_about / np.linalg.norm(lean_about), float(step[4]))
        axis = turn @ self.axis
        normal = turn @ leaning @ self.normal
        return replace(
            self, axis=axis / np.linalg.norm(axis), point_m=self.point_m + step[2] * sides[0] + step[3] * sides[1],
            normal=normal / np.linalg.norm(normal), offset_m=self.offset_m + float(step[5]),
            gain=self.gain + float(step[6]), cubic=self.cubic + float(step[7]), bias_rad=self.bias_rad + float(step[8]),
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        return {
            "axis": self.axis.tolist(), "point_m": self.point_m.tolist(), "normal": self.normal.tolist(),
            "offset_m": self.offset_m, "gain": self.gain, "cubic": self.cubic, "bias_rad": self.bias_rad,
        }  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        axis, point, normal = (vector(plain[name], 3) for name in ("axis", "point_m", "normal"))
        numbers = [float(plain[name]) for name in ("offset_m", "gain", "cubic", "bias_rad")]
        lengths = np.linalg.norm(axis), np.linalg.norm(normal)
        if min(lengths) < 0.5:
            raise ValueError("axis and normal need a length of 1")
        if np.linalg.norm(cross(axis / lengths[0], normal / lengths[1])) < 1e-3:
            raise ValueError("the normal lies along the axis, so the mirror would not turn")
        return cls(axis / lengths[0], point, normal / lengths[1], *numbers)


def reflection_in(plane: Array) -> Array:
    """4 x 4 reflection in a plane (n, d) with n x = d."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2.0 * np.outer(plane[:3], plane[:3])
    matrix[:3, 3] = 2.0 * plane[3] * plane[:3]
    return matrix


def reflection_derivatives(plane: Array, by: Array) -> Array:
    """P x 4 x 4: of `reflection_in` for derivatives of the plane (P x 4)."""
    out = np.zeros((len(by), 4, 4))
    outer = by[:, :3, None] * plane[None, None, :3]
    out[:, :3, :3] = -2.0 * (outer + outer.transpose(0, 2, 1))
    out[:, :3, 3] = 2.0 * (by[:, 3:] * plane[:3] + plane[3] * by[:, :3])
    return out


def vector(value: Any, length: int) -> Array:
    """Numbers of a file as an array. Raises TypeError, ValueError."""
    found = np.array([float(item) for item in value])
    if len(found) != length or not np.isfinite(found).all():
        raise ValueError(f"needs {length} finite numbers")
    return found
