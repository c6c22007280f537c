"""The work of the odometry node: messages in, the tracker, messages out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.messages import CameraInfo, DepthFrame, Frame, Message, Stamp
from foveate_nodes.odometry.agreement import sigmas
from foveate_nodes.odometry.errors import OdometryError
from foveate_nodes.odometry.messages import EdgeMap, Keyframe, PoseEstimate, Tracking
from foveate_nodes.odometry.rgbd import Rgbd, gray_of
from foveate_nodes.odometry.se3 import orientation_of
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.tracker import Key, Tracked, Tracker
from foveate_nodes.odometry.view import EdgeDetector, View


def warm_up() -> None:
    """Load what is compiled, or compile it: a camera's first frames do not wait for that."""
    blocks = np.random.default_rng(0).integers(0, 256, (12, 16), np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    depth_m, matrix = np.full(blocks.shape, 2.0, np.float32), np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    tracker = Tracker(window=2)
    for k, shift in enumerate((0, 2, 40, 42, 44, 46, 48, 50, 52)):  # far enough for a second keyframe and its window
        tracker.track(View(np.roll(blocks, shift, axis=1), depth_m, matrix, canny_edges), k, k / 30)


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A frame with its depth, as they were tracked."""

    stamp: Stamp
    image: NDArray[np.uint8]
    units: NDArray[np.uint16]  # of depth, where the image's pixels are
    scale_m: float


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that the next step depends on; none of it ever changes."""

    tracker: Tracker
    rgbd: Rgbd | None
    pairs: dict[int, _Pair]
    last_ns: int | None
    back_ns: int | None
    number: int
    shift: int

    def __deepcopy__(self, memo: object) -> State:
        """Itself: there are megabytes in it, and nobody writes to them."""
        return self


class Following:
    """Follows one camera from pair to pair."""

    def __init__(self, options: dict[str, Any], edges: EdgeDetector = canny_edges) -> None:
        """`options`: of Tracker."""
        self._patience_ns = round(options.get("patience_s", 2.0) * 1e9)
        self._tracker = Tracker(**options)
        self._edges = edges
        self._rgbd: Rgbd | None = None
        self._pairs: dict[int, _Pair] = {}  # by number: the last that was tracked, and the keyframe
        self._last_ns: int | None = None
        self._back_ns: int | None = None  # since when time is behind that
        self._number, self._shift = -1, 0  # of the last frame, and what its seq lacks: that begins anew with a camera

    def state(self) -> State:
        """What `resume` needs to go on from here."""
        return State(
            self._tracker.copy(), self._rgbd, self._pairs, self._last_ns, self._back_ns, self._number, self._shift
        )

    def resume(self, state: State) -> None:
        """Go on from a state."""
        self._tracker, self._rgbd = state.tracker.copy(), state.rgbd
        self._pairs, self._last_ns, self._back_ns = state.pairs, state.last_ns, state.back_ns
        self._number, self._shift = state.number, state.shift

    def step(self, frame: Frame, depth: DepthFrame, info: CameraInfo) -> dict[str, Message]:
        """What one frame says. Raises OdometryError."""
        t_ns = frame.stamp.t_ns
        if self._last_ns is not None and t_ns <= self._last_ns and not self._new_time(t_ns):
            back_s = (self._last_ns - t_ns) / 1e9
            return {"tracking": _lost(frame, f"time went back by {back_s:.3f} s: the frame is left out")}
        rgbd = self._rgbd or Rgbd(info)
        if not rgbd.fits(info):
            raise OdometryError(
                f"the camera's matrix, lens or size changed at {t_ns / 1e9:.3f} s; odometry follows one camera: "
                "start it anew"
            )
        pair = _Pair(frame.stamp, rgbd.image(frame), rgbd.depth(depth), depth.scale_m)
        self._rgbd, self._last_ns, self._back_ns = rgbd, t_ns, None
        if frame.seq + self._shift <= self._number:
            self._shift = self._number + 1 - frame.seq
        number = self._number = frame.seq + self._shift
        view = View(gray_of(pair.image), pair.units * np.float32(pair.scale_m), rgbd.matrix, self._edges)
        found = self._tracker.track(view, number, t_ns / 1e9)
        out: dict[str, Message] = {"tracking": _tracking(frame, found)}
        if found.world_from_camera is not None:
            out["pose"] = _pose(frame, found)
            self._pairs = self._pairs | {number: pair}
        if found.ready is not None:
            its = self._pairs[found.ready.seq]
            out["keyframe"] = _keyframe(its, rgbd, found.ready)
            out["edge_map"] = _edge_map(its.stamp, found.ready)
        if found.world_from_camera is not None and found.key is not None:
            self._pairs = {seq: self._pairs[seq] for seq in {found.key.seq, number} & self._pairs.keys()}
        return out

    def _new_time(self, t_ns: int) -> bool:
        """Whether stamps that are behind have gone on for so long that the clock must have been set."""
        if self._back_ns is None or t_ns <= self._back_ns:
            self._back_ns = t_ns
        if t_ns - self._back_ns < self._patience_ns:
            return False
        self._tracker.set_clock(t_ns / 1e9)
        return True


def _pose(frame: Frame, found: Tracked) -> PoseEstimate:
    pose, key = found.world_from_camera, found.key
    assert pose is not None and key is not None
    return PoseEstimate(
        frame.stamp, pose[:3, 3].copy(), orientation_of(pose[:3, :3]), "odom", "camera", found.covariance, key.seq,
        key.world_from_camera[:3, 3].copy(), orientation_of(key.world_from_camera[:3, :3]), frame.device_ns,
    )  # fmt: skip


def _tracking(frame: Frame, found: Tracked) -> Tracking:
    key = -1 if found.key is None else found.key.seq
    said, how = found.agreement, found.alignment
    if found.world_from_camera is None or said is None or how is None:
        points = 0 if found.key is None else len(found.key.reference.point_m[0])
        sure = (np.inf, np.inf) if found.world_from_camera is None else (0.0, 0.0)
        share = 0.0 if found.world_from_camera is None else 1.0
        return Tracking(frame.stamp, found.state, found.reason, frame.seq, key, points, share, share, share, 0.0,
                        0.0, *sure, 0, found.starts)  # fmt: skip
    return Tracking(
        frame.stamp, found.state, "", frame.seq, key, how.seen, said.edge, said.plane, said.overlap, said.flow_px,
        how.sigma, *sigmas(said.covariance), how.iterations, found.starts,
    )  # fmt: skip


def _lost(frame: Frame, reason: str) -> Tracking:
    return Tracking(frame.stamp, "lost", reason, frame.seq, -1, 0, 0.0, 0.0, 0.0, 0.0, 0.0, np.inf, np.inf, 0, 0)


def _keyframe(pair: _Pair, rgbd: Rgbd, key: Key) -> Keyframe:
    pose = key.world_from_camera
    return Keyframe(
        pair.stamp, pair.image, pair.units, pair.scale_m, rgbd.matrix, pose[:3, 3].copy(),
        orientation_of(pose[:3, :3]), key.covariance, key.seq, key.before,
    )  # fmt: skip


def _edge_map(stamp: Stamp, key: Key) -> EdgeMap:
    pose, reference = key.world_from_camera, key.reference
    known = reference.measured
    point = reference.point_m[0][known] @ pose[:3, :3].T + pose[:3, 3]
    return EdgeMap(stamp, point.astype(np.float32), reference.gray[known], key.seq)
