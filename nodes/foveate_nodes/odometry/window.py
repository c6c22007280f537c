"""The local window: the newest keyframes' poses, brightnesses and inverse depths, optimised together.

Photometric residuals of points of every keyframe in every other (Engel, Koltun and Cremers, "Direct sparse odometry",
2018), the depth camera's inverse depths as priors, and distances between the surfaces of pairs of keyframes. A keyframe
that leaves is marginalised: what was known of it becomes a prior of those that stay.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import invert
from foveate_nodes.odometry import kernels, se3, window_kernels
from foveate_nodes.odometry.pyramid import MIDDLE
from foveate_nodes.odometry.view import Reference, View
from foveate_nodes.odometry.window_kernels import UNKNOWNS

Array = NDArray[np.float64]
_DEPTH_DOUBT, _LEAST_GAIN = 2.0, 1e-3  # at an edge depth is worse than on a surface; gains are positive
_STEP = 60.0  # times the information of a tracked step: the window takes residuals for independent that err together
_POINTS = 400  # of a keyframe
_ITERATIONS = 5
_FIRST_SIGMA, _LEAST_SIGMA = 8.0, 3.0  # grey levels, of a keyframe's pixel against another's
_UNLIKE = 2.0  # times the residual of their own tracking: pairs that agree so badly are left out
_GAIN_SIGMA, _OFFSET_SIGMA = 0.3, 8.0
_GAUGE = 1e8  # information of the first keyframe's pose: it stays where it is
_PLANE_LEVEL, _PLANES = 1, 2  # the depth's level, and which of the reference's sets of surfaces
_STILL = 1e-5  # rad or m: a step below ends the optimisation


@dataclass(slots=True, eq=False)
class Member:
    """A keyframe of the window."""

    seq: int
    view: View
    pose: Array  # 4 x 4, camera_from_world
    light: Array  # (2,): logarithm of the gain, offset
    ray: Array  # N x 3, z = 1
    value: NDArray[np.float32]  # N
    inverse_depth: Array  # N
    measured: Array  # N, inverse depth that the camera measured
    information: Array  # N, of that
    plane: Array  # M x 6
    noise: tuple[float, float]


@dataclass(slots=True, eq=False)
class _System:
    normal: Array  # 8K x 8K
    side: Array  # 8K
    cost: float
    points: tuple[Array, Array, Array]  # of all keyframes: normal N, side N, cross N x 8K
    spread: Array  # K x K, grey levels, of a pair; 0 = not looked at


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """All that does not change while keyframes are optimised, one behind the other; see `window_terms`."""

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    far: NDArray[np.float32]
    camera: Array
    start: NDArray[np.int64]
    ray: Array
    value: NDArray[np.float32]
    measured: Array
    information: Array
    plane_start: NDArray[np.int64]
    plane: Array
    noise: Array

    @classmethod
    def of(cls, members: list[Member]) -> _Stack:
        views, camera = [member.view for member in members], members[0].view.camera
        return cls(
            np.stack([view.even[0] for view in views]),
            np.stack([view.depth[0] for view in views]),
            np.stack([view.depth[_PLANE_LEVEL] for view in views]),
            np.stack([camera[0].numbers, camera[_PLANE_LEVEL].numbers]),
            np.cumsum([0, *(len(member.ray) for member in members)]),
            np.concatenate([member.ray for member in members]),
            np.concatenate([member.value for member in members]),
            np.concatenate([member.measured for member in members]),
            np.concatenate([member.information for member in members]),
            np.cumsum([0, *(len(member.plane) for member in members)]),
            np.concatenate([member.plane for member in members]),
            np.array([member.noise[1] for member in members]),
        )


class Optimising:
    """A copy of a window, while a thread of its own optimises it: its kernels hold no lock of the interpreter."""

    def __init__(self, window: Window) -> None:
        self._window = window.copy()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="odometry's window")  # ends by itself within 0.2 s
        self._thread.start()

    def _run(self) -> None:
        try:
            self._window.optimise()
            self._window.shrink()
        except BaseException as fault:  # it belongs to whoever asks for the result
            self._fault = fault

    def result(self) -> Window:
        """Waits for it; may be asked for more than once. Raises what optimising raised."""
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._window.copy()


class Window:
    """The newest keyframes; poses are camera_from_world."""

    def __init__(self, size: int, planes: float) -> None:
        """`planes`: weight of surfaces against brightness."""
        self._size, self._planes = size, planes
        self.members: list[Member] = []
        self._sigma = np.zeros((0, 0))  # grey levels, of host in target
        self._use = np.zeros((0, 0), np.bool_)  # pairs in other light agree less than they should, and are left out
        self._stack: _Stack | None = None
        self._steps: list[tuple[int, int, Array, Array]] = []  # seqs of both ends, other_from_one, its information
        self._prior = np.zeros((0, 0))
        self._prior_side = np.zeros(0)
        self._prior_at: list[tuple[Array, Array]] = []  # poses and lights that the prior was linearised at

    def copy(self) -> Window:
        """One that goes on from here; arrays are replaced, never written to."""
        other = copy.copy(self)
        other.members = [copy.copy(member) for member in self.members]
        other._prior_at, other._steps = list(self._prior_at), list(self._steps)
        return other

    def restart(self) -> None:
        """Forget all."""
        self.members = []
        self._steps = []
        self._prior, self._prior_side, self._prior_at = np.zeros((0, 0)), np.zeros(0), []

    def add(
        self, seq: int, view: View, reference: Reference, world_from_camera: Array, light: Array,
        noise: tuple[float, float], covariance: Array, before: int,
    ) -> None:  # fmt: skip
        """Take in a keyframe that was tracked against the keyframe `before` (its seq): `light` is gain and offset
        against that, `noise` what the residuals were, of brightness and of depth in units of its sigma, `covariance`
        that of the step from there. After a relocalisation the window may not have it: then its step is not held."""
        known = np.flatnonzero(reference.measured)
        kept = known[:: max(1, -(-len(known) // _POINTS))]
        point = reference.point_m[0][kept]
        measured = 1.0 / point[:, 2]
        sigma = _DEPTH_DOUBT * kernels.depth_sigma(point[:, 2]) * measured**2
        former = next((member for member in self.members if member.seq == before), None)
        if former is not None:
            gain = max(light[0].item(), _LEAST_GAIN)
            light = np.array([former.light[0] + np.log(gain), light[1] - MIDDLE + gain * former.light[1]])
        else:
            light = np.zeros(2)
        self.members.append(Member(
            seq, view, invert(world_from_camera), light, point / point[:, 2:], reference.value[0][kept],
            measured.copy(), measured, 1.0 / sigma**2, reference.plane[_PLANES], noise,
        ))  # fmt: skip
        if former is not None and np.isfinite(covariance).all():
            information = _STEP * np.asarray(np.linalg.inv(covariance), np.float64)
            self._steps.append((before, seq, self._relative(former, self.members[-1]), information))
        size = UNKNOWNS * len(self.members)
        grown = np.zeros((size, size))
        grown[: len(self._prior), : len(self._prior)] = self._prior
        self._prior_side = np.concatenate([self._prior_side, np.zeros(UNKNOWNS)])
        self._prior = grown
        self._prior_at.append((self.members[-1].pose.copy(), light.copy()))
        diagonal = np.array([0.0] * 6 + [1 / _GAIN_SIGMA**2, 1 / _OFFSET_SIGMA**2])
        if len(self.members) == 1:
            diagonal[:6] = _GAUGE
            diagonal[6:] = _GAUGE
        at = np.arange(size - UNKNOWNS, size)
        self._prior[at, at] += diagonal

    def optimise(self) -> int:
        """Move poses, brightnesses and inverse depths to where they agree best; returns the steps taken."""
        if len(self.members) < 2:
            return 0
        damping, used = 1e-4, 0
        count = len(self.members)
        self._stack = None
        self._sigma, self._use = np.full((count, count), _FIRST_SIGMA), ~np.eye(count, dtype=np.bool_)
        noise = np.array([member.noise[0] for member in self.members])
        everyone = list(range(count))
        self._sigma = np.maximum(self._linear(everyone).spread, _LEAST_SIGMA)  # pairs that are blurred say less
        self._use &= self._sigma <= _UNLIKE * np.maximum(noise[:, None], noise)
        system = self._linear(everyone)
        for _ in range(_ITERATIONS):
            used += 1
            before = [(m.pose, m.light, m.inverse_depth) for m in self.members]
            step = self._step(system, damping)
            trial = self._linear(everyone)
            if trial.cost < system.cost:
                gained = system.cost - trial.cost
                system, damping = trial, damping / 4
                if np.abs(step.reshape(-1, UNKNOWNS)[:, :6]).max() < _STILL or gained < 1e-4 * system.cost:
                    break
            else:
                for member, (pose, light, inverse) in zip(self.members, before, strict=True):
                    member.pose, member.light, member.inverse_depth = pose, light, inverse
                damping = max(damping, 1e-3) * 10
        return used

    def shrink(self) -> list[Member]:
        """Marginalise keyframes until the window has its size; returns them."""
        gone = []
        while len(self.members) > self._size:
            gone.append(self._marginalise(self._leaving()))
        self._stack = None
        return gone

    def _leaving(self) -> int:
        """The index of one that is far from the newest and near to others (the score of Engel 2018, 3.1)."""
        newest = invert(self.members[-1].pose)[:3, 3]
        place = np.array([invert(member.pose)[:3, 3] for member in self.members])
        away = np.linalg.norm(place - newest, axis=1)
        others = range(len(self.members) - 2)  # the newest two stay
        between = np.linalg.norm(place[:, None] - place[None], axis=2) + 0.01
        score = [np.sqrt(away[i] + 0.01) * sum(1 / between[i, k] for k in others if k != i) for i in others]
        return int(np.argmax(score)) if len(score) else 0

    def _relative(self, host: Member, target: Member) -> Array:
        return target.pose @ invert(host.pose)

    def _linear(self, hosts: list[int]) -> _System:
        """The normal equations of the residuals of `hosts` in all others, and of the prior."""
        stack = self._stack = self._stack or _Stack.of(self.members)
        count = len(self.members)
        size = UNKNOWNS * count
        normal, side = np.zeros((size, size)), np.zeros(size)
        inverse = np.concatenate([member.inverse_depth for member in self.members])
        pose = np.stack([member.pose for member in self.members])
        relative = pose[None] @ np.stack([invert(one) for one in pose])[:, None]
        adjoint = np.zeros((count, count, 6, 6))
        adjoint[..., :3, :3] = adjoint[..., 3:, 3:] = relative[..., :3, :3]
        adjoint[..., 3:, :3] = np.cross(relative[..., :3, 3, None], relative[..., :3, :3], axis=-2)
        is_host = np.isin(np.arange(count), hosts)
        off = inverse - stack.measured
        bend = off * off * stack.information / 5  # a rim may have the depth of what is behind it
        mine = np.repeat(is_host, np.diff(stack.start))
        point_normal = np.where(mine, stack.information / (1 + bend), 0.0)
        point_side, cross, spread = point_normal * off, np.zeros((len(off), size)), np.zeros((count, count))
        cost = float(2.5 * np.log1p(bend[mine]).sum()) + window_kernels.window_terms(
            stack.image, stack.depth, stack.far, stack.camera, stack.start, stack.ray, inverse, stack.value,
            stack.plane_start, stack.plane, self._planes, stack.noise, relative, adjoint,
            np.stack([member.light for member in self.members]), self._sigma, self._use & is_host[:, None],
            _LEAST_SIGMA, normal, side, point_normal, point_side, cross, spread,
        )  # fmt: skip
        cost += self._add_prior(normal, side) + self._add_steps(normal, side, hosts)
        return _System(normal, side, cost, (point_normal, point_side, cross), spread)

    def _add_prior(self, normal: Array, side: Array) -> float:
        off = np.concatenate([
            np.concatenate([se3.logarithm(member.pose @ invert(pose)), member.light - light])
            for member, (pose, light) in zip(self.members, self._prior_at, strict=True)
        ])  # fmt: skip
        pushed = self._prior @ off
        normal += self._prior
        side += self._prior_side + pushed
        return float(off @ (self._prior_side + 0.5 * pushed))

    def _add_steps(self, normal: Array, side: Array, hosts: list[int]) -> float:
        """The tracked steps that begin or end at `hosts`."""
        number = {member.seq: k for k, member in enumerate(self.members)}
        wanted = {self.members[k].seq for k in hosts}
        cost = 0.0
        for one, other, measured, information in self._steps:
            if one not in wanted and other not in wanted:
                continue
            pose = self._relative(self.members[number[one]], self.members[number[other]])
            error = se3.logarithm(pose @ invert(measured))
            at, ah = (slice(number[k] * UNKNOWNS, number[k] * UNKNOWNS + 6) for k in (other, one))
            back = -se3.adjoint(pose)
            pull = information @ error
            normal[at, at] += information
            normal[at, ah] += information @ back
            normal[ah, at] += back.T @ information
            normal[ah, ah] += back.T @ information @ back
            side[at] += pull
            side[ah] += back.T @ pull
            cost += 0.5 * float(error @ pull)
        return cost

    def _step(self, system: _System, damping: float) -> Array:
        """Take a step (8K), and say which."""
        normal, side = system.normal.copy(), system.side.copy()
        point_normal, point_side, cross = system.points
        held = point_normal * (1 + damping)
        window_kernels.eliminate(held, point_side, cross, normal, side)
        normal[np.diag_indices_from(normal)] *= 1 + damping
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), 1e-12))
        step = -scale * np.linalg.lstsq(normal * np.outer(scale, scale), scale * side, rcond=1e-12)[0]
        assert self._stack is not None
        moved = -(point_side + cross @ step) / np.maximum(held, 1e-12)
        for k, member in enumerate(self.members):
            own = step[k * UNKNOWNS : (k + 1) * UNKNOWNS]
            member.pose = se3.exponential(own[:6]) @ member.pose
            member.light = member.light + own[6:]
            inverse = member.inverse_depth + moved[self._stack.start[k] : self._stack.start[k + 1]]
            member.inverse_depth = np.clip(inverse, member.measured * 0.7, member.measured * 1.4)
        return step

    def _marginalise(self, index: int) -> Member:
        """Fold a keyframe, its points and the prior into a prior of the others; how others see it is dropped."""
        system = self._linear([index])
        normal, side = system.normal, system.side
        window_kernels.eliminate(*system.points, normal, side)
        size = len(side)
        gone = np.arange(index * UNKNOWNS, (index + 1) * UNKNOWNS)
        kept = np.setdiff1d(np.arange(size), gone)
        inner = normal[np.ix_(gone, gone)]
        scale = 1 / np.sqrt(np.maximum(np.diag(inner), 1e-12))
        inverse = np.outer(scale, scale) * np.linalg.pinv(inner * np.outer(scale, scale), rcond=1e-12, hermitian=True)
        gain = normal[np.ix_(kept, gone)] @ inverse
        prior = normal[np.ix_(kept, kept)] - gain @ normal[np.ix_(gone, kept)]
        self._prior, self._prior_side = (prior + prior.T) / 2, side[kept] - gain @ side[gone]
        member = self.members.pop(index)
        self._stack = None
        others = np.ix_(*[np.delete(np.arange(len(self._use)), index)] * 2)
        self._sigma, self._use = self._sigma[others], self._use[others]
        self._steps = [step for step in self._steps if member.seq not in step[:2]]
        # the system was linearised where they are now
        self._prior_at = [(other.pose.copy(), other.light.copy()) for other in self.members]
        return member
