"""The search node: looks where the most detections per millisecond are to be expected."""

from __future__ import annotations

from collections import deque
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from foveate.messages import Frame, Gaze, Objects, ProbabilityMap, Stamp
from foveate.node import Node, Unit
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.detection.grid import Grid
from foveate_nodes.detection.steered_view import SteeredView
from foveate_nodes.devices.look_timing import LookTiming, normal_inside

Array = NDArray[np.float64]
_PENDING_LEFT = 0.2  # share of the expectation left where a look's result is still to come
_VAGUE_RAD = 0.004  # a position this uncertain is worth another look
_SOON_S = 0.25  # a doubtful object is looked at again after about this long
_WINDOW = 2.0  # standard deviations: the half-size of the window in which a known object is looked for


class GazeScheduler(Node):
    """Probability search (arXiv 2405.04589) with the cost of the move in the objective.

    Each candidate's worth is the expected number of new detections in the view there, plus what a
    revisit of known objects is worth, divided by the frames the move and the look take.
    """

    cost_ns = 300_000

    state = ("_angle", "_pending", "_seen_ns")

    class Outputs:
        target: Gaze

    def __init__(
        self,
        *,
        camera: Camera,
        mirror: Mirror,
        range: Annotated[float, Unit("m"), Gt(0)] = 150.0,
        detection: Annotated[float, Gt(0)] = 0.85,
        margin: Annotated[float, Unit("rad"), Ge(0)] = 0.004,
        revisit: Annotated[float, Ge(0)] = 0.04,
        revisit_time: Annotated[float, Unit("s"), Gt(0)] = 1.5,
        doubt: Annotated[float, Ge(0)] = 0.15,
    ) -> None:
        """`revisit`: worth of seeing a known object again after `revisit_time`, in new detections;
        `doubt`: worth of deciding whether an uncertain object exists."""
        self._view = SteeredView(camera, mirror, range)
        self._timing = LookTiming(camera, mirror)
        self._detection = detection
        self._margin = margin
        self._revisit = (revisit, revisit_time, doubt)
        self._angle = np.zeros(2)
        self._pending: deque[tuple[int, Array]] = deque()
        self._seen_ns: dict[int, int] = {}  # object -> last look at it

    def step(self, strobe: Frame, map: ProbabilityMap | None, objects: Objects | None) -> Gaze | None:
        if not self._timing.due() or map is None:
            return None
        grid = Grid.of(map)
        value = self._undiscovered(map, grid)
        direction, expected, reason = self._best_new(grid, value, strobe)
        if objects is not None and len(objects.id):
            again = self._best_known(objects, grid, value, strobe)
            if again is not None and again[1] > expected:
                direction, expected, reason = again[0], again[1], "revisit"
        angle = self._view.aim(direction)
        frames = self._timing.hold(angle - self._angle, strobe.stamp.exposure_ns)
        self._angle = angle
        look_ns = self._timing.look_ns(strobe, frames)
        self._pending.append((look_ns, direction))
        if objects is not None:
            self._note_seen(objects, direction, look_ns)
        start_ns = self._timing.start_ns(strobe)
        return Gaze(Stamp(strobe.stamp.t_ns), angle, start_ns, float(expected), reason)

    def _undiscovered(self, map: ProbabilityMap, grid: Grid) -> NDArray[np.float32]:
        """The map with the looks discounted whose results are not in it yet."""
        while self._pending and self._pending[0][0] <= map.stamp.t_ns:
            self._pending.popleft()
        value = map.expected * np.float32(self._detection)
        half = np.array(self._view.half_field_rad) - self._margin
        for _, direction in self._pending:
            rows, columns = grid.window(direction, half)
            value[rows, columns] *= np.float32(_PENDING_LEFT)
        return value

    def _best_new(self, grid: Grid, value: NDArray[np.float32], strobe: Frame) -> tuple[Array, float, str]:
        """(direction, worth per frame, reason) of the best view for new detections."""
        half = np.array(self._view.half_field_rad) - self._margin
        width, height = (max(1, 2 * int(h / grid.cell_rad - 0.5) + 1) for h in half)
        total = cv2.boxFilter(value, -1, (width, height), normalize=False, borderType=cv2.BORDER_CONSTANT)
        frames = self._frames_to(grid.azimuth_rad, grid.elevation_rad, strobe.stamp.exposure_ns)
        rate = total / frames
        row, column = np.unravel_index(int(rate.argmax()), rate.shape)
        return grid.directions_rad[row, column], float(rate[row, column]), "search"

    def _frames_to(self, azimuth: Array, elevation: Array, exposure_ns: int) -> Array:
        """Frames to reach each (elevation, azimuth): the slower axis decides."""
        across = np.abs(azimuth / 2 - self._angle[0])
        down = np.abs(elevation / 2 - self._angle[1])
        return np.maximum(
            self._timing.frames(down[:, None], exposure_ns)[:, None],
            self._timing.frames(across[:, None], exposure_ns)[None, :],
        )

    def _best_known(
        self, objects: Objects, grid: Grid, value: NDArray[np.float32], strobe: Frame
    ) -> tuple[Array, float] | None:
        """(direction, worth per frame) of the best revisit."""
        worth, after_s, doubt = self._revisit
        last = np.array([self._seen_ns.get(int(i), 0) for i in objects.id])
        age_s = np.maximum(strobe.stamp.t_ns - last, 0) / 1e9
        p = objects.probability
        vague = np.minimum(objects.sigma_rad.max(axis=1) / _VAGUE_RAD, 1.0) ** 2
        unsure = 4 * p * (1 - p) + 0.3 * vague * p
        gain = worth * p * (1 - np.exp(-((age_s / after_s) ** 2))) + doubt * unsure * (
            1 - np.exp(-((age_s / _SOON_S) ** 2))
        )
        half = np.array(self._view.half_field_rad)
        inside = normal_inside(np.maximum(half - objects.extent_rad / 2, half / 4), objects.sigma_rad).prod(axis=1)
        mirror_step = np.abs(objects.direction_rad / 2 - self._angle)
        rate = gain * inside / self._timing.frames(mirror_step, strobe.stamp.exposure_ns)
        best = int(rate.argmax())
        if rate[best] <= 0:
            return None
        center, sigma = objects.direction_rad[best], objects.sigma_rad[best]
        window = _WINDOW * np.sqrt(sigma**2 + (objects.extent_rad[best] / 8) ** 2)
        if (window > half).any():  # the view does not cover where it may be: the likeliest part of that
            rows, columns = grid.window(center, window)
            part = value[rows, columns]
            if part.size:
                row, column = np.unravel_index(int(part.argmax()), part.shape)
                center = grid.directions_rad[rows, columns][row, column]
        return center, float(rate[best])

    def _note_seen(self, objects: Objects, direction: Array, look_ns: int) -> None:
        half = np.array(self._view.half_field_rad)
        covered = (np.abs(objects.direction_rad - direction) < half - objects.extent_rad / 3).all(axis=1)
        known = set(objects.id.tolist())
        self._seen_ns = {i: t for i, t in self._seen_ns.items() if i in known}
        for identity in objects.id[covered].tolist():
            self._seen_ns[identity] = look_ns
