"""The loops of the feature tracker: matching near a prediction, and refining a pose by robust least squares."""

from __future__ import annotations

from typing import Any

import cv2
import numba
import numpy as np

_CHI_MONO, _CHI_DEPTH = 5.991, 7.815  # 95 % of 2 and of 3 squared residuals
BASELINE_M = 0.6  # of a virtual second camera: Kinect's 0.075 m, with disparities in eighths of a pixel


@numba.njit(cache=True, nogil=True)
def _bits(word: Any) -> Any:
    """How many bits of 64 are set."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@numba.njit(cache=True, nogil=True)
def match_near(
    place: Any,
    octave: Any,
    descriptor: Any,
    expected: Any,
    expected_octave: Any,
    wanted: Any,
    radius: float,
    most_bits: int,
    ratio: float,
) -> Any:
    """The feature (of N x 2, descriptors N x 4 uint64) that suits each expected place (M x 2; NaN = out of view) best.

    Octaves may differ by one. A feature goes to the landmark with fewer bits of difference. Returns (M,), -1 for none.
    """
    found = np.full(len(expected), -1, np.int64)
    taken = np.full(len(place), -1, np.int64)
    fewest = np.full(len(place), 257, np.int64)
    order = np.argsort(place[:, 1])
    rows = place[order, 1]
    for m in range(len(expected)):
        u, v = expected[m, 0], expected[m, 1]
        if not np.isfinite(u):
            continue
        reach = radius * 1.2 ** expected_octave[m]
        first, second, best = 257, 257, -1
        for k in range(np.searchsorted(rows, v - reach), len(rows)):
            i = order[k]
            if place[i, 1] > v + reach:
                break
            if abs(place[i, 0] - u) > reach or abs(octave[i] - expected_octave[m]) > 1:
                continue
            different = 0
            for word in range(4):
                different += _bits(descriptor[i, word] ^ wanted[m, word])
            if different < first:
                first, second, best = different, first, i
            elif different < second:
                second = different
        if best >= 0 and first <= most_bits and first <= ratio * second and first < fewest[best]:
            if taken[best] >= 0:
                found[taken[best]] = -1
            taken[best], fewest[best], found[m] = m, first, best
    return found


def refine(point: Any, place: Any, disparity: Any, sigma: Any, camera: Any, pose: Any) -> Any:
    """The pose (4 x 4, camera_from_world) that fits places (N x 2, pixels) and disparities (N, NaN = none) of points
    (N x 3), each with a sigma in pixels. Four rounds of at most 10 steps, Huber in all but the last; after each round
    residuals outside 95 % of their distribution sit out. Returns (pose, inlier mask N).
    """
    inside = np.ones(len(point), np.bool_)
    for turn in range(4):
        last = np.inf
        for _ in range(10):
            normal, side, cost = _linear(point, place, disparity, sigma, camera, pose, inside, turn < 3)
            step = -np.linalg.solve(normal + 1e-9 * (np.eye(6) + np.diag(np.diag(normal))), side)
            change = np.eye(4)
            change[:3, :3], change[:3, 3] = cv2.Rodrigues(step[3:])[0], step[:3]
            pose = change @ pose
            if step @ step < 1e-12 or abs(last - cost) < 1e-6 * cost:
                break
            last = cost
        inside = _agreeing(point, place, disparity, sigma, camera, pose)
        if np.count_nonzero(inside) < 6:
            break
    return pose, inside


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _linear(
    point: Any, place: Any, disparity: Any, sigma: Any, camera: Any, pose: Any, inside: Any, robust: bool
) -> Any:
    """Normal equations (6 x 6, 6) and the cost of the points of a mask."""
    normal, side, cost = np.zeros((6, 6)), np.zeros(6), 0.0
    r, j = np.zeros(3), np.zeros((3, 6))
    for i in range(len(point)):
        if not inside[i]:
            continue
        count = _residual(point[i], place[i], disparity[i], sigma[i], camera, pose, r, j)
        square = 0.0
        for k in range(count):
            square += r[k] * r[k]
        limit = _CHI_MONO if count == 2 else _CHI_DEPTH
        weight = np.sqrt(limit / square) if robust and square > limit else 1.0
        cost += weight * square
        for k in range(count):
            for a in range(6):
                side[a] += weight * j[k, a] * r[k]
                for b in range(6):
                    normal[a, b] += weight * j[k, a] * j[k, b]
    return normal, side, cost


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _agreeing(point: Any, place: Any, disparity: Any, sigma: Any, camera: Any, pose: Any) -> Any:
    inside = np.zeros(len(point), np.bool_)
    r, j = np.zeros(3), np.zeros((3, 6))
    for i in range(len(point)):
        count = _residual(point[i], place[i], disparity[i], sigma[i], camera, pose, r, j)
        square = 0.0
        for k in range(count):
            square += r[k] * r[k]
        inside[i] = count > 0 and square <= (_CHI_MONO if count == 2 else _CHI_DEPTH)
    return inside


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _residual(point: Any, place: Any, disparity: float, sigma: float, camera: Any, pose: Any, r: Any, j: Any) -> Any:
    """Fills r (3,) and j (3 x 6: shift, turn) in sigmas; returns how many: 0 behind the camera, 2 with no depth."""
    fx, fy, cx, cy = camera
    x = pose[0, 0] * point[0] + pose[0, 1] * point[1] + pose[0, 2] * point[2] + pose[0, 3]
    y = pose[1, 0] * point[0] + pose[1, 1] * point[1] + pose[1, 2] * point[2] + pose[1, 3]
    z = pose[2, 0] * point[0] + pose[2, 1] * point[1] + pose[2, 2] * point[2] + pose[2, 3]
    if z < 0.05:
        return 0
    i = 1.0 / (z * sigma)
    r[0] = (fx * x / z + cx - place[0]) / sigma
    r[1] = (fy * y / z + cy - place[1]) / sigma
    r[2] = (fx * BASELINE_M / z - disparity) / sigma
    for k in range(3):
        a = fx * i if k == 0 else 0.0
        b = fy * i if k == 1 else 0.0
        c = -fx * x * i / z if k == 0 else (-fy * y * i / z if k == 1 else -fx * BASELINE_M * i / z)
        j[k, 0], j[k, 1], j[k, 2] = a, b, c
        j[k, 3], j[k, 4], j[k, 5] = y * c - z * b, z * a - x * c, x * b - y * a
    return 3 if np.isfinite(r[2]) else 2
