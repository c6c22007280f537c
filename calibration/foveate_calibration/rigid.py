"""Rigid transforms as 4 x 4 matrices, named `to_from_from`: `world_from_camera @ point_in_camera`."""

from __future__ import annotations

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


def invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a rigid 4 x 4 transform."""
    return transform(matrix[:3, :3].T, -matrix[:3, :3].T @ matrix[:3, 3])


def reflection(normal: NDArray[np.float64], point_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """4 x 4 reflection in the plane through `point_m` with unit `normal` (a Householder matrix)."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2.0 * np.outer(normal, normal)
    matrix[:3, 3] = 2.0 * normal * (normal @ point_m)
    return matrix
