"""OpenCV's Odometry (main module since 5.0, cv2.rgbd before), from frame to frame.

Settings are OpenCV's own but for the camera and the farthest depth; more iterations, more points or its FAST kind made
it no better. In Python it takes no starting pose: against a keyframe 0.1 m away it fails (ATE 0.23 m instead of 0.03 m
on 7-Scenes' red kitchen), and a fast turn is beyond its reach.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np

from odometry_peers import FARTHEST_M


class OpencvOdometry:
    """`kind`: RGB_DEPTH, RGB or DEPTH."""

    def __init__(self, matrix: Any, width: int, height: int, kind: str) -> None:
        self.name = f"OpenCV {kind}"
        self._world_from_camera = np.eye(4)
        self._last: Any = None
        if hasattr(cv2, "Odometry"):
            settings = cv2.OdometrySettings()
            settings.setCameraMatrix(np.asarray(matrix, np.float32))
            settings.setMaxDepth(FARTHEST_M)
            self._odometry = cv2.Odometry(getattr(cv2, f"OdometryType_{kind}"), settings, cv2.OdometryAlgoType_COMMON)
        elif hasattr(cv2, "rgbd"):
            make = {
                "RGB_DEPTH": "RgbdICPOdometry_create", "RGB": "RgbdOdometry_create", "DEPTH": "ICPOdometry_create"
            }[kind]  # fmt: skip
            self._odometry = getattr(cv2.rgbd, make)(np.asarray(matrix, np.float64), maxDepth=FARTHEST_M)
        else:
            raise ImportError(f"OpenCV {cv2.__version__} has neither cv2.Odometry nor cv2.rgbd")

    def _frame(self, image: Any, depth: Any) -> Any:
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        if hasattr(cv2, "Odometry"):
            return cv2.OdometryFrame(depth, gray)
        return cv2.rgbd.OdometryFrame_create(gray, depth, (depth > 0).astype(np.uint8) * 255)

    def _motion(self, source: Any, target: Any) -> Any:
        """target_from_source, or None."""
        if hasattr(cv2, "Odometry"):
            self._odometry.prepareFrames(source, target)
            good, motion = self._odometry.compute(source, target)
        else:
            good, motion = self._odometry.compute2(source, target)
        return np.asarray(motion, np.float64) if good else None

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        now = self._frame(image, depth)
        last, self._last = self._last, now
        if last is None:
            return self._world_from_camera, True
        motion = self._motion(last, now)
        if motion is not None:
            self._world_from_camera = self._world_from_camera @ np.linalg.inv(motion)
        return self._world_from_camera, motion is not None


VARIANTS = {
    "opencv_rgbd": partial(OpencvOdometry, kind="RGB_DEPTH"),
    "opencv_rgb": partial(OpencvOdometry, kind="RGB"),
    "opencv_depth": partial(OpencvOdometry, kind="DEPTH"),
}
