"""A mesh of depth images or of a scan's profiles by a truncated signed distance in voxels (Curless and Levoy 1996).

open3d keeps the voxels, in blocks beside the surface only, and draws the triangles (extra `recon`). Its own integration
takes the pixel that a voxel's centre falls into, which makes slanted surfaces ragged; here a voxel's depth is
interpolated between four pixels, in inverse depth, which is exact on planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.errors import BackendMissing
from foveate_nodes.reconstruction.depth_image import depth_image, looking_at, views
from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.mesh import Mesh, trimmed
from foveate_nodes.reconstruction.messages import PointCloud

Array = NDArray[np.float64]
_BLOCK = 8  # voxels along a block's side; blocks of 16, open3d's own choice, hold three times as many idle voxels
_TRUNCATION = 4.0  # voxels, of a mesh of profiles
_ALONG = np.linspace(-1.0, 1.0, 5)  # truncations before and behind a pixel's point, where blocks are made
_AT_ONCE = 2000  # blocks: a million voxels, 200 MB
_MOST_BLOCKS = 400_000  # 1.6 GB


class Tsdf:
    """Voxels that depth images are put into, and the mesh of them."""

    def __init__(self, voxel_m: float, truncation_m: float) -> None:
        """`truncation_m`: how far before and behind a surface an image speaks. Raises BackendMissing, SurfaceError."""
        if not 0 < voxel_m <= truncation_m < np.inf:
            raise SurfaceError(f"a TSDF needs 0 < voxel <= truncation; they are {voxel_m:g} m and {truncation_m:g} m")
        self._open3d = _library()
        optional("numba", "TSDF mesh", "recon")
        from foveate_nodes.reconstruction import tsdf_kernels

        self._kernels = tsdf_kernels
        self._voxel_m, self._truncation_m = voxel_m, truncation_m
        core = self._open3d.core
        self._grid = self._open3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight"), (core.float32, core.float32), ((1), (1)), voxel_m, _BLOCK, 1000, core.Device("CPU:0")
        )
        self._images = 0

    def integrate(self, depth_m: NDArray[np.floating], matrix: Array, camera_from_world: Array) -> None:
        """Add an image (H x W, metres along z; 0 or no number = nothing known) of a pinhole without distortion
        (`matrix` 3 x 3, pixel centres at integers) at a pose (4 x 4). All images weigh the same. Raises SurfaceError.
        """
        depth = np.nan_to_num(np.asarray(depth_m, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if depth.ndim != 2 or (depth < 0).any():
            raise SurfaceError(f"a depth image is H x W and not negative; this has shape {depth.shape}")
        if not depth.any():
            return
        blocks = self._open3d.core.Tensor(self._blocks(depth, matrix, camera_from_world))
        self._grid.hashmap().activate(blocks)
        slot, _ = self._grid.hashmap().find(blocks)
        self._images += 1
        value, weight = (self._grid.attribute(name).numpy().reshape(-1) for name in ("tsdf", "weight"))  # not copies
        for first in range(0, len(slot), _AT_ONCE):
            place, index = self._grid.voxel_coordinates_and_flattened_indices(slot[first : first + _AT_ONCE])
            self._kernels.fold(
                place.numpy(), index.numpy(), value, weight, depth, matrix.astype(np.float64), camera_from_world,
                self._truncation_m,
            )  # fmt: skip

    def _blocks(self, depth: NDArray[np.float32], matrix: Array, camera_from_world: Array) -> NDArray[np.int32]:
        """The blocks (B x 3) within the truncation of what an image shows; open3d's own search looks at every fourth
        pixel only, and would miss thin things."""
        side_m = _BLOCK * self._voxel_m
        inverse, world = (np.linalg.inv(each.astype(np.float64)) for each in (matrix, camera_from_world))
        key = np.unique(self._kernels.touched(depth, inverse, world, _ALONG * self._truncation_m, side_m))
        if key[0] < 0:
            raise SurfaceError(f"a depth image reaches more than {2**20 * side_m:g} m away; check its units")
        found = np.stack([key >> 42, key >> 21 & (2**21 - 1), key & (2**21 - 1)], axis=1).astype(np.int32) - 2**20
        if len(found) > _MOST_BLOCKS:
            raise SurfaceError(f"a depth image touches {len(found)} blocks of {side_m:g} m; take larger voxels")
        return found

    def mesh(self, least_images: int = 1) -> Mesh:
        """The surface that at least `least_images` images agree on; empty where there is none. Raises SurfaceError."""
        empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), np.int32))
        if self._images < least_images:
            return empty
        try:
            drawn = self._grid.extract_triangle_mesh(least_images - 0.5)
        except RuntimeError as error:
            if "shape {0}" in str(error):  # what open3d 0.18 to 0.20 say of no vertex at all
                return empty
            raise SurfaceError(f"open3d cannot draw the mesh: {str(error).splitlines()[0][:200]}") from None
        point, normal = drawn.vertex.positions.numpy(), drawn.vertex.normals.numpy()
        triangle = drawn.triangle.indices.numpy().astype(np.int64)
        return trimmed(point.astype(np.float64), normal.astype(np.float64), triangle)


def of_profiles(clouds: Sequence[PointCloud], voxel_m: float) -> Mesh:
    """The mesh of a scan's profiles, in the order that they were measured: each view of the camera is made a depth
    image first. Gaps of up to two voxels between profiles are closed. Raises BackendMissing, SurfaceError.
    """
    grown = Tsdf(voxel_m, _TRUNCATION * voxel_m)
    for view in views(clouds):
        camera = looking_at(view, voxel_m)
        grown.integrate(depth_image(view, camera, voxel_m), camera.matrix, camera.camera_from_world)
    return grown.mesh()


def _library() -> Any:
    """open3d. Raises BackendMissing, which names the extra, or the system's libraries where only those are missing."""
    try:
        return optional("open3d", "TSDF mesh", "recon")
    except BackendMissing:
        if find_spec("open3d") is None:
            raise
        raise SurfaceError(
            "TSDF mesh: open3d is installed and cannot be loaded; it needs libraries of the system: "
            "apt install libgl1 libegl1 libx11-6 libusb-1.0-0 libgomp1"
        ) from None
