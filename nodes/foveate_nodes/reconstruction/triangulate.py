"""The triangulate node: points in space of the stripes of a scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from foveate.messages import MirrorState
from foveate.node import Node, Problem, Unit
from foveate_calibration.document import RigCalibration, Transform
from foveate_calibration.lens import Lens
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane, SteeredLaser
from foveate_nodes.reconstruction.messages import PointCloud, Stripe
from foveate_nodes.reconstruction.triangulation import Sigmas, points_with_errors, sheet_of, view_of

Array = NDArray[np.float64]

_JUMP = 6.0  # deviations of a reading from the mean of those before: the mirror has moved
_LONGEST = 64  # readings in a mean; a mirror that creeps is followed


class Triangulate(Node):
    """Points of a stripe: the camera's rays and the laser's plane meet, with a covariance for each point.

    Errors of the mirrors' angles are in each point's covariance and the same for all points of a profile: they do not
    average out within one. A frame gives nothing while there is no calibration, where a mirror moved in the exposure,
    or where its reading is missing; `dropped` counts frames and points by reason.
    """

    cost_ns = 1_000_000
    state = ("_mean", "_readings", "dropped")

    class Outputs:
        cloud: PointCloud

    def __init__(
        self, *, camera: str = "camera", laser: str = "laser", pose: str = "rig_from_camera",
        camera_angle_sigma: Annotated[float, Unit("rad"), Ge(0)] = 10e-6,
        laser_angle_sigma: Annotated[float, Unit("rad"), Ge(0)] = 10e-6,
        jitter: Annotated[float, Unit("rad"), Ge(0)] = 3e-6, smooth: bool = True,
        volume: tuple[float, ...] = (), most_sigma: Annotated[float, Unit("m"), Gt(0)] = 2e-3,
    ) -> None:  # fmt: skip
        """`camera`, `laser`, `pose` (of a camera without mirrors, where there is one): names in the calibration;
        `camera_angle_sigma`, `laser_angle_sigma`: of a reading of each mirror; `jitter`: what the camera's mirror
        really moves from frame to frame at one place; `smooth`: take the mean of its readings while it stays there;
        `volume`: x0, x1, y0, y1, z0, z1 in metres, none = everywhere; `most_sigma`: points worse than that go."""
        self._names = camera, laser, pose
        self._camera_rad, self._laser_rad, self._jitter_rad, self._smooth = (
            camera_angle_sigma, laser_angle_sigma, jitter, smooth,
        )  # fmt: skip
        self._volume = np.array(volume).reshape(-1, 2) if volume else None
        self._most_sigma_m = most_sigma
        self._text = ""  # of the calibration that was taken
        self._camera: SteeredCamera | Lens | None = None
        self._laser: SteeredLaser | LaserPlane | None = None
        self._fixed: Array | None = None
        self._mean = np.zeros(0)
        self._readings = 0
        self.dropped: dict[str, int] = {}

    @classmethod
    def check(cls, *, volume: tuple[float, ...] = (), **_: object) -> Iterator[Problem]:
        """The volume's six numbers, in order."""
        if volume and (len(volume) != 6 or not all(volume[k] < volume[k + 1] for k in (0, 2, 4))):
            yield Problem("volume", "needs six numbers: x0, x1, y0, y1, z0, z1, each first below its second")

    def step(self, stripe: Stripe, light: MirrorState | None, calibration: RigCalibration | None) -> PointCloud | None:
        why = self._missing(stripe, light, calibration)
        if why:
            self._count(why, 1)
            return None
        assert self._camera is not None and self._laser is not None
        angle, sigma_rad = (None, 0.0) if stripe.mirror is None else self._steady(stripe.mirror.angle_rad)
        view = view_of(self._camera, angle, self._fixed)
        sheet = sheet_of(self._laser, None if light is None else light.angle_rad)
        found, covariance = points_with_errors(
            view, sheet, stripe.point_px, stripe.normal_px.astype(np.float64), stripe.sigma_px.astype(np.float64),
            Sigmas(sigma_rad, self._laser_rad),
        )  # fmt: skip
        kept = self._kept(found, covariance)
        return PointCloud(
            stripe.stamp, found[kept].astype(np.float32), covariance[kept].astype(np.float32), stripe.peak[kept],
            view.center_m.astype(np.float32), stripe.seq,
        )  # fmt: skip

    def _missing(self, stripe: Stripe, light: MirrorState | None, calibration: RigCalibration | None) -> str:
        """Why nothing can be said of a stripe; empty where it can."""
        if calibration is not None and calibration.text != self._text:
            self._take(calibration)
        if not self._text:
            return "no calibration"
        if isinstance(self._camera, SteeredCamera):
            if stripe.mirror is None:
                return "no reading of the camera's mirror"
            if stripe.mirror.moved:
                return "the camera's mirror moved"
        if isinstance(self._laser, SteeredLaser):
            if light is None or light.stamp.t_ns != stripe.stamp.t_ns:
                return "no reading of the laser's mirror"
            if light.moved:
                return "the laser's mirror moved"
        return ""

    def _take(self, message: RigCalibration) -> None:
        """The models of a new calibration. Raises CalibrationError naming what is missing."""
        calibration = message.calibration()
        camera, laser, pose = self._names
        models = calibration.models
        lens, sheet, fixed = models.get(camera), models.get(laser), models.get(pose)
        self._camera = lens if isinstance(lens, Lens) else calibration.model(camera, SteeredCamera)
        self._laser = sheet if isinstance(sheet, LaserPlane) else calibration.model(laser, SteeredLaser)
        self._fixed = fixed.matrix if isinstance(fixed, Transform) else None
        self._text = message.text

    def _steady(self, angle_rad: Array) -> tuple[Array, float]:
        """Where the camera's mirror is (axes,), from this reading and those before at the same place; its deviation."""
        if not self._smooth:
            return angle_rad, float(np.hypot(self._camera_rad, self._jitter_rad))
        limit = _JUMP * max(float(np.hypot(self._camera_rad, self._jitter_rad)), 1e-9)
        if self._mean.shape != angle_rad.shape or np.abs(angle_rad - self._mean).max() > limit:
            self._mean, self._readings = np.array(angle_rad), 0
        self._readings = min(self._readings + 1, _LONGEST)
        self._mean = self._mean + (angle_rad - self._mean) / self._readings
        return self._mean, float(np.hypot(self._jitter_rad, self._camera_rad / np.sqrt(self._readings)))

    def _kept(self, found: Array, covariance: Array) -> NDArray[np.bool_]:
        met = np.isfinite(found).all(axis=1)
        sure = met & (covariance[:, [0, 3, 5]].sum(axis=1) <= self._most_sigma_m**2)
        self._count("behind the camera", int((~met).sum()))
        self._count("too uncertain", int((met & ~sure).sum()))
        if self._volume is None:
            return sure
        inside = sure & (found >= self._volume[:, 0]).all(axis=1) & (found <= self._volume[:, 1]).all(axis=1)
        self._count("outside the volume", int((sure & ~inside).sum()))
        return inside

    def _count(self, why: str, number: int) -> None:
        if number:
            self.dropped = {**self.dropped, why: self.dropped.get(why, 0) + number}
