"""Binary features of keyframes, to find the way back: ORB, matched and given to a robust pose estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import transform
from foveate_nodes.odometry.view import View

Array = NDArray[np.float64]
_FEATURES = 700
_RATIO = 0.8  # of the second best match (Lowe 2004, 7.1)
_WITHIN_PX = 3.0
_ROUNDS = 200
_LEAST = 12  # matches that agree


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Points that can be recognised: their descriptors, pixels and places."""

    descriptor: NDArray[np.uint8]  # N x 32
    pixel: NDArray[np.float32]  # N x 2
    point_m: Array  # N x 3, of the camera; z = 0 where the depth is not known

    @classmethod
    def of(cls, view: View) -> Features:
        """At most 700 of the finest image."""
        found, descriptor = cv2.ORB.create(_FEATURES).detectAndCompute(view.gray[0], None)
        if descriptor is None:
            return cls(np.zeros((0, 32), np.uint8), np.zeros((0, 2), np.float32), np.zeros((0, 3)))
        pixel = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
        camera, depth = view.camera[0], view.depth[0]
        column, row = np.rint(pixel).astype(int).T
        z = depth[np.clip(row, 0, camera.height - 1), np.clip(column, 0, camera.width - 1)].astype(np.float64)
        x, y = (pixel[:, 0] - camera.cx) / camera.fx * z, (pixel[:, 1] - camera.cy) / camera.fy * z
        return cls(np.asarray(descriptor, np.uint8), pixel, np.column_stack([x, y, z]))


def pose_between(reference: Features, other: Features, matrix: Array) -> tuple[Array, int] | None:
    """(other_from_reference 4 x 4, matches that agree) by matches and a pose from points; None where too few agree."""
    known = reference.point_m[:, 2] > 0
    if known.sum() < _LEAST or len(other.descriptor) < _LEAST:
        return None
    near = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(reference.descriptor[known], other.descriptor, k=2)
    pairs = [pair[0] for pair in near if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
    if len(pairs) < _LEAST:
        return None
    point = reference.point_m[known][[pair.queryIdx for pair in pairs]]
    pixel = other.pixel[[pair.trainIdx for pair in pairs]].astype(np.float64)
    no_distortion: Any = None
    ok, turn, shift, inlier = cv2.solvePnPRansac(
        point,
        pixel,
        matrix,
        no_distortion,
        iterationsCount=_ROUNDS,
        reprojectionError=_WITHIN_PX,
        flags=cv2.SOLVEPNP_P3P,
    )
    if not ok or inlier is None or len(inlier) < _LEAST:
        return None
    kept = np.asarray(inlier).ravel()
    turn, shift = cv2.solvePnPRefineLM(point[kept], pixel[kept], matrix, no_distortion, turn, shift)
    rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    return transform(rotation, np.asarray(shift, np.float64).ravel()), len(kept)
