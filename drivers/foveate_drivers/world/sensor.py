"""What a sensor adds to an ideal image: vignetting, photon noise, read noise, quantisation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.scene import Pixels

_BANK_SIZE = 1 << 20


class Sensor:
    """An 8-bit sensor with `full_well_e` electrons at white and `read_noise_e` electrons of read noise.

    Photon noise is Poisson, taken as normal (exact to a fraction of a grey level above 20 electrons).
    """

    def __init__(
        self, width: int, height: int, *, full_well_e: float = 9000.0, read_noise_e: float = 8.0,
        vignetting: float = 0.25, seed: int = 0,
    ) -> None:  # fmt: skip
        """`vignetting`: the share of light lost in the corners, 0 to 1."""
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        radius2 = ((x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2) / (width**2 + height**2) * 4
        self._light = (1.0 - vignetting * radius2).astype(np.float32)
        electrons = np.arange(256) / 255.0 * full_well_e
        self._electrons = (full_well_e / 255.0, read_noise_e)
        self._sigma = (np.sqrt(electrons + read_noise_e**2) * 255.0 / full_well_e).astype(np.float32)
        rng = np.random.default_rng(seed)
        self._bank = rng.standard_normal(max(_BANK_SIZE, 2 * width * height), dtype=np.float32)
        self._seed = seed

    def expose(
        self, image: Pixels | NDArray[np.float32], frame_index: int, light: float = 1.0, gain: float = 1.0
    ) -> Pixels:
        """`image` as the sensor gives it; the noise depends on the seed and `frame_index` alone.

        `light`: electrons gathered, relative to the nominal exposure; `gain` multiplies them and their noise. Grey
        levels as float32 (H x W) may be beyond 255: the sensor saturates where gain or exposure leave them so.
        """
        if image.dtype == np.float32:
            from foveate_drivers.world.developing import developed

            noise = self._noise(image.shape, 3 * frame_index)
            return developed(image, self._light, noise, light, gain, *self._electrons)  # type: ignore[no-any-return]
        planes: list[Pixels] = [image] if image.ndim == 2 else list(cv2.split(image))  # type: ignore[list-item]
        out = [self._plane(plane, 3 * frame_index + i, light, gain) for i, plane in enumerate(planes)]
        return out[0] if len(out) == 1 else cv2.merge(out)

    def _plane(self, plane: Pixels, index: int, light: float, gain: float) -> Pixels:
        lit = cv2.multiply(plane, self._light, scale=light, dtype=cv2.CV_8U)
        noise = cv2.multiply(cv2.LUT(lit, self._sigma), self._noise(plane.shape, index))
        if gain != 1.0:
            return cv2.addWeighted(lit, gain, noise, gain, 0.0, dtype=cv2.CV_8U)  # type: ignore[no-any-return]
        return cv2.add(lit, noise, dtype=cv2.CV_8U)  # type: ignore[no-any-return]

    def _noise(self, shape: tuple[int, ...], index: int) -> NDArray[np.float32]:
        """A stretch of the noise bank, its place and sign set by a hash of the frame's index."""
        count = shape[0] * shape[1]
        mixed = ((index + 1) * 0x9E3779B97F4A7C15 + self._seed * 0xD1B54A32D192ED03) & ((1 << 64) - 1)
        mixed ^= mixed >> 31
        start = mixed % (len(self._bank) - count)
        return self._bank[start : start + count].reshape(shape)
