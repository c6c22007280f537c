"""The final mesh of a recording whose graph has a TSDF map, and pictures of it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import yaml_source
from foveate.errors import FoveateError
from foveate.node import parameters_of
from foveate.recording import Recording
from foveate_nodes.odometry.messages import Keyframe
from foveate_nodes.reconstruction import cloud_picture
from foveate_nodes.reconstruction.keyframe_mesh import KeyframeMesh
from foveate_nodes.reconstruction.mesh import Mesh
from foveate_nodes.reconstruction.tsdf_map import TsdfMap

Array = NDArray[np.float64]
_USE = "tsdf_map"
_SIDES = (("as the camera looked", 0.0, 0.0), ("from the left and above", -0.8, 0.5), ("from above", 0.0, 1.2))
_INNER = (
    (1 / 3, 1 / 3, 1 / 3),
    (1.0, 0.0, 0.0),
    (0.5, 0.5, 0.0),
    (0.0, 0.5, 0.5),
    (0.5, 0.0, 0.5),
)  # of a triangle's corners
_MOST_SHOWN = 600_000  # points in a picture; of more triangles their middles


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The mesh of all keyframes, where they are in the end."""

    mesh: Mesh
    color: NDArray[np.uint8]  # N x 3: red, green, blue
    voxel_m: float
    keyframes: int
    left_out: int  # beyond the most that the node keeps


def made(log: Recording, pose: Callable[[int], Array]) -> tuple[Surface | None, str]:
    """(The mesh, a note on why there is none) of recorded keyframes at their poses (4 x 4, by number); (None, "") where
    the recorded graph wants none."""
    wanted = _parameters(log)
    if wanted is None:
        return None, ""
    stream = next((each.name for each in log.streams() if each.type == Keyframe.__name__ and each.messages), None)
    if stream is None:
        return None, "no mesh.ply: the keyframes were not recorded; record 'odometry.keyframe'"
    try:
        grown = KeyframeMesh(wanted["voxel"], wanted["truncation"], wanted["far"], wanted["most"])
        for _, said in log.messages(stream, Keyframe):
            assert isinstance(said, Keyframe)
            grown.add(said, pose(said.seq))
        mesh, color = grown.mesh(wanted["images"])
    except FoveateError as error:
        return None, f"no mesh.ply: {error}"
    if not len(mesh.triangle):
        return None, f"no mesh.ply: {len(grown)} keyframes share no surface that {wanted['images']} of them agree on"
    return Surface(mesh, color, wanted["voxel"], len(grown), grown.left_out), ""


def _parameters(log: Recording) -> dict[str, Any] | None:
    """Of the first node of that kind in the recorded graph, with their defaults; None where there is none."""
    if not log.is_foveate:
        return None
    graph: Any = yaml_source.read_text(log.graph_text, "graph in the recording").plain()
    nodes: Mapping[str, Any] = graph.get("nodes", {}) if isinstance(graph, dict) else {}
    found = [node for node in nodes.values() if node.get("use") == _USE]
    if not found:
        return None
    return {name: each.default for name, each in parameters_of(TsdfMap).items()} | found[0].get("params", {})


def pictures(surface: Surface, world_from_camera: Array) -> str:
    """The mesh as HTML, seen along the mean direction of the cameras (N x 4 x 4) and from two sides."""
    corner = surface.mesh.triangle
    weights = np.array(_INNER[: max(1, _MOST_SHOWN // len(corner))])
    point, normal = (np.tensordot(weights, value[corner], axes=(1, 1)).reshape(-1, 3)
                     for value in (surface.mesh.point_m, surface.mesh.normal))  # fmt: skip
    color = np.tensordot(weights, surface.color[corner].astype(np.float64), axes=(1, 1)).reshape(-1, 3)
    shown = np.clip(color[:, ::-1], 0, 255).astype(np.uint8)
    toward = -world_from_camera[:, :3, 2].mean(axis=0)
    figures = []
    for name, turn_rad, rise_rad in _SIDES:
        view = cloud_picture.viewpoint(toward, np.array([0.0, -1.0, 0.0]), turn_rad, rise_rad)
        image = cloud_picture.picture(point, normal, shown, view, surface.voxel_m / 2, 720, 540)
        text = base64.b64encode(cloud_picture.png(image)).decode()
        figures.append(f'<figure><img src="data:image/png;base64,{text}" alt="{name}"><figcaption>{name}</figcaption>'
                       "</figure>")  # fmt: skip
    some = f"; {surface.left_out} more were left out" if surface.left_out else ""
    return (
        f"<h2>The mesh</h2><p>{len(corner):,} triangles of {surface.keyframes} keyframes in voxels of "
        f"{surface.voxel_m * 1e3:g} mm{some}.</p>" + f'<div class="grid2">{"".join(figures)}</div>'
    )
