"""How far noise and speckle move the centre of a stripe, by first-order propagation through the detector.

The stripe is a Gaussian of deviation `line_px` across and endless along; the detector divides the first derivative by
the second, both of the image smoothed by a Gaussian of deviation `sigma_px`. Closed forms of Gaussian integrals, so
that a point costs nothing; tests hold them against simulated stripes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LAGS = 16  # rows over which speckle may be alike: grains up to about 12 px
_AROUND = 20  # rows either side whose light a row's is compared with: the detector's own smoothing follows large grains


def peak_per_response(line_px: float, sigma_px: float) -> float:
    """Grey levels at the peak of a stripe by the second derivative across it."""
    return (line_px**2 + sigma_px**2) ** 1.5 / line_px


def level_per_peak(line_px: float, sigma_px: float) -> float:
    """What smoothing leaves of the peak."""
    return line_px / math.hypot(line_px, sigma_px)


def of_sensor(
    response: Array, peak: Array, background: Array, line_px: float, sigma_px: float, read_levels: float,
    electrons: float,
) -> Array:  # fmt: skip
    """Deviation (N, px) that read noise (grey levels) and shot noise (`electrons` a grey level) give the centre.

    White noise v a pixel gives the first derivative the variance v / (8 pi sigma^4). The light that counts for shot
    noise is that where the derivative weighs most, beside the ridge.
    """
    alike = (1 / sigma_px**2 + 1 / (2 * line_px**2)) ** -0.5
    light = np.maximum(background + peak * (alike / sigma_px) ** 3, 0.0)
    variance = read_levels**2 + 1 / 12 + light / electrons
    return np.sqrt(variance / (8 * math.pi)) / (sigma_px**2 * response)


def of_speckle(contrast: float, grain_px: float, line_px: float, sigma_px: float) -> float:
    """Deviation (px) by speckle that multiplies the light: contrast (std / mean), correlated as a Gaussian.

    `grain_px` is the full width at half maximum of the correlation of intensities; speckle that is new in each pixel
    has 0.94, whose area is that of a pixel.
    """
    if contrast <= 0:
        return 0.0
    t = grain_px / 2.3548
    inside = 1 / sigma_px**2 + 1 / line_px**2
    along = t / math.sqrt(t**2 + 2 * sigma_px**2)
    across = 1 / (sigma_px**6 * t**2 * (inside**2 + 2 * inside / t**2) ** 1.5)
    return contrast * math.sqrt(along * across) * peak_per_response(line_px, sigma_px)


def speckle_of(row: NDArray[np.integer], ridge: Array, peak: Array, sensor_levels: Array) -> tuple[float, float] | None:
    """(contrast, grain in px) of the light along a stripe; (0, 1) where noise explains what varies, None: too few rows.

    `ridge` (N): grey levels above the background of the pixel on the ridge in `row`, `peak`: the same smoothed,
    `sensor_levels`: deviation that the sensor alone gives.
    """
    if row.size < 2 * _LAGS:
        return None
    total = np.concatenate([[0.0], np.cumsum(peak)])
    index = np.arange(row.size)
    low, high = np.maximum(index - _AROUND, 0), np.minimum(index + _AROUND + 1, row.size)
    around = (total[high] - total[low]) / (high - low)
    above, below = (total[index + 1] - total[low]) / (index + 1 - low), (total[high] - total[index]) / (high - index)
    even = np.abs(np.log(above / below)) < 0.3  # no edge of what is lit, as on a board, within these rows
    off = ridge / around - 1
    spread = 1.4826 * np.median(np.abs(off - np.median(off)))
    kept = (np.abs(off - np.median(off)) < max(6 * spread, 1e-6)) & even
    if kept.sum() < 2 * _LAGS:
        return None
    off -= off[kept].mean()
    sensor = float(np.mean((sensor_levels[kept] / around[kept]) ** 2))
    variance = float(np.mean(off[kept] ** 2)) - sensor
    if variance <= max(3 * sensor * math.sqrt(2 / kept.sum()), 1e-6):  # three deviations of what noise alone gives
        return 0.0, 1.0
    line = np.full(int(row[-1] - row[0]) + 1, np.nan)
    line[row[kept] - row[0]] = off[kept]
    alike = 0.0
    for lag in range(1, min(_LAGS, line.size // 2)):
        product = line[lag:] * line[:-lag]
        share = float(np.nanmean(product)) / variance if np.isfinite(product).any() else 0.0
        if share < 0.05:
            break
        alike += min(share, 1.0)
    grain = 2.3548 * (1 + 2 * alike) / math.sqrt(2 * math.pi)
    return math.sqrt(variance), grain
