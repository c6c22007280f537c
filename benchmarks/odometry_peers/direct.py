"""Direct methods: photometric error of a keyframe's pixels in the image of now, dense or on Canny's edges.

Parameters are those published with EdgeDirectVO (Christensen and Hebert, arXiv 1906.04838): 3 levels of 10, 15 and 20
iterations (finest first), Huber's width of 5 grey levels, a keyframe every 3 frames, a start at constant motion; dense
takes pixels with a squared gradient above 50, the edges are those of the image of now, with Otsu's threshold as Canny's
upper one and half of it as the lower. Three frames are a short reach for a dense method, so `dense_direct_far` has its
keyframe renewed by motion instead.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numba
import numpy as np

_ITERATIONS = (10, 15, 20)
_HUBER = 5.0
_LEAST_GRADIENT = 50.0  # squared
_STILL = 1e-8
_FAR_M, _FAR_RAD = 0.10, 0.14  # about a tenth of the depth of a room's near things; 8 degrees, a seventh of the view
_FEWEST = 100  # points in view at the finest level; with fewer the frame is lost


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _linear(image: Any, points: Any, values: Any, pose: Any, camera: Any, normal: Any, side: Any) -> Any:
    """Normal equations (6 x 6, 6: shift, turn) of grey levels at the points (N x 3); returns (mean error, in view)."""
    height, width = image.shape
    fx, fy, cx, cy = camera
    normal[:] = 0
    side[:] = 0
    total, seen = 0.0, 0
    j = np.empty(6)
    for i in range(len(points)):
        a, b, c = points[i, 0], points[i, 1], points[i, 2]
        x = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c + pose[0, 3]
        y = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c + pose[1, 3]
        z = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c + pose[2, 3]
        if z < 0.05:
            continue
        u, v = fx * x / z + cx, fy * y / z + cy
        if not (1 <= u < width - 2 and 1 <= v < height - 2):
            continue
        p, q = int(u), int(v)
        s, t = u - p, v - q
        w00, w01, w10, w11 = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
        now = w00 * image[q, p] + w01 * image[q, p + 1] + w10 * image[q + 1, p] + w11 * image[q + 1, p + 1]
        gx = 0.5 * (
            w00 * (image[q, p + 1] - image[q, p - 1]) + w01 * (image[q, p + 2] - image[q, p])
            + w10 * (image[q + 1, p + 1] - image[q + 1, p - 1]) + w11 * (image[q + 1, p + 2] - image[q + 1, p])
        ) * fx / z  # fmt: skip
        gy = 0.5 * (
            w00 * (image[q + 1, p] - image[q - 1, p]) + w01 * (image[q + 1, p + 1] - image[q - 1, p + 1])
            + w10 * (image[q + 2, p] - image[q, p]) + w11 * (image[q + 2, p + 1] - image[q, p + 1])
        ) * fy / z  # fmt: skip
        gz = -(gx * x + gy * y) / z
        r = now - values[i]
        size = abs(r)
        weight = 1.0 if size <= _HUBER else _HUBER / size
        total += weight * r * r
        seen += 1
        j[0], j[1], j[2] = gx, gy, gz
        j[3], j[4], j[5] = y * gz - z * gy, z * gx - x * gz, x * gy - y * gx
        for m in range(6):
            side[m] += weight * j[m] * r
            for n in range(m, 6):
                normal[m, n] += weight * j[m] * j[n]
    for m in range(6):
        for n in range(m):
            normal[m, n] = normal[n, m]
    return (total / seen if seen else np.inf), seen


def _moved(pose: Any, step: Any) -> Any:
    """exp(step) applied to a pose: shift, turn."""
    change = np.eye(4)
    change[:3, :3] = cv2.Rodrigues(step[3:])[0]
    change[:3, 3] = step[:3]
    return change @ pose


def _is_far(motion: Any) -> bool:
    """Whether a rigid motion (4 x 4) shifts or turns so much that a new keyframe is due."""
    turn = np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))
    return bool(np.linalg.norm(motion[:3, 3]) > _FAR_M or turn > _FAR_RAD)


class DirectOdometry:
    """`edges`: points on Canny's edges of the image of now; else all with a gradient. Keyframe: each third frame, or by
    motion.
    """

    def __init__(self, matrix: Any, width: int, height: int, edges: bool, by_motion: bool = False) -> None:
        self.name = "canny edge direct" if edges else "dense direct"
        self._edges, self._by_motion = edges, by_motion
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
        self._cameras = [np.array([fx, fy, cx, cy]) / 2**level for level in range(len(_ITERATIONS))]
        self._keyframe: Any = None
        self._world_from_keyframe = np.eye(4)
        self._now_from_keyframe, self._now_from_last = np.eye(4), np.eye(4)
        self._age = 0

    def _pyramids(self, image: Any, depth: Any) -> Any:
        """Grey by cv2.pyrDown, depth by every second pixel, which lies at the same place."""
        gray = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)]
        depths = [depth]
        for _ in _ITERATIONS[1:]:
            gray.append(cv2.pyrDown(gray[-1]))
            depths.append(np.ascontiguousarray(depths[-1][::2, ::2]))
        return gray, depths

    def _points(self, keyframe: Any, level: int, mask: Any) -> Any:
        gray, depths = keyframe
        fx, fy, cx, cy = self._cameras[level]
        row, column = np.nonzero(mask & (depths[level] > 0))
        z = depths[level][row, column].astype(np.float64)
        points = np.column_stack([(column - cx) / fx * z, (row - cy) / fy * z, z])
        return points, gray[level][row, column].astype(np.float32)

    def _mask(self, gray: Any) -> Any:
        if self._edges:
            high, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
            return cv2.Canny(gray, high / 2, max(high, 1.0), apertureSize=3, L2gradient=True) > 0
        smooth = gray.astype(np.float32)
        dx, dy = (0.5 * cv2.Sobel(smooth, cv2.CV_32F, *axis, ksize=1) for axis in ((1, 0), (0, 1)))
        return dx * dx + dy * dy > _LEAST_GRADIENT

    def _align(self, now: Any, pose: Any) -> tuple[Any, int]:
        """now_from_keyframe, and how many points of the finest level are in view."""
        seen = 0
        for level in reversed(range(len(_ITERATIONS))):
            image = now[0][level]
            if self._edges or level not in self._chosen:
                marked = image if self._edges else self._keyframe[0][level]
                self._chosen[level] = self._points(self._keyframe, level, self._mask(marked))
            pose, seen = self._descend(image.astype(np.float32), level, pose)
        return pose, seen

    def _descend(self, image: Any, level: int, pose: Any) -> tuple[Any, int]:
        points, values = self._chosen[level]
        normal, side, damping = np.zeros((6, 6)), np.zeros(6), 0.0
        error, seen = _linear(image, points, values, pose, self._cameras[level], normal, side)
        for _ in range(_ITERATIONS[level]):
            damped = normal + damping * np.diag(np.diag(normal))
            try:
                step = -np.linalg.solve(damped, side)
            except np.linalg.LinAlgError:
                return pose, 0
            if not np.isfinite(step).all():
                return pose, 0
            trial, other, right = _moved(pose, step), np.zeros((6, 6)), np.zeros(6)
            now, count = _linear(image, points, values, trial, self._cameras[level], other, right)
            if now < error:
                pose, error, seen, normal, side = trial, now, count, other, right
                damping = 0.0 if damping <= 0.2 else damping * 0.5
            else:
                damping = 0.2 if damping == 0 else damping * 2
            if step[:3] @ step[:3] < _STILL and step[3:] @ step[3:] < _STILL:
                break
        return pose, seen

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        now = self._pyramids(image, depth)
        if self._keyframe is None:
            self._take(now, self._world_from_keyframe)
            return self._world_from_keyframe, True
        start = self._now_from_last @ self._now_from_keyframe
        found, seen = self._align(now, start)
        world_from_camera = self._world_from_keyframe @ np.linalg.inv(found)
        if seen < _FEWEST:
            world_from_camera = self._world_from_keyframe @ np.linalg.inv(self._now_from_keyframe)
            self._take(now, world_from_camera)
            self._now_from_last = np.eye(4)
            return world_from_camera, False
        self._now_from_last = found @ np.linalg.inv(self._now_from_keyframe)
        self._now_from_keyframe = found
        self._age += 1
        if _is_far(found) if self._by_motion else self._age == 3:
            self._take(now, world_from_camera)
        return world_from_camera, True

    def _take(self, keyframe: Any, world_from_camera: Any) -> None:
        self._keyframe, self._world_from_keyframe = keyframe, world_from_camera
        self._now_from_keyframe, self._age = np.eye(4), 0
        self._chosen: dict[int, Any] = {}


VARIANTS = {
    "dense_direct": partial(DirectOdometry, edges=False),
    "dense_direct_far": partial(DirectOdometry, edges=False, by_motion=True),
    "canny_edge_direct": partial(DirectOdometry, edges=True),
}
