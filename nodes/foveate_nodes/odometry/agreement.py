"""Does a pose explain what a view shows? The checks that decide between tracking and being lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import vector_from
from foveate_nodes.odometry import kernels
from foveate_nodes.odometry.alignment import Alignment
from foveate_nodes.odometry.view import Reference, View

Array = NDArray[np.float64]
_WITHIN = tuple(  # 2, 1 and 0 pixels of an edge; the first counts that does not take in nearly all of the image
    np.array([[dx * dx + dy * dy <= within * within for dx in range(-2, 3)] for dy in range(-2, 3)], np.uint8)
    for within in (2, 1, 0)
)
_LEAST_POINTS = 100  # (Schenk and Fraundorfer 2019, III.D)
_NEAR_M = 0.05  # nothing is seen nearer
LEAST_EDGES = 50  # points on edges, to say anything
_LEAST_SEEN = 0.12  # of the keyframe's points
_LEAST_EDGE = 0.28  # beyond chance: right poses have 0.4 to 1, wrong ones -0.3 to 0.2
_LEAST_PLANE, _PLANES, _PLANE_SIGMAS = 0.4, 200, 4.0
_MOST_SIGMA_M, _MOST_SIGMA_RAD = 0.1, 0.1
_SYSTEMATIC_RAD, _SYSTEMATIC_M = 1e-3, 1e-3  # between any two frames of a hand-held Kinect
_OF_TURN, _OF_SHIFT, _ARM_M = 0.02, 0.03, 1.0  # of the turn, of the shift; and what a turn does to what is so far
_CROWDED = 0.85  # share of the image that is near an edge, from where on edges tell nothing
_CROSSING = 0.01  # mean square of edge directions, of surfaces' normals: less in one direction is noise
_CORRELATED = 30.0  # neighbouring residuals err together: so many count as one


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well an alignment's pose explains a view."""

    edge: float  # share of the edge points that lie on edges, beyond what chance gives; at most 1
    plane: float  # share of the depth measurements within 4 sigma; 1 where there are too few to say
    overlap: float  # share of the points that are in view
    flow_px: float  # root mean square movement in the image
    parallax_px: float  # the part of it that the shift causes
    covariance: Array  # 6 x 6, of a step of the view's camera
    reason: str  # why the pose is not to be trusted; "" where it is


def agreement(reference: Reference, view: View, found: Alignment) -> Agreement:
    """Hold an alignment against the edges and the depth of the view."""
    point, camera = reference.point_m[0], view.camera[0]
    there, inside = np.empty((len(point), 2)), np.empty(len(point), np.bool_)
    count, flow, parallax = _seen(point, found.pose, camera.numbers, camera.width, camera.height, there, inside)
    on_edge = inside & reference.on_edge[0]
    edge = _hit(view, there[on_edge])
    edges = int(on_edge.sum())
    plane = found.plane_residual[~np.isnan(found.plane_residual)]
    plane_share = float((np.abs(plane) * found.plane_sigma < _PLANE_SIGMAS).mean()) if len(plane) >= _PLANES else 1.0
    covariance = covariance_of(found) + _systematic(found.pose)
    overlap = count / max(len(point), 1)
    sigma_m, sigma_rad = sigmas(covariance)
    reason = ""
    if found.seen < _LEAST_POINTS:
        reason = f"only {found.seen} points are in view, {_LEAST_POINTS} are needed"
    elif overlap < _LEAST_SEEN:
        reason = f"only {overlap:.0%} of the keyframe is in view"
    elif edges < LEAST_EDGES:
        reason = f"only {edges} points on edges are in view, {LEAST_EDGES} are needed"
    elif edge < _LEAST_EDGE:
        reason = f"only {max(edge, 0):.0%} of the edges agree"
    elif plane_share < _LEAST_PLANE:
        reason = f"only {plane_share:.0%} of the depth agrees"
    elif not (sigma_m < _MOST_SIGMA_M and sigma_rad < _MOST_SIGMA_RAD):
        reason = f"the pose is not determined: {sigma_m:.2g} m, {sigma_rad:.2g} rad"
    elif _one_way(reference, found, on_edge):
        reason = "all edges in view run one way, and no surface tells how far along them the camera went"
    return Agreement(edge, plane_share, overlap, flow, parallax, covariance, reason)


def covariance_of(found: Alignment) -> Array:
    """6 x 6, of the pose; infinite where it is not determined."""
    information = found.information / _CORRELATED
    scale = np.sqrt(np.maximum(np.diag(information), 1e-30))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    if values[0] < 1e-9:
        return np.full((6, 6), np.inf)
    return np.asarray((vectors / values) @ vectors.T / np.outer(scale, scale))


def _systematic(pose: Array) -> Array:
    """6 x 6, of what no residual shows: depth and image that do not fit each other in place, time or focal length."""
    turn, shift = float(np.linalg.norm(vector_from(pose[:3, :3]))), float(np.linalg.norm(pose[:3, 3]))
    sigma_rad = _SYSTEMATIC_RAD + _OF_TURN * turn
    sigma_m = _SYSTEMATIC_M + _OF_SHIFT * shift + _OF_TURN * turn * _ARM_M
    return np.diag([sigma_rad**2] * 3 + [sigma_m**2] * 3)


def sigmas(covariance: Array) -> tuple[float, float]:
    """The largest standard deviations of the shift (m) and of the turn (rad)."""
    if not np.isfinite(covariance).all():
        return np.inf, np.inf
    turn, shift = np.linalg.eigvalsh(covariance[:3, :3])[-1], np.linalg.eigvalsh(covariance[3:, 3:])[-1]
    return float(np.sqrt(max(shift, 0))), float(np.sqrt(max(turn, 0)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _seen(point: Any, pose: Any, camera: Any, width: int, height: int, there: Any, inside: Any) -> Any:
    """Write where points (N x 3) are seen from `pose` (N x 2 pixels), and whether that is in the image. Returns their
    count, the root mean square of how far they moved in the image, and of the part that the shift causes."""
    count, moved, apart = 0, 0.0, 0.0
    for i in range(len(point)):
        x0, y0, z0 = point[i]
        x, y, z = kernels.placed(pose, x0, y0, z0)
        there[i, 0], there[i, 1] = camera[0] * x / z + camera[2], camera[1] * y / z + camera[3]
        u, v = there[i]
        inside[i] = z > _NEAR_M and u >= 1 and v >= 1 and u < width - 2 and v < height - 2
        if not inside[i]:
            continue
        count += 1
        u0, v0 = camera[0] * x0 / z0 + camera[2], camera[1] * y0 / z0 + camera[3]
        moved += (u - u0) ** 2 + (v - v0) ** 2
        x, y, z = x0 + pose[0, 3], y0 + pose[1, 3], max(z0 + pose[2, 3], _NEAR_M)
        apart += (camera[0] * x / z + camera[2] - u0) ** 2 + (camera[1] * y / z + camera[3] - v0) ** 2
    return count, np.sqrt(moved / max(count, 1)), np.sqrt(apart / max(count, 1))


def _one_way(reference: Reference, found: Alignment, on_edge: NDArray[np.bool_]) -> bool:
    """Whether noise alone holds the camera along the edges: it has gradients in all directions, and looks as sure."""
    across = reference.across[on_edge]
    values, vectors = np.linalg.eigh(across.T @ across / len(across))
    if values[0] > _CROSSING:
        return False
    normal = reference.plane[0][~np.isnan(found.plane_residual), 3:5] @ vectors[:, 0]
    return len(normal) < _PLANES or float((normal**2).mean()) < _CROSSING


def _hit(view: View, pixel: Array) -> float:
    """How many of the pixels lie by an edge, less what chance gives: 0 at random, 1 = all."""
    if len(pixel) < LEAST_EDGES:
        return 0.0
    for within in _WITHIN:
        near = np.asarray(cv2.dilate(view.edge[0], within))
        chance = cv2.countNonZero(near) / near.size
        if chance <= _CROWDED:
            break
    column, row = np.rint(pixel).astype(int).T
    return float(((near[row, column] > 0).mean() - chance) / max(1 - chance, 1e-6))
