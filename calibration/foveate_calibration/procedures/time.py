"""How far the clock of a mirror's readings is from the clock of images, from the motion that both saw.

The mirror sweeps while the camera looks at a board that stands still: each image says at which angle it was taken, and
the readings say when the mirror was there. t_mirror = t_camera + offset + drift (t_camera - since).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.document import TimeOffset
from foveate_calibration.errors import CalibrationError
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_SEARCH_STEP_S, _MOST_STEPS = 0.0005, 10_000  # to either side
_HUBER = 2.5
_FEWEST = 8


@dataclass(frozen=True, slots=True, eq=False)
class TimeFit:
    """Offset and drift with their standard deviations, and what is left of the angles."""

    model: TimeOffset
    sigma_s: float  # of the model's offset, which is that at its `since`
    sigma_drift: float
    residual_rad: Array  # N x axes

    @property
    def weak(self) -> tuple[str, ...]:
        """What the data leave open."""
        if self.sigma_drift * 100 > 1e-3:
            return (f"the drift is known to {self.sigma_drift:.1e} only: record for longer",)
        return ()


def seen_angles(views: Sequence[BoardView], camera: SteeredCamera, rig_from_board: Array) -> Array:
    """The mirror's angles (N x axes, radians) at which images of a standing board must have been taken."""
    found = []
    for view in views:
        points = view.board_m @ rig_from_board[:3, :3].T + rig_from_board[:3, 3]
        assert view.angle_rad is not None
        angle = view.angle_rad.copy()
        for _ in range(8):
            pixels, _, _, _, by_angle = camera.linearize(points, angle)
            step = np.linalg.lstsq(by_angle.reshape(2 * len(pixels), -1), (view.pixel - pixels).ravel(), rcond=None)[0]
            angle = angle + step
            if np.abs(step).max() < 1e-12:
                break
        found.append(angle)
    return np.array(found)


def fit_time(
    camera_ns: NDArray[np.int64], camera_rad: Array, mirror_ns: NDArray[np.int64], mirror_rad: Array,
    *, most_s: float = 0.1, noise_rad: float = 20e-6, with_drift: bool = True,
) -> TimeFit:  # fmt: skip
    """Fit. Angles: N x axes at images, M x axes as they were read; `most_s`: largest offset looked for.

    Raises CalibrationError where the mirror hardly moved, or so evenly that no offset shows, or without overlap.
    """
    if len(camera_ns) < _FEWEST or len(mirror_ns) < _FEWEST:
        raise CalibrationError(
            f"{len(camera_ns)} images and {len(mirror_ns)} readings are too few; {_FEWEST} of each are needed"
        )
    camera_rad, mirror_rad = camera_rad.reshape(len(camera_ns), -1), mirror_rad.reshape(len(mirror_ns), -1)
    if camera_rad.shape[1] != mirror_rad.shape[1]:
        raise CalibrationError(f"the readings are of {mirror_rad.shape[1]} axes and the camera looks over "
                               f"{camera_rad.shape[1]}; are they of the camera's mirror?")  # fmt: skip
    mirror_ns, first = np.unique(mirror_ns, return_index=True)  # in order, and each moment once: slopes need that
    mirror_rad, since_ns = mirror_rad[first], int(camera_ns[0])
    at, read = (camera_ns - since_ns) / 1e9, (mirror_ns - since_ns) / 1e9
    inside = (at > read[0] + most_s) & (at < read[-1] - most_s)
    if inside.sum() < _FEWEST:
        raise CalibrationError("images and readings hardly overlap in time; are both of the same recording?")
    at, camera_rad = at[inside], camera_rad[inside]
    speed = _at(read, _slopes(read, mirror_rad), at)
    if float(np.sqrt(np.mean(speed**2))) * most_s < 10 * noise_rad:
        raise CalibrationError("the mirror hardly moved: sweep it, to and fro, while the camera looks at the board")
    offset = _searched(at, camera_rad, read, mirror_rad, most_s)
    return _refined(at, camera_rad, read, mirror_rad, offset, since_ns, noise_rad, with_drift)


def _at(times: Array, values: Array, wanted: Array) -> Array:
    """Values (M x axes) at other times, linearly between neighbours."""
    return np.column_stack([np.interp(wanted, times, column) for column in values.T])


def _slopes(times: Array, values: Array) -> Array:
    """Velocities (M x axes) at the times of the values."""
    return np.column_stack([np.gradient(column, times) for column in values.T])


def _searched(at: Array, camera_rad: Array, read: Array, mirror_rad: Array, most_s: float) -> float:
    """The best offset of a grid; constant differences of the angles do not count."""
    steps = min(max(round(most_s / _SEARCH_STEP_S), 1), _MOST_STEPS)
    offsets = np.linspace(-most_s, most_s, 2 * steps + 1)
    costs = []
    for offset in offsets:
        off = _at(read, mirror_rad, at + offset) - camera_rad
        costs.append(float(np.abs(off - np.median(off, axis=0)).mean()))
    return float(offsets[int(np.argmin(costs))])


def _refined(
    at: Array,
    camera_rad: Array,
    read: Array,
    mirror_rad: Array,
    offset: float,
    since_ns: int,
    noise: float,
    drifts: bool,
) -> TimeFit:
    axes = camera_rad.shape[1]
    middle = at.mean()
    slopes = _slopes(read, mirror_rad)
    found = np.concatenate([[offset, 0.0], np.zeros(axes)])  # at the middle, drift, a constant of each axis
    information, residual = np.eye(2 + axes), np.zeros((len(at), axes))
    for _ in range(20):
        when = at + found[0] + found[1] * (at - middle)
        residual = _at(read, mirror_rad, when) - camera_rad + found[2:]
        speed = _at(read, slopes, when)
        by = np.zeros((len(at), axes, 2 + axes))
        by[:, :, 0], by[:, :, 1] = speed, speed * (at - middle)[:, None]
        by[:, :, 2:] = np.eye(axes)
        scale = max(noise, 1.4826 * float(np.median(np.abs(residual))))
        weight = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(residual), 1e-30)).ravel()
        flat = by.reshape(-1, 2 + axes)
        information = (flat * weight[:, None]).T @ flat / scale**2
        if not drifts:
            information[1] = information[:, 1] = 0.0
            information[1, 1] = 1e30
        step = -np.linalg.solve(information, flat.T @ (weight * residual.ravel()) / scale**2)
        found = found + step
        if abs(step[0]) < 1e-12:
            break
    covariance = np.linalg.inv(information)
    if np.sqrt(covariance[0, 0]) > 0.01:
        raise CalibrationError(
            f"the offset is known to {np.sqrt(covariance[0, 0]) * 1e3:.0f} ms only: an even turn looks the same at any "
            "offset; sweep to and fro"
        )
    to_start = np.array([1.0, -middle])  # from the middle of the images to the first
    model = TimeOffset(float(to_start @ found[:2]), float(found[1]), since_ns)
    sigma_s = float(np.sqrt(to_start @ covariance[:2, :2] @ to_start))
    return TimeFit(model, sigma_s, float(np.sqrt(covariance[1, 1])) if drifts else 0.0, residual)
