"""RGB-D sequences for the benchmark of odometry, read once into plain arrays that any interpreter can map."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.errors import RecordingError
from foveate.messages import CameraInfo, DepthFrame, Frame, Pose
from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import transform
from foveate_logbook.formats.opening import open_log
from foveate_nodes.odometry.rgbd import Rgbd

_TOGETHER_NS = 20_000_000  # colour, depth and truth belong together up to this


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """Colour images with the depth nearest in time, and where the camera was."""

    name: str
    matrix: NDArray[np.float64]  # 3 x 3; distortion, where a log tells of one, is taken out for all trackers alike
    time_s: NDArray[np.float64]  # N
    truth: NDArray[np.float64]  # N x 4 x 4, world_from_camera; NaN where not known
    frames: list[tuple[Frame, DepthFrame]]  # N

    def unpack(self, target: Path) -> None:
        """Write image.npy, depth.npy, time_s.npy and camera.json into a folder."""
        frame, depth = self.frames[0]
        count, (height, width) = len(self.frames), depth.depth.shape
        images = np.lib.format.open_memmap(target / "image.npy", "w+", np.uint8, (count, *frame.image.shape[:2], 3))
        depths = np.lib.format.open_memmap(target / "depth.npy", "w+", np.uint16, (count, height, width))
        for number, (frame, depth) in enumerate(self.frames):
            gray = frame.image.ndim == 2
            images[number] = cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR) if gray else frame.image
            depths[number] = depth.depth
        np.save(target / "time_s.npy", self.time_s)
        camera = {"matrix": self.matrix.tolist(), "width": width, "height": height, "scale_m": depth.scale_m}
        (target / "camera.json").write_text(json.dumps(camera))


def sequence(path: Path, count: int) -> Sequence:
    """The first frames of a log with one colour camera, depth and its camera, and poses. Raises RecordingError."""
    found: dict[type, list[tuple[int, Any]]] = {Frame: [], DepthFrame: [], Pose: [], CameraInfo: []}
    with open_log(path) as log:
        for _, time_ns, message in log.messages():
            if type(message) in found:
                found[type(message)].append((time_ns, message))
    missing = [kind.__name__ for kind, messages in found.items() if not messages]
    if missing:
        raise RecordingError(f"{path}: no {', '.join(missing)} in it; name a TUM or 7-Scenes folder with camera.txt")
    frames, truth, times = [], [], []
    camera = Rgbd(found[CameraInfo][0][1])
    for time_ns, frame in found[Frame][:count]:
        depth, pose = (_nearest(found[kind], time_ns) for kind in (DepthFrame, Pose))
        if depth is not None:
            plain = replace(frame, image=camera.image(frame).copy())
            frames.append((plain, replace(depth, depth=camera.depth(depth).copy())))
            times.append(time_ns / 1e9)
            turn = None if pose is None else quaternion(pose.orientation)
            truth.append(np.full((4, 4), np.nan) if pose is None else transform(turn, pose.position_m))
    if len(frames) < 3:
        raise RecordingError(f"{path}: {len(frames)} colour images with depth within 20 ms; 3 are needed")
    return Sequence(path.name, camera.matrix, np.array(times), np.array(truth), frames)


def _nearest(messages: list[tuple[int, Any]], time_ns: int) -> Any:
    """In time; None where it is too far."""
    near = min(messages, key=lambda pair: abs(pair[0] - time_ns))
    return near[1] if abs(near[0] - time_ns) <= _TOGETHER_NS else None
