"""The surface that the depth of keyframes shows, which follows when a closed loop moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import invert, transform, vector_from
from foveate_nodes.odometry.messages import Keyframe
from foveate_nodes.reconstruction.mesh import Mesh
from foveate_nodes.reconstruction.tsdf import Tsdf

Array = NDArray[np.float64]
_AT_M = 2.0  # a turn of a keyframe moves what is so far away
_NEAR = 2.0  # truncations: of what a keyframe sees so near a vertex, it says the colour
_UNKNOWN = 128  # the colour of a vertex that no keyframe shows


@dataclass(slots=True, eq=False)
class _View:
    """A keyframe that was put in, and where."""

    keyframe: Keyframe
    world_from_camera: Array


class KeyframeMesh:
    """Depth images of keyframes in a TSDF, at most `most`; later ones are left out and counted."""

    def __init__(self, voxel_m: float, truncation_m: float, far_m: float, most: int) -> None:
        """`far_m`: depth beyond is not used. Raises BackendMissing, SurfaceError."""
        self._voxel_m, self._truncation_m, self._far_m, self._most = voxel_m, truncation_m, far_m, most
        self._tsdf = Tsdf(voxel_m, truncation_m)
        self._views: dict[int, _View] = {}
        self.left_out = 0
        self.rebuilt = 0  # how often all keyframes were put in anew

    def __len__(self) -> int:
        return len(self._views)

    def add(self, keyframe: Keyframe, world_from_camera: Array) -> None:
        """Put one in at a pose (4 x 4); the same number again changes nothing. Raises SurfaceError."""
        if keyframe.seq in self._views:
            return
        if len(self._views) == self._most:
            self.left_out += 1
            return
        view = _View(keyframe, world_from_camera)
        self._put(view)
        self._views[keyframe.seq] = view

    def move(self, pose: Callable[[int], Array]) -> bool:
        """Where `pose` (of a keyframe's number: 4 x 4) has one more than a voxel from where it was put in, put all in
        anew; says whether it did."""
        moved = {seq: pose(seq) for seq in self._views}
        if all(self._is_near(view.world_from_camera, moved[seq]) for seq, view in self._views.items()):
            return False
        self._tsdf = Tsdf(self._voxel_m, self._truncation_m)
        for seq, view in self._views.items():
            view.world_from_camera = moved[seq]
            self._put(view)
        self.rebuilt += 1
        return True

    def mesh(self, least_images: int) -> tuple[Mesh, NDArray[np.uint8]]:
        """The surface that `least_images` keyframes agree on (of fewer keyframes: all), and the colour of each vertex:
        N x 3, red, green, blue, the mean of those that see it. Raises SurfaceError."""
        mesh = self._tsdf.mesh(min(least_images, max(len(self._views), 1)))
        return mesh, self._colors(mesh.point_m)

    def _depth_m(self, keyframe: Keyframe) -> NDArray[np.float32]:
        depth_m = keyframe.depth * np.float32(keyframe.scale_m)
        depth_m[depth_m > self._far_m] = 0.0
        return depth_m

    def _put(self, view: _View) -> None:
        matrix = view.keyframe.camera_matrix
        self._tsdf.integrate(self._depth_m(view.keyframe), matrix, invert(view.world_from_camera))

    def _is_near(self, one: Array, other: Array) -> bool:
        between = invert(one) @ other
        turn = float(np.linalg.norm(vector_from(between[:3, :3])))
        return float(np.linalg.norm(between[:3, 3])) + turn * _AT_M <= self._voxel_m

    def _colors(self, point_m: Array) -> NDArray[np.uint8]:
        from foveate_nodes.reconstruction.tsdf_kernels import tint

        total, count = np.zeros((len(point_m), 3), np.float32), np.zeros(len(point_m), np.int32)
        for view in self._views.values():
            said = view.keyframe
            image = said.image if said.image.ndim == 3 else np.repeat(said.image[:, :, None], 3, axis=2)
            tint(
                point_m, invert(view.world_from_camera), said.camera_matrix, said.depth, said.scale_m, image,
                _NEAR * self._truncation_m, total, count,
            )  # fmt: skip
        mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], _UNKNOWN)
        colors: NDArray[np.uint8] = np.rint(mean[:, ::-1]).astype(np.uint8)
        return colors


def given_pose(keyframe: Keyframe) -> Array:
    """odom_from_camera (4 x 4), as odometry had it when the keyframe was made."""
    return transform(quaternion(keyframe.orientation), keyframe.position_m)
