"""What is wrong with a simulated mirror: its true shape against the drawing, and angles that no readback tells."""

from __future__ import annotations

import math

import numpy as np

from foveate_calibration.galvanometer import Galvanometer
from foveate_drivers.mirrors.base import Angles

# standard deviations, with misalignment 1, of a step of foveate_calibration.galvanometer.PARAMETERS
_MADE = np.array([3e-3, 3e-3, 0.5e-3, 0.5e-3, 1e-3, 0.3e-3, 5e-3, 0.02, 2e-3])
_RIPPLE_RAD = 0.02  # period of what a shaft's encoder leaves
_DRIFT_PERIODS = np.array([1.0, 1.7, 2.9, 4.6])  # of the waves a drift is made of, in time constants


class Imperfections:
    """Of all axes of one mirror, from a seed; functions of time and angle alone."""

    def __init__(
        self, drawn: tuple[Galvanometer, ...], seed: int, *, misalignment: float, jitter: float, drift: float,
        drift_s: float, ripple: float,
    ) -> None:  # fmt: skip
        """`jitter`, `drift`, `ripple` in radians, as SimMirror explains them."""
        axes = len(drawn)
        self.mirrors = drawn  # how the light really goes
        if misalignment:
            rng = np.random.default_rng((seed, 59))
            self.mirrors = tuple(mirror.stepped(misalignment * rng.normal(0, _MADE)) for mirror in drawn)
        self._seed, self._jitter, self._drift, self._ripple = seed, jitter, drift, ripple
        rng = np.random.default_rng((seed, 61))
        self._drift_speed = 2 * math.pi / (drift_s * _DRIFT_PERIODS)
        self._drift_phase = rng.uniform(0, 2 * math.pi, (axes, len(_DRIFT_PERIODS)))
        self._ripple_phase = rng.uniform(0, 2 * math.pi, axes)

    def jitter(self, middle_ns: int) -> Angles:
        """How far from rest the shafts stand in the exposure around a moment."""
        if not self._jitter:
            return np.zeros(len(self.mirrors))
        return np.random.default_rng((self._seed, middle_ns, 67)).normal(0, self._jitter, len(self.mirrors))

    def unseen(self, angle_rad: Angles, t_s: float) -> Angles:
        """What the light has beside the shafts' angles: drift and ripple."""
        drift = self._drift * np.sin(self._drift_speed * t_s + self._drift_phase).mean(axis=1)
        return drift + self._ripple * np.sin(2 * math.pi * angle_rad / _RIPPLE_RAD + self._ripple_phase)
