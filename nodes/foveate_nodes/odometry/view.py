"""What one RGB-D frame gives to odometry: its pyramids, its edges, and as a reference its points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry.camera import PinholeLevel
from foveate_nodes.odometry.pyramid import LEVELS, MIDDLE, depth_pyramid, evened, gray_pyramid
from foveate_nodes.odometry.selection import chosen, corners, crossing, halved, lacks_depth, surfaces, with_far

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Depth = NDArray[np.float32]
EdgeDetector = Callable[[Gray], Gray]
PLANE_LEVEL = 1
_PLANE_STRIDE = (6, 10)  # pixels of that level: at fine levels, at coarse ones
_FARTHEST_PX = 20.0  # beyond, a distance to an edge says nothing


class View:
    """One frame as a target: pyramids made at once, edges and distances when they are first asked for."""

    def __init__(self, gray: Gray, depth_m: Depth, matrix: NDArray[np.float64], edges: EdgeDetector) -> None:
        """`gray`: H x W; `depth_m`: H x W, metres, 0 or NaN = a hole; `edges`: gives a mask (H x W, 0 or 255)."""
        height, width = gray.shape
        camera = [PinholeLevel.of(matrix, width, height)]
        for _ in range(LEVELS - 1):
            camera.append(camera[-1].coarser())
        self.camera = tuple(camera)
        self.gray = gray_pyramid(gray)
        self.even = tuple(evened(image) for image in self.gray)  # what brightnesses are compared in
        self.depth = depth_pyramid(depth_m)
        self._edges = edges

    @cached_property
    def edge(self) -> tuple[Gray, ...]:
        """Masks by level; the detector runs once, at the finest."""
        made = [np.ascontiguousarray(self._edges(self.gray[0]))]
        for _ in range(LEVELS - 1):
            made.append(halved(made[-1]))
        return tuple(made)

    @cached_property
    def distance(self) -> tuple[NDArray[np.float32], ...]:
        """Pixels to the nearest edge by level; a coarser level has half of the finer's (Schenk 2019, III.B)."""
        far = np.asarray(cv2.distanceTransform(255 - self.edge[0], cv2.DIST_L2, cv2.DIST_MASK_5))
        made = [np.minimum(far, np.float32(_FARTHEST_PX))]
        for _ in range(LEVELS - 1):
            made.append(np.asarray(cv2.pyrDown(made[-1])) * np.float32(0.5))
        return tuple(made)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The points of a keyframe, by level."""

    point_m: tuple[NDArray[np.float64], ...]  # N x 3, of its camera
    value: tuple[NDArray[np.float32], ...]  # N, of View.even, less its middle
    on_edge: tuple[NDArray[np.bool_], ...]  # N
    plane: tuple[NDArray[np.float64], ...]  # N x 6: place and unit normal, by level
    gray: NDArray[np.uint8]  # N, of the finest level, as the camera gave it
    measured: NDArray[np.bool_]  # N, of the finest level: it has depth; the others are taken to be far
    across: Array  # N x 2, of the finest level: unit vector across the edge

    @classmethod
    def of(cls, view: View, use_corners: bool = True) -> Reference:
        """Spread over the image as `selection` says."""
        corner = corners(view.gray[0]) if use_corners else np.zeros_like(view.gray[0])
        points, values, edges = [], [], []
        grays, measured, across = np.zeros(0, np.uint8), np.zeros(0, np.bool_), np.zeros((0, 2))
        lacking = lacks_depth(view.depth[0], view.edge[0])
        for level in range(LEVELS):
            gray, depth, camera = view.gray[level], view.depth[level], view.camera[level]
            guessed = with_far(depth) if lacking else depth
            pixel = chosen(gray, view.edge[level], corner, guessed, level)
            column, row = pixel.T
            z = guessed[row, column].astype(np.float64)
            points.append(np.column_stack([(column - camera.cx) / camera.fx * z, (row - camera.cy) / camera.fy * z, z]))
            values.append(view.even[level][row, column].astype(np.float32) - MIDDLE)
            edges.append(view.edge[level][row, column] > 0)
            if level == 0:
                grays, measured = gray[row, column], depth[row, column] > 0
                across = crossing(view.gray[1], pixel)
            corner = halved(corner)
        camera = view.camera[PLANE_LEVEL]
        planes = [surfaces(view.depth[PLANE_LEVEL], camera.numbers, stride) for stride in _PLANE_STRIDE]
        by_level = tuple(planes[0] if level < 2 else planes[1] for level in range(LEVELS))
        return cls(tuple(points), tuple(values), tuple(edges), by_level, grays, measured, across)
