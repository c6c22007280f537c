"""Steger's detector and the centre of gravity, with what they know of their errors. Needs numba."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.stripes import centroid, steger
from foveate_calibration.stripes import gate as gates
from foveate_calibration.stripes import noise as noises
from foveate_calibration.stripes.points import CLIPPED_FROM, Array, Light, Points

_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))  # of a Gaussian, in deviations
_CANDIDATES = 4  # a row
_LEAST_PX = 0.003  # no point is better: what sampling and 8 bits leave of a stripe without noise
# Part of the contrast that the gate asks for: a stripe as wide as expected has 0.7 of its peak, less with speckle.
_GATE = 0.35

# A short stripe does not show its speckle, nor do clipped rows. Where there are too few rows, or more than this share
# is clipped, it is taken to be (at least) this: twice what a fair scanner has, so errors come out rather too large.
_MOST_CLIPPED, _UNKNOWN_CONTRAST, _UNKNOWN_GRAIN_PX = 0.05, 0.5, 2.0
_GRAVITY = 1.3  # what the threshold, which follows the highest grain, adds to speckle's part: measured, 1.2 to 1.5


class Gate:
    """Where stripes `width_px` wide (half maximum) and `threshold` grey levels high may be."""

    def __init__(self, width_px: float, threshold: float) -> None:
        self.half = max(round(width_px / 2), 1)
        self.begin = max(round(width_px), 2)
        self.flank = max(round(width_px), 3)
        self.least = _GATE * threshold

    def columns(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        """H x K, -1 = no more."""
        found = np.empty((image.shape[0], _CANDIDATES), np.int32)
        gates.candidates(image, self.half, self.begin, self.flank, self.least, found)
        return found


class Steger:
    """Lines by the second derivative; `gate` False looks at every pixel, at some 25 times the cost."""

    def __init__(self, width_px: float, sigma_px: float, threshold: float, gate: bool, light: Light) -> None:
        self._gate = Gate(width_px, threshold) if gate else None
        self._line_px, self._sigma_px = width_px / _FWHM, sigma_px
        self._half = max(math.ceil(0.75 * width_px), 3)
        self._window = math.ceil(width_px / 2)
        self._weights = steger.taps(sigma_px)
        self._scale = noises.peak_per_response(self._line_px, sigma_px)
        self._least = threshold / self._scale
        self._light = light

    def find(self, image: NDArray[np.uint8]) -> Points:
        """The stripe of an image (H x W)."""
        height = image.shape[0]
        columns = self._gate.columns(image) if self._gate else np.empty((height, 0), np.int32)
        out = np.empty((height, 9))
        steger.lines(image, columns, self._weights, self._half, self._window, self._least, out)
        row = np.flatnonzero(out[:, steger.RESPONSE] > 0)
        found = out[row]
        response = found[:, steger.RESPONSE]
        peak = response * self._scale
        aside = (np.rint(found[:, steger.X]) - found[:, steger.X]) / self._line_px  # the pixel beside the ridge
        background = found[:, steger.LEVEL] - peak * noises.level_per_peak(self._line_px, self._sigma_px)
        ridge = background + (found[:, steger.RIDGE] - background) * np.exp(0.5 * aside**2)
        saturated = found[:, steger.CLIPPED] >= CLIPPED_FROM
        return Points(
            row, found[:, [steger.X, steger.Y]], found[:, [steger.NORMAL_X, steger.NORMAL_Y]],
            self._deviation(row, response, peak, background, ridge, saturated), peak,
            found[:, steger.SECOND] / response, saturated,
        )  # fmt: skip

    def _deviation(
        self, row: NDArray[np.int64], response: Array, peak: Array, background: Array, ridge: Array,
        saturated: NDArray[np.bool_],
    ) -> Array:  # fmt: skip
        light, line, sigma = self._light, self._line_px, self._sigma_px
        noise = noises.of_sensor(response, peak, background, line, sigma, light.read_levels, light.electrons)
        contrast, grain = speckle_of(light, row, ridge, background, peak, saturated)
        speckle = noises.of_speckle(contrast, grain, line, sigma)
        return np.sqrt(noise**2 + speckle**2 + _LEAST_PX**2)


class Centroid:
    """Centres of gravity of what is above a fifth of the peak."""

    SHARE = 0.2

    def __init__(self, width_px: float, threshold: float, light: Light) -> None:
        self._gate = Gate(width_px, threshold)
        self._reach, self._window = max(math.ceil(1.25 * width_px), 3), math.ceil(width_px / 2)
        self._threshold = threshold
        self._light = light

    def find(self, image: NDArray[np.uint8]) -> Points:
        """The stripe of an image (H x W)."""
        out = np.empty((image.shape[0], 9))
        centroid.centers(
            image, self._gate.columns(image), self._reach, self._window, self.SHARE, self._threshold, out
        )  # fmt: skip
        row = np.flatnonzero(out[:, centroid.PEAK] > 0)
        found = out[row]
        peak, background = found[:, centroid.PEAK], found[:, centroid.BACKGROUND]
        saturated = found[:, centroid.CLIPPED] >= CLIPPED_FROM
        light = self._light
        contrast, grain = speckle_of(light, row, found[:, centroid.RIDGE], background, peak, saturated)
        alike_px = grain / _FWHM * math.sqrt(2 * math.pi)
        variance = (
            found[:, centroid.BY_NOISE] * (light.read_levels**2 + 1 / 12)
            + found[:, centroid.BY_LIGHT] / light.electrons
            + found[:, centroid.BY_SPECKLE] * (_GRAVITY * contrast) ** 2 * alike_px
        )
        normal = np.zeros((row.size, 2))
        normal[:, 0] = 1.0  # a row knows nothing of the rows beside it: its error is along itself
        point = np.column_stack([found[:, centroid.X], row.astype(np.float64)])
        deviation = np.sqrt(variance + _LEAST_PX**2)
        return Points(row, point, normal, deviation, peak, found[:, centroid.SECOND] / peak, saturated)


def speckle_of(
    light: Light, row: NDArray[np.int64], ridge: Array, background: Array, peak: Array, saturated: NDArray[np.bool_]
) -> tuple[float, float]:
    """(contrast, grain in px) as they are known, else as the rows that are not clipped show them."""
    if light.contrast is not None and light.grain_px is not None:
        return light.contrast, light.grain_px
    clear = ~saturated
    sensor = np.sqrt(light.read_levels**2 + 1 / 12 + np.maximum(ridge, 0.0) / light.electrons)
    told = noises.speckle_of(row[clear], (ridge - background)[clear], peak[clear], sensor[clear])
    contrast, grain = told or (_UNKNOWN_CONTRAST, _UNKNOWN_GRAIN_PX)
    if saturated.size and saturated.mean() > _MOST_CLIPPED:  # the rows that are left are the dim ones
        contrast, grain = max(contrast, _UNKNOWN_CONTRAST), max(grain, _UNKNOWN_GRAIN_PX)
    return (
        contrast if light.contrast is None else light.contrast,
        grain if light.grain_px is None else light.grain_px,
    )
