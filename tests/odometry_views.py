"""RGB-D views of a textured box room with exact poses, drawn with numpy and OpenCV: nothing is compiled."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from foveate_calibration.rigid import rotation_from, transform

Array = np.ndarray
WIDTH, HEIGHT, FOCAL_PX = 320, 240, 262.0
MATRIX = np.array([[FOCAL_PX, 0, 159.5], [0, FOCAL_PX, 119.5], [0, 0, 1.0]])
_WALLS = ((0, -1.7), (0, 1.9), (1, -1.2), (1, 1.1), (2, -2.0), (2, 2.6))  # axis and place (metres)
_BOXES = (((-0.7, 0.1, 1.5), (-0.1, 1.1, 2.1)), ((0.4, -0.3, 1.8), (1.0, 1.1, 2.3)))  # lowest and highest corner
_PIXEL_M = 0.004  # of a texture
_FINER = 2  # samples a pixel and axis
_FINEST = 1000  # pixels of a texture's side: it repeats


def posed(*numbers: float) -> Array:
    """4 x 4 of a turn (rad) and a shift (m): six numbers."""
    return transform(rotation_from(np.array(numbers[:3])), np.array(numbers[3:], np.float64))


def _texture(seed: int) -> Array:
    """H x W, 20 to 235: patches, lines and soft noise."""
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.uniform(0, 1, (8, 8)), (_FINEST, _FINEST), interpolation=cv2.INTER_CUBIC)
    patches = np.zeros((_FINEST, _FINEST))
    for _ in range(120):
        x, y = random.integers(0, _FINEST, 2).tolist()
        w, h = random.integers(15, 120, 2).tolist()
        cv2.rectangle(patches, (x, y), (x + w, y + h), random.uniform(-0.5, 0.5), -1)
    return np.asarray(cv2.GaussianBlur(np.clip(70 + 80 * coarse + 120 * patches, 20, 235), (0, 0), 1.2), np.float32)


class BoxRoom:
    """Six walls and two boxes, each side with a texture of its own; the camera starts at the origin, along z."""

    def __init__(self, seed: int = 1) -> None:
        self._texture = [_texture(1000 * seed + k) for k in range(len(_WALLS) + 3 * len(_BOXES))]

    def seen(self, world_from_camera: Array, matrix: Array = MATRIX, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Any:
        """Image (H x W, uint8) and depth (H x W, float32, metres) without noise. `size`: width, height."""
        fine = (np.mgrid[: size[1] * _FINER, : size[0] * _FINER] + 0.5) / _FINER - 0.5
        light, _ = self._traced(fine, world_from_camera, matrix)
        gray = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        _, depth = self._traced(np.mgrid[: size[1], : size[0]].astype(np.float64), world_from_camera, matrix)
        return np.rint(gray).astype(np.uint8), depth.astype(np.float32)

    def _traced(self, pixel: Array, pose: Array, matrix: Array) -> tuple[Array, Array]:
        rows, columns = pixel
        rays = np.stack([(columns - matrix[0, 2]) / matrix[0, 0], (rows - matrix[1, 2]) / matrix[1, 1],
                         np.ones_like(rows)])  # fmt: skip
        way = np.einsum("ij,jhw->ihw", pose[:3, :3], rays)
        eye = pose[:3, 3]
        depth, light = np.full(rows.shape, np.inf), np.zeros(rows.shape, np.float32)
        with np.errstate(divide="ignore"):
            inverse = 1.0 / way
        for k, (axis, place) in enumerate(_WALLS):
            distance = (place - eye[axis]) * inverse[axis]
            self._paint(k, axis, (distance > 0) & (distance < depth), distance, eye, way, depth, light)
        for b, (low, high) in enumerate(_BOXES):
            ends = np.stack([np.stack([(low[a] - eye[a]) * inverse[a], (high[a] - eye[a]) * inverse[a]])
                             for a in range(3)])  # fmt: skip
            entry = ends.min(axis=1)
            first, last = entry.max(axis=0), ends.max(axis=1).min(axis=0)
            for axis in range(3):
                hit = (first > 0) & (first < last) & (entry[axis] == first) & (first < depth)
                self._paint(len(_WALLS) + 3 * b + axis, axis, hit, first, eye, way, depth, light)
        return light, depth

    def _paint(
        self, side: int, axis: int, hit: Array, distance: Array, eye: Array, way: Array, depth: Array, light: Array
    ) -> None:
        if not hit.any():
            return
        one, other = [a for a in range(3) if a != axis]
        reached = np.where(hit, distance, 1.0)
        at = [((eye[a] + reached * way[a] + 2.0) / _PIXEL_M).astype(np.float32) for a in (one, other)]
        color = cv2.remap(self._texture[side], at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        depth[hit], light[hit] = distance[hit], color[hit]


def wall(texture: Array, world_from_camera: Array, seed: int = 0) -> tuple[Array, Array]:
    """Image (240 x 320, uint8, noise of 2) and depth (float32, metres) of a wall at z = 2 m, painted with `texture`
    (square, 4 mm a pixel, its middle at the origin) and bare beyond it."""
    rows, columns = (np.mgrid[: HEIGHT * _FINER, : WIDTH * _FINER] + 0.5) / _FINER - 0.5
    rays = np.stack([(columns - MATRIX[0, 2]) / FOCAL_PX, (rows - MATRIX[1, 2]) / FOCAL_PX, np.ones_like(rows)])
    way = np.einsum("ij,jhw->ihw", world_from_camera[:3, :3], rays)
    depth = (2.0 - world_from_camera[2, 3]) / way[2]
    place = (world_from_camera[:2, 3, None, None] + depth * way[:2]) / _PIXEL_M + len(texture) / 2
    fine = cv2.remap(texture, *place.astype(np.float32), cv2.INTER_LINEAR)
    light = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    noisy = light + np.random.default_rng(seed).normal(0, 2.0, light.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), depth[::_FINER, ::_FINER].astype(np.float32)


def walk(count: int, size: float = 1.0) -> list[Array]:
    """Poses (world_from_camera) of a smooth way that begins at rest at the origin; 6 mm and 0.5 degrees a frame."""
    made = []
    for k in range(count):
        s = size * (k * k / 16 if k < 8 else k - 4) / 30
        made.append(posed(0.12 * np.sin(s), 0.2 * np.sin(1.3 * s), 0.08 * np.sin(0.9 * s),
                          0.15 * np.sin(s), -0.05 * np.sin(1.7 * s), 0.12 * np.sin(0.8 * s)))  # fmt: skip
    return made


def off(found: Array, true: Array) -> tuple[float, float]:
    """By how much one pose misses another: metres and radians."""
    between = np.linalg.inv(true) @ found
    turn = float(np.linalg.norm(cv2.Rodrigues(between[:3, :3])[0]))
    return float(np.linalg.norm(between[:3, 3])), turn
