"""What a true camera needs to be drawn: the ray of every pixel, the blur of its lens, room for the light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.lens import Lens
from foveate_calibration.steered_camera import SteeredCamera

Array = NDArray[np.float64]
_GRID_PX = 8
_ROUNDS = 20


class Eye:
    """A steered camera with its true lens; belongs to one thread."""

    def __init__(self, camera: SteeredCamera, blur_px: float) -> None:
        """`blur_px`: standard deviation of the lens' point spread."""
        lens = camera.lens
        self.camera = camera
        self.blur_px = blur_px
        self.normalised = normalised(lens)
        self.light = np.zeros((lens.height, lens.width), np.float32)
        self.mask = np.zeros((lens.height, lens.width), np.uint8)
        half = int(np.ceil(3 * blur_px))
        taps = np.exp(-0.5 * (np.arange(-half, half + 1) / max(blur_px, 1e-9)) ** 2)
        self.taps = taps / taps.sum()
        self.tilt = tilt_matrix(lens)
        self.dim: dict[tuple[int, ...], NDArray[np.float32]] = {}  # a few pictures without a laser
        self.printed: tuple[int, NDArray[np.uint8]] | None = None  # the last board, as sharp as it is seen


def normalised(lens: Lens) -> Array:
    """Where on the plane z = 1 each pixel looks (H x W x 2), distortion removed to 1e-9.

    Newton's method on a grid, and fixed-point iteration between: for 1.3 million pixels a tenth of the time and memory.
    """
    width, height = lens.width, lens.height
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    if not lens.distortion.any():
        fx, fy, cx, cy = lens.values[:4]
        return np.stack(np.broadcast_arrays((x - cx) / fx, ((y - cy) / fy)[:, None]), axis=2).copy()
    columns, rows = np.arange(0, width + _GRID_PX, _GRID_PX), np.arange(0, height + _GRID_PX, _GRID_PX)
    grid = np.stack(np.meshgrid(columns, rows), axis=2).reshape(-1, 2).astype(np.float64)
    rays = lens.rays(grid)
    coarse = (rays[:, :2] / rays[:, 2:]).reshape(len(rows), len(columns), 2)
    at_x, at_y = np.meshgrid(x.astype(np.float32) / _GRID_PX, y.astype(np.float32) / _GRID_PX)
    out = np.stack([cv2.remap(np.ascontiguousarray(coarse[:, :, k]), at_x, at_y, cv2.INTER_LINEAR) for k in (0, 1)], 2)
    for row in range(height):  # a row at a time stays in the cache
        pixels = np.column_stack([x, np.full(width, y[row])])
        for _ in range(_ROUNDS):
            off = (pixels - lens.project(np.column_stack([out[row], np.ones(width)]))) / lens.values[:2]
            out[row] += off
            if np.abs(off).max() < 1e-9:
                break
    return out


def tilt_matrix(lens: Lens) -> Array:
    """3 x 3 homography of the lens' tilted sensor, normalised image to normalised sensor."""
    flat = Lens(lens.width, lens.height, np.concatenate([[1, 1, 0, 0], np.zeros(12), lens.distortion[12:]]))
    corners = np.array([[-0.1, -0.1], [0.1, -0.1], [0.1, 0.1], [-0.1, 0.1]])
    there = flat.project(np.column_stack([corners, np.ones(4)]))
    rows = []
    for (x, y), (u, v) in zip(corners, there, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    found = np.linalg.solve(np.array(rows), there.ravel())
    return np.append(found, 1.0).reshape(3, 3)
