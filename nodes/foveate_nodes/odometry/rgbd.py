"""A frame with its depth as odometry takes it: of one camera, without distortion."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.messages import CameraInfo, DepthFrame, Frame
from foveate_nodes.odometry.errors import OdometryError

_MODELS = ("plumb_bob", "rational_polynomial", "")
_LEAST = (128, 96)  # pixels: smaller ones hold too few edges to begin with


class Rgbd:
    """Holds pairs of frames against one camera and takes its distortion out of both."""

    def __init__(self, info: CameraInfo) -> None:
        """Raises OdometryError where the camera's numbers are none, or of another model than OpenCV's."""
        matrix = np.asarray(info.camera_matrix, np.float64).reshape(3, 3)
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
            raise OdometryError(
                f"the camera's matrix has fx = {matrix[0, 0]:g} and fy = {matrix[1, 1]:g}; both must be > 0"
            )
        if info.width < _LEAST[0] or info.height < _LEAST[1]:
            raise OdometryError(
                f"images of {info.width} x {info.height} pixels are too small; the least is {_LEAST[0]} x {_LEAST[1]}"
            )
        self.matrix = matrix
        self._lens = info.model, np.array(info.distortion, np.float64).ravel()
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
        model, distortion = self._lens
        return (
            (info.width, info.height) == self.size
            and np.array_equal(np.reshape(info.camera_matrix, (3, 3)), self.matrix)
            and info.model == model
            and np.array_equal(np.ravel(info.distortion), distortion)
        )

    def image(self, frame: Frame) -> NDArray[np.uint8]:
        """The image (H x W or H x W x 3, blue first), without distortion. Raises OdometryError."""
        if frame.image.ndim != {"Mono8": 2, "BGR8": 3, "RGB8": 3}.get(frame.encoding):
            raise OdometryError(f"images are {frame.encoding}; odometry takes Mono8, BGR8 and RGB8")
        self._held(frame.image.shape, "the image")
        image = frame.image
        if frame.encoding == "RGB8":
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if self._maps is None:
            return image
        return np.asarray(cv2.remap(image, self._maps[0], self._maps[1], cv2.INTER_LINEAR))

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


def gray_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H x W of what `Rgbd.image` gives."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
