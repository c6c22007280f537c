"""What an RGB-D camera makes of a room: blur, photon noise and the root of light; noise and holes in depth.

Depth noise of a Kinect: sigma_z = 0.0012 + 0.0019 (z - 0.4)^2 m (Nguyen, Izadi and Lovell, 2012); its disparity has
steps of an eighth of a pixel (Khoshelham and Elberink, 2012); its projector stands 7.5 cm beside its camera, so that
what is left of a near thing lies in the projector's shadow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world.room import Sight

Pixels = NDArray[np.uint8]
Light = NDArray[np.float32]
_JUMP = (0.02, 0.02)  # metres, and metres a metre of depth: a larger step is an edge
_RAGGED = 0.35  # the share of pixels at edges that are holes
_BLOTCHES = 16  # across the image, of dropouts
_BLOTCH_FRAMES = 8  # how long they stay


@dataclass(frozen=True, slots=True)
class DepthModel:
    """sigma_z = noise[0] + noise[1] (z - noise[2])^2 with the steps' own share in it; what is not measured is 0."""

    noise: tuple[float, float, float] = (0.0012, 0.0019, 0.4)
    nearest_m: float = 0.4
    farthest_m: float = 5.0
    grazing_rad: float = 1.4  # most angle between a ray and the surface's normal
    baseline_m: float = 0.075  # to the projector, along x; 0 = no shadows
    step_rad: float = 0.125 / 525  # of disparity: an eighth of a pixel at 640 x 480; 0 = no steps
    dropout: float = 0.0  # share of the image in blotches without depth

    def sigma_m(self, depth_m: NDArray[Any]) -> NDArray[Any]:
        """Standard deviation of a measurement."""
        return self.noise[0] + self.noise[1] * (depth_m - self.noise[2]) ** 2


@dataclass(frozen=True, slots=True)
class ColorModel:
    """An 8-bit image is the root of the light, with the noise of `full_well_e` electrons at white."""

    gain: float = 0.7  # of light 1: white is at 1 / gain
    full_well_e: float = 8000.0
    read_noise_e: float = 12.0
    blur_px: float = 0.7  # standard deviation of the lens' point spread
    vignetting: float = 0.2  # share of light lost in the corners


class RgbdSensor:
    """Measures what a `Sight` holds; the noise of a frame depends on the seed and its number alone."""

    def __init__(self, pinhole: Pinhole, seed: int, color: ColorModel, depth: DepthModel) -> None:
        self._pinhole, self._seed, self.color, self.depth = pinhole, seed, color, depth
        x, y = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (pinhole.width, pinhole.height)))
        self._gain = (color.gain * (1 - color.vignetting * (x * x + y * y) / 2)).astype(np.float32)[..., None]

    def image(self, light: Light, index: int) -> Pixels:
        """H x W x 3, B, G, R, of linear light (H x W x 3)."""
        model = self.color
        seen = cv2.GaussianBlur(light, (0, 0), model.blur_px) if model.blur_px else light
        electrons = np.minimum(seen * self._gain, 4.0) * np.float32(model.full_well_e)
        rng = np.random.default_rng((self._seed, index, 0))
        sigma = np.sqrt(electrons + np.float32(model.read_noise_e**2))
        electrons += sigma * rng.standard_normal(light.shape, np.float32)
        share = np.clip(electrons, 0, model.full_well_e, out=electrons) * np.float32(255.0**2 / model.full_well_e)
        return np.rint(np.sqrt(share, out=share), out=share).astype(np.uint8)

    def measured(self, sight: Sight, world_from_camera: NDArray[np.float64], returns: Any, index: int) -> Light:
        """Depth (H x W, metres, 0 = not measured); `returns`: of each face, as `Room.returns`."""
        model, shape = self.depth, sight.depth.shape
        rng = np.random.default_rng((self._seed, index, 1))
        noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (3, 3), 0.7)
        kernel = cv2.getGaussianKernel(3, 0.7)
        noise *= np.float32(1 / (kernel**2).sum())  # neighbours have noise in common; its deviation stays 1
        chance = rng.random((*shape, 3), np.float32)
        hidden = np.zeros(shape, np.bool_)
        if model.dropout > 0:
            coarse = np.random.default_rng((self._seed, index // _BLOTCH_FRAMES, 2)).standard_normal(
                (_BLOTCHES * shape[0] // shape[1] + 2, _BLOTCHES + 2), np.float32
            )
            fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
            hidden = fine > np.quantile(fine, 1 - model.dropout)
        out = np.empty(shape, np.float32)
        lens = self._pinhole.matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
        law = np.array([*model.noise, model.nearest_m, model.farthest_m, np.cos(model.grazing_rad),
                        model.baseline_m * lens[0], model.step_rad * lens[0]])  # fmt: skip
        _measure(
            sight.depth, sight.face, sight.normal, world_from_camera, lens, returns, law, noise, chance, hidden, out
        )
        return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shadow(depth: Any, row: int, product: float, out: Any) -> None:
    """Which pixels of a row a projector `product` / f to the right does not reach: something right of them is nearer
    and hides them."""
    least = 1e9
    for column in range(depth.shape[1] - 1, -1, -1):
        there = column - product / depth[row, column]
        out[column] = there > least + 0.5
        least = min(least, there)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _edge(depth: Any, row: int, column: int) -> bool:
    """Whether depth jumps beside a pixel: 1 / z is linear over the image of a plane, however it is turned."""
    inverse = 1.0 / depth[row, column]
    jump = (_JUMP[0] + _JUMP[1] * depth[row, column]) * inverse * inverse
    return (
        0 < column < depth.shape[1] - 1
        and abs(1.0 / depth[row, column - 1] + 1.0 / depth[row, column + 1] - 2 * inverse) > jump
    ) or (
        0 < row < depth.shape[0] - 1
        and abs(1.0 / depth[row - 1, column] + 1.0 / depth[row + 1, column] - 2 * inverse) > jump
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _noisy(z: float, law: Any, noise: float) -> float:
    """Depth with noise and steps of disparity."""
    sigma = law[0] + law[1] * (z - law[2]) ** 2
    step = z * z * law[7] / law[6] if law[6] > 0 else 0.0
    z += noise * np.sqrt(max(sigma * sigma - step * step / 12, 0.0))
    if step > 0 and z > 0:
        z = law[6] / (law[7] * max(np.rint(law[6] / (z * law[7])), 1.0))
    return z


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _measure(
    depth: Any, face: Any, normal: Any, pose: Any, lens: Any, returns: Any, law: Any, noise: Any, chance: Any,
    hidden: Any, out: Any,
) -> None:  # fmt: skip
    height, width = depth.shape
    shadow = np.zeros(width, np.bool_)
    for row in range(height):
        if law[6] > 0:
            _shadow(depth, row, law[6], shadow)
        for column in range(width):
            out[row, column] = 0.0
            y, x = row, column
            if shadow[column] or hidden[row, column]:
                continue
            if _edge(depth, row, column):  # a pixel measures what a patch of the pattern around it falls on
                if chance[row, column, 0] < _RAGGED:
                    continue
                y = min(max(row + int(3 * chance[row, column, 1]) - 1, 0), height - 1)
                x = min(max(column + int(3 * chance[row, column, 2]) - 1, 0), width - 1)
            u, v = (x - lens[2]) / lens[0], (y - lens[3]) / lens[1]
            facing = 0.0
            for a in range(3):
                facing -= normal[y, x, a] * (pose[a, 0] * u + pose[a, 1] * v + pose[a, 2])
            facing /= np.sqrt(u * u + v * v + 1)
            if facing < law[5] or returns[face[y, x]] * np.sqrt(facing) < 0.08 + 0.25 * chance[row, column, 0]:
                continue
            z = _noisy(depth[y, x], law, noise[row, column])
            if law[3] <= z <= law[4]:
                out[row, column] = z
