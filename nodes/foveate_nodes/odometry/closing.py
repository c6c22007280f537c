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
from foveate_nodes.odometry.agreement import agreement
from foveate_nodes.odometry.alignment import PLAIN, align
from foveate_nodes.odometry.features import Features, pose_between
from foveate_nodes.odometry.pose_graph import PoseGraph, Tie
from foveate_nodes.odometry.rgbd import gray_of
from foveate_nodes.odometry.se3 import orientation_of
from foveate_nodes.odometry.view import EdgeDetector, Reference, View

Array = NDArray[np.float64]
_ALIKE = 0.25  # dissimilarity below which views may be of one place (Schenk and Fraundorfer 2019, III.F)
_NEAR_M, _NEAR_RAD = 0.6, 0.7  # keyframes that odometry has so close are looked at too
_TRIED = 3  # of the keyframes that may be, for each new one
_APART = 6  # keyframes between two that may close a loop: neighbours see each other anyway
_LEAST_EDGE, _LEAST_FEATURES = 0.4, 25  # a wrong loop does more harm than a frame that is lost
_DOUBT = 3.0  # times the sigma of a step: views of a loop are further apart, and what bends them errs more
_SAME_M, _SAME_RAD = 0.06, 0.06  # features and alignment, and two loops side by side, may differ by so much
_NEARBY, _MOST_WAITING = 4, 20  # keyframes between loops that confirm each other; loops that wait for that


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
    waiting: list[Tie]
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
        self._codes = np.zeros((0, ferns.FERNS), np.uint8)
        self._waiting: list[Tie] = []
        self.graph = PoseGraph()

    def state(self) -> State:
        """What `resume` needs to go on from here."""
        return State(self._places, self._codes, self._waiting, self.graph.copy())

    def resume(self, state: State) -> None:
        """Go on from a state."""
        self._places, self._codes = state.places, state.codes
        self._waiting, self.graph = state.waiting, state.graph.copy()

    def step(self, key: messages.Keyframe) -> messages.PoseGraph | None:
        """The graph where this keyframe closed a loop, else None."""
        depth_m = key.depth * np.float32(key.scale_m)
        view = View(gray_of(key.image), depth_m, key.camera_matrix, self._edges)
        place = _Place(key.seq, Reference.of(view), Features.of(view))
        pose = transform(quaternion(key.orientation), key.position_m)
        self.graph.add(key.seq, pose, key.before, key.covariance)
        code = ferns.code(view)
        found = [self._seen(self._places[index], place, view) for index in self._candidates(code, key.seq)]
        loops = [loop for tie in found if tie is not None for loop in self._confirmed(tie)]
        self._places = [*self._places, place][-self._most :]
        self._codes = np.concatenate([self._codes, code[None]])[-self._most :]
        if not loops:
            return None
        self.graph.ties += loops
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

    def _seen(self, old: _Place, new: _Place, view: View) -> Tie | None:
        """How the new view lies to the old place, where features and an alignment say the same."""
        by_features = pose_between(old.features, new.features, view.camera[0].matrix)
        if by_features is None or by_features[1] < _LEAST_FEATURES:
            return None
        found = align(old.reference, view, by_features[0], PLAIN, "photometric", self._planes)
        said = agreement(old.reference, view, found)
        if said.reason or said.edge < _LEAST_EDGE or not _close(found.pose, by_features[0], _SAME_M, _SAME_RAD):
            return None
        return Tie(old.seq, new.seq, invert(found.pose), _DOUBT**2 * said.covariance, loop=True)

    def _confirmed(self, tie: Tie) -> list[Tie]:
        """The tie and those that waited for it: a loop counts when another one nearby says the same.

        Shelves and tiles repeat themselves, and a view of the next one agrees well; two views of it, seldom both with
        what odometry says of the way between them.
        """
        number = {place.seq: index for index, place in enumerate(self._places)}
        number[tie.other] = len(self._places)
        agreeing = [
            other for other in [*self._waiting, *(one for one in self.graph.ties if one.loop)]
            if (other.one, other.other) != (tie.one, tie.other)
            and all(abs(number.get(a, -99) - number.get(b, -99)) <= _NEARBY
                    for a, b in ((other.one, tie.one), (other.other, tie.other)))
            and self._agree(other, tie)
        ]  # fmt: skip
        if not agreeing:
            self._waiting = [*self._waiting, tie][-_MOST_WAITING:]
            return []
        freed = [other for other in agreeing if other in self._waiting]
        self._waiting = [other for other in self._waiting if other not in freed]
        return [tie, *freed]

    def _agree(self, one: Tie, other: Tie) -> bool:
        """Whether the way round by both loops and by odometry between their ends comes back to where it began."""
        begin = self.graph.given(one.one, other.one)
        end = self.graph.given(one.other, other.other)
        return _close(one.pose @ end, begin @ other.pose, _SAME_M, _SAME_RAD)


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
