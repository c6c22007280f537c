"""What a scanner's recording shows of boards: corners, stripes, readings of its mirrors; and how it was drawn.

The recording holds the frames (which carry the readings of the camera's mirror) and the readings of the laser's mirror
at the same moments; the graph in it says which devices these were, and their options are the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import replay
from foveate.errors import FoveateError
from foveate.graph import Built, DeviceRef, Graph
from foveate.messages import Frame, Message, MirrorState
from foveate.recording.recording import Recording
from foveate_calibration.board_stripes import scanner_view
from foveate_calibration.boards import Board
from foveate_calibration.drawing import drawn_camera, drawn_laser
from foveate_calibration.errors import CalibrationError
from foveate_calibration.placements import Placements
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.stripes.detectors import Steger
from foveate_calibration.stripes.points import Light
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class RigReading:
    """The views of a recording and the rig as it was drawn."""

    views: tuple[BoardView, ...]
    camera: SteeredCamera
    laser: SteeredLaser | None
    frames: int

    def told(self) -> str:
        """In a line."""
        lit = sum(view.stripe_px is not None for view in self.views)
        places = len({view.placement for view in self.views})
        return f"the board in {len(self.views)} of {self.frames} frames, in {places} places, with the stripe in {lit}"


def read_rig(
    path: Path, board: Board, *, frames: str = "camera.frame", light: str | None = "light.state",
    progress: Callable[[float], None] = lambda share: None,
) -> RigReading:  # fmt: skip
    """Look for the board and the stripe in a recording. `light`: the stream of the laser's mirror, None without laser.

    Raises CalibrationError, RecordingError.
    """
    with Recording(path) as log:
        _check(log, frames, Frame)
        if light is not None:
            _check(log, light, MirrorState)
        camera, laser = _drawing(log, frames, light)
        readings = _readings(log, light)
        total = _streams(log)[frames]
        placements, views = Placements(camera), list[BoardView]()
        detector = Steger(6.0, 3.5, 10.0, True, Light(2.0, 40.0))

        def look(frame: Frame) -> BoardView | None:
            return _look(frame, readings, board, detector)

        done = 0
        with ThreadPoolExecutor(2) as pool:
            source = _usable(log, frames)
            while batch := list(islice(source, _AT_ONCE)):
                for view in pool.map(look, batch):
                    numbered = placements.numbered(view) if view is not None else None
                    views += [numbered] if numbered is not None else []
                done += len(batch)
                progress(min(done / max(total, 1), 1.0))
    if not views:
        raise CalibrationError(f"{path}: the board {board.text} is in none of {total} frames")
    return RigReading(tuple(views), camera, laser, total)


def _look(frame: Frame, readings: dict[int, Array], board: Board, detector: Steger) -> BoardView | None:
    assert frame.mirror is not None
    light = readings.get(frame.stamp.t_ns)
    image = frame.image if frame.image.ndim == 2 else np.ascontiguousarray(frame.image[:, :, 1])
    points = detector.find(image)  # also where the laser does not count: its light pulls corners beside it
    view = scanner_view(board, image, points.point_px, points.saturated & (light is not None))
    if view is None:
        return None
    return replace(
        view, name=f"frame {frame.seq}", angle_rad=frame.mirror.angle_rad, t_ns=frame.stamp.t_ns, laser_rad=light
    )


def _usable(log: Recording, frames: str) -> Iterator[Frame]:
    """Frames whose mirror stood still."""
    for frame in _messages(log, frames, Frame):
        if frame.mirror is not None and not frame.mirror.moved:
            yield frame


def _readings(log: Recording, light: str | None) -> dict[int, Array]:
    """Angles of the laser's mirror by the moment of the frame, where it stood still."""
    if light is None:
        return {}
    states = _messages(log, light, MirrorState)
    return {state.stamp.t_ns: state.angle_rad for state in states if not state.moved}


def _messages(log: Recording, stream: str, kind: type[Message]) -> Iterator[Any]:
    return (message for _, message in log.messages(stream, kind))


def _check(log: Recording, stream: str, kind: type[Message]) -> None:
    """Raises CalibrationError where a recording has no such stream, or it is of other messages."""
    kinds = {found.topic.lstrip("/"): found.type.rpartition(".")[2] for found in log.streams() if found.messages}
    if stream not in kinds:
        raise CalibrationError(f"{log.path}: no stream '{stream}'; it has {', '.join(kinds) or 'none'}")
    if kinds[stream] != kind.__name__:
        there = ", ".join(name for name, found in kinds.items() if found == kind.__name__) or "none"
        raise CalibrationError(f"{log.path}: stream '{stream}' is of {kinds[stream]}; of {kind.__name__} is {there}")


def _streams(log: Recording) -> dict[str, int]:
    return {stream.topic.lstrip("/"): stream.messages for stream in log.streams() if stream.messages}


def _drawing(log: Recording, frames: str, light: str | None) -> tuple[SteeredCamera, SteeredLaser | None]:
    """The rig as the recorded graph has it."""
    try:
        graph: Graph = replay.load(log, None, [], {}, [Path.cwd()])
    except FoveateError as error:
        raise CalibrationError(f"{log.path}: its graph cannot be read: {error}") from None
    built = Built(replace(graph, nodes={}), {})

    def device(node: str, option: str) -> Any:
        spec = graph.nodes.get(node)
        found = spec.parameters.get(option) if spec is not None else None
        if not isinstance(found, DeviceRef):
            raise CalibrationError(f"{log.path}: node '{node}' of the recorded graph has no device '{option}'")
        return built.device(found.name)

    node = frames.partition(".")[0]
    camera = drawn_camera(device(node, "device"), device(node, "mirror"))
    if light is None:
        return camera, None
    lasers = [name for name, spec in graph.devices.items() if spec.kind.family == "laser"]
    if len(lasers) != 1:
        raise CalibrationError(f"{log.path}: the recorded rig has {len(lasers)} lasers; one is needed")
    laser: Any = built.device(lasers[0])
    return camera, drawn_laser(laser, device(light.partition(".")[0], "device"))


def read_moving(
    path: Path, board: Board, frames: str, readings: str, progress: Callable[[float], None] = lambda share: None
) -> tuple[list[BoardView], NDArray[np.int64], Array]:
    """Views of a standing board while the mirror moves; moments (M,) and angles (M x axes) of the mirror's readings.

    Raises CalibrationError, RecordingError.
    """
    with Recording(path) as log:
        there = _streams(log)
        _check(log, frames, Frame)
        _check(log, readings, MirrorState)
        states = list(_messages(log, readings, MirrorState))
        views = []
        for done, frame in enumerate(_messages(log, frames, Frame), 1):
            found = board.detect(frame.image)
            if found is not None and frame.mirror is not None and len(found[0]) >= 6:
                angle = frame.mirror.angle_rad
                views.append(
                    BoardView(board.points_m[found[0]], found[1], f"frame {frame.seq}", 0, angle, frame.stamp.t_ns)
                )
            progress(done / there[frames])
    if not views:
        raise CalibrationError(f"{path}: the board {board.text} is in none of {there[frames]} frames")
    return views, np.array([state.stamp.t_ns for state in states]), np.array([state.angle_rad for state in states])
