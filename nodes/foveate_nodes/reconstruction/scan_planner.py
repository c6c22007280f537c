"""The scan planner: where the camera looks and the laser shines next, for a calibration and then for a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from foveate.errors import EndOfStream, StateError
from foveate.messages import Frame, Gaze, Stamp
from foveate.node import Node, Problem, Unit
from foveate_calibration.document import RigCalibration
from foveate_calibration.drawing import drawn_camera, drawn_laser
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_drivers.cameras.base import Camera
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.devices.look_timing import LookTiming
from foveate_nodes.reconstruction import scan_pattern
from foveate_nodes.reconstruction.messages import Stripe
from foveate_nodes.reconstruction.scan_looks import Look, Scan, Tour, resumed, state_of

Array = NDArray[np.float64]

_KEPT = 32  # looks whose frames and stripes may still come
_ALIVE = 0.45  # of a mirror's deadline: after so long without a command it is told again where to be
_FLUSHED = 30  # frames after the scan's end until the run is over: what was seen last is worked on by then
_THINNED = 16  # rows and columns of a frame that stand for its brightness


class ScanPlanner(Node):
    """Tours a volume for pictures of a board until there is a calibration, then scans it once.

    The scan goes view by view: planes of light `coarse` times `pitch` apart, then planes `pitch` apart beside those in
    which the stripe had at least `rows` points. Both mirrors move between exposures, in step with the slower one. The
    last message has the reason "done", and then the run is over. What is thinner than the coarse planes are apart may
    be missed.
    """

    cost_ns = 100_000

    class Outputs:
        view: Gaze
        light: Gaze

    def __init__(
        self, *, camera: Camera, mirror: Mirror, laser: LineLaser, laser_mirror: Mirror,
        volume: tuple[float, ...] = (-0.55, 0.55, -0.65, 0.65, 1.675, 2.325),
        boards: Annotated[int, Ge(0)] = 24, dwell: Annotated[float, Unit("s"), Gt(0)] = 1.0,
        looks: Annotated[int, Ge(1)] = 20, content: Annotated[float, Ge(0), Le(255)] = 6.0,
        pitch: Annotated[float, Unit("m"), Gt(0)] = 4e-3, coarse: Annotated[int, Ge(1), Le(64)] = 8,
        overlap: Annotated[float, Ge(0), Lt(0.9)] = 0.1, rows: Annotated[int, Ge(1)] = 20,
        camera_model: str = "camera", laser_model: str = "laser",
    ) -> None:  # fmt: skip
        """`volume`: x0, x1, y0, y1, z0, z1 in metres; `boards`: placements of a board, 0 = scan at once with the rig as
        drawn; `dwell`: how long each stays; `looks`: at each; `content`: mean grey level of a view that shows it;
        `camera_model`, `laser_model`: their names in the calibration. Raises StateError where the rig cannot look
        everywhere in the volume, or does not say how it looks."""
        self._volume_m = np.array(volume, np.float64).reshape(3, 2)
        self._drawn = drawn_camera(camera, mirror), drawn_laser(laser, laser_mirror)
        self._mirrors = mirror, laser_mirror
        self._timings = LookTiming(camera, mirror), LookTiming(camera, laser_mirror)
        self._boards, self._dwell_ns, self._content = boards, round(dwell * 1e9), content
        self._pitch_m, self._coarse, self._overlap, self._rows = pitch, coarse, overlap, rows
        self._names = camera_model, laser_model
        self._tour = Tour(*self._drawn, self._volume_m, looks)
        self._scan: Scan | None = None
        self._scan_state: dict[str, Any] | None = None
        self._angles: tuple[Array, Array] = np.zeros(mirror.axes), np.zeros(laser_mirror.axes)
        self._told_ns = [-(1 << 62), -(1 << 62)]
        self._given: list[tuple[int, str, tuple[int, int]]] = []  # mid-exposure, reason and key of the last looks
        self._wait = 0
        self._over, self._after = False, 0  # and frames since

    @classmethod
    def check(cls, *, volume: tuple[float, ...] = (), **_: object) -> Iterator[Problem]:
        """The volume's six numbers, in order."""
        if volume and (len(volume) != 6 or not all(volume[k] < volume[k + 1] for k in (0, 2, 4))):
            yield Problem("volume", "needs six numbers: x0, x1, y0, y1, z0, z1, each first below its second")
        elif volume and volume[4] <= 0:
            yield Problem("volume", f"z0 is {volume[4]:g}; the volume lies before the scanner, at z above 0")

    def step(
        self, strobe: Frame, stripe: Stripe | None, calibration: RigCalibration | None
    ) -> Mapping[str, Gaze] | None:
        self._learn(strobe, stripe)
        if self._over:
            self._after += 1
            if self._after > _FLUSHED:
                raise EndOfStream
            return None
        if self._scan is None and (calibration is not None or self._boards == 0):
            self._begin(calibration)
        if self._wait > 0:
            self._wait -= 1
            return None
        look = self._tour_look(strobe) if self._scan is None else self._scan.next()
        if look is not None:
            return self._go(strobe, look)
        if self._scan is not None and self._scan.done:
            self._over = True
            rest = (np.zeros_like(self._angles[0]), np.zeros_like(self._angles[1]))
            return self._told(strobe, rest, "done", (True, True))
        return self._kept_alive(strobe)

    def _learn(self, strobe: Frame, stripe: Stripe | None) -> None:
        """Take note of what the looks so far have shown."""
        look = self._look_at(strobe.stamp.t_ns)
        if look is not None and look[0] == "tour":
            gray = float(strobe.image[::_THINNED, ::_THINNED].mean())
            self._tour.noted(look[1], gray, self._content)
        met = self._look_at(stripe.stamp.t_ns) if stripe is not None else None
        if met is not None and met[0] == "coarse" and self._scan is not None and stripe is not None:
            self._scan.saw(met[1], len(stripe.point_px) >= self._rows)

    def _look_at(self, t_ns: int) -> tuple[str, tuple[int, int]] | None:
        """Reason and key of the look whose mid-exposure was then."""
        half_ns = self._timings[0].period_ns // 2
        return next((given[1:] for given in self._given if abs(given[0] - t_ns) <= half_ns), None)

    def _tour_look(self, strobe: Frame) -> Look | None:
        placement = strobe.stamp.t_ns // self._dwell_ns
        if placement >= self._boards:  # the calibration is being computed
            return None
        if placement != self._tour.placement:
            self._tour.begin(placement)
        return self._tour.next()

    def _begin(self, calibration: RigCalibration | None) -> None:
        """Plan the scan. Raises CalibrationError, StateError."""
        camera, laser = self._drawn
        if calibration is not None:
            found = calibration.calibration()
            camera = found.model(self._names[0], SteeredCamera)
            laser = found.model(self._names[1], SteeredLaser)
        scan = Scan(camera, laser, self._volume_m, self._pitch_m, self._coarse, self._overlap)
        corners = scan_pattern.lattice(self._volume_m, (2, 2, 2))
        lights = scan_pattern.laser_angles(laser, corners)[:, None]
        for mirror, angles in zip(self._mirrors, (np.array([s.view_rad for s in scan.sweeps]), lights), strict=True):
            most = np.abs(angles).max(axis=0)
            if (most > mirror.limit_rad).any():
                hint = f"it needs {np.round(most, 3).tolist()} rad and has {np.round(mirror.limit_rad, 3).tolist()} rad"
                raise StateError(mirror.uri, "scan the whole volume", hint)
        resumed(scan, self._scan_state)
        self._scan = scan

    def _go(self, strobe: Frame, look: Look) -> Mapping[str, Gaze] | None:
        """Move both mirrors; the next look is chosen once the slower one has got there."""
        limits = [mirror.limit_rad for mirror in self._mirrors]
        angles = tuple(np.clip(a, -b, b) for a, b in zip((look.view_rad, look.light_rad), limits, strict=True))
        exposure_ns = strobe.stamp.exposure_ns
        frames = max(
            float(timing.frames(new - old, exposure_ns))
            for timing, new, old in zip(self._timings, angles, self._angles, strict=True)
        )
        self._wait = 0 if self._timings[0].released else int(frames) - 1
        self._given = [*self._given[1 - _KEPT :], (self._timings[0].look_ns(strobe, frames), look.reason, look.key)]
        moves = tuple(not np.array_equal(new, old) for new, old in zip(angles, self._angles, strict=True))
        return self._told(strobe, angles, look.reason, moves)

    def _kept_alive(self, strobe: Frame) -> Mapping[str, Gaze] | None:
        return self._told(strobe, self._angles, "hold", (False, False))

    def _told(
        self, strobe: Frame, angles: tuple[Array, ...], reason: str, moves: tuple[bool, ...]
    ) -> Mapping[str, Gaze] | None:
        """Gazes for the mirrors that move, and for those that would park for want of commands."""
        gazes = {}
        for k, name in enumerate(("view", "light")):
            deadline_ns = self._mirrors[k].deadline_s * 1e9
            silent_ns = strobe.stamp.t_ns - self._told_ns[k]
            if moves[k] or (deadline_ns > 0 and silent_ns > _ALIVE * deadline_ns):
                start_ns = self._timings[k].start_ns(strobe)
                gazes[name] = Gaze(Stamp(strobe.stamp.t_ns), angles[k], start_ns, 0.0, reason)
                self._told_ns[k] = strobe.stamp.t_ns
        self._angles = (angles[0], angles[1])
        return gazes or None

    def state_dict(self) -> Any:
        names = ("_angles", "_told_ns", "_given", "_wait", "_over", "_after")
        own = {name: getattr(self, name) for name in names}
        return {"own": own, "tour": state_of(self._tour), "scan": state_of(self._scan)}

    def load_state_dict(self, state: Any) -> None:
        for name, value in state["own"].items():
            setattr(self, name, value)
        resumed(self._tour, state["tour"])
        self._scan_state = state["scan"]
