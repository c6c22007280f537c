"""Rigid transforms as 4 x 4 matrices, named `to_from_from`: `world_from_camera @ point_in_camera`.

A step from one transform to a neighbour is six numbers: a rotation vector (radians) and a translation (metres), both
in the frame that the transform leads to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rotation(axis: NDArray[np.float64], angle_rad: float) -> NDArray[np.float64]:
    """3 x 3 rotation about the unit vector `axis` by `angle_rad` (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1.0 - np.cos(angle_rad)) * (cross @ cross)


def transform(rotation_matrix: NDArray[np.float64], translation_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """4 x 4 transform from a 3 x 3 rotation and a translation (metres)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix
    matrix[:3, 3] = translation_m
    return matrix


def rigid_of(rows: Any) -> NDArray[np.float64]:
    """4 x 4 transform from the 3 x 4 numbers of a file. Raises TypeError, ValueError where that is no rotation."""
    matrix = np.eye(4)
    matrix[:3] = np.array(rows, np.float64).reshape(3, 4)
    turn = matrix[:3, :3]
    if not np.isfinite(matrix).all() or np.abs(matrix[:3]).max() > 1e6:
        raise ValueError("the matrix has numbers that are no metres")
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-6 or np.linalg.det(turn) < 0:
        raise ValueError("the matrix is not a rotation")
    return matrix


def invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a rigid 4 x 4 transform."""
    return transform(matrix[:3, :3].T, -matrix[:3, :3].T @ matrix[:3, 3])


def reflection(normal: NDArray[np.float64], point_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """4 x 4 reflection in the plane through `point_m` with unit `normal` (a Householder matrix)."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2.0 * np.outer(normal, normal)
    matrix[:3, 3] = 2.0 * normal * (normal @ point_m)
    return matrix


def skew(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix (3 x 3) of the cross product: `skew(a) @ b` is a x b."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a x b of single vectors (3,): a tenth of what numpy's general function takes."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def rotation_from(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """3 x 3 rotation by a rotation vector (3,): about its direction, by its length in radians."""
    angle = float(np.linalg.norm(vector))
    return np.eye(3) + skew(vector) if angle < 1e-12 else rotation(vector / angle, angle)


def vector_from(rotation_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation vector (3,) of a 3 x 3 rotation, its length at most pi."""
    cosine = (np.trace(rotation_matrix) - 1.0) / 2.0
    if cosine < -0.99:  # near half a turn the differences below vanish: the axis is in the symmetric part
        symmetric = (rotation_matrix + rotation_matrix.T) / 2 - cosine * np.eye(3)
        column = symmetric[:, int(np.argmax(np.diag(symmetric)))]
        axis = column / np.linalg.norm(column)
        twist = rotation_matrix - rotation_matrix.T
        sine = float(np.array([twist[2, 1], twist[0, 2], twist[1, 0]]) @ axis) / 2
        return axis * np.arctan2(sine, cosine)
    twice_sine = np.array(
        [
            rotation_matrix[2, 1] - rotation_matrix[1, 2],
            rotation_matrix[0, 2] - rotation_matrix[2, 0],
            rotation_matrix[1, 0] - rotation_matrix[0, 1],
        ]
    )
    sine = float(np.linalg.norm(twice_sine)) / 2.0
    return twice_sine * (0.5 if sine < 1e-9 else np.arctan2(sine, cosine) / (2.0 * sine))


def stepped(matrix: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rigid transform after a step (6,): x -> R(step[:3]) R x + t + step[3:]."""
    return transform(rotation_from(step[:3]) @ matrix[:3, :3], matrix[:3, 3] + step[3:])


def perpendicular(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two unit vectors (2 x 3) that are at right angles to a unit vector and to each other.

    For directions near an axis of the frame they turn with the direction, and never jump.
    """
    first = cross(direction, np.eye(3)[(int(np.argmax(np.abs(direction))) + 1) % 3])
    first /= np.linalg.norm(first)
    return np.stack([first, cross(direction, first)])
