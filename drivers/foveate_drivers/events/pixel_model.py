"""The pixels of an event camera: from a sequence of images to the moments at which each pixel fires.

Each pixel takes the logarithm of its intensity, smooths it, and fires whenever it has changed by a threshold since it
last fired (Lichtsteiner, Posch, Delbruck: "A 128x128 120 dB 15 us latency asynchronous temporal contrast vision
sensor", JSSC 2008). Between two images the smoothed logarithm is taken to be linear in time, as in Rebecq, Gehrig,
Scaramuzza: "ESIM", CoRL 2018; noise, leak and the bandwidth that falls with the light follow Hu, Liu, Delbruck: "v2e",
CVPRW 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.scene import Pixels

_DARK = 20.0  # grey levels of 255: below this the response is linear, and noise and bandwidth stop changing
_LEAST_THRESHOLD = 0.01
_ROUNDING = 1e-5  # of a threshold: light that comes back to where it was makes as many OFF events as ON events
_LEAK_SPREAD = 0.1  # of a pixel's leak rate, in decades (v2e)
_SLOT_NS = 1_000_000  # noise is drawn for one slot of time after the other, whatever the steps are
_PIXEL_BITS, _TIME_BITS = 24, 38  # of a 63-bit number: 16 million pixels, steps of 274 s
_PIXEL_MASK, _TIME_MASK = (1 << _PIXEL_BITS) - 1, (1 << _TIME_BITS) - 1
_NEVER = np.iinfo(np.int64).min // 2

_grey = np.arange(256, dtype=np.float64)
# Value and slope are continuous at _DARK, so that nothing fires there without cause.
LOG_OF_GREY = np.where(
    _grey < _DARK, _grey / _DARK + math.log(_DARK) - 1, np.log(np.maximum(_grey, 1))
).astype(np.float32)  # fmt: skip
_BANDWIDTH_OF_GREY = (_grey + _DARK) / (255 + _DARK)  # share of the bandwidth at white (v2e)
_NOISE_OF_GREY = _DARK / (_grey + _DARK)  # share of the noise in the dark


@dataclass(frozen=True, slots=True, eq=False)
class Fired:
    """Events in the order of time, not read out yet."""

    t_ns: NDArray[np.int64]  # N
    pixel: NDArray[np.int64]  # N, row * width + column
    polarity: NDArray[np.uint8]  # N, 1 = brighter


class PixelModel:
    """The state of all pixels of one sensor; deterministic for a seed and a sequence of images and times."""

    def __init__(
        self, width: int, height: int, *, threshold: float = 0.2, threshold_sigma: float = 0.03,
        bandwidth_hz: float = 3000.0, leak_hz: float = 0.1, shot_hz: float = 1.0, refractory_ns: int = 100_000,
        seed: int = 1,
    ) -> None:  # fmt: skip
        """Thresholds are of ln(intensity), `threshold_sigma` their spread between pixels, ON and OFF apart.

        `bandwidth_hz`: of the low pass at white, 0 = none; `leak_hz`: ON events a pixel makes without any change;
        `shot_hz`: noise events a pixel makes in the dark, of both polarities together.
        """
        rng = np.random.default_rng(seed)
        shape = (height, width)
        drawn = rng.normal(threshold, threshold_sigma, (2, *shape))
        self._nominal_on, self._nominal_off = np.maximum(drawn, _LEAST_THRESHOLD).astype(np.float32)
        self._threshold = threshold
        spread = 10.0 ** rng.normal(0.0, _LEAK_SPREAD, shape)
        self._leak_per_s = (leak_hz * spread * self._nominal_on).astype(np.float32)
        self._leaks = leak_hz > 0
        self._phase = rng.random(shape, np.float32)
        self._bandwidth_hz = bandwidth_hz
        self._shot_hz = shot_hz
        self._refractory_ns = refractory_ns
        self._seed = seed
        self._shape = shape
        self.t_ns = 0
        self.set_factors(1.0, 1.0)

    def set_factors(self, on: float, off: float) -> None:
        """Make the thresholds these multiples of what they were drawn as."""
        self.on = np.maximum(self._nominal_on * np.float32(on), np.float32(_LEAST_THRESHOLD))
        self.off = np.maximum(self._nominal_off * np.float32(off), np.float32(_LEAST_THRESHOLD))
        self.least_threshold = max(self._threshold * min(on, off), _LEAST_THRESHOLD)

    def start(self, image: Pixels, t_ns: int) -> None:
        """All pixels have just been reset while they saw `image` (H x W, uint8)."""
        self.t_ns = t_ns
        self._level = cv2.LUT(image, LOG_OF_GREY)  # ln of the intensity
        self._smooth = self._level.copy()  # the same behind the low pass
        # how far it has changed since the pixel fired; pixels that leak are not all at the same point of their cycle
        self._since = self._phase * self.on if self._leaks else np.zeros(self._shape, np.float32)
        self._last_ns = np.full(self._shape[0] * self._shape[1], _NEVER, np.int64)
        self._slot = -1

    def change(self, image: Pixels) -> float:
        """The largest change of ln(intensity) of any pixel from the image before to this one."""
        return float(cv2.norm(cv2.LUT(image, LOG_OF_GREY), self._level, cv2.NORM_INF))

    def step(self, image: Pixels, t_ns: int) -> Fired:
        """Go on to `t_ns`, when the sensor sees `image`; what fired on the way, (time before, `t_ns`]."""
        begin_ns, self.t_ns = self.t_ns, t_ns
        step_s = (t_ns - begin_ns) / 1e9
        before = self._since
        after = before + self._rise(image, step_s)
        if self._leaks:
            after += self._leak_per_s * np.float32(step_s)
        parts = [self._crossed(before, after, self.on, 1), self._crossed(before, after, self.off, 0)]
        self._since = after
        share = np.concatenate([part[0] for part in parts])
        after_ns = np.clip(np.ceil(share * (t_ns - begin_ns)), 1, t_ns - begin_ns).astype(np.int64)
        pixel = np.concatenate([part[1] for part in parts])
        polarity = np.concatenate([part[2] for part in parts])
        noise = self._noise(image, begin_ns, t_ns)
        if len(noise.t_ns):
            after_ns = np.concatenate([after_ns, noise.t_ns - begin_ns])
            pixel = np.concatenate([pixel, noise.pixel])
            polarity = np.concatenate([polarity, noise.polarity])
        return self._in_order(begin_ns, after_ns, pixel, polarity)

    def _rise(self, image: Pixels, step_s: float) -> NDArray[np.float32]:
        """How far the smoothed logarithm rose: the exact answer of one pole to a ramp between the two images."""
        level = cv2.LUT(image, LOG_OF_GREY)
        if self._bandwidth_hz == 0:
            rise = level - self._smooth
            self._level = self._smooth = level
            return rise
        x = 2 * math.pi * self._bandwidth_hz * _BANDWIDTH_OF_GREY * step_s
        left, lag = np.exp(-x), -np.expm1(-x) / x
        smooth = cv2.LUT(image, left.astype(np.float32)) * (self._smooth - self._level)
        smooth += cv2.LUT(image, lag.astype(np.float32)) * (self._level - level)
        smooth += level
        rise = smooth - self._smooth
        self._level, self._smooth = level, smooth
        return rise

    def _crossed(
        self, before: NDArray[np.float32], after: NDArray[np.float32], threshold: NDArray[np.float32], polarity: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.uint8]]:
        """(share of the step, pixel, polarity) of every crossing of a multiple of the threshold, taken off `after`.

        A crossing in a refractory time moves the pixel's reference too: it does not fire later for it.
        """
        sign = 1.0 if polarity else -1.0
        enough = threshold * np.float32(1 - _ROUNDING)
        past = after >= enough if polarity else after <= -enough
        pixel = np.flatnonzero(past)
        height = threshold.ravel()[pixel].astype(np.float64)
        low, high = sign * before.ravel()[pixel].astype(np.float64), sign * after.ravel()[pixel].astype(np.float64)
        count = np.maximum((high / height + _ROUNDING).astype(np.int64), 1)
        after.ravel()[pixel] -= (sign * count * height).astype(np.float32)
        if len(count) and count.max() > 1:
            first = np.cumsum(count) - count
            nth = np.arange(int(count.sum())) - np.repeat(first, count) + 1
            pixel = np.repeat(pixel, count)
            height, low, high = (np.repeat(item, count) for item in (height, low, high))
        else:
            nth = count
        share = (nth * height - low) / np.maximum(high - low, 1e-12)
        return share, pixel, np.full(len(pixel), polarity, np.uint8)

    def _noise(self, image: Pixels, begin_ns: int, end_ns: int) -> Fired:
        """Noise events in (begin, end]; the rate is that of the light at `end_ns`."""
        parts = []
        for slot in range(begin_ns // _SLOT_NS, (end_ns - 1) // _SLOT_NS + 1) if self._shot_hz else ():
            if slot != self._slot:
                self._slot, self._drawn = slot, self._draw(slot)
            moment, pixel, polarity, level = self._drawn
            first, last = np.searchsorted(moment, [begin_ns, end_ns], side="right")
            chosen = slice(first, last)
            kept = level[chosen] < _NOISE_OF_GREY[image.ravel()[pixel[chosen]]]
            parts.append((moment[chosen][kept], pixel[chosen][kept], polarity[chosen][kept]))
        if not parts:
            return Fired(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
        return Fired(*(np.concatenate([part[i] for part in parts]) for i in range(3)))

    def _draw(self, slot: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Candidates of one slot of time: as many as in the dark, each with the share of darkness it needs to occur."""
        rng = np.random.default_rng((self._seed, slot))
        pixels = self._shape[0] * self._shape[1]
        count = int(rng.poisson(self._shot_hz * pixels * _SLOT_NS / 1e9))
        moment = slot * _SLOT_NS + np.sort(rng.integers(1, _SLOT_NS + 1, count))
        return moment, rng.integers(0, pixels, count), rng.integers(0, 2, count, np.uint8), rng.random(count)

    def _in_order(
        self, begin_ns: int, after_ns: NDArray[np.int64], pixel: NDArray[np.int64], polarity: NDArray[np.uint8]
    ) -> Fired:
        """In the order of time, without what comes within the refractory time after an event of the same pixel.

        Sorts whole numbers that hold time, pixel and polarity: 3 times as fast as sorting indices.
        """
        if self._refractory_ns:
            key = np.sort(pixel << _TIME_BITS + 1 | after_ns << 1 | polarity)  # each pixel's events in order
            pixel, after_ns, polarity = key >> _TIME_BITS + 1, key >> 1 & _TIME_MASK, (key & 1).astype(np.uint8)
            kept = self._rested(pixel, begin_ns + after_ns)
            pixel, after_ns, polarity = pixel[kept], after_ns[kept], polarity[kept]
        key = np.sort(after_ns << _PIXEL_BITS + 1 | pixel << 1 | polarity)
        return Fired(begin_ns + (key >> _PIXEL_BITS + 1), key >> 1 & _PIXEL_MASK, (key & 1).astype(np.uint8))

    def _rested(self, pixel: NDArray[np.int64], t_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which events come at least the refractory time after the one before them; ordered by pixel, then time."""
        kept = np.zeros(len(pixel), bool)
        turn = np.flatnonzero(np.diff(pixel, prepend=-1))  # the first event of each pixel, then the second ...
        end = np.append(turn[1:], len(pixel))
        while len(turn):
            ready = t_ns[turn] - self._last_ns[pixel[turn]] >= self._refractory_ns
            kept[turn] = ready
            self._last_ns[pixel[turn[ready]]] = t_ns[turn[ready]]
            more = turn + 1 < end
            turn, end = turn[more] + 1, end[more]
        return kept
