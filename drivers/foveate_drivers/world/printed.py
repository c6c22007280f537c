"""A printed board under even light, seen by a camera with any lens, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba


@numba.njit(cache=True, nogil=True, error_model="numpy")
def printed_light(normalised: Any, to_texture: Any, texture: Any, levels: Any, out: Any) -> None:
    """Grey levels (H x W, float32) of `texture` (uint8) through a homography from where each pixel looks (H x W x 2).

    `levels`: of black, by grey level of the texture, and of what is beyond its edges.
    """
    height, width = out.shape
    tall, wide = texture.shape
    h = to_texture
    for y in range(height):
        for x in range(width):
            u, v = normalised[y, x, 0], normalised[y, x, 1]
            inverse = 1.0 / (h[2, 0] * u + h[2, 1] * v + h[2, 2])
            a = (h[0, 0] * u + h[0, 1] * v + h[0, 2]) * inverse
            b = (h[1, 0] * u + h[1, 1] * v + h[1, 2]) * inverse
            if not (-0.5 <= a <= wide - 0.5 and -0.5 <= b <= tall - 0.5):
                out[y, x] = levels[2]
                continue
            a, b = min(max(a, 0.0), wide - 1.001), min(max(b, 0.0), tall - 1.001)
            i, j = int(a), int(b)
            s, t = a - i, b - j
            top = (1.0 - s) * texture[j, i] + s * texture[j, i + 1]
            bottom = (1.0 - s) * texture[j + 1, i] + s * texture[j + 1, i + 1]
            out[y, x] = levels[0] + levels[1] * (top + t * (bottom - top))
