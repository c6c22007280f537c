"""What a recording of odometry holds, and the files that are made of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.errors import FoveateError, RecordingError
from foveate.messages import Message, Pose
from foveate.recording import Recording
from foveate_calibration.poses import Poses, in_order
from foveate_calibration.rigid import invert, vector_from
from foveate_nodes.odometry.corrected import Array, Corrected, matrix
from foveate_nodes.odometry.messages import EdgeMap, Keyframe, PoseEstimate, PoseGraph, Tracking
from foveate_nodes.odometry.se3 import orientation_of
from foveate_nodes.odometry.trajectory_error import Evaluation, How, evaluated

_THUMBNAILS, _THUMBNAIL_PX = 8, 160
_MOST_POINTS = 2_000_000  # of the map


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """Two keyframes that see the same place, and what odometry had made of the way between them."""

    one: int
    other: int
    off_m: float  # odometry's step from one to the other against the graph's
    off_rad: float
    path_m: float  # gone in between


@dataclass(slots=True, eq=False)
class Followed:
    """Everything the report tells of one recording."""

    name: str
    path: Path
    tracking: list[Tracking] = field(default_factory=list)
    time_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # as the files have it
    stamp_s: Array = field(default_factory=lambda: np.zeros(0))
    online: Array = field(default_factory=lambda: np.zeros((0, 4, 4)))  # odom_from_camera
    closed: Array | None = None  # map_from_camera after loops; None: no loop was closed, or it was not recorded
    closes: bool = False  # whether loops were looked for, and recorded where one closed
    joined: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))  # a pose to the one before
    corrected: Corrected = field(default_factory=Corrected)
    keyframes: list[tuple[int, float]] = field(default_factory=list)  # seq, stamp in seconds
    thumbnails: list[tuple[int, float, NDArray[np.uint8]]] = field(default_factory=list)
    point_m: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))  # the map, corrected
    gray: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    loops: list[Loop] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)  # against a recorded truth
    truth_m: Array = field(default_factory=lambda: np.zeros((0, 3)))
    notes: list[str] = field(default_factory=list)

    @property
    def path_m(self) -> float:
        """Length of the way, without what lies between the pieces that were tracked."""
        step = np.linalg.norm(np.diff(self.online[:, :3, 3], axis=0), axis=1)
        return float(step[self.joined[1:]].sum())

    def lost(self) -> list[tuple[float, float, str]]:
        """(From, to, reason) of the spans without a pose, in seconds of the stamps."""
        spans: list[tuple[float, float, str]] = []
        lost = False
        for said in self.tracking:
            now = said.stamp.t_ns / 1e9
            if lost:
                spans[-1] = (spans[-1][0], now, spans[-1][2])
            elif said.state == "lost":
                spans.append((now, now, said.reason))
            lost = said.state == "lost"
        return spans


def read(log: Recording, name: str) -> Followed:
    """Raises RecordingError where there are no poses of odometry."""
    stream = _streams(log)
    if PoseEstimate not in stream:
        raise RecordingError(f"{log.path}: {_why_no_pose(log, stream)}")
    run = Followed(name, log.path, closes=any(each.type == PoseGraph.__name__ for each in log.streams()))
    run.tracking = [said for said in _messages(log, stream, Tracking) if isinstance(said, Tracking)]
    if not run.tracking:
        run.notes.append("how well frames were tracked is not known: 'odometry.tracking' was not recorded")
    poses = [said for said in _messages(log, stream, PoseEstimate) if isinstance(said, PoseEstimate)]
    given = _keyframes(log, stream, run)
    for said in poses:
        run.corrected.saw(said)
    graph = log.last(stream[PoseGraph], PoseGraph) if PoseGraph in stream else None
    if isinstance(graph, PoseGraph):
        run.corrected.closed(graph)
        run.closed = np.stack([run.corrected.camera(said) for said in poses])
    start_ns = log.wall_start_ns
    run.time_ns = np.array([said.device_ns or start_ns + said.stamp.t_ns for said in poses], np.int64)
    run.stamp_s = np.array([said.stamp.t_ns for said in poses]) / 1e9
    run.online = np.stack([matrix(said.position_m, said.orientation) for said in poses])
    lost_ns = np.array([said.stamp.t_ns for said in run.tracking if said.state in ("lost", "restarted")], np.int64)
    gaps = np.searchsorted(lost_ns, [said.stamp.t_ns for said in poses], "right")
    run.joined = np.diff(gaps, prepend=-1) == 0
    if isinstance(graph, PoseGraph):
        run.loops = [found for one, other in run.corrected.loops if (found := _loop(run, poses, one, other))]
    _map(log, stream, run, given)
    run.notes += _missed(log, stream[PoseEstimate].rpartition(".")[0])
    _truth(log, run)
    return run


def _streams(log: Recording) -> dict[type[Message], str]:
    """The stream of each kind; of several the one with the most messages."""
    there = sorted(log.streams(), key=lambda stream: stream.messages)
    by_name = {stream.type: stream.name for stream in there if stream.messages}
    kinds = (PoseEstimate, Tracking, Keyframe, EdgeMap, PoseGraph)
    return {kind: by_name[kind.__name__] for kind in kinds if kind.__name__ in by_name}


def _why_no_pose(log: Recording, stream: dict[type[Message], str]) -> str:
    """What odometry said of the frames, else what did not come to it."""
    name = next((each.name for each in log.streams() if each.type == PoseEstimate.__name__), None)
    if name is None:
        return "the odometry report needs a stream of poses ('odometry.pose'); none is there"
    said = [each for each in _messages(log, stream, Tracking) if isinstance(each, Tracking)]
    if said:
        kinds = Counter(re.sub(r"[\d.]+", "", each.reason) for each in said)
        (kind, count), *_ = kinds.most_common(1)
        reason = next(each.reason for each in said if re.sub(r"[\d.]+", "", each.reason) == kind)
        return f"none of {len(said)} frames has a pose; {count} times: {reason}"
    node = name.rpartition(".")[0]
    inputs = _inputs(log, node)
    for port, what in (("depth", "depth"), ("frame", "images"), ("info", "intrinsics")):
        if port in inputs and not inputs[port][1]["produced"]:
            return f"'{node}' got no {what}: '{inputs[port][0]}' gave none"
    missed = "; ".join(_missed(log, node)) or "it worked on no frame"
    return f"'{node}' gave no pose: {missed}"


def _messages(log: Recording, stream: dict[type[Message], str], kind: type[Message]) -> Iterator[Message]:
    if kind in stream:
        yield from (message for _, message in log.messages(stream[kind], kind))


def _keyframes(log: Recording, stream: dict[type[Message], str], run: Followed) -> dict[int, Array]:
    """Where each keyframe was when it was made; a few of them small, spread over the run."""
    count = next((each.messages for each in log.streams() if each.name == stream.get(Keyframe)), 0)
    chosen = set(np.linspace(0, count - 1, min(count, _THUMBNAILS)).round().astype(int).tolist())
    given = {}
    for number, said in enumerate(_messages(log, stream, Keyframe)):
        assert isinstance(said, Keyframe)
        given[said.seq] = matrix(said.position_m, said.orientation)
        run.corrected.saw(said)
        run.keyframes.append((said.seq, said.stamp.t_ns / 1e9))
        if number in chosen:
            height = max(round(said.image.shape[0] * _THUMBNAIL_PX / said.image.shape[1]), 1)
            small = cv2.resize(said.image, (_THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA)
            run.thumbnails.append((said.seq, said.stamp.t_ns / 1e9, small.astype(np.uint8)))
    return given


def _loop(run: Followed, poses: list[PoseEstimate], one: int, other: int) -> Loop | None:
    """None where odometry never named one of the two."""
    odom = run.corrected.odom
    if one not in odom or other not in odom:
        return None
    off = invert(invert(run.corrected.pose(one)) @ run.corrected.pose(other)) @ invert(odom[one]) @ odom[other]
    key = np.array([said.keyframe for said in poses])
    begin, end = sorted(int(np.argmax(key == seq)) for seq in (one, other))
    step = np.linalg.norm(np.diff(run.online[begin : end + 1, :3, 3], axis=0), axis=1)
    gone = float(step[run.joined[begin + 1 : end + 1]].sum())
    return Loop(one, other, float(np.linalg.norm(off[:3, 3])), float(np.linalg.norm(vector_from(off[:3, :3]))), gone)


def _map(log: Recording, stream: dict[type[Message], str], run: Followed, given: dict[int, Array]) -> None:
    """The points of all keyframes, where those are now."""
    points, grays, count = [np.zeros((0, 3))], [np.zeros(0, np.uint8)], 0
    for said in _messages(log, stream, EdgeMap):
        assert isinstance(said, EdgeMap)
        whole = np.isfinite(said.point_m).all(axis=1)
        point = said.point_m[whole].astype(np.float64)
        if said.keyframe in run.corrected.odom and said.keyframe in given:
            moved = run.corrected.pose(said.keyframe) @ invert(given[said.keyframe])
            point = point @ moved[:3, :3].T + moved[:3, 3]
        points.append(point)
        grays.append(said.gray[whole])
        count += len(point)
        if count > _MOST_POINTS:
            run.notes.append(f"the map ends at {count:,} points: the keyframes after {said.keyframe} are left out")
            break
    run.point_m, run.gray = np.concatenate(points).astype(np.float32), np.concatenate(grays)
    if not count:
        run.notes.append("there is no map: 'odometry.edge_map' was not recorded")


def _inputs(log: Recording, node: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The ledger of each wire into a node, by its input, with where it comes from."""
    found = {}
    for wire in log.end.get("ledger", []):
        source, _, target = str(wire["wire"]).partition(" -> ")
        if target.rpartition(".")[0] == node:
            found[target.rpartition(".")[2]] = (source, wire)
    return found


def _missed(log: Recording, node: str) -> list[str]:
    """Frames that never came to odometry, and why: a share of those that did says nothing of them."""
    why = {"full": "dropped, for they came faster than it works", "expired": "too old",
           "unmatched": "without a partner in time"}  # fmt: skip
    unmatched = [line.removeprefix(f"{node}: ") for line in log.end.get("notes", []) if line.startswith(f"{node}: ")]
    if unmatched:
        why["unmatched"] += f" ({'; '.join(unmatched)})"
    told: dict[tuple[str, str], list[str]] = {}  # sources by how many and why
    for port, (source, wire) in _inputs(log, node).items():
        missed = wire["produced"] - wire["delivered"]
        if port in ("frame", "depth") and missed:
            parts = [f"{count} {why.get(reason, reason)}" for reason, count in sorted(wire["dropped"].items())]
            parts += [f"{wire['in_flight']} still waiting when the run ended"] if wire["in_flight"] else []
            slow = log.seal.get("executor") == "live" and missed > wire["dropped"].get("unmatched", 0)
            advice = "; --executor virtual waits for each frame of a log" if slow else ""
            key = (f"{missed} of {wire['produced']} messages of", f"never came to '{node}': {', '.join(parts)}{advice}")
            told.setdefault(key, []).append(f"'{source}'")
    return [f"{many} {' and of '.join(sources)} {reasons}" for (many, reasons), sources in told.items()]


def _truth(log: Recording, run: Followed) -> None:
    """Hold the poses against a recorded truth, by the stamps of the run."""
    names = [stream.name for stream in log.streams() if stream.type == Pose.__name__ and stream.messages > 2]
    names.sort(key=lambda name: name != "truth.pose")
    if not names:
        return
    rows = [said for _, said in log.messages(names[0], Pose) if isinstance(said, Pose)]
    try:
        truth = in_order(
            np.array([said.stamp.t_ns for said in rows]) / 1e9,
            np.stack([matrix(said.position_m, said.orientation) for said in rows]), names[0],
        )  # fmt: skip
        run.truth_m = truth.matrices[:, :3, 3]
        shown = [("online", run.online)] + ([("after loops", run.closed)] if run.closed is not None else [])
        for name, poses in shown:
            run.evaluations.append(evaluated(Poses(run.stamp_s, poses, name), truth, How()))
    except (FoveateError, ValueError) as error:
        run.notes.append(f"no comparison with '{names[0]}': {error}")


def trajectory_text(time_ns: NDArray[np.int64], poses: Array, about: str) -> str:
    """Poses (N x 4 x 4) as a TUM trajectory: time tx ty tz qx qy qz qw, a line each."""
    lines = [f"# {about}", "# timestamp tx ty tz qx qy qz qw"]
    for t_ns, pose in zip(time_ns.tolist(), poses, strict=True):
        numbers: list[Any] = [*pose[:3, 3].tolist(), *orientation_of(pose[:3, :3]).tolist()]
        lines.append(f"{t_ns // 10**9}.{t_ns % 10**9:09d} " + " ".join(f"{value:.9f}" for value in numbers))
    return "\n".join([*lines, ""])
