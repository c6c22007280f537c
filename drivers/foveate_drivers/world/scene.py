"""A scene: a textured plane at a known range with objects on it, rendered through any homography."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Where every object is at one moment, on the scene's plane."""

    ids: NDArray[np.int64]  # N
    labels: NDArray[np.int32]  # N, index into Scene.names
    center_m: NDArray[np.float64]  # N x 2
    size_m: NDArray[np.float64]  # N x 2, of the upright box around the object


class Scene(Protocol):
    """What the simulated cameras look at."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names of the labels."""

    @property
    def width_m(self) -> float:
        """Of the plane."""

    @property
    def height_m(self) -> float:
        """Of the plane."""

    def truth(self, t_s: float) -> Truth:
        """Every object at `t_s` seconds."""

    def render(self, image_from_plane: Matrix, width: int, height: int, color: bool, t_s: float) -> Pixels:
        """An ideal image (height x width, or x 3 in BGR order) without noise or blur."""


def averaged(images: Iterable[Pixels]) -> Pixels:
    """The mean of at least one image, rounded."""
    total: NDArray[np.float32] | None = None
    count = 0
    for image in images:
        if total is None:
            total = np.zeros(image.shape, np.float32)
        cv2.accumulate(image, total)
        count += 1
    assert total is not None
    return cv2.convertScaleAbs(total, alpha=1.0 / count)  # type: ignore[return-value]


class Texture:
    """An image on the plane with its half-size levels, so that a distant view does not alias."""

    def __init__(self, image: Pixels, width_m: float, levels: int = 4) -> None:
        """Beyond its edges the plane is of the image's mean colour: nothing is there to be found."""
        self._beyond = tuple(float(v) for v in cv2.mean(image)[: 1 if image.ndim == 2 else 3])
        self.width_m = width_m
        self.height_m = width_m * image.shape[0] / image.shape[1]
        self.levels = [np.ascontiguousarray(image)]
        for _ in range(levels - 1):
            self.levels.append(cv2.pyrDown(self.levels[-1]))

    def render(self, image_from_plane: Matrix, width: int, height: int, out: Pixels | None = None) -> Pixels:
        """The texture seen through `image_from_plane` (metres to pixels), linear filtering."""
        scale = pixels_per_metre(image_from_plane, width, height)
        finest = self.levels[0].shape[1] / self.width_m
        level = int(np.clip(np.round(np.log2(max(finest / scale, 1e-6))), 0, len(self.levels) - 1))
        source = self.levels[level]
        px_per_m = source.shape[1] / self.width_m
        plane_from_texture = np.array(
            [
                [1.0 / px_per_m, 0.0, (0.5 / px_per_m) - self.width_m / 2],
                [0.0, 1.0 / px_per_m, (0.5 / px_per_m) - self.height_m / 2],
                [0.0, 0.0, 1.0],
            ]
        )
        return cv2.warpPerspective(  # type: ignore[call-overload,no-any-return]
            source,
            image_from_plane @ plane_from_texture,
            (width, height),
            dst=out,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self._beyond,
        )


def pixels_per_metre(image_from_plane: Matrix, width: int, height: int) -> float:
    """The local scale of a plane-to-image homography at the image's centre."""
    plane_from_image = np.linalg.inv(image_from_plane)
    points = plane_from_image @ np.array([[width / 2, width / 2 + 1.0], [height / 2, height / 2], [1.0, 1.0]])
    x, y = points[:2] / points[2]
    return float(1.0 / max(np.hypot(x[1] - x[0], y[1] - y[0]), 1e-9))


def visible_area(image_from_plane: Matrix, width: int, height: int) -> NDArray[np.float64]:
    """The upright rectangle (x0, y0, x1, y1), metres, around what the image sees of the plane."""
    corners = np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    points = np.linalg.inv(image_from_plane) @ corners
    points = points[:2] / points[2]
    return np.concatenate([points.min(axis=1), points.max(axis=1)])


class Sprite:
    """A small picture with opacity, upright in the plane's axes, centred on its object."""

    def __init__(self, image: Pixels, px_per_m: float, box_m: tuple[float, float, float, float]) -> None:
        """`image`: h x w x 4, B, G, R premultiplied by opacity, and opacity. `box_m`: x0, y0, x1, y1 of the
        object without its shadow, about the centre."""
        self.image = image
        self.px_per_m = px_per_m
        self.box_m = box_m
        self._levels: dict[tuple[int, bool], Pixels] = {}

    def _level(self, level: int, color: bool) -> Pixels:
        """The picture `level` times halved: B, G, R, opacity, or grey and opacity. Made once.

        Every 2^level-th pixel after a blur of 0.4 of their distance: sharper than a pyramid's, for a
        person is only a few pixels in the wide image.
        """
        key = (level, color)
        if key not in self._levels:
            if level > 0:
                step = 2**level
                smooth = cv2.GaussianBlur(self._level(0, color), (0, 0), 0.4 * step)
                self._levels[key] = np.ascontiguousarray(smooth[::step, ::step])
            elif color:
                self._levels[key] = self.image
            else:
                gray = cv2.cvtColor(self.image, cv2.COLOR_BGRA2GRAY)
                self._levels[key] = cv2.merge([gray, self.image[:, :, 3]])
        return self._levels[key]

    def draw(self, onto: Pixels, image_from_plane: Matrix, x_m: float, y_m: float) -> None:
        """Blend the sprite, its centre at (`x_m`, `y_m`), into `onto` in place."""
        height, width = self.image.shape[:2]
        scale = 1.0 / self.px_per_m
        left, top = x_m - (width - 1) / 2 * scale, y_m - (height - 1) / 2 * scale
        image_from_sprite = image_from_plane @ np.array([[scale, 0.0, left], [0.0, scale, top], [0.0, 0.0, 1.0]])
        corners = image_from_sprite @ _corners(width, height)
        corners = corners[:2] / corners[2]
        low, high = corners.min(axis=1), corners.max(axis=1)
        x0, y0 = max(int(np.floor(low[0])), 0), max(int(np.floor(low[1])), 0)
        x1, y1 = min(int(np.ceil(high[0])) + 1, onto.shape[1]), min(int(np.ceil(high[1])) + 1, onto.shape[0])
        if x1 <= x0 or y1 <= y0:
            return
        ratio = max(width, height) / max(float((high - low).max()), 1.0)
        level = min(max(int(np.log2(ratio) + 0.5), 0), 5) if ratio > 1 else 0
        image_from_level = image_from_sprite @ np.diag([2.0**level, 2.0**level, 1.0])
        image_from_level[0] -= x0 * image_from_level[2]
        image_from_level[1] -= y0 * image_from_level[2]
        size = (x1 - x0, y1 - y0)
        color = onto.ndim == 3
        warped = cv2.warpPerspective(self._level(level, color), image_from_level, size, flags=cv2.INTER_LINEAR)
        target = onto[y0:y1, x0:x1]
        rest = cv2.bitwise_not(warped[:, :, -1])
        if color:
            faded = cv2.multiply(target, cv2.merge([rest, rest, rest]), scale=1 / 255)
            cv2.add(faded, warped[:, :, :3], dst=target)
        else:
            cv2.add(cv2.multiply(target, rest, scale=1 / 255), warped[:, :, 0], dst=target)


@cache
def _corners(width: int, height: int) -> NDArray[np.float64]:
    """The corners of a picture and one pixel more, as columns."""
    return np.array([[-1, width, width, -1], [-1, -1, height, height], [1, 1, 1, 1]], np.float64)
