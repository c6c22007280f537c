"""The turntable node: an object scanned by a laser that stands still, while markers on the table say how it turned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.messages import Frame, Message
from foveate.node import Node, Problem, Unit
from foveate_calibration.document import Calibration, RigCalibration, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.rigid import invert
from foveate_calibration.steered_laser import LaserPlane
from foveate_nodes.reconstruction.messages import PointCloud, Stripe
from foveate_nodes.reconstruction.triangulation import Sigmas, points_with_errors, sheet_of, view_of
from foveate_nodes.reconstruction.turntable_fit import Seen, Table, fit
from foveate_nodes.reconstruction.turntable_laser import Light, light_on

Array = NDArray[np.float64]
_STILL = Sigmas(0.0, 0.0)


class Turntable(Node):
    """Points of an object in the frame of the table it stands on: z is the table's axis, its top is z = 0.

    The first `empty` frames show the empty table at several angles: from them come the axis, the markers' places, and
    from the stripe on the table the scale. In each frame that follows the markers say the angle, and the stripe gives
    points. A frame that shows no marker gives nothing; `dropped` counts frames and points by reason.
    """

    cost_ns = 5_000_000
    state = ("_seen", "_stripes", "_table", "_light", "dropped")

    class Outputs:
        cloud: PointCloud
        calibration: RigCalibration

    def __init__(
        self, *, calibration: Path, dictionary: str = "DICT_4X4_50", empty: Annotated[int, Ge(3)] = 39,
        laser: Literal["given", "table", "upright"] = "given", side: Annotated[float, Unit("m"), Ge(0)] = 0.0,
        height: Annotated[float, Unit("m"), Gt(0), Le(10)] = 0.25, margin: Annotated[float, Unit("m"), Ge(0)] = 0.005,
    ) -> None:  # fmt: skip
        """`calibration`: a file with `camera` (lens) and `laser` (laser_plane); `laser`: the plane as given, or turned
        by the least angle so that the stripe lies on the table, or upright on the table through that stripe; `side`:
        of a marker's black square where it is known, 0 = the laser's plane says the scale; `height`: points higher
        than that, `margin` below the table, or beyond the outermost marker are not the object's."""
        self._path, self._dictionary, self._empty = calibration, dictionary, empty
        self._laser, self._side_m, self._height_m, self._margin_m = laser, side, height, margin
        self._lens: Lens | None = None
        self._plane = np.zeros(4)
        self._detector: Any = None
        self._seen: list[Seen] = []
        self._stripes: list[Array] = []
        self._table: Table | None = None
        self._light: Light | None = None
        self.dropped: dict[str, int] = {}

    @classmethod
    def check(cls, **parameters: Any) -> Iterator[Problem]:
        """The models in the file, and the dictionary's name."""
        calibration, dictionary = parameters["calibration"], parameters["dictionary"]
        try:
            _models(calibration)
        except CalibrationError as error:
            yield Problem("calibration", str(error))
        from foveate_calibration import tags

        if tags.dictionary(dictionary) is None:
            yield Problem("dictionary", f"there is no '{dictionary}'; take one such as DICT_4X4_50 or tag36h11")

    def open(self) -> None:
        """Read the calibration. Raises CalibrationError."""
        cv2 = optional("cv2", "turntable", "vision")
        from foveate_calibration import tags

        self._lens, self._plane = _models(self._path)
        options = cv2.aruco.DetectorParameters()
        options.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        self._detector = cv2.aruco.ArucoDetector(tags.dictionary(self._dictionary), options)

    def step(self, frame: Frame, stripe: Stripe) -> Mapping[str, Message] | None:
        assert self._lens is not None
        seen = self._look(frame)
        if self._table is None:
            self._seen = [*self._seen, seen]
            self._stripes = [*self._stripes, stripe.point_px]
            return {"calibration": self._calibrate(stripe)} if len(self._seen) == self._empty else None
        try:
            angle, _, _ = self._table.angle(self._lens, seen)
        except CalibrationError as error:
            self._count("its angle is unknown: " + str(error).split(";")[0].split(":")[0], 1)
            return None
        return {"cloud": self._cloud(stripe, angle)}

    def _look(self, frame: Frame) -> Seen:
        """The markers in a frame; pixel centres at integers, as OpenCV's corners have them."""
        image = frame.image if frame.image.ndim == 2 else np.ascontiguousarray(frame.image[:, :, 1])
        corners, number, _ = self._detector.detectMarkers(image)
        found = np.array([np.reshape(corner, (4, 2)) for corner in corners], np.float64).reshape(-1, 4, 2)
        return Seen(np.zeros(0, np.int64) if number is None else np.ravel(number).astype(np.int64), found)

    def _calibrate(self, stripe: Stripe) -> RigCalibration:
        """Fit the table to the frames so far. Raises CalibrationError."""
        assert self._lens is not None
        found = fit(self._lens, self._seen)
        light = light_on(self._lens, found.table, self._plane, self._stripes, self._laser, self._side_m)
        self._table, self._light = found.table.scaled(light.scale_m), light
        rig_from_camera = invert(self._table.camera_from_table)
        turned = float(np.ptp(found.table.angle_rad))
        calibration = Calibration(
            {"camera": self._lens, "laser": LaserPlane(light.plane), "rig_from_camera": Transform(rig_from_camera)},
            {
                "markers, px": {"rms": found.rms_px, "count": float(sum(len(seen.number) for seen in self._seen))},
                "stripe on the table, m": {"rms": light.rms_m, "count": float(light.count)},
                "laser plane as given": {"tilt_rad": light.given_tilt_rad, "rms_m": light.given_rms_m},
                "table": {"turned_rad": turned, "radius_m": self._table.radius_m, "side_m": _side(self._table)},
            },
            {"table.tilt_rad": found.sigma_tilt_rad, "table.angle_rad": found.sigma_angle_rad},
            light.doubts,
            {"procedure": "turntable", "frames": str(len(self._seen)), "laser": self._laser, "from": self._path.name},
        )  # fmt: skip
        self._seen, self._stripes = [], []
        return RigCalibration(stripe.stamp, calibration.text())

    def _cloud(self, stripe: Stripe, angle_rad: float) -> PointCloud:
        """The stripe's points on the table, turned back to angle 0."""
        assert self._lens is not None and self._table is not None and self._light is not None
        view = view_of(self._lens, None, invert(self._table.at(angle_rad)))
        plane = _moved(self._light.plane, view.rig_from_camera)
        found, covariance = points_with_errors(
            view, sheet_of(LaserPlane(plane), None), stripe.point_px, stripe.normal_px.astype(np.float64),
            stripe.sigma_px.astype(np.float64), _STILL,
        )  # fmt: skip
        with np.errstate(invalid="ignore"):
            near = np.hypot(found[:, 0], found[:, 1]) <= self._table.radius_m
            kept = near & (found[:, 2] > -self._margin_m) & (found[:, 2] < self._height_m)
        self._count("points outside the volume above the table", int((~kept).sum()))
        return PointCloud(
            stripe.stamp, found[kept].astype(np.float32), covariance[kept].astype(np.float32), stripe.peak[kept],
            view.center_m.astype(np.float32), stripe.seq,
        )  # fmt: skip

    def _count(self, why: str, number: int) -> None:
        if number:
            self.dropped = {**self.dropped, why: self.dropped.get(why, 0) + number}


def _models(path: Path) -> tuple[Lens, Array]:
    calibration = Calibration.load(path)
    return calibration.model("camera", Lens), calibration.model("laser", LaserPlane).sheet


def _moved(plane: Array, to_from_camera: Array) -> Array:
    """A plane n x = d of the camera's frame in another."""
    normal = to_from_camera[:3, :3] @ plane[:3]
    return np.append(normal, plane[3] + normal @ to_from_camera[:3, 3])


def _side(table: Table) -> float:
    return float(np.mean([np.linalg.norm(corner[1] - corner[0]) for corner in table.marker.values()]))
