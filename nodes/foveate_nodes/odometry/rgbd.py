"""A frame with its depth as odometry takes it: grey, in metres, without distortion."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.messages import CameraInfo, DepthFrame, Frame
from foveate_nodes.odometry.errors import OdometryError

_MODELS = ("plumb_bob", "rational_polynomial", "")


class Rgbd:
    """Holds pairs of frames against one camera and takes its distortion out of both."""

    def __init__(self, info: CameraInfo) -> None:
        """Raises OdometryError where the camera's numbers are none, or of another model than OpenCV's."""
        matrix = np.asarray(info.camera_matrix, np.float64).reshape(3, 3)
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
            raise OdometryError(
                f"the camera's matrix has fx = {matrix[0, 0]:g} and fy = {matrix[1, 1]:g}; both must be > 0"
            )
        if info.width < 64 or info.height < 48:
            raise OdometryError(f"images of {info.width} x {info.height} pixels are too small; the least is 64 x 48")
        self.matrix = matrix
        self.size = (info.width, info.height)
        self._maps: Any = None
        if np.any(info.distortion):
            if info.model not in _MODELS:
                raise OdometryError(
                    f"lens model '{info.model}' is not known; rectify the images before, or give plumb_bob"
                )
            self._maps = cv2.initUndistortRectifyMap(
                matrix, np.asarray(info.distortion, np.float64), np.eye(3), matrix, self.size, cv2.CV_16SC2
            )

    def fits(self, info: CameraInfo) -> bool:
        """Whether it is still the same camera."""
        return (info.width, info.height) == self.size and bool(np.array_equal(info.camera_matrix, self.matrix))

    def image(self, frame: Frame) -> NDArray[np.uint8]:
        """The image (H x W or H x W x 3), without distortion. Raises OdometryError."""
        self._held(frame.image.shape, "the image")
        if self._maps is None:
            return frame.image
        return np.asarray(cv2.remap(frame.image, self._maps[0], self._maps[1], cv2.INTER_LINEAR))

    def depth(self, frame: DepthFrame) -> NDArray[np.uint16]:
        """Depth (H x W, the frame's units), without distortion. Raises OdometryError."""
        self._held(frame.depth.shape, "the depth")
        if not 0 < frame.scale_m < 1:
            raise OdometryError(f"a unit of depth is {frame.scale_m:g} m; it must be above 0 and below 1")
        if self._maps is None:
            return frame.depth
        return np.asarray(cv2.remap(frame.depth, self._maps[0], self._maps[1], cv2.INTER_NEAREST))

    def _held(self, shape: tuple[int, ...], what: str) -> None:
        if (shape[1], shape[0]) != self.size:
            raise OdometryError(
                f"{what} has {shape[1]} x {shape[0]} pixels, the matrix is for {self.size[0]} x {self.size[1]}; "
                "give odometry depth that is aligned to the image, of one size"
            )


def gray_of(image: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """H x W of Mono8 or BGR8. Raises OdometryError."""
    if encoding == "Mono8" and image.ndim == 2:
        return image
    if encoding in ("BGR8", "RGB8") and image.ndim == 3:
        code = cv2.COLOR_BGR2GRAY if encoding == "BGR8" else cv2.COLOR_RGB2GRAY
        return np.asarray(cv2.cvtColor(image, code))
    raise OdometryError(f"images are {encoding}; odometry takes Mono8 and BGR8")
