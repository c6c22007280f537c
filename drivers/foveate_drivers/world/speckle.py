"""Laser speckle: the grain that coherent light has on a rough surface, as a field to look up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ACROSS, ALONG = 256, 4096  # powers of two: the field repeats, and is looked up by their masks
PER_GRAIN = 4


def field(contrast: float, seed: int) -> NDArray[np.float32]:
    """Relative light (ALONG x ACROSS), mean 1, standard deviation `contrast`, PER_GRAIN samples a grain.

    A sum of independent patterns, each the square of a random wave through a round aperture (Goodman, "Speckle
    Phenomena in Optics", 2007, chapter 3): M equal ones give a gamma distribution of contrast 1 / sqrt(M). A grain is
    the width at half height of the light's autocorrelation, 1.03 / D for an aperture D (cycles a sample) wide.
    """
    if contrast <= 0:
        return np.ones((ALONG, ACROSS), np.float32)
    rng = np.random.default_rng((seed, 31))
    y, x = np.fft.fftfreq(ALONG)[:, None], np.fft.fftfreq(ACROSS)[None, :]
    aperture = np.hypot(x, y) < 1.03 / PER_GRAIN / 2
    total = np.zeros((ALONG, ACROSS), np.float32)
    for weight in _weights(contrast):
        spectrum = np.zeros((ALONG, ACROSS), np.complex64)
        count = int(aperture.sum())
        spectrum[aperture] = rng.standard_normal((count, 2), dtype=np.float32).view(np.complex64).ravel()
        light = np.abs(np.fft.ifft2(spectrum)) ** 2
        total += np.float32(weight) * (light / light.mean()).astype(np.float32)
    return total


def _weights(contrast: float) -> NDArray[np.float64]:
    """Shares (sum 1) of patterns of contrast 1 whose sum has `contrast` (at most 1): all equal but the last."""
    looks = math.ceil(1 / contrast**2 - 1e-9)
    if looks == 1:
        return np.ones(1)
    wanted = contrast**2
    # (n - 1) a^2 + b^2 = C^2 with (n - 1) a + b = 1
    n = looks - 1
    a = (1 + math.sqrt(max(1 - (1 - wanted) * (n + 1) / n, 0.0))) / (n + 1)
    return np.append(np.full(n, a), 1 - n * a)
