"""Open3D's RGB-D odometry: of tensors (several scales, photometric or with planes), and the older hybrid one.

Scales, iterations, truncation and Huber widths are Open3D's defaults; the depth reaches as far as the sensors do. From
frame to frame it starts at rest, as Open3D's own dense odometry does; to a keyframe it starts at the last pose.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import open3d

from odometry_peers import FARTHEST_M
from odometry_peers.motion import is_far

_odometry = open3d.t.pipelines.odometry
_LEAST_FITNESS = 0.1  # share of pixels matched, below which the motion says nothing


class TensorOdometry:
    """`method`: Hybrid or Intensity."""

    def __init__(self, matrix: Any, width: int, height: int, method: str, to_keyframe: bool = False) -> None:
        self.name = f"open3d {method}"
        self._method, self._to_keyframe = getattr(_odometry.Method, method), to_keyframe
        self._matrix = open3d.core.Tensor(np.asarray(matrix, np.float64))
        self._reference: Any = None
        self._last: Any = None
        self._world_from_reference, self._world_from_camera = np.eye(4), np.eye(4)

    def _motion(self, source: Any, target: Any, start: Any) -> Any:
        """target_from_source, or None."""
        try:
            found = _odometry.rgbd_odometry_multi_scale(
                source, target, self._matrix, open3d.core.Tensor(start), 1.0, FARTHEST_M, method=self._method
            )
        except RuntimeError:  # a singular system
            return None
        motion = found.transformation.numpy()
        return motion if found.fitness > _LEAST_FITNESS and np.isfinite(motion).all() else None

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        color = open3d.t.geometry.Image(np.ascontiguousarray(image[:, :, ::-1]))
        now = open3d.t.geometry.RGBDImage(color, open3d.t.geometry.Image(depth))
        if self._reference is None:
            self._reference = self._last = now
            return self._world_from_camera, True
        reference_from_last = np.linalg.inv(self._world_from_reference) @ self._world_from_camera
        motion = self._motion(now, self._reference, reference_from_last if self._to_keyframe else np.eye(4))
        if motion is None and self._to_keyframe:
            self._reference, self._world_from_reference = self._last, self._world_from_camera
            motion = self._motion(now, self._reference, np.eye(4))
        if motion is not None:
            self._world_from_camera = self._world_from_reference @ motion
        if motion is None or not self._to_keyframe or is_far(motion):
            self._reference, self._world_from_reference = now, self._world_from_camera
        self._last = now
        return self._world_from_camera, motion is not None


class LegacyOdometry:
    """compute_rgbd_odometry with the hybrid Jacobian (Park et al. 2017) and its default option."""

    name = "open3d legacy"

    def __init__(self, matrix: Any, width: int, height: int) -> None:
        m = np.asarray(matrix)
        self._camera = open3d.camera.PinholeCameraIntrinsic(width, height, m[0, 0], m[1, 1], m[0, 2], m[1, 2])
        self._option = open3d.pipelines.odometry.OdometryOption(depth_max=FARTHEST_M)
        self._last: Any = None
        self._world_from_camera = np.eye(4)

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) / np.float32(255)
        now = open3d.geometry.RGBDImage()
        now.color, now.depth = open3d.geometry.Image(gray), open3d.geometry.Image(depth)
        last, self._last = self._last, now
        if last is None:
            return self._world_from_camera, True
        pipeline = open3d.pipelines.odometry
        good, motion, _ = pipeline.compute_rgbd_odometry(
            now, last, self._camera, np.eye(4), pipeline.RGBDOdometryJacobianFromHybridTerm(), self._option
        )
        if good:
            self._world_from_camera = self._world_from_camera @ motion
        return self._world_from_camera, bool(good)


VARIANTS = {
    "open3d_hybrid": partial(TensorOdometry, method="Hybrid"),
    "open3d_intensity": partial(TensorOdometry, method="Intensity"),
    "open3d_legacy": LegacyOdometry,
    "open3d_hybrid_keyframe": partial(TensorOdometry, method="Hybrid", to_keyframe=True),
}
