"""Open3D's RGB-D odometry from frame to frame: that of tensors, and the older one.

Scales, iterations, truncation and Huber widths are Open3D's defaults; the depth reaches as far as the sensors do. It
starts at constant motion, which Open3D leaves to its user: from rest the ATE on TUM freiburg1_rpy is 0.13 m, so 0.01 m.
Twenty iterations a scale take four times as long and bring little; against a keyframe 0.1 m or 8 degrees away the ATE
on 7-Scenes' red kitchen is 0.043 m, from frame to frame 0.022 m.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import open3d

from odometry_peers import FARTHEST_M

_odometry = open3d.t.pipelines.odometry
_LEAST_FITNESS = 0.005  # share of pixels matched, 1,500 of VGA, below which the motion says nothing


class TensorOdometry:
    """`method`: Intensity, or Hybrid, which adds depth."""

    def __init__(self, matrix: Any, width: int, height: int, method: str) -> None:
        self.name = f"Open3D {method}"
        self._method = getattr(_odometry.Method, method)
        self._matrix = open3d.core.Tensor(np.asarray(matrix, np.float64))
        self._last: Any = None
        self._world_from_camera, self._step = np.eye(4), np.eye(4)

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        color = open3d.t.geometry.Image(np.ascontiguousarray(image[:, :, ::-1]))
        now = open3d.t.geometry.RGBDImage(color, open3d.t.geometry.Image(depth))
        last, self._last = self._last, now
        if last is None:
            return self._world_from_camera, True
        start = open3d.core.Tensor(self._step)
        try:
            found = _odometry.rgbd_odometry_multi_scale(
                now, last, self._matrix, start, 1.0, FARTHEST_M, method=self._method
            )
        except RuntimeError:  # a singular system
            self._step = np.eye(4)
            return self._world_from_camera, False
        motion = found.transformation.numpy()
        good = found.fitness > _LEAST_FITNESS and bool(np.isfinite(motion).all())
        self._step = motion if good else np.eye(4)
        self._world_from_camera = self._world_from_camera @ self._step
        return self._world_from_camera, good


class LegacyOdometry:
    """compute_rgbd_odometry with the hybrid Jacobian (Park et al. 2017) and its default option."""

    name = "Open3D legacy"

    def __init__(self, matrix: Any, width: int, height: int) -> None:
        m = np.asarray(matrix)
        self._camera = open3d.camera.PinholeCameraIntrinsic(width, height, m[0, 0], m[1, 1], m[0, 2], m[1, 2])
        self._option = open3d.pipelines.odometry.OdometryOption(depth_max=FARTHEST_M)
        self._last: Any = None
        self._world_from_camera, self._step = np.eye(4), np.eye(4)

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) / np.float32(255)
        now = open3d.geometry.RGBDImage()
        now.color, now.depth = open3d.geometry.Image(gray), open3d.geometry.Image(depth)
        last, self._last = self._last, now
        if last is None:
            return self._world_from_camera, True
        pipeline = open3d.pipelines.odometry
        good, motion, _ = pipeline.compute_rgbd_odometry(
            now, last, self._camera, self._step, pipeline.RGBDOdometryJacobianFromHybridTerm(), self._option
        )
        self._step = motion if good else np.eye(4)
        if good:
            self._world_from_camera = self._world_from_camera @ motion
        return self._world_from_camera, bool(good)


VARIANTS = {
    "open3d_hybrid": partial(TensorOdometry, method="Hybrid"),
    "open3d_intensity": partial(TensorOdometry, method="Intensity"),
    "open3d_legacy": LegacyOdometry,
}
