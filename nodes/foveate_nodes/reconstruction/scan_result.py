"""What a recording of a scan holds, and what can be made and measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import catalog, yaml_source
from foveate.errors import FoveateError, RecordingError
from foveate.recording import Recording
from foveate_calibration.document import Calibration, RigCalibration
from foveate_nodes.reconstruction import measuring, tsdf
from foveate_nodes.reconstruction.cloud_map import select
from foveate_nodes.reconstruction.errors import SurfaceError
from foveate_nodes.reconstruction.merging import Merged, VoxelCloud, crowded, normals
from foveate_nodes.reconstruction.mesh import Mesh, mesh_of
from foveate_nodes.reconstruction.messages import PointCloud

Array = NDArray[np.float64]
_USUAL = ("points.cloud", "points.points", "triangulate.points")  # streams that carry profiles, the first that is there
_LEAST_VOXEL_M, _ACROSS = 2e-4, 700  # voxels along the longer side of the cloud, where no node says their size
_NEIGHBOURS = 2  # filled voxels beside one that is shown
_COARSER = (1.0, 1.5, 2.0, 3.0, 4.0)
_CLOSED = 6  # filled neighbours of most voxels, from which on a surface has no holes
_MOST_VOXELS = 4_000_000


@dataclass(slots=True)
class Truth:
    """The cloud against the simulated world."""

    surface_from_cloud: Array  # 4 x 4, the shift that is by convention
    distance_m: Array  # (V,), signed
    parts: list[measuring.Measured]
    missed: list[str]


@dataclass(slots=True)
class Scan:
    """Everything the report tells."""

    name: str
    stream: str
    profiles: int = 0
    points: int = 0
    seconds: float = 0.0
    voxel_m: float = 1e-3
    merged: Merged | None = None
    normal: Array = field(default_factory=lambda: np.zeros((0, 3)))
    lone: int = 0  # voxels without neighbours, left out
    mesh: Mesh | None = None
    tsdf: Mesh | None = None  # of the profiles, by open3d where it is installed
    cell_m: float = 0.0
    calibration: Calibration | None = None
    checksum: str = ""
    truth: Truth | None = None
    notes: list[str] = field(default_factory=list)  # what is missing, and why
    end: Mapping[str, Any] = field(default_factory=dict)


def read(log: Recording, name: str) -> Scan:
    """The scan in a recording. Raises RecordingError where it holds no points."""
    graph = _graph(log)
    scan = Scan(name, _stream(log), end=log.end)
    clouds = [message for _, message in log.messages(scan.stream, PointCloud) if isinstance(message, PointCloud)]
    scan.profiles, scan.points = len(clouds), sum(len(cloud.point_m) for cloud in clouds)
    if not scan.points:
        raise RecordingError(f"{log.path}: '{scan.stream}' has {len(clouds)} clouds and not one point")
    first, last = clouds[0].stamp.t_ns, clouds[-1].stamp.t_ns
    scan.seconds = (last - first) / 1e9
    scan.voxel_m = _voxel(graph, clouds)
    grown = VoxelCloud(scan.voxel_m)
    for cloud in clouds:
        grown.add(cloud)
    whole = grown.merged()
    scan.merged = select(whole, _NEIGHBOURS)
    if len(scan.merged) < len(whole) / 2:
        scan.notes.append(f"points are sparse: most voxels of {scan.voxel_m * 1e3:g} mm stand alone, and all are kept")
        scan.merged = whole
    scan.lone = len(whole) - len(scan.merged)
    scan.normal, _ = normals(scan.merged)
    _mesh(scan, clouds)
    _tsdf(scan, clouds)
    _calibration(log, scan)
    _truth(graph, scan, last)
    return scan


def _graph(log: Recording) -> Mapping[str, Any]:
    plain = yaml_source.read_text(log.graph_text, "graph in the recording").plain()
    return plain if isinstance(plain, dict) else {}


def _stream(log: Recording) -> str:
    """The stream of profiles: a usual name, or that with the most clouds."""
    there = {stream.name: stream.messages for stream in log.streams() if stream.type == PointCloud.__name__}
    usual = [name for name in _USUAL if there.get(name)]
    if not any(there.values()):
        raise RecordingError(f"{log.path}: the scan report needs a stream of points ('points.cloud'); none is recorded")
    return usual[0] if usual else max(there, key=lambda name: there[name])


def _voxel(graph: Mapping[str, Any], clouds: list[PointCloud]) -> float:
    """As the graph's cloud_map has it, else by the extent of the cloud."""
    for node in graph.get("nodes", {}).values():
        if node.get("use") == "cloud_map" and isinstance(node.get("params", {}).get("voxel"), float):
            return float(node["params"]["voxel"])
    some = np.concatenate([cloud.point_m[::7] for cloud in clouds])
    extent = np.ptp(np.quantile(some, [0.01, 0.99], axis=0), axis=0).max() if len(some) else 0.0
    return max(float(np.round(extent / _ACROSS, 4)), _LEAST_VOXEL_M)


def _mesh(scan: Scan, clouds: list[PointCloud]) -> None:
    """The mesh, of cubes so large that most have neighbours: profiles may lie farther apart than voxels are wide."""
    assert scan.merged is not None
    if len(scan.merged) > _MOST_VOXELS:
        scan.notes.append(f"no mesh: {len(scan.merged)} voxels are more than {_MOST_VOXELS}; take larger voxels")
        return
    for factor in _COARSER:
        scan.cell_m = scan.voxel_m * factor
        merged, normal = scan.merged, scan.normal
        if factor > 1:
            grown = VoxelCloud(scan.cell_m)
            for cloud in clouds:
                grown.add(cloud)
            merged = select(grown.merged(), 3)
            normal = normals(merged)[0]
        if crowded(merged, _CLOSED).sum() > len(merged) / 2:
            break
    else:
        scan.notes.append(f"no mesh: points are sparser than voxels of {scan.cell_m * 1e3:g} mm")
        return
    try:
        scan.mesh = mesh_of(merged, normal, scan.cell_m)
    except SurfaceError as error:
        scan.notes.append(f"no mesh: {error}")


def _tsdf(scan: Scan, clouds: list[PointCloud]) -> None:
    """The other mesh, of the same cubes, where there is a mesh at all."""
    if scan.mesh is None:
        return
    try:
        scan.tsdf = tsdf.of_profiles(clouds, scan.cell_m)
    except FoveateError as error:
        scan.notes.append(f"no tsdf.ply: {error}")


def _calibration(log: Recording, scan: Scan) -> None:
    streams = [stream.name for stream in log.streams() if stream.type == RigCalibration.__name__ and stream.messages]
    message = log.last(streams[0], RigCalibration) if streams else None
    if not isinstance(message, RigCalibration):
        scan.notes.append("the calibration was not recorded: record 'calibrate.calibration' to see it here")
        return
    try:
        scan.calibration = message.calibration()
    except FoveateError as error:
        scan.notes.append(f"the calibration in the recording cannot be used: {error}")
        return
    lines = [line for line in message.text.splitlines() if line.startswith("checksum:")]
    scan.checksum = lines[-1].removeprefix("checksum:").strip() if lines else ""


def _truth(graph: Mapping[str, Any], scan: Scan, t_ns: int) -> None:
    """Hold the cloud against the world that the recorded rig was simulated in."""
    assert scan.merged is not None
    world = graph.get("rig", {}).get("world")
    if not isinstance(world, dict) or not str(world.get("uri", "")).startswith("sim:"):
        scan.notes.append("no comparison with the truth: the rig is not simulated, so nobody knows it")
        return
    options = {key: value for key, value in world.items() if key != "uri"}
    try:
        made = catalog.load("drivers", "truth.sim")(address=str(world["uri"]).partition(":")[2], **options)
        surface = made.surface(t_ns)
        if surface is None:
            scan.notes.append("no comparison with the truth: the world's scene has no surface")
            return
        pose, distance = measuring.laid_on(scan.merged.point_m, surface)
        laid = scan.merged.point_m @ pose[:3, :3].T + pose[:3, 3]
        parts, missed = measuring.measure(laid, surface)
    except (FoveateError, TypeError, ValueError) as error:
        scan.notes.append(f"no comparison with the truth: {error}")
        return
    scan.truth = Truth(pose, distance, parts, missed)
