"""Many clouds of one surface made one: voxels, in each the mean of its points weighted by their inverse covariances.

What falls into a voxel is kept as sums, so adding a cloud never looks at old points again. Sums lie in layers that are
sorted and never changed; two of like size are joined (O'Neil et al. 1996, The Log-Structured Merge-Tree), so a point is
moved about log2(clouds) times and a copy of the state costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.reconstruction import voxels
from foveate_nodes.reconstruction.messages import PointCloud

Array = NDArray[np.float64]
_LEAST_SIGMA_M = 1e-6  # added to every point's: a covariance of a ray's noise alone is flat
# columns of the sums: information (6), information times place (3), place (3), intensity, direction of view (3), points
_INFORMATION, _PULL, _PLACE, _LIGHT, _VIEW, _COUNT = slice(0, 6), slice(6, 9), slice(9, 12), 12, slice(13, 16), 16
_WIDTH = 17
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Sums of voxels, sorted by key; never changed, so a copy is itself."""

    key: voxels.Keys  # V
    total: NDArray[np.float64]  # V x 17

    def __deepcopy__(self, memo: dict[int, Any]) -> Layer:
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """One point a voxel."""

    key: voxels.Keys  # V, sorted
    point_m: Array  # V x 3
    covariance_m2: Array  # V x 6: xx, xy, xz, yy, yz, zz; of noise that differs from point to point
    intensity: Array  # V
    view: Array  # V x 3, unit, from the point to where it was seen from
    count: NDArray[np.int64]  # V, points

    def __len__(self) -> int:
        return len(self.key)

    def kept(self, where: NDArray[np.bool_]) -> Merged:
        """The voxels where `where` (V,) holds."""
        return Merged(self.key[where], self.point_m[where], self.covariance_m2[where], self.intensity[where],
                      self.view[where], self.count[where])  # fmt: skip


class VoxelCloud:
    """A cloud that grows."""

    def __init__(self, size_m: float) -> None:
        self.size_m = size_m
        self.layers: tuple[Layer, ...] = ()

    def add(self, cloud: PointCloud) -> None:
        """Add a cloud's points. Raises SurfaceError for points that are no numbers."""
        if len(cloud.point_m):
            self._push(_layer(cloud, self.size_m))

    def _push(self, layer: Layer) -> None:
        layers = [*self.layers, layer]
        while len(layers) > 1 and len(layers[-2].key) <= 2 * len(layers[-1].key):
            layers[-2:] = [_joined(layers[-2:])]
        self.layers = tuple(layers)

    def merged(self, least_points: int = 1) -> Merged:
        """Means of all voxels with at least `least_points` points."""
        if len(self.layers) > 1:
            self.layers = (_joined(list(self.layers)),)
        if not self.layers:
            empty = np.zeros((0, 3))
            return Merged(np.zeros(0, np.int64), empty, np.zeros((0, 6)), np.zeros(0), empty, np.zeros(0, np.int64))
        layer = self.layers[0]
        enough = layer.total[:, _COUNT] >= least_points
        return _means(layer.key[enough], layer.total[enough], self.size_m)


def _layer(cloud: PointCloud, size_m: float) -> Layer:
    """The sums of one cloud; places count from their voxel's centre, so that nothing is lost in squares."""
    point = np.asarray(cloud.point_m, np.float64)
    place = voxels.places(point, size_m)
    local = point - (place + 0.5) * size_m
    covariance = np.array(cloud.covariance_m2, np.float64)
    covariance[:, [0, 3, 5]] += _LEAST_SIGMA_M**2
    rows = np.empty((len(point), _WIDTH))
    rows[:, _INFORMATION] = _inverse(covariance)
    rows[:, _PULL] = _times(rows[:, _INFORMATION], local)
    rows[:, _PLACE], rows[:, _LIGHT], rows[:, _COUNT] = local, cloud.intensity, 1.0
    view = np.asarray(cloud.view_m, np.float64) - point
    rows[:, _VIEW] = view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-12)
    return _summed(voxels.keys(place), rows)


def _summed(key: voxels.Keys, rows: Array) -> Layer:
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return Layer(key[first], np.add.reduceat(rows[order], first, axis=0))


def _joined(layers: list[Layer]) -> Layer:
    return _summed(np.concatenate([layer.key for layer in layers]), np.concatenate([layer.total for layer in layers]))


def _means(key: voxels.Keys, total: Array, size_m: float) -> Merged:
    covariance = _inverse(total[:, _INFORMATION])
    count = total[:, _COUNT]
    local = _times(covariance, total[:, _PULL])
    plain = total[:, _PLACE] / count[:, None]
    # two slanted, narrow covariances can meet outside of both: such a mean says nothing about this voxel
    far = np.abs(local).max(axis=1, initial=0.0) > size_m / 2
    local[far] = plain[far]
    view = total[:, _VIEW] / np.maximum(np.linalg.norm(total[:, _VIEW], axis=1, keepdims=True), 1e-12)
    point = (voxels.unkeyed(key) + 0.5) * size_m + local
    return Merged(key, point, covariance, total[:, _LIGHT] / count, view, count.astype(np.int64))


def _inverse(six: Array) -> Array:
    """Inverses (N x 6) of symmetric 3 x 3 matrices (N x 6), by cofactors: a tenth of what the general solver takes."""
    a, b, c, d, e, f = six.T
    out = np.stack([d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b], axis=1)
    return out / (a * out[:, 0] + b * out[:, 1] + c * out[:, 2])[:, None]


def _times(six: Array, vector: Array) -> Array:
    """Symmetric matrices (N x 6) times vectors (N x 3)."""
    a, b, c, d, e, f = six.T
    x, y, z = vector.T
    return np.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], axis=1)


def crowded(merged: Merged, least: int = 3, reach: int = 1) -> NDArray[np.bool_]:
    """Whether at least `least` other voxels within `reach` hold points, (V,): a lone one is a glint or flies."""
    neighbours = np.zeros(len(merged), np.int64)
    for offset in voxels.around(reach):
        if offset != (0, 0, 0):
            neighbours += voxels.find(merged.key, merged.key + voxels.step(offset))[1]
    return neighbours >= least


def beside_mean(merged: Merged, value: Array, reach: int = 1) -> Array:
    """The mean (V,) of `value` (V,) over each voxel and the filled ones within `reach`."""
    total, count = np.zeros(len(merged)), np.zeros(len(merged))
    for offset in voxels.around(reach):
        at, there = voxels.find(merged.key, merged.key + voxels.step(offset))
        total += np.where(there, value[at], 0.0)
        count += there
    return total / count


def normals(merged: Merged, reach: int = 1) -> tuple[Array, Array]:
    """Unit normals (V x 3) toward the view, and how far the neighbours lie off their plane (V,), metres rms.

    Each is the direction of least spread of the points in the voxels within `reach` (Hoppe et al. 1992, section 3.2);
    where fewer than three voxels are filled it is the direction of view and the distance is not a number.
    """
    count, first, second = np.zeros(len(merged)), np.zeros((len(merged), 3)), np.zeros((len(merged), 6))
    for offset in voxels.around(reach):
        at, there = voxels.find(merged.key, merged.key + voxels.step(offset))
        apart = np.where(there[:, None], merged.point_m[at] - merged.point_m, 0.0)
        count += there
        first += apart
        second += np.stack([apart[:, i] * apart[:, j] for i, j in _PAIRS], axis=1)
    mean = first / np.maximum(count, 1.0)[:, None]
    spread = np.empty((len(merged), 3, 3))
    for k, (i, j) in enumerate(_PAIRS):
        spread[:, i, j] = spread[:, j, i] = second[:, k] / np.maximum(count, 1.0) - mean[:, i] * mean[:, j]
    value, vector = np.linalg.eigh(spread)
    normal, off = vector[:, :, 0], np.sqrt(np.maximum(value[:, 0], 0.0))
    known = count >= 3
    normal = np.where(known[:, None], normal, merged.view)
    normal *= np.where(np.einsum("ij,ij->i", normal, merged.view) < 0, -1.0, 1.0)[:, None]
    return normal, np.where(known, off, np.nan)
