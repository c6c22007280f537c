"""Rigid motions (4 x 4) and their small steps (6,): a turn in radians, then a shift in metres (Sola et al. 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import rotation_from, skew, transform, vector_from

Array = NDArray[np.float64]
_SMALL = 1e-2  # rad: below, the next term of the series is smaller than what cancels


def exponential(step: Array) -> Array:
    """The motion (4 x 4) that goes on for one unit of time at the twist `step` (6,)."""
    turn, shift = step[:3], step[3:]
    angle, crossed = float(np.linalg.norm(turn)), skew(turn)
    if angle < _SMALL:
        first, second = 1 / 2 - angle**2 / 24, 1 / 6 - angle**2 / 120
    else:
        first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    left = np.eye(3) + first * crossed + second * crossed @ crossed
    return transform(rotation_from(turn), left @ shift)


def logarithm(motion: Array) -> Array:
    """The twist (6,) of a motion (4 x 4), the inverse of `exponential` for turns below half a circle."""
    turn = vector_from(motion[:3, :3])
    angle, crossed = float(np.linalg.norm(turn)), skew(turn)
    if angle < _SMALL:
        share = 1 / 12 + angle**2 / 720
    else:
        share = (1 - angle * np.sin(angle) / (2 * (1 - np.cos(angle)))) / angle**2
    inverse = np.eye(3) - crossed / 2 + share * crossed @ crossed
    return np.concatenate([turn, inverse @ motion[:3, 3]])


def adjoint(motion: Array) -> Array:
    """6 x 6, which takes a step of the inner frame to one of the outer: exp(Ad x) M = M exp(x)."""
    turn = motion[:3, :3]
    made = np.zeros((6, 6))
    made[:3, :3] = made[3:, 3:] = turn
    made[3:, :3] = skew(motion[:3, 3]) @ turn
    return made


def orientation_of(rotation: Array) -> Array:
    """The unit quaternion x, y, z, w (4,), w >= 0, of a rotation (3 x 3)."""
    m = rotation
    square = np.array([
        1 + m[0, 0] - m[1, 1] - m[2, 2], 1 - m[0, 0] + m[1, 1] - m[2, 2],
        1 - m[0, 0] - m[1, 1] + m[2, 2], 1 + m[0, 0] + m[1, 1] + m[2, 2],
    ])  # fmt: skip
    x, y, z, w = (
        (square[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]),
        (m[0, 1] + m[1, 0], square[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]),
        (m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], square[2], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], square[3]),
    )[int(np.argmax(square))]  # the largest: none of them divides by a small number
    found = np.array([x, y, z, w])
    return found / np.linalg.norm(found) * (1.0 if w >= 0 else -1.0)
