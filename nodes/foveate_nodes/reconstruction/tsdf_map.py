"""The TSDF map node: keyframes of odometry to a mesh of the surfaces they see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.errors import BackendMissing
from foveate.node import Node, Problem, Unit
from foveate_nodes.odometry.messages import Keyframe, PoseGraph
from foveate_nodes.reconstruction.messages import SurfaceMesh


class TsdfMap(Node):
    """A mesh after every few keyframes; put together anew when a closed loop moved one by more than a voxel.

    Needs the extra `recon`. The last keyframes of a run, fewer than `every`, are in no mesh of this node: the report
    makes the final one from what was recorded.
    """

    cost_ns = 100_000_000

    class Outputs:
        mesh: SurfaceMesh

    def __init__(
        self, *, voxel: Annotated[float, Unit("m"), Gt(0), Le(1)] = 0.01,
        truncation: Annotated[float, Unit("m"), Gt(0), Le(4)] = 0.04,
        far: Annotated[float, Unit("m"), Gt(0), Le(100)] = 4.0, every: Annotated[int, Ge(1)] = 10,
        images: Annotated[int, Ge(1), Le(100)] = 2, most: Annotated[int, Ge(1), Le(10_000)] = 500,
    ) -> None:  # fmt: skip
        """`truncation`: how far before and behind a surface an image speaks; `far`: depth beyond is not used; `every`:
        keyframes between two meshes; `images`: keyframes that must agree on a surface; `most`: keyframes that are
        kept, 1.6 MB each at 640 x 480, later ones are left out."""
        self._sizes = (voxel, truncation, far, most)
        self._every, self._images = every, images
        self._graph: PoseGraph | None = None
        self._count = 0

    @classmethod
    def check(cls, **parameters: Any) -> Iterator[Problem]:
        if parameters["truncation"] < parameters["voxel"]:
            yield Problem("truncation", f"must be at least the voxel, {parameters['voxel']:g} m; 4 voxels are usual")
        try:
            _needed()
        except BackendMissing as error:
            yield Problem("use", str(error))

    def open(self) -> None:
        _needed()
        from foveate_nodes.odometry.corrected import Corrected
        from foveate_nodes.reconstruction.keyframe_mesh import KeyframeMesh

        self._corrected = Corrected()
        self._map = KeyframeMesh(*self._sizes)

    def step(self, keyframe: Keyframe, graph: PoseGraph | None) -> SurfaceMesh | None:
        self._corrected.saw(keyframe)
        if graph is not None and graph is not self._graph:
            self._graph = graph
            self._corrected.closed(graph)
            self._map.move(self._corrected.pose)
        self._map.add(keyframe, self._corrected.pose(keyframe.seq))
        self._count += 1
        if self._count % self._every:
            return None
        mesh, color = self._map.mesh(self._images)
        return SurfaceMesh(
            keyframe.stamp, mesh.point_m.astype("float32"), mesh.normal.astype("float32"), color, mesh.triangle,
            len(self._map), self._map.left_out, self._map.rebuilt,
        )  # fmt: skip


def _needed() -> None:
    """Raises BackendMissing."""
    for module in ("cv2", "numba", "open3d"):
        optional(module, "TSDF map", "recon")
