"""A triangle mesh of a merged cloud with normals.

The surface is where f(x) = sum of w n (x - p) is zero, over the points p near x with normals n: a moving least squares
surface (Kolluri 2005, Provably Good Moving Least Squares), known at the corners of small cubes beside the points only.
Its triangles are a surface net (Gibson 1998): a vertex in each cube that f crosses, moved onto f = 0; a square for each
edge that f crosses. No closing of holes: where nothing was measured there is no surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.reconstruction import voxels
from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.merging import Merged
from foveate_nodes.reconstruction.mesh_field import sums

Array = NDArray[np.float64]
_CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]
_AROUND_EDGE = ((0, 0), (-1, 0), (-1, -1), (0, -1))  # the cubes around an edge, in turn
_REACH = 2  # cubes whose points speak at a corner
_LEAST_WEIGHT = 0.05  # of a point's own: a corner with less has no opinion


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles, counter-clockwise seen from outside."""

    point_m: Array  # N x 3
    normal: Array  # N x 3, unit, outward
    triangle: NDArray[np.int32]  # M x 3


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """The signed distance at the corners of cubes, sorted by key."""

    key: voxels.Keys
    value: Array  # metres


def mesh_of(merged: Merged, normal: Array, size_m: float, support: float = 0.75) -> Mesh:
    """The mesh of a cloud whose voxels are cubes of `size_m` and whose normals (V x 3) turn outward.

    `support`: the reach of a point's word, as the sigma of a Gaussian in cubes. Raises SurfaceError if empty.
    """
    if not len(merged):
        raise SurfaceError("a mesh needs points; the cloud is empty")
    field = _field(merged, normal, size_m, support)
    cells, corner_values = _crossed(field)
    if not len(cells):
        empty = np.zeros((0, 3))
        return Mesh(empty, empty, np.zeros((0, 3), np.int32))
    vertex, gradient = _vertices(corner_values)
    point = (voxels.unkeyed(cells) + vertex) * size_m
    return trimmed(point, gradient, _triangles(cells, field))


def _field(merged: Merged, normal: Array, size_m: float, support: float) -> _Field:
    """f at every corner of the cubes that hold points and of their neighbours."""
    near = [voxels.step(offset) for offset in voxels.around(1)]
    cells = np.unique(np.concatenate([merged.key + step for step in near]))
    key = np.unique(np.concatenate([cells + voxels.step(tuple(corner)) for corner in _CORNERS.tolist()]))
    place: Array = voxels.unkeyed(key).astype(np.float64) * size_m
    total, weight = np.zeros(len(key)), np.zeros(len(key))
    sigma_m = np.sqrt(np.einsum("ij,ij->i", _along(merged.covariance_m2, normal), normal))
    trust = 1.0 / np.maximum(sigma_m, 1e-6) ** 2
    trust /= np.median(trust)
    span = range(-_REACH, _REACH)  # a corner has as many cubes on either side: -2, -1 | 0, 1
    columns = np.array([voxels.step((x, y, -_REACH)) for x in span for y in span], np.int64)
    sums(key, place, merged.key, columns, 2 * _REACH, merged.point_m, np.ascontiguousarray(normal, np.float64),
         np.minimum(trust, 4.0), support * size_m, total, weight)  # fmt: skip
    known = weight > _LEAST_WEIGHT
    return _Field(key[known], total[known] / weight[known])


def _along(six: Array, vector: Array) -> Array:
    a, b, c, d, e, f = six.T
    x, y, z = vector.T
    return np.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], axis=1)


def _crossed(field: _Field) -> tuple[voxels.Keys, Array]:
    """The cubes all of whose corners are known and not all on one side, with f at the corners (C x 8)."""
    values = np.empty((len(field.key), 8))
    whole = np.ones(len(field.key), bool)
    for k, corner in enumerate(_CORNERS.tolist()):
        at, there = voxels.find(field.key, field.key + voxels.step(tuple(corner)))
        values[:, k] = field.value[at]
        whole &= there
    inside = values < 0
    crossed = whole & inside.any(axis=1) & ~inside.all(axis=1)
    return field.key[crossed], values[crossed]


def _vertices(values: Array) -> tuple[Array, Array]:
    """A point of f = 0 in each cube (C x 3, shares of the side) and the gradient of f there (C x 3), per side."""
    total, count = np.zeros((len(values), 3)), np.zeros(len(values))
    for a, b in _EDGES:
        fa, fb = values[:, a], values[:, b]
        rows = np.flatnonzero((fa < 0) != (fb < 0))
        share = (fa[rows] / (fa[rows] - fb[rows]))[:, None]
        total[rows] += _CORNERS[a] * (1 - share) + _CORNERS[b] * share
        count[rows] += 1
    vertex = total / count[:, None]
    for _ in range(3):  # the mean of the crossings lies off a bent surface: Newton's steps put it on
        value, gradient = _trilinear(values, vertex)
        steep = np.maximum((gradient**2).sum(axis=1), 1e-12)
        vertex = np.clip(vertex - (value / steep)[:, None] * gradient, 0.0, 1.0)
    return vertex, _trilinear(values, vertex)[1]


def _trilinear(values: Array, at: Array) -> tuple[Array, Array]:
    """f (C,) and its gradient (C x 3) at places (C x 3) in the cubes."""
    share = np.where(_CORNERS[None] == 1, at[:, None], 1 - at[:, None])  # C x 8 x 3
    sign = np.where(_CORNERS == 1, 1.0, -1.0)
    value = (values * share.prod(axis=2)).sum(axis=1)
    gradient = np.stack(
        [(values * sign[:, k] * share[:, :, (k + 1) % 3] * share[:, :, (k + 2) % 3]).sum(axis=1) for k in range(3)],
        axis=1,
    )
    return value, gradient


def _triangles(cells: voxels.Keys, field: _Field) -> NDArray[np.int64]:
    """Two triangles for each edge that f crosses and that four cubes with a vertex share."""
    found = []
    for axis in range(3):
        along = voxels.step(tuple(np.eye(3, dtype=int)[axis].tolist()))
        ahead, there = voxels.find(field.key, field.key + along)
        begin, end = field.value < 0, field.value[ahead] < 0
        rows = np.flatnonzero(there & (begin != end))
        corner = np.empty((len(rows), 4), np.int64)
        whole = np.ones(len(rows), bool)
        for k, (first, second) in enumerate(_AROUND_EDGE):
            offset = [0, 0, 0]
            offset[(axis + 1) % 3], offset[(axis + 2) % 3] = first, second
            corner[:, k], there = voxels.find(cells, field.key[rows] + voxels.step((offset[0], offset[1], offset[2])))
            whole &= there
        corner, outward = corner[whole], begin[rows[whole]]
        corner = np.where(outward[:, None], corner, corner[:, ::-1])
        found += [corner[:, [0, 1, 2]], corner[:, [0, 2, 3]]]
    return np.concatenate(found)


def trimmed(point: Array, gradient: Array, triangle: NDArray[np.int64]) -> Mesh:
    """Without vertices that no triangle uses and triangles without area."""
    a, b, c = (point[triangle[:, k]] for k in range(3))
    triangle = triangle[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-18]
    used, number = np.unique(triangle, return_inverse=True)
    normal = gradient[used] / np.maximum(np.linalg.norm(gradient[used], axis=1, keepdims=True), 1e-12)
    return Mesh(point[used], normal, number.reshape(-1, 3).astype(np.int32))
