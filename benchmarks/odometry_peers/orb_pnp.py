"""ORB features and PnP against a map of the last keyframes: careful feature odometry without bundle adjustment.

Settings are ORB-SLAM2's where it has one (Mur-Artal and Tardos 2017: scales of 1.2 and 8 octaves, FAST threshold 7,
search windows, a new keyframe below 75 % of the inliers, chi-square tests, depth as the disparity of a virtual camera,
here as exact as Kinect's); 1,500 features, spread by a grid. A frame is first looked for at constant motion; where that
fails, by descriptors alone with solvePnPRansac (AP3P, 3 pixels) against the last keyframes, newest first, which also
finds a lost camera again. Poses are refined by motion-only robust least squares; nothing is adjusted later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from odometry_peers import FARTHEST_M
from odometry_peers.orb_matching import BASELINE_M, match_near, refine

_FEATURES, _POOL = 1500, 4500
_CELL_PX = 40
_KEYFRAMES = 10  # of the map
_RADIUS_PX = 15.0  # about a prediction, at the finest octave
_NEAR_BITS, _FREE_BITS = 64, 80  # of 256 that may differ: near a prediction, anywhere
_FEWEST, _TRUSTED = 15, 30  # inliers for a pose; for one that needs no second look
_RENEW = 0.75  # of the inliers that the first frame after the keyframe had: below, a new keyframe
_AGREE = 0.03  # of the depth: neighbours that differ more are not of one surface


@dataclass(slots=True, eq=False)
class Features:
    """Of one image: places (N x 2), octaves, descriptors (N x 32 uint8), depths in metres (0 = none)."""

    place: Any
    octave: Any
    descriptor: Any
    depth_m: Any

    @property
    def words(self) -> Any:
        return self.descriptor.view(np.uint64)


@dataclass(slots=True, eq=False)
class Landmarks:
    """Points (N x 3) in the world that a keyframe added, and how they look."""

    point_m: Any
    octave: Any
    descriptor: Any


class OrbPnp:
    name = "ORB + PnP"

    def __init__(self, matrix: Any, width: int, height: int) -> None:
        self._matrix = np.asarray(matrix, np.float64)
        self._camera = self._matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
        self._size = width, height
        self._find = cv2.ORB_create(_POOL, 1.2, 8, 19, 0, 2, cv2.ORB_HARRIS_SCORE, 31, 7)
        self._map: list[Landmarks] = []
        self._pose = np.eye(4)  # camera_from_world
        self._motion = np.eye(4)  # from the frame before
        self._held = 0  # inliers after the last keyframe
        self._lost = False

    def track(self, image: Any, depth: Any, time_s: float) -> tuple[Any, bool]:
        seen = self._features(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), depth)
        if not self._map:
            self._add_keyframe(seen, np.zeros(0, np.int64))
            return np.eye(4), bool(self._map)
        pose, inliers = (None, np.zeros(0, np.int64)) if self._lost else self._near(seen, self._motion @ self._pose)
        if len(inliers) < _TRUSTED:
            other, free = self._anywhere(seen)
            if len(free) > len(inliers):
                pose, inliers = other, free
        if pose is None or len(inliers) < _FEWEST:
            self._lost, self._motion = True, np.eye(4)
            return None, False
        self._motion = np.eye(4) if self._lost else pose @ np.linalg.inv(self._pose)
        self._pose, self._lost = pose, False
        self._held = self._held or len(inliers)
        if len(inliers) < _RENEW * self._held or len(inliers) < 2 * _TRUSTED:
            self._add_keyframe(seen, inliers)
        return np.linalg.inv(pose), True

    def _features(self, gray: Any, depth: Any) -> Features:
        """The best of a large pool in each cell of a grid, then of all cells in turn, up to 1,500."""
        points = self._find.detect(gray)
        if not points:
            return Features(np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros((0, 32), np.uint8), np.zeros(0))
        place, strength = cv2.KeyPoint_convert(points), np.array([point.response for point in points])
        cell = (place[:, 1] // _CELL_PX).astype(int) * 1000 + (place[:, 0] // _CELL_PX).astype(int)
        order = np.lexsort((-strength, cell))
        first = np.flatnonzero(np.diff(cell[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
        kept = order[np.argsort(rank, kind="stable")][:_FEATURES]
        points, descriptor = self._find.compute(gray, [points[k] for k in kept])
        place = cv2.KeyPoint_convert(points).astype(np.float64)
        octave = np.array([point.octave & 255 for point in points], np.int64)
        return Features(place, octave, np.ascontiguousarray(descriptor), _depth_at(depth, place))

    def _near(self, seen: Features, start: Any) -> tuple[Any, Any]:
        """The pose by landmarks near where they are expected, and the features that agree."""
        point, octave, words = self._landmarks()
        pose, inliers = None, np.zeros(0, np.int64)
        for radius in (_RADIUS_PX, 0.4 * _RADIUS_PX):  # the second time with the pose of the first
            expected = self._projected(point, start)
            found = match_near(
                seen.place, seen.octave, seen.words, expected, octave, words, radius, _NEAR_BITS, 0.9
            )  # fmt: skip
            if np.count_nonzero(found >= 0) < _FEWEST:
                break
            at = np.flatnonzero(found >= 0)
            pose, inside = self._refined(seen, found[at], point[at], start)
            inliers, start = found[at][inside], pose
            if len(inliers) < _FEWEST:
                break
        return pose, inliers

    def _anywhere(self, seen: Features) -> tuple[Any, Any]:
        """By descriptors alone, against one keyframe after another; then as near a prediction."""
        if len(seen.place) < _FEWEST:
            return None, np.zeros(0, np.int64)
        for marks in reversed(self._map):
            if len(marks.point_m) < _FEWEST:
                continue
            pairs = [
                pair for pair in cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(marks.descriptor, seen.descriptor, k=2)
                if len(pair) == 2 and pair[0].distance < min(_FREE_BITS, 0.8 * pair[1].distance)
            ]  # fmt: skip
            if len(pairs) < _FEWEST:
                continue
            mark, feature = np.array([(one.queryIdx, one.trainIdx) for one, _ in pairs]).T
            good, turn, shift, inside = cv2.solvePnPRansac(
                marks.point_m[mark], seen.place[feature], self._matrix, None, iterationsCount=300,
                reprojectionError=3.0, confidence=0.999, flags=cv2.SOLVEPNP_AP3P,
            )  # fmt: skip
            if not good or inside is None or len(inside) < _FEWEST:
                continue
            start = np.eye(4)
            start[:3, :3], start[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
            pose, inliers = self._near(seen, start)
            if len(inliers) >= _FEWEST:
                return pose, inliers
        return None, np.zeros(0, np.int64)

    def _landmarks(self) -> tuple[Any, Any, Any]:
        marks = self._map
        return (
            np.concatenate([m.point_m for m in marks]), np.concatenate([m.octave for m in marks]),
            np.concatenate([m.descriptor for m in marks]).view(np.uint64),
        )  # fmt: skip

    def _projected(self, point: Any, pose: Any) -> Any:
        """Places (N x 2) of world points, NaN out of view."""
        x, y, z = (point @ pose[:3, :3].T + pose[:3, 3]).T
        fx, fy, cx, cy = self._camera
        front = z > 0.05
        z = np.where(front, z, 1.0)
        place = np.column_stack([fx * x / z + cx, fy * y / z + cy])
        inside = front & (place >= 0).all(1) & (place < self._size).all(1)
        return np.where(inside[:, None], place, np.nan)

    def _refined(self, seen: Features, feature: Any, point: Any, start: Any) -> tuple[Any, Any]:
        depth = seen.depth_m[feature]
        disparity = np.where(depth > 0, self._camera[0] * BASELINE_M / np.where(depth > 0, depth, 1.0), np.nan)
        sigma = 1.2 ** seen.octave[feature].astype(np.float64)
        return refine(point, seen.place[feature], disparity, sigma, self._camera, start)

    def _add_keyframe(self, seen: Features, known: Any) -> None:
        """Features with depth that are no landmark yet become landmarks."""
        fresh = (seen.depth_m > 0) & (seen.depth_m < FARTHEST_M)
        fresh[known] = False
        if np.count_nonzero(fresh) < _FEWEST:
            return
        fx, fy, cx, cy = self._camera
        u, v = seen.place[fresh].T
        z = seen.depth_m[fresh]
        point = np.column_stack([(u - cx) / fx * z, (v - cy) / fy * z, z])
        back = np.linalg.inv(self._pose)
        marks = Landmarks(point @ back[:3, :3].T + back[:3, 3], seen.octave[fresh], seen.descriptor[fresh])
        self._map = [*self._map, marks][-_KEYFRAMES:]
        self._held = 0


def _depth_at(depth: Any, place: Any) -> Any:
    """Metres at places between pixels: bilinear where the four around agree to 3 %, else the nearest; 0 = none."""
    height, width = depth.shape
    x = np.clip(place[:, 0], 0, width - 1.001)
    y = np.clip(place[:, 1], 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    four = np.stack([depth[row + b, column + a] for b in (0, 1) for a in (0, 1)]).astype(np.float64)
    a, b = x - column, y - row
    between = four[0] * (1 - a) * (1 - b) + four[1] * a * (1 - b) + four[2] * (1 - a) * b + four[3] * a * b
    low, high = four.min(0), four.max(0)
    nearest = depth[np.rint(y).astype(int), np.rint(x).astype(int)]
    return np.where((low > 0) & (high - low <= _AGREE * low), between, nearest)


VARIANTS = {"orb_pnp": OrbPnp}
