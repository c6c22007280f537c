"""Pictures of clouds: points as small squares in a depth buffer, seen along parallel rays, lit from the viewer."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
_PAPER = 255
_EDGE_PX = 12
_LEAST_LIGHT = 0.35  # of what faces away from the viewer


@dataclass(frozen=True, slots=True, eq=False)
class Viewpoint:
    """Where a picture is taken from; all unit vectors (3,), at right angles."""

    right: Array
    up: Array
    toward: Array  # from the scene to the viewer


def viewpoint(toward: Array, up: Array, turn_rad: float = 0.0, rise_rad: float = 0.0) -> Viewpoint:
    """From the direction `toward`, turned about `up` and raised toward it."""
    up = up / np.linalg.norm(up)
    flat = toward - (toward @ up) * up
    if np.linalg.norm(flat) < 1e-6:
        flat = np.array([0.0, 0.0, -1.0]) - up * -up[2]
    flat /= np.linalg.norm(flat)
    side = np.cross(up, flat)
    beside = float(np.linalg.norm(toward - (toward @ up) * up))
    height = float(np.clip(np.arctan2(toward @ up, beside) + rise_rad, -1.5, 1.5))
    away = np.cos(turn_rad) * flat + np.sin(turn_rad) * side
    toward = np.cos(height) * away + np.sin(height) * up
    right = np.cross(up, toward)
    right /= np.linalg.norm(right)
    return Viewpoint(right, np.cross(toward, right), toward)


def color_of(value: Array, low: float, high: float) -> Image:
    """Colours (N x 3, BGR) of values between two limits, blue to red by way of green."""
    share = np.clip((value - low) / max(high - low, 1e-12), 0, 1)
    return np.reshape(cv2.applyColorMap((share * 255).astype(np.uint8).reshape(-1, 1), cv2.COLORMAP_TURBO), (-1, 3))


def picture(
    points: Array, normal: Array, color: Image, view: Viewpoint, spacing_m: float, width: int = 640, height: int = 480
) -> Image:
    """An image (H x W x 3, BGR) of points (N x 3) with normals and colours; squares are `spacing_m` wide."""
    image = np.full((height, width, 3), _PAPER, np.uint8)
    if not len(points):
        return image
    axes = np.stack([view.right, -view.up, view.toward])
    seen = points @ axes.T
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    room = np.array([width, height]) - 2 * _EDGE_PX
    px_per_m = float((room / np.maximum(high - low, 1e-9)).min())
    middle = (low + high) / 2
    place = np.rint((seen[:, :2] - middle) * px_per_m + np.array([width, height]) / 2).astype(np.int64)
    half = int(np.clip(np.ceil(spacing_m * px_per_m * 0.6), 1, 12)) // 2 + 1
    light = _LEAST_LIGHT + (1 - _LEAST_LIGHT) * np.clip(normal @ view.toward, 0, 1)
    shaded = (color * light[:, None]).astype(np.uint8)
    depth = np.full(height * width, -np.inf)
    flat = image.reshape(-1, 3)
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            x, y = place[:, 0] + dx, place[:, 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            at, near = (y * width + x)[inside], seen[inside, 2]
            order = np.argsort(near, kind="stable")  # where several fall on one pixel the last, nearest, stays
            at, near, shade = at[order], near[order], shaded[inside][order]
            front = near > depth[at]
            depth[at[front]] = near[front]
            flat[at[front]] = shade[front]
    return image


def png(image: Image) -> bytes:
    """The image as a PNG file."""
    return bytes(np.ravel(cv2.imencode(".png", image)[1]).tobytes())


def scale_bar(low: float, high: float, unit: str) -> str:
    """The colours of `color_of` as HTML, with their limits."""
    stops = ",".join(
        f"rgb({r},{g},{b}) {k * 10}%" for k, (b, g, r) in enumerate(color_of(np.linspace(0, 1, 11), 0, 1).tolist())
    )
    marks = "".join(f"<span>{value:.3g}</span>" for value in np.linspace(low, high, 5))
    return f'<div class="scale"><div style="background:linear-gradient(90deg,{stops})"></div><p>{marks}</p>{unit}</div>'
