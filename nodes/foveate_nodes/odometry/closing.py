"""The work of loop closure: which earlier keyframes see the same place, and what the graph makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.messages import Stamp
from foveate_calibration.poses import quaternion
from foveate_calibration.rigid import invert, transform, vector_from
from foveate_nodes.odometry import ferns, messages
from foveate_nodes.odometry.agreement import Agreement, agreement
from foveate_nodes.odometry.alignment import PLAIN, align
from foveate_nodes.odometry.features import Features, pose_between
from foveate_nodes.odometry.pose_graph import PoseGraph
from foveate_nodes.odometry.rgbd import gray_of
from foveate_nodes.odometry.se3 import orientation_of
from foveate_nodes.odometry.view import EdgeDetector, Reference, View

Array = NDArray[np.float64]
_ALIKE = 0.25  # dissimilarity below which views may be of one place (Schenk and Fraundorfer 2019, III.F)
_NEAR_M, _NEAR_RAD = 0.6, 0.7  # keyframes that odometry has so close are looked at too
_TRIED = 3  # of the keyframes that may be, for each new one
_APART = 6  # keyframes between two that may close a loop: neighbours see each other anyway
_LEAST_EDGE = 0.4  # agreement of edges: a wrong loop does more harm than a frame that is lost
_SAME_M, _SAME_RAD = 0.1, 0.1  # features and alignment may differ by so much


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """What is kept of a keyframe."""

    seq: int
    reference: Reference
    features: Features


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that the next keyframe's treatment depends on; none of it ever changes."""

    places: list[_Place]
    codes: NDArray[np.uint8]
    graph: PoseGraph

    def __deepcopy__(self, memo: object) -> State:
        """Itself: there are megabytes in it, and nobody writes to them."""
        return self


class Closing:
    """Takes keyframes in their order, and says how the graph looks after each that closed a loop."""

    def __init__(self, edges: EdgeDetector, planes: float, most: int) -> None:
        """`planes`: weight of depth in alignments; of more than `most` keyframes, the oldest are not looked at."""
        self._edges, self._planes, self._most = edges, planes, most
        self._places: list[_Place] = []
        self._codes = np.zeros((0, 500), np.uint8)
        self.graph = PoseGraph()

    def state(self) -> State:
        """What `resume` needs to go on from here."""
        return State(self._places, self._codes, self.graph.copy())

    def resume(self, state: State) -> None:
        """Go on from a state."""
        self._places, self._codes, self.graph = state.places, state.codes, state.graph.copy()

    def step(self, key: messages.Keyframe) -> messages.PoseGraph | None:
        """The graph where this keyframe closed a loop, else None."""
        depth_m = key.depth * np.float32(key.scale_m)
        gray = key.image if key.image.ndim == 2 else gray_of(key.image, "BGR8")
        view = View(gray, depth_m, key.camera_matrix, self._edges)
        place = _Place(key.seq, Reference.of(view), Features.of(view))
        pose = transform(quaternion(key.orientation), key.position_m)
        self.graph.add(key.seq, pose, key.before, key.covariance)
        code = ferns.code(view)
        closed = False
        for index in self._candidates(code, key.seq):
            closed = self._tied(self._places[index], place, view) or closed
        self._places = [*self._places, place][-self._most :]
        self._codes = np.concatenate([self._codes, code[None]])[-self._most :]
        if not closed:
            return None
        self.graph.optimise()
        return _message(key.stamp, self.graph)

    def _candidates(self, code: NDArray[np.uint8], seq: int) -> Sequence[int]:
        """Indices of earlier places that may be this one, the most alike first."""
        count = len(self._places) - _APART
        if count < 1:
            return []
        unlike = ferns.dissimilarity(self._codes[:count], code)
        here = self.graph.poses[seq]
        near = np.array([_is_near(self.graph.poses[place.seq], here) for place in self._places[:count]])
        fit = (unlike < _ALIKE) | near
        order = np.argsort(unlike - 0.2 * near, kind="stable")
        chosen: list[int] = []
        for index in order[fit[order]].tolist():
            if all(abs(index - other) > 2 for other in chosen):  # neighbours say the same
                chosen.append(index)
            if len(chosen) == _TRIED:
                break
        return chosen

    def _tied(self, old: _Place, new: _Place, view: View) -> bool:
        """Align the new view to the old place from several starts; a tie where it agrees there and back."""
        starts = [invert(self.graph.poses[new.seq]) @ self.graph.poses[old.seq]]
        matrix = view.camera[0].matrix
        by_features = pose_between(old.features, new.features, matrix)
        if by_features is not None:
            starts.insert(0, by_features[0])
        for start in starts:
            found = align(old.reference, view, start, PLAIN, "photometric", self._planes)
            said: Agreement = agreement(old.reference, view, found)
            if said.reason or said.edge < _LEAST_EDGE:
                continue
            if by_features is None or _close(found.pose, by_features[0], _SAME_M, _SAME_RAD):
                self.graph.close(old.seq, new.seq, invert(found.pose), said.covariance)
                return True
        return False


def _is_near(one: Array, other: Array) -> bool:
    return _close(one, other, _NEAR_M, _NEAR_RAD)


def _close(one: Array, other: Array, most_m: float, most_rad: float) -> bool:
    between = invert(one) @ other
    return bool(np.linalg.norm(between[:3, 3]) < most_m and np.linalg.norm(vector_from(between[:3, :3])) < most_rad)


def _message(stamp: Stamp, graph: PoseGraph) -> messages.PoseGraph:
    poses = np.stack(list(graph.poses.values()))
    return messages.PoseGraph(
        stamp, np.array(list(graph.poses), np.int64), poses[:, :3, 3].copy(),
        np.stack([orientation_of(pose[:3, :3]) for pose in poses]), np.array(graph.loops, np.int64).reshape(-1, 2),
    )  # fmt: skip
