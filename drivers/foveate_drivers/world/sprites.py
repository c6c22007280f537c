"""Pictures of vehicles and people from above, drawn from a random generator."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.scene import Pixels, Sprite

PX_PER_M = 40.0
_SUPERSAMPLE = 2
_PAINT = np.array(  # BGR, common body colours
    [[235, 236, 238], [40, 38, 36], [128, 126, 124], [176, 178, 180], [40, 36, 150], [120, 60, 30],
     [60, 90, 60], [200, 205, 215], [70, 120, 190], [90, 60, 90], [30, 160, 210], [85, 85, 95]],
    np.float64,
)  # fmt: skip


def _canvas(extent_m: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    side = int(extent_m * PX_PER_M * _SUPERSAMPLE)
    return np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8), PX_PER_M * _SUPERSAMPLE


def _finish(
    color: Pixels, body: Pixels, shadow_m: tuple[float, float], shadow: float, box: NDArray[np.float64]
) -> Sprite:
    """Shadow below, body above, down to the sprite's own resolution."""
    scale = PX_PER_M * _SUPERSAMPLE
    shift = np.array([[1, 0, shadow_m[0] * scale], [0, 1, shadow_m[1] * scale]], np.float64)
    cast = np.zeros_like(body)
    for part in np.linspace(0.0, 1.0, 10):
        step = shift.copy()
        step[:, 2] *= part
        cast = np.maximum(cast, cv2.warpAffine(body, step, body.shape[::-1]))
    dark = cv2.GaussianBlur(cast, (0, 0), 0.06 * scale).astype(np.float32) * (shadow / 255.0)
    solid = cv2.GaussianBlur(body, (0, 0), 0.9).astype(np.float32) / 255.0
    opacity = solid + dark * (1.0 - solid)
    ink = color.astype(np.float32) * solid[:, :, None]
    image = np.dstack([ink, opacity * 255.0])
    side = color.shape[0] // _SUPERSAMPLE
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = (float(v) for v in box)
    return Sprite(np.clip(image + 0.5, 0, 255).astype(np.uint8), PX_PER_M, (x0, y0, x1, y1))


def _oriented(points_m: NDArray[np.float64], heading_rad: float, side: int, scale: float) -> NDArray[np.int32]:
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    turned = points_m @ np.array([[cos, sin], [-sin, cos]])
    return np.round((turned * scale + (side - 1) / 2) * 16).astype(np.int32)


def _rounded(length: float, width: float, power: float = 6.0, x: float = 0.0) -> NDArray[np.float64]:
    """A superellipse: the outline of a car body or a hood."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = np.cos(t), np.sin(t)
    return np.column_stack(
        [x + np.sign(cos) * np.abs(cos) ** (2 / power) * length / 2,
         np.sign(sin) * np.abs(sin) ** (2 / power) * width / 2]
    )  # fmt: skip


def _box(points_m: NDArray[np.float64], heading_rad: float) -> NDArray[np.float64]:
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    turned = points_m @ np.array([[cos, sin], [-sin, cos]])
    return np.concatenate([turned.min(axis=0), turned.max(axis=0)])


def vehicle(rng: np.random.Generator, heading_rad: float, sun_m: tuple[float, float], shadow: float) -> Sprite:
    """A car, van, truck or bus of random size and paint, heading along +x turned by `heading_rad`."""
    kind = rng.choice(4, p=[0.72, 0.14, 0.08, 0.06])
    length = [rng.uniform(3.7, 4.9), rng.uniform(4.8, 6.2), rng.uniform(6.5, 8.5), rng.uniform(9, 12)][kind]
    width = [rng.uniform(1.65, 1.9), rng.uniform(1.9, 2.1), rng.uniform(2.2, 2.5), 2.5][kind]
    tall = [1.0, 1.5, 2.2, 2.4][kind]
    paint = _PAINT[rng.integers(len(_PAINT))] * rng.uniform(0.8, 1.1) + rng.normal(0, 6, 3)
    color, body, scale = _canvas(max(length, width) + 2.0 * tall * float(np.hypot(*sun_m)) + 1.0)
    side = color.shape[0]

    def fill(target: Pixels, outline: NDArray[np.float64], value: object) -> None:
        shape = _oriented(outline, heading_rad, side, scale)
        tone = tuple(float(v) for v in np.clip(np.atleast_1d(value), 0, 255))  # type: ignore[call-overload]
        cv2.fillPoly(target, [shape], tone, cv2.LINE_AA, 4)

    outline = _rounded(length, width, 7.0 if kind == 0 else 14.0)
    fill(body, outline, 255)
    fill(color, outline * 1.02, paint * 0.8)
    fill(color, _rounded(length * 0.985, width * 0.93, 7.0), paint)
    glass = np.array([50.0, 44, 40]) + rng.normal(0, 8)
    if kind == 0:
        middle = rng.uniform(-0.08, -0.02) * length
        fill(color, _rounded(length * 0.56, width * 0.86, 5.0, middle), glass)
        fill(color, _rounded(length * 0.34, width * 0.78, 5.0, middle), paint * rng.uniform(0.96, 1.08) + 6)
        fill(color, _rounded(length * 0.012, width * 0.8, 4.0, 0.36 * length), paint * 0.82)
    elif kind == 1:
        fill(color, _rounded(length * 0.1, width * 0.84, 4.0, 0.3 * length), glass)
        fill(color, _rounded(length * 0.02, width * 0.86, 4.0, -0.1 * length), paint * 0.88)
    elif kind == 2:
        load = rng.choice([paint, np.array([215.0, 215, 215]), np.array([70.0, 90, 100])])
        fill(color, _rounded(length * 0.7, width * 0.98, 20.0, -0.14 * length), load)
        fill(color, _rounded(length * 0.05, width * 0.84, 4.0, 0.36 * length), glass)
    else:
        fill(color, _rounded(length * 0.03, width * 0.9, 4.0, 0.47 * length), glass)
        for at in (-0.28, 0.0, 0.26):
            fill(color, _rounded(1.3, 1.0, 4.0, at * length), paint * rng.uniform(0.8, 0.95))
    return _finish(color, body, (sun_m[0] * tall, sun_m[1] * tall), shadow, _box(outline, heading_rad))


def person(rng: np.random.Generator, heading_rad: float, sun_m: tuple[float, float], shadow: float) -> Sprite:
    """A standing person: shoulders, head, arms, and a long shadow."""
    color, body, scale = _canvas(1.0 + 2.0 * 1.7 * float(np.hypot(*sun_m)) + 1.0)
    side = color.shape[0]
    coat = _PAINT[rng.integers(len(_PAINT))] * rng.uniform(0.45, 1.0)
    hair = rng.choice([[30, 35, 45], [50, 80, 120], [180, 190, 200], [25, 25, 28]])
    across, deep = rng.uniform(0.46, 0.6), rng.uniform(0.26, 0.36)
    shoulders = _rounded(deep, across, 2.6)

    def fill(target: Pixels, outline: NDArray[np.float64], value: object) -> None:
        tone = tuple(float(v) for v in np.clip(np.atleast_1d(value), 0, 255))  # type: ignore[call-overload]
        cv2.fillPoly(target, [_oriented(outline, heading_rad, side, scale)], tone, cv2.LINE_AA, 4)

    stride = rng.uniform(-0.14, 0.14)
    legs = [_rounded(0.26, 0.14, 3.0, s * stride) + [0.0, s * 0.1] for s in (-1, 1)]
    for leg in legs:
        fill(body, leg, 255)
        fill(color, leg, coat * 0.5)
    fill(body, shoulders, 255)
    fill(color, shoulders, coat)
    fill(color, _rounded(0.24, 0.2, 2.0, rng.uniform(0, 0.06)), hair)
    if rng.random() < 0.3:
        bag = _rounded(0.2, 0.24, 4.0, -0.2)
        fill(body, bag, 255)
        fill(color, bag, _PAINT[rng.integers(len(_PAINT))] * 0.7)
    outline = np.vstack([shoulders, *legs])
    return _finish(color, body, (sun_m[0] * 1.6, sun_m[1] * 1.6), shadow, _box(outline, heading_rad))
