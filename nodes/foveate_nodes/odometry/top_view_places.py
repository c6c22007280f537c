"""What the top view keeps: points by keyframe, the way of the camera, and a map of how many points lie where."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import invert
from foveate_nodes.odometry.corrected import Corrected, matrix
from foveate_nodes.odometry.messages import EdgeMap, PoseEstimate, PoseGraph, Tracking

Array = NDArray[np.float64]
_MOST_POINTS = 1000  # of one keyframe; they are drawn from all over it
_MOST_KEYFRAMES = 400  # 5 MB of points
_MOST_WAY = 2000  # places on the way: then every second is left out
_CELL_M = 0.01
_MOVED = np.array([2.0, 2.0, 2.0, 1.0])  # how far a change of a row of a pose moves what is 2 m away
_MOST_CELLS = 1024  # along a side of the map: then its cells become twice as large


class Grid:
    """How many points lie in each cell of a plane; cells begin at `low_m` and are `cell_m` wide."""

    def __init__(self) -> None:
        self.cell_m = _CELL_M
        self.low_m = np.zeros(2)
        self.count = np.zeros((0, 0), np.float32)  # rows: y, columns: x

    def add(self, at_m: Array) -> None:
        """Count points (N x 2) of which the far ones, 1 % on each side, may lie outside."""
        at_m = at_m[np.isfinite(at_m).all(axis=1)]
        if not len(at_m):
            return
        self._reach(*np.quantile(at_m, [0.01, 0.99], axis=0))
        cell = np.floor((at_m - self.low_m) / self.cell_m).astype(np.int64)
        rows, columns = self.count.shape
        inside = ((cell >= 0) & (cell < [columns, rows])).all(axis=1)
        flat = cell[inside, 1] * columns + cell[inside, 0]
        np.add.at(self.count.reshape(-1), flat, 1.0)

    def _reach(self, low: Array, high: Array) -> None:
        """Grow so that the rectangle fits, in cells as large as that takes."""
        if not self.count.size:
            self.low_m = low
        while (self._span(low, high)[1] > _MOST_CELLS).any():
            self._coarser()
        before, size = self._span(low, high)
        rows, columns = self.count.shape
        if (size > [columns, rows]).any():
            grown = np.zeros((int(size[1]), int(size[0])), np.float32)
            grown[before[1] : before[1] + rows, before[0] : before[0] + columns] = self.count
            self.count, self.low_m = grown, self.low_m - before * self.cell_m

    def _span(self, low: Array, high: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(Cells to add below, cells in all), along x and y, for the rectangle and what is there already."""
        before = np.where(low < self.low_m, np.floor((self.low_m - low) / self.cell_m) + 1, 0).astype(np.int64)
        reach = np.floor((high - self.low_m) / self.cell_m).astype(np.int64) + 2  # one to spare for rounding
        return before, before + np.maximum(reach, self.count.shape[::-1])

    def _coarser(self) -> None:
        rows, columns = self.count.shape
        even = np.zeros((rows + rows % 2, columns + columns % 2), np.float32)
        even[:rows, :columns] = self.count
        self.count = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).sum(axis=(1, 3))
        self.cell_m *= 2


class Places:
    """Grows with what odometry says; moves when a loop is closed. Each keyframe keeps some 500 bytes for good."""

    def __init__(self) -> None:
        self.corrected = Corrected()
        self.grid = Grid()
        self.tracking: Tracking | None = None
        self.pose: PoseEstimate | None = None
        self.path_m = 0.0
        self._points: dict[int, NDArray[np.float32]] = {}  # N x 3 of keyframes, in their own frames
        self._counted: dict[int, Array] = {}  # where keyframes were, 2 x 4, when their points were counted
        self._key: dict[int, Array] = {}  # of keyframes: rows x and z of map_from_keyframe, 2 x 4
        self._row: dict[int, int] = {}  # of keyframes: their places in `_key`
        self._way_m = np.zeros((_MOST_WAY, 4))  # places on the way in the frames of their keyframes, and 1
        self._way_row = np.zeros(_MOST_WAY, np.int64)
        self._joined = np.zeros(_MOST_WAY, bool)  # to the place before
        self._length = 0  # of the way
        self._every = 1
        self._count = 0
        self._gap = True
        self._graph: PoseGraph | None = None

    def take(
        self, tracking: Tracking, pose: PoseEstimate | None, edge_map: EdgeMap | None, graph: PoseGraph | None
    ) -> None:
        """What was said of one frame; older messages that come again change nothing."""
        self.tracking = tracking
        if tracking.state in ("lost", "restarted"):
            self._gap = True
        if pose is not None and (self.pose is None or pose.stamp.t_ns > self.pose.stamp.t_ns):
            self._passed(pose)
        if graph is not None and graph is not self._graph:
            self._graph = graph
            self.corrected.closed(graph)
            self._key = {seq: self.corrected.pose(seq)[[0, 2]] for seq in self._key}
            if any((np.abs(self._key[seq] - laid) @ _MOVED > 2 * self.grid.cell_m).any() for seq, laid in self._laid()):
                self._regrid()
        if edge_map is not None and edge_map.keyframe not in self._points:
            self._mapped(edge_map)

    def _passed(self, pose: PoseEstimate) -> None:
        if self.pose is not None and not self._gap:
            self.path_m += float(np.linalg.norm(pose.position_m - self.pose.position_m))
        self.pose = pose
        self.corrected.saw(pose)
        self._row.setdefault(pose.keyframe, len(self._row))
        self._key[pose.keyframe] = self.corrected.pose(pose.keyframe)[[0, 2]]
        self._count += 1
        if not self._gap and self._count % self._every:
            return
        if self._length == _MOST_WAY:
            half = _MOST_WAY // 2
            self._joined[:half] = self._joined[::2] & self._joined[1::2]  # a gap stays one
            self._way_m[:half], self._way_row[:half] = self._way_m[::2], self._way_row[::2]
            self._length, self._every = half, self._every * 2
        back = invert(matrix(pose.keyframe_position_m, pose.keyframe_orientation))
        self._way_m[self._length] = back @ np.append(pose.position_m, 1.0)
        self._way_row[self._length] = self._row[pose.keyframe]
        self._joined[self._length] = not self._gap
        self._length += 1
        self._gap = False

    def _mapped(self, edge_map: EdgeMap) -> None:
        seq = edge_map.keyframe
        if seq not in self._key:  # its first pose comes with it, or a little later
            return
        points = edge_map.point_m[np.isfinite(edge_map.point_m).all(axis=1)].astype(np.float64)
        points = points[:: max(1, -(-len(points) // _MOST_POINTS))]
        back = invert(self.corrected.odom[seq])
        self._points[seq] = (points @ back[:3, :3].T + back[:3, 3]).astype(np.float32)
        self._count_in(seq)
        if len(self._points) > _MOST_KEYFRAMES:  # those counted stay in the map until a loop moves it
            for old in list(self._points)[: _MOST_KEYFRAMES // 2 : 2]:
                del self._points[old]

    def _count_in(self, seq: int) -> None:
        self.grid.add(self._placed(seq))

    def _placed(self, seq: int) -> Array:
        """The points of a keyframe in x and z."""
        turn = self._counted[seq] = self._key[seq]
        placed: Array = self._points[seq].astype(np.float64) @ turn[:, :3].T + turn[:, 3]
        return placed

    def _laid(self) -> Iterator[tuple[int, Array]]:
        return ((seq, self._counted[seq]) for seq in self._points)

    def _regrid(self) -> None:
        self.grid = Grid()
        if self._points:  # all at once: each time takes a millisecond
            self.grid.add(np.concatenate([self._placed(seq) for seq in self._points]))

    def way(self) -> tuple[Array, NDArray[np.bool_]]:
        """(Places N x 2 on the way in x and z, whether each is joined to the one before)."""
        if not self._length:
            return np.zeros((0, 2)), np.zeros(0, bool)
        key = np.array(list(self._key.values()))[self._way_row[: self._length]]
        at: Array = np.einsum("nij,nj->ni", key, self._way_m[: self._length])
        return at, self._joined[: self._length].copy()

    def key_places(self) -> Array:
        """Where keyframes are in x and z (K x 2), in the order that they came."""
        return np.array([turn[:, 3] for turn in self._key.values()]).reshape(-1, 2)

    def loop_places(self) -> Array:
        """The two ends of each loop in x and z (L x 2 x 2)."""
        ends = [(self._key[one][:, 3], self._key[other][:, 3]) for one, other in self.corrected.loops
                if one in self._key and other in self._key]  # fmt: skip
        return np.array(ends).reshape(-1, 2, 2)
