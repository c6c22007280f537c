"""The graph of keyframes: steps between neighbours, loops where they see the same place (gtsam, extra `slam`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate_calibration.rigid import invert
from foveate_nodes.odometry.se3 import logarithm

Array = NDArray[np.float64]
_UNSEEN_SIGMA = np.array([0.5] * 3 + [1.0] * 3)  # of a step that was not seen: after a loss
_HUBER = 1.0  # sigmas of a loop's residual from which it pulls no harder: convex, so drift hides no right loop
_ITERATIONS = 30
_WRONG = 12.0  # sigmas by which a loop is missed that was none


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """What was measured between two keyframes."""

    one: int
    other: int
    pose: Array  # 4 x 4, one_from_other
    covariance: Array  # 6 x 6, of a turn and a shift of the other, in its own axes
    loop: bool  # found by looks: it may be wrong


class PoseGraph:
    """Poses (world_from_camera) of keyframes by number, and their ties."""

    def __init__(self) -> None:
        self.poses: dict[int, Array] = {}
        self.ties: list[Tie] = []
        self._given: dict[int, Array] = {}  # as odometry had them

    def copy(self) -> PoseGraph:
        """One that goes on from here."""
        other = PoseGraph()
        other.poses, other.ties, other._given = dict(self.poses), list(self.ties), dict(self._given)
        return other

    @property
    def loops(self) -> list[tuple[int, int]]:
        """The numbers of keyframes that loops join."""
        return [(tie.one, tie.other) for tie in self.ties if tie.loop]

    def add(self, number: int, pose: Array, before: int, covariance: Array) -> None:
        """A keyframe at `pose` (world_from_camera, as odometry has it), a step from `before`; -1 = the step was not
        seen. Its covariance (6 x 6) is that of the step."""
        self._given[number] = pose
        if before in self.poses:
            step = invert(self._given[before]) @ pose
        elif self.poses:
            before = next(reversed(self.poses))
            step, covariance = invert(self._given[before]) @ pose, np.full((6, 6), np.inf)
        else:
            self.poses[number] = pose
            return
        self.ties.append(Tie(before, number, step, _sound(covariance), loop=False))
        self.poses[number] = self.poses[before] @ step

    def given(self, one: int, other: int) -> Array:
        """one_from_other (4 x 4), as odometry had it."""
        return invert(self._given[one]) @ self._given[other]

    def optimise(self) -> None:
        """Move all poses but the first to where their ties agree best; a loop that all others contradict is forgotten.

        Raises BackendMissing.
        """
        self._solve()
        while True:
            worst = max((tie for tie in self.ties if tie.loop), key=self._off, default=None)
            if worst is None or self._off(worst) < _WRONG:
                return
            self.ties.remove(worst)
            self._solve()

    def _off(self, tie: Tie) -> float:
        """By how many sigmas a tie is missed."""
        between = invert(self.poses[tie.one]) @ self.poses[tie.other]
        error = logarithm(invert(tie.pose) @ between)
        return float(np.sqrt(error @ np.linalg.solve(tie.covariance, error)))

    def _solve(self) -> None:
        gtsam: Any = optional("gtsam", "loop closure", "slam")
        graph, start = gtsam.NonlinearFactorGraph(), gtsam.Values()
        first = next(iter(self.poses))
        for number, pose in self.poses.items():
            start.insert(number, gtsam.Pose3(pose))
        held = gtsam.noiseModel.Diagonal.Sigmas(np.full(6, 1e-6))
        graph.add(gtsam.PriorFactorPose3(first, gtsam.Pose3(self.poses[first]), held))
        huber = gtsam.noiseModel.mEstimator.Huber.Create(_HUBER)
        for tie in self.ties:
            noise: Any = gtsam.noiseModel.Gaussian.Covariance(tie.covariance)
            if tie.loop:
                noise = gtsam.noiseModel.Robust.Create(huber, noise)
            graph.add(gtsam.BetweenFactorPose3(tie.one, tie.other, gtsam.Pose3(tie.pose), noise))
        settings = gtsam.LevenbergMarquardtParams()
        settings.setMaxIterations(_ITERATIONS)
        found = gtsam.LevenbergMarquardtOptimizer(graph, start, settings).optimize()
        self.poses = {number: np.asarray(found.atPose3(number).matrix()) for number in self.poses}


def _sound(covariance: Array) -> Array:
    """Of a step that was not seen: what may have happened."""
    if not np.isfinite(covariance).all():
        return np.diag(_UNSEEN_SIGMA**2)
    return covariance
