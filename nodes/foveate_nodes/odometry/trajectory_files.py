"""Trajectories from wherever they are: texts, recordings, and folders of datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.catalog import did_you_mean
from foveate.errors import FoveateError
from foveate.messages import Message, Pose
from foveate.recording import Recording
from foveate_calibration.errors import CalibrationError
from foveate_calibration.poses import Array, Poses, in_order, quaternion, read_poses
from foveate_calibration.rigid import transform
from foveate_logbook.formats.opening import open_log
from foveate_nodes.odometry.messages import PoseEstimate
from foveate_nodes.odometry.trajectory_error import TrajectoryError

_KINDS: dict[str, type[Pose]] = {"Pose": Pose, "PoseEstimate": PoseEstimate}
_NO_TURN = np.full((4, 4), np.nan)


def read_trajectory(text: str, *, of_run: bool = False) -> Poses:
    """Poses in order of time, what is not finite left out and counted. Raises FoveateError.

    `text`: a TUM text, .csv or .json; `FILE.mcap:node.output`, or FILE.mcap that has one stream of poses; a folder of a
    dataset with poses in it (TUM's groundtruth.txt, 7-Scenes' *.pose.txt, ...). Times are seconds of the source's own
    clock: of a recording the time that the camera or log gave each frame, else Unix time of the run; `of_run`: seconds
    since the run began, for streams of one recording.
    """
    path, _, stream = text.partition(".mcap:")
    if stream or text.endswith(".mcap"):
        return _of_recording(Path(f"{path}.mcap") if stream else Path(text), stream, of_run)
    if Path(text).is_dir():
        return _of_folder(Path(text))
    return read_poses(text, mended=True)


def same_recording(one: str, other: str) -> bool:
    """Whether two sources are streams of one recording."""
    files = [text.partition(".mcap:")[0] for text in (one, other) if ".mcap:" in text]
    return len(files) == 2 and Path(f"{files[0]}.mcap").resolve() == Path(f"{files[1]}.mcap").resolve()


def _of_recording(path: Path, stream: str, of_run: bool) -> Poses:
    with Recording(path) as recording:
        kinds = {found.name: _KINDS[found.type] for found in recording.streams() if found.type in _KINDS}
        if not stream and len(kinds) == 1:
            stream = next(iter(kinds))
        if stream not in kinds:
            way = f"name one of its streams of poses, as in {path}:{next(iter(kinds), 'node.output')}"
            raise TrajectoryError(f"{path}: no poses in '{stream}'{did_you_mean(stream, kinds)}; {way}")
        start_ns = 0 if of_run else recording.wall_start_ns
        rows = []
        for _, message in recording.messages(stream, kinds[stream]):
            assert isinstance(message, Pose)
            device_ns = message.device_ns if isinstance(message, PoseEstimate) and not of_run else 0
            rows.append(((device_ns or start_ns + message.stamp.t_ns) * 1e-9, _matrix(message)))
    return _poses(rows, f"{path.name}:{stream}")


def _of_folder(path: Path) -> Poses:
    with open_log(path) as log:
        topics = [topic.name for topic in log.topics if topic.kind is Pose]
        if len(topics) != 1:
            listed = ", ".join(topics) or "none"
            raise FoveateError(f"{path}: one topic of poses is needed, it has {listed}; name a file of poses")
        rows = [
            ((log.start_ns + message.stamp.t_ns) * 1e-9, _matrix(message)) for _, _, message in log.messages(topics)
        ]
        left_out = log.problems.get(topics[0], "")
    found = _poses(rows, path.name)
    return Poses(found.time_s, found.matrices, found.name, "; ".join(filter(None, (left_out, found.note))))


def _poses(rows: list[tuple[float, Array]], name: str) -> Poses:
    if not rows:
        raise CalibrationError(f"{name}: holds no poses")
    return in_order(np.array([t for t, _ in rows]), np.stack([matrix for _, matrix in rows]), name)


def _matrix(message: Message) -> Array:
    """4 x 4, NaN where the pose is none: a tracker that is lost may say so."""
    assert isinstance(message, Pose)
    try:
        return transform(quaternion(message.orientation), message.position_m)
    except ValueError:
        return _NO_TURN
