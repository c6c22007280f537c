"""How a galvanometer axis moves: a reference limited in acceleration and velocity, then a second-order lag.

Both parts are solved in closed form, segment by segment, so that the position at any moment costs a
few operations and no simulation step: in a segment the reference is a parabola, and the response of
w^2 / (s^2 + 2 z w s + w^2) to it is a parabola plus a damped oscillation.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AxisLimits:
    """One axis, mechanical radians."""

    natural_hz: float
    damping: float
    velocity_rad_s: float
    acceleration_rad_s2: float


# Classes of scanner by mirror size. Velocity and acceleration of the smallest are the bounds of a
# common 5 mm galvanometer's driver; the others are scaled to the settling times of their class.
CLASSES = {
    "galvo5": AxisLimits(2500.0, 0.8, math.radians(19_635), math.radians(3.08e7)),
    "galvo10": AxisLimits(1600.0, 0.8, math.radians(10_210), math.radians(8.3e6)),
    "saccade30": AxisLimits(700.0, 0.8, math.radians(8_600), math.radians(4.9e6)),
    "voicecoil15": AxisLimits(300.0, 0.8, math.radians(1_500), math.radians(6e5)),
}


@dataclass(frozen=True, slots=True)
class _Segment:
    """The reference r(s) = a + b s + c s^2 and the response's state where the segment begins."""

    start_s: float
    a: float
    b: float
    c: float
    y: float
    v: float


class Axis:
    """One axis through time: commands at moments that do not run backwards, positions at any past moment."""

    def __init__(self, limits: AxisLimits, keep_s: float = 2.0) -> None:
        self.limits = limits
        self._keep_s = keep_s
        self._starts = [-math.inf]
        self._segments = [_Segment(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)]

    def command(self, target_rad: float, t_s: float) -> None:
        """From `t_s` on, go to `target_rad` as fast as the limits allow; replaces what was planned later."""
        cut = bisect.bisect_right(self._starts, t_s)
        del self._starts[cut:], self._segments[cut:]
        reference, speed = self._reference(t_s)
        y, v = self.state(t_s)
        for duration, acceleration in profile(target_rad - reference, speed, self.limits):
            segment = _Segment(t_s, reference, speed, acceleration / 2, y, v)
            self._append(segment)
            y, v = self._respond(segment, duration)
            reference += speed * duration + acceleration / 2 * duration**2
            speed += acceleration * duration
            t_s += duration
        self._append(_Segment(t_s, target_rad, 0.0, 0.0, y, v))
        self._forget(t_s - self._keep_s)

    def _append(self, segment: _Segment) -> None:
        self._starts.append(segment.start_s)
        self._segments.append(segment)

    def _forget(self, before_s: float) -> None:
        keep = max(bisect.bisect_right(self._starts, before_s) - 1, 0)
        if keep > 64:
            del self._starts[:keep], self._segments[:keep]

    def _at(self, t_s: float) -> tuple[_Segment, float]:
        segment = self._segments[max(bisect.bisect_right(self._starts, t_s) - 1, 0)]
        return segment, max(t_s - segment.start_s, 0.0)

    def _reference(self, t_s: float) -> tuple[float, float]:
        segment, s = self._at(t_s)
        return segment.a + segment.b * s + segment.c * s * s, segment.b + 2 * segment.c * s

    def state(self, t_s: float) -> tuple[float, float]:
        """(position rad, velocity rad/s) at `t_s`."""
        return self._respond(*self._at(t_s))

    def _respond(self, segment: _Segment, s: float) -> tuple[float, float]:
        w, z = 2 * math.pi * self.limits.natural_hz, self.limits.damping
        wd = w * math.sqrt(1 - z * z)
        # particular solution p(s) = k0 + k1 s + c s^2 of y'' + 2 z w y' + w^2 y = w^2 r(s)
        c = segment.c
        k1 = segment.b - 4 * z * c / w
        k0 = segment.a - 2 * z * k1 / w - 2 * c / w**2
        y0, v0 = segment.y - k0, segment.v - k1
        decay = math.exp(-z * w * s)
        cos, sin = math.cos(wd * s), math.sin(wd * s)
        mix = (v0 + z * w * y0) / wd
        y = k0 + k1 * s + c * s * s + decay * (y0 * cos + mix * sin)
        v = k1 + 2 * c * s + decay * (v0 * cos - (z * w * mix + wd * y0) * sin)
        return y, v


def profile(distance: float, speed: float, limits: AxisLimits) -> list[tuple[float, float]]:
    """(duration, acceleration) of the fastest way to rest `distance` away, starting at `speed`."""
    a, top = limits.acceleration_rad_s2, limits.velocity_rad_s
    sign = 1.0 if distance - speed * abs(speed) / (2 * a) >= 0 else -1.0
    d, v = sign * distance, sign * speed
    peak = min(math.sqrt(max(a * d + v * v / 2, 0.0)), top)
    rise = max((peak - v) / a, 0.0)
    cruise = max((d - (peak * peak - v * v) / (2 * a) - peak * peak / (2 * a)) / max(peak, 1e-12), 0.0)
    parts = [(rise, sign * a), (cruise, 0.0), (peak / a, -sign * a)]
    return [(duration, acceleration) for duration, acceleration in parts if duration > 0]


class SettleTable:
    """Seconds to come to rest within `tolerance_rad` for a step of any size, by interpolation."""

    def __init__(self, limits: AxisLimits, tolerance_rad: float, largest_rad: float) -> None:
        self._steps = np.geomspace(tolerance_rad, largest_rad, 48)
        self._times = np.array([_settle(limits, float(step), tolerance_rad) for step in self._steps])

    def __call__(self, step_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        times = np.interp(np.abs(step_rad), self._steps, self._times)
        return np.where(np.abs(step_rad) <= self._steps[0], 0.0, times)


def _settle(limits: AxisLimits, step: float, tolerance: float) -> float:
    axis = Axis(limits)
    axis.command(step, 0.0)
    horizon = sum(d for d, _ in profile(step, 0.0, limits)) + 8.0 / (limits.natural_hz * limits.damping)
    times = np.linspace(0, horizon, 1500)
    outside = np.array([abs(axis.state(float(t))[0] - step) > tolerance for t in times])
    last = np.flatnonzero(outside)
    return float(times[min(last[-1] + 1, len(times) - 1)]) if len(last) else 0.0
