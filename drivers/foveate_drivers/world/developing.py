"""Light to grey levels with photon and read noise in one pass, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def developed(image: Any, falloff: Any, noise: Any, scale: float, gain: float, per_level: float, read: float) -> Any:
    """8-bit picture (H x W) of grey levels (float32); `per_level`: electrons of one, `read`: noise in electrons."""
    out = np.empty(image.shape, np.uint8)
    flat, light, drawn, made = image.ravel(), falloff.ravel(), noise.ravel(), out.ravel()
    a, b = np.float32(1.0 / per_level), np.float32((read / per_level) ** 2)
    for i in range(flat.size):
        lit = min(max(flat[i] * light[i] * np.float32(scale), np.float32(0.0)), np.float32(255.0))
        value = (lit + drawn[i] * np.sqrt(lit * a + b)) * np.float32(gain) + np.float32(0.5)
        made[i] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)))
    return out
