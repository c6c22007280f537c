"""The cloud node: profiles in, one growing cloud out."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from foveate.messages import Stamp
from foveate.node import Node, Unit
from foveate_nodes.reconstruction.merging import Layer, Merged, VoxelCloud, crowded
from foveate_nodes.reconstruction.messages import PointCloud

_GROWN = 0.05  # of the points in the last cloud: less is no news


class CloudMap(Node):
    """All points so far, one a voxel: the mean of those in it, weighted by their inverse covariances.

    A voxel with fewer points or filled neighbours than asked for is held back, and shown once it has more. A cloud that
    grew by less than a twentieth is not given out again: of a million voxels that takes two seconds.
    """

    cost_ns = 2_000_000
    state = ("_layers", "_told_ns", "_seq", "_points", "_told")

    class Outputs:
        cloud: PointCloud

    def __init__(
        self, *, voxel: Annotated[float, Unit("m"), Gt(0)] = 1e-3, period: Annotated[float, Unit("s"), Ge(0)] = 1.0,
        points: Annotated[int, Ge(1)] = 1, neighbours: Annotated[int, Ge(0)] = 2,
    ) -> None:  # fmt: skip
        """`period`: at least this long, by the stamps, between two clouds that are given out."""
        self._size_m = voxel
        self._period_ns = round(period * 1e9)
        self._least = (points, neighbours)
        self._layers: tuple[Layer, ...] = ()
        self._told_ns: int | None = None
        self._seq = 0
        self._points = 0
        self._told = 0  # points in the last cloud that was given out

    def step(self, cloud: PointCloud) -> PointCloud | None:
        grown = VoxelCloud(self._size_m)
        grown.layers = self._layers
        grown.add(cloud)
        self._points += len(cloud.point_m)
        out = None
        now_ns = cloud.stamp.t_ns
        due = self._told_ns is None or now_ns - self._told_ns >= self._period_ns
        if due and self._points > self._told * (1 + _GROWN):
            self._told_ns, self._told = now_ns, self._points
            self._seq += 1
            out = as_message(select(grown.merged(self._least[0]), self._least[1]), cloud.stamp, self._seq)
        self._layers = grown.layers
        return out


def select(merged: Merged, neighbours: int) -> Merged:
    """The voxels with at least `neighbours` filled ones beside them."""
    return merged.kept(crowded(merged, neighbours)) if neighbours else merged


def as_message(merged: Merged, stamp: Stamp, seq: int = 0) -> PointCloud:
    """A merged cloud as a message; `view_m` is a point 1 m from the cloud's middle on the side it was seen from."""
    view = np.zeros(3) if not len(merged) else merged.point_m.mean(axis=0) + merged.view.mean(axis=0)
    return PointCloud(
        stamp, merged.point_m.astype(np.float32), merged.covariance_m2.astype(np.float32),
        merged.intensity.astype(np.float32), view.astype(np.float32), seq,
    )  # fmt: skip
