"""Places in a grid of cubes as single numbers: sorted, they are found by bisection, with no table of all space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.reconstruction.errors import SurfaceError

Keys = NDArray[np.int64]
_BITS = 21  # an axis: two million cubes, 1 km of half millimetres
_HALF = 1 << (_BITS - 1)
_MASK = (1 << _BITS) - 1


def places(points: NDArray[np.floating], size_m: float) -> NDArray[np.int64]:
    """The cube (N x 3, whole numbers) of each point (N x 3, metres). Raises SurfaceError."""
    found = np.floor(np.asarray(points, np.float64) / size_m)
    if not (np.abs(found) < _HALF - 4).all():
        raise SurfaceError(
            f"a point lies more than {_HALF * size_m:g} m away or is no number; the voxel is {size_m:g} m"
        )
    return found.astype(np.int64)


def keys(place: NDArray[np.int64]) -> Keys:
    """One number (N,) a cube; neighbours along z follow each other."""
    shifted = place + _HALF
    return (shifted[:, 0] << 2 * _BITS) | (shifted[:, 1] << _BITS) | shifted[:, 2]


def unkeyed(key: Keys) -> NDArray[np.int64]:
    """The inverse of `keys`: N x 3."""
    return np.stack([key >> 2 * _BITS, (key >> _BITS) & _MASK, key & _MASK], axis=1) - _HALF


def step(offset: tuple[int, int, int]) -> int:
    """What to add to a key to come to the cube at `offset`."""
    x, y, z = offset
    return (x << 2 * _BITS) + (y << _BITS) + z


def find(known: Keys, wanted: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each of `wanted` stands in the sorted `known`, and whether it is there at all (0 where not)."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    there = known[at] == wanted
    return np.where(there, at, 0), there


def around(reach: int) -> list[tuple[int, int, int]]:
    """Offsets of all cubes within `reach` along each axis, this one included."""
    span = range(-reach, reach + 1)
    return [(x, y, z) for x in span for y in span for z in span]
