"""Frame by frame: where the camera is, against keyframes that it makes as it goes, and whether that can be trusted."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.rigid import invert, rotation_from, transform
from foveate_nodes.odometry import se3
from foveate_nodes.odometry.agreement import LEAST_EDGES, Agreement, agreement
from foveate_nodes.odometry.alignment import PLAIN, Alignment, Residual, align
from foveate_nodes.odometry.features import Features, pose_between
from foveate_nodes.odometry.pyramid import LEVELS
from foveate_nodes.odometry.view import Reference, View
from foveate_nodes.odometry.window import Optimising, Window

Array = NDArray[np.float64]
_COARSE = 3
_COARSE_STEPS = 6
_MOST_DOUBT = 1.7  # times the last noise: what the residuals are taken to be at most
_DOUBT, _DOUBT_PX = 1.5, 2.0  # times the last frame's noise, and pixels: what starting poses are held against
_FLOW, _PARALLAX, _HIDDEN = 0.18, 0.09, 0.5  # of the image's width, the same, of the points: each makes a keyframe
_READY = 6  # frames until a new keyframe's window is asked for: always as many, however fast the machine is
_KEPT = 40  # keyframes to find the way back to
_TRIED = 3  # of those, at each frame that is lost
_WORSE = 2.0  # times the least residual against the keyframe: light or blur has changed (Engel et al. 2018, 3.1)
_NOISE = (6.0, 1.0)  # of brightness and depth, before any is measured
_LEAST_POINTS = 200  # of a keyframe
_LEAST_RESPONSE = 0.05  # of a phase correlation that says something


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A keyframe as a reference of later frames."""

    seq: int
    reference: Reference
    features: Features
    world_from_camera: Array
    before: int  # the seq of the keyframe before; -1 = none
    covariance: Array  # of the step from there


@dataclass(slots=True, eq=False)
class Tracked:
    """What became of a frame."""

    state: str
    reason: str
    world_from_camera: Array | None
    covariance: Array
    key: Key | None
    ready: Key | None = None  # one of a few frames ago, where its window has now put it
    agreement: Agreement | None = None
    alignment: Alignment | None = None
    starts: int = 0


class Tracker:
    """Follows one camera. Poses are world_from_camera; the world is where the first keyframe was."""

    def __init__(
        self, *, residual: Residual = "photometric", planes: float = 0.5, use_corners: bool = True, window: int = 6,
        window_planes: float = 0.05, patience_s: float = 2.0,
    ) -> None:  # fmt: skip
        """`planes`, `window_planes`: weight of depth against image in a frame and in the window of `window` keyframes
        (0 or 1 = none); after `patience_s` without a way back it begins anew where it was lost."""
        self._residual, self._planes, self._use_corners = residual, planes, use_corners
        self._window = Window(window, window_planes) if window > 1 else None
        self._optimising: Optimising | None = None  # with the newest keyframe
        self._since = 0  # frames since that was made
        self._ready: Key | None = None  # in this frame
        self._patience_s = patience_s
        self.keys: list[Key] = []
        self._key: Key | None = None
        self._relative = np.eye(4)  # camera_from_key of the last frame that was tracked
        self._speed = np.zeros(6)  # twist a second, of the camera
        self._light = PLAIN
        self._last: tuple[View, int] | None = None  # that frame
        self._last_s = 0.0
        self._lost_s: float | None = None  # since when
        self._sharp = np.inf  # the least residual against the keyframe
        self._noise = _NOISE  # residuals of the last frame: of brightness, and of depth in its own sigma
        self._spread = np.zeros((6, 6))  # covariance of the last frame that was tracked

    def copy(self) -> Tracker:
        """One that goes on from here; what is copied never changes."""
        other = copy.copy(self)
        other._window = None if self._window is None else self._window.copy()
        return other

    def track(self, view: View, seq: int, time_s: float) -> Tracked:
        """The next frame; times grow."""
        self._ready = None
        self._since += 1
        if self._optimising is not None and self._since == _READY:
            self._taken_over()
        found = self._tracked(view, seq, time_s)
        found.ready = self._ready
        return found

    def _tracked(self, view: View, seq: int, time_s: float) -> Tracked:
        if self._key is None:
            return self._begin(view, seq, time_s, np.eye(4), "started")
        found = self._follow(view, seq, time_s)
        if isinstance(found, Tracked):
            return found
        if self._lost_s is None:
            self._lost_s = time_s
        return self._find_back(view, seq, time_s, found)

    def set_clock(self, time_s: float) -> None:
        """Times go on from here, earlier or later: nothing is known of the speed."""
        self._last_s, self._speed = time_s, np.zeros(6)
        self._lost_s = None if self._lost_s is None else time_s

    def _begin(self, view: View, seq: int, time_s: float, world_from_camera: Array, state: str) -> Tracked:
        reference = Reference.of(view, self._use_corners)
        reason = _lacking(reference)
        if reason:
            return Tracked("lost", reason, None, np.full((6, 6), np.inf), self._key)
        if self._window is not None:
            self._window.restart()
        covariance = np.zeros((6, 6)) if self._key is None else np.full((6, 6), np.inf)
        key = self._settle(view, reference, seq, time_s, world_from_camera, -1, covariance)
        self._speed = np.zeros(6)
        return Tracked(state, "", key.world_from_camera, covariance, key)

    def _settle(self, view: View, reference: Reference, seq: int, time_s: float, world_from_camera: Array, before: int,
                covariance: Array) -> Key:  # fmt: skip
        """Make a frame the keyframe; the one before has been taken over."""
        key = self._key = Key(seq, reference, Features.of(view), world_from_camera, before, covariance)
        self.keys = [*self.keys[-(_KEPT - 1) :], key]
        if self._window is None:
            self._ready = key
        else:
            self._window.add(seq, view, reference, world_from_camera, self._light, self._noise, covariance, before)
            self._optimising, self._since = Optimising(self._window), 0
        self._relative, self._light, self._sharp = np.eye(4), PLAIN, np.inf
        self._last, self._last_s, self._lost_s = (view, seq), time_s, None
        return key

    def _taken_over(self) -> Key:
        """The keyframe; what the window has made of it counts from here on."""
        assert self._key is not None
        if self._optimising is not None:
            self._window, self._optimising = self._optimising.result(), None
            pose = invert(self._window.members[-1].pose)
            self._ready = self._key = replace(self._key, world_from_camera=pose)
            self.keys = [*self.keys[:-1], self._key]
        return self._key

    def _starts(self, view: View, time_s: float) -> list[Array]:
        """Poses (camera_from_key) to start from (Schenk 2019, III.C), and the turn that the image's slide suggests."""
        span = max(time_s - self._last_s, 0.0)
        steps = [se3.exponential(self._speed * span * share) for share in (1.0, 0.0, 0.5, 2.0)]
        starts = [step @ self._relative for step in steps]
        turn = self._slid(view)
        if turn is not None:
            starts.append(turn @ self._relative)
        starts.append(np.eye(4))
        return starts

    def _slid(self, view: View) -> Array | None:
        """The turn (4 x 4) that the shift of the coarsest image since the last frame would be (phase correlation)."""
        assert self._last is not None
        before, now = (np.asarray(v.gray[_COARSE], np.float32) for v in (self._last[0], view))
        camera = view.camera[_COARSE]
        window = cv2.createHanningWindow((before.shape[1], before.shape[0]), cv2.CV_32F)
        (dx, dy), response = cv2.phaseCorrelate(before, now, window)
        if not (np.isfinite([dx, dy]).all() and response > _LEAST_RESPONSE):
            return None
        return transform(rotation_from(np.array([-dy / camera.fy, dx / camera.fx, 0.0])), np.zeros(3))

    def _aligned(self, reference: Reference, view: View, starts: list[Array], light: Array) -> Alignment:
        """From the best of `starts`: all are held against the same noise, and the two that fit best go on a little."""
        noise = np.array([_DOUBT * self._noise[0], _DOUBT * self._noise[1], _DOUBT_PX])
        coarse = (self._residual, self._planes, (_COARSE,))
        rough = [align(reference, view, start, light, *coarse, (0,) * LEVELS, noise) for start in starts]
        rough.sort(key=lambda one: one.cost)
        near = [align(reference, view, one.pose, light, *coarse, (_COARSE_STEPS,) * LEVELS, noise) for one in rough[:2]]
        best = min(near, key=lambda one: one.cost)
        ceiling = np.array([_MOST_DOUBT * max(self._noise[0], 3.0), _MOST_DOUBT * max(self._noise[1], 0.7), np.inf])
        found = align(reference, view, best.pose, best.brightness, self._residual, self._planes, ceiling=ceiling)
        found.iterations += sum(one.iterations for one in near)
        return found

    def _follow(self, view: View, seq: int, time_s: float) -> Tracked | str:
        """Against the keyframe, else against the frame before; the reason where neither explains the view."""
        assert self._key is not None and self._last is not None
        key, starts = self._key, self._starts(view, time_s)
        found = self._aligned(key.reference, view, starts, self._light)
        said = agreement(key.reference, view, found)
        made: Key | None = None
        if said.reason and self._last[1] != key.seq:
            # the frame before was tracked, and is nearer: it becomes the keyframe (Schenk and Fraundorfer 2017b, III.D)
            before, key = self._last, self._taken_over()
            pose = key.world_from_camera @ invert(self._relative)
            reference = Reference.of(before[0], self._use_corners)
            again = [start @ invert(self._relative) for start in starts]
            second = self._aligned(reference, view, again, PLAIN)
            judged = agreement(reference, view, second)
            if judged.reason or _lacking(reference):
                return said.reason
            key = made = self._settle(before[0], reference, before[1], self._last_s, pose, key.seq, self._spread)
            found, said = second, judged
        elif said.reason:
            return said.reason
        state = "tracking" if self._lost_s is None else "relocalised"
        return self._accepted(view, seq, time_s, key, found, said, state, len(starts), made)

    def _accepted(self, view: View, seq: int, time_s: float, key: Key, found: Alignment, said: Agreement, state: str,
                  starts: int, made: Key | None = None) -> Tracked:  # fmt: skip
        span = time_s - self._last_s
        if span > 0 and state == "tracking":
            self._speed = se3.logarithm(found.pose @ invert(self._relative)) / span
        else:
            self._speed = np.zeros(6)
        self._key, self._relative, self._light = key, found.pose, found.brightness
        self._last, self._last_s, self._lost_s = (view, seq), time_s, None
        pose = key.world_from_camera @ invert(found.pose)
        said = replace(
            said, covariance=said.covariance * (found.sigma / min(self._sharp, found.sigma)) ** 2 / said.plane
        )
        self._spread = said.covariance
        light = _NOISE[0] if self._residual == "distance" else found.sigma  # distances know nothing of it
        self._sharp, self._noise = min(self._sharp, found.sigma), (light, found.plane_sigma)
        if made is None and (self._due(view, said) or found.sigma > _WORSE * self._sharp):
            reference = Reference.of(view, self._use_corners)
            if not _lacking(reference):
                key = self._taken_over()
                pose = key.world_from_camera @ invert(found.pose)
                key = made = self._settle(view, reference, seq, time_s, pose, key.seq, said.covariance)
        return Tracked(state, "", pose, said.covariance, key, None, said, found, starts)

    def _due(self, view: View, said: Agreement) -> bool:
        width = view.camera[0].width
        return (
            said.flow_px / (_FLOW * width) + said.parallax_px / (_PARALLAX * width) + (1 - said.overlap) / _HIDDEN > 1
        )

    def _find_back(self, view: View, seq: int, time_s: float, why: str) -> Tracked:
        """Against the newest keyframes by features; and if that takes too long, begin anew. `why` it is lost."""
        assert self._key is not None and self._lost_s is not None
        self._taken_over()
        features = Features.of(view)
        matrix = view.camera[0].matrix
        likely = [(pose_between(key.features, features, matrix), key) for key in self.keys]
        ranked = sorted(((*pose, key) for pose, key in likely if pose is not None), key=lambda one: -one[1])[:_TRIED]
        for start, _, key in ranked:
            found = self._aligned(key.reference, view, [start], PLAIN)
            said = agreement(key.reference, view, found)
            if not said.reason:
                self._relative, self._sharp = found.pose, np.inf
                return self._accepted(view, seq, time_s, key, found, said, "relocalised", len(ranked))
        if time_s - self._lost_s > self._patience_s:
            pose_then = self._key.world_from_camera @ invert(self._relative)
            return self._begin(view, seq, time_s, pose_then, "restarted")
        reason = f"{why}; features show it to be at no other keyframe"
        return Tracked("lost", reason, None, np.full((6, 6), np.inf), self._key, starts=len(ranked))


def _lacking(reference: Reference) -> str:
    """Why a view can be no keyframe; "" where it can."""
    points, edges = len(reference.point_m[0]), int(reference.on_edge[0].sum())
    if points < _LEAST_POINTS:
        return f"only {points} points of edges with depth, {_LEAST_POINTS} are needed to begin"
    return "" if edges >= LEAST_EDGES else f"only {edges} points on edges with depth, {LEAST_EDGES} are needed to begin"
