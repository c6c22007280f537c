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
from foveate_nodes.odometry.alignment import spread_of
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
    points: list[tuple[Array, Array, Array]]  # of each keyframe: normal N, side N, cross N x 8K


class Optimising:
    """A copy of a window, while a thread of its own optimises it: its kernels hold no lock of the interpreter."""

    def __init__(self, window: Window) -> None:
        self._window = window.copy()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="odometry's window", daemon=True)
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
        self._sigmas: dict[tuple[int, int], float] = {}  # of the brightness, by host and target
        self._steps: list[tuple[int, int, Array, Array]] = []  # seqs of both ends, other_from_one, its information
        self._unlike: set[tuple[int, int]] = set()
        self._measured: dict[tuple[int, int], float] = {}
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
        self._unlike = set()
        self._measured = {}
        self._linear(range(len(self.members)))
        self._sigmas = dict(self._measured)  # pairs in other light, or blurred, agree less, and say less
        noise = {m.seq: m.noise[0] for m in self.members}
        self._unlike = {(a, b) for (a, b), sigma in self._measured.items() if sigma > _UNLIKE * max(noise[a], noise[b])}
        system = self._linear(range(len(self.members)))
        for _ in range(_ITERATIONS):
            used += 1
            before = [(m.pose, m.light, m.inverse_depth) for m in self.members]
            step = self._step(system, damping)
            trial = self._linear(range(len(self.members)))
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

    def _linear(self, hosts: range | list[int]) -> _System:
        """The normal equations of the residuals of `hosts` in all others, and of the prior."""
        size = UNKNOWNS * len(self.members)
        normal, side, cost = np.zeros((size, size)), np.zeros(size), 0.0
        points = []
        for h in hosts:
            host = self.members[h]
            off = host.inverse_depth - host.measured
            weight = 1 / (1 + off * off * host.information / 5)  # a rim may have the depth of what is behind it
            point_normal, point_side = host.information * weight, host.information * weight * off
            cost += float(2.5 * np.log1p(off * off * host.information / 5).sum())
            cross, residual = np.zeros((len(off), size)), np.empty(len(off))
            for t, target in enumerate(self.members):
                if t == h or (host.seq, target.seq) in self._unlike:
                    continue
                pose = self._relative(host, target)
                adjoint = se3.adjoint(pose)
                more, _ = window_kernels.pair_terms(
                    target.view.even[0], target.view.depth[0], host.ray, host.inverse_depth, host.value, pose,
                    adjoint, target.view.camera[0].numbers, np.concatenate([host.light, target.light]),
                    self._sigmas.get((host.seq, target.seq), _FIRST_SIGMA), h, t, normal, side, point_normal,
                    point_side, cross, residual,
                )  # fmt: skip
                cost += more
                self._measured[host.seq, target.seq] = spread_of(residual, 1.0, _LEAST_SIGMA)
                if self._planes > 0:
                    cost += self._surface(host, target, pose, adjoint, h, t, normal, side)
            points.append((point_normal, point_side, cross))
        cost += self._add_prior(normal, side) + self._add_steps(normal, side, hosts)
        return _System(normal, side, cost, points)

    def _surface(self, host: Member, target: Member, pose: Array, adjoint: Array, h: int, t: int, normal: Array,
                 side: Array) -> float:  # fmt: skip
        small, small_side = np.zeros((6, 6)), np.zeros(6)
        cost, _ = kernels.plane_terms(
            target.view.depth[_PLANE_LEVEL], host.plane, pose, target.view.camera[_PLANE_LEVEL].numbers,
            max(host.noise[1], target.noise[1]), self._planes, small, small_side, np.empty(len(host.plane)),
        )  # fmt: skip
        at, ah = slice(t * UNKNOWNS, t * UNKNOWNS + 6), slice(h * UNKNOWNS, h * UNKNOWNS + 6)
        mixed = -small @ adjoint
        normal[at, at] += small
        normal[at, ah] += mixed
        normal[ah, at] += mixed.T
        normal[ah, ah] -= adjoint.T @ mixed
        side[at] += small_side
        side[ah] -= adjoint.T @ small_side
        return float(cost)

    def _add_prior(self, normal: Array, side: Array) -> float:
        off = np.concatenate([
            np.concatenate([se3.logarithm(member.pose @ invert(pose)), member.light - light])
            for member, (pose, light) in zip(self.members, self._prior_at, strict=True)
        ])  # fmt: skip
        pushed = self._prior @ off
        normal += self._prior
        side += self._prior_side + pushed
        return float(off @ (self._prior_side + 0.5 * pushed))

    def _add_steps(self, normal: Array, side: Array, hosts: range | list[int]) -> float:
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
        for point_normal, point_side, cross in system.points:
            window_kernels.eliminate(point_normal * (1 + damping), point_side, cross, normal, side)
        normal[np.diag_indices_from(normal)] *= 1 + damping
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), 1e-12))
        step = -scale * np.linalg.lstsq(normal * np.outer(scale, scale), scale * side, rcond=1e-12)[0]
        for k, member in enumerate(self.members):
            own = step[k * UNKNOWNS : (k + 1) * UNKNOWNS]
            member.pose = se3.exponential(own[:6]) @ member.pose
            member.light = member.light + own[6:]
            point_normal, point_side, cross = system.points[k]
            moved = -(point_side + cross @ step) / np.maximum(point_normal * (1 + damping), 1e-12)
            member.inverse_depth = np.clip(member.inverse_depth + moved, member.measured * 0.7, member.measured * 1.4)
        return step

    def _marginalise(self, index: int) -> Member:
        """Fold a keyframe, its points and the prior into a prior of the others; how others see it is dropped."""
        system = self._linear([index])
        normal, side = system.normal, system.side
        window_kernels.eliminate(*system.points[0], normal, side)
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
        self._steps = [step for step in self._steps if member.seq not in step[:2]]
        # the system was linearised where they are now
        self._prior_at = [(other.pose.copy(), other.light.copy()) for other in self.members]
        return member
