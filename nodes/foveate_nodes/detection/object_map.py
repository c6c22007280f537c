"""The object node: detections of many looks fused into objects with a direction, a variance, a probability."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from foveate.messages import Boxes, Objects
from foveate.node import Node, Unit
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.detection.steered_view import SteeredView

Array = NDArray[np.float64]
_GATE = 4.0  # standard deviations within which a detection may be a known object
_SHARED = 0.3  # of the smaller box: two boxes of one class that share more are one object
_GONE = 0.05  # probability below which an object is forgotten
_MOST = 6.0  # log odds at which certainty is capped, so that an object that left can be forgotten
_SEAM_RAD = 0.004  # two cut boxes of one class this near each other are parts of one object
_EDGE_PX = 2.0  # a box this near the image's edge is cut


class ObjectMap(Node):
    """Tracks by direction: a constant-velocity Kalman filter per axis, which fuses repeated looks at a
    still object by inverse variance; existence by log odds of detections and misses."""

    cost_ns = 250_000

    state = (
        "_next_id",
        "_t_ns",
        "_ids",
        "_labels",
        "_state",
        "_covariance",
        "_extent",
        "_odds",
        "_looks",
        "_grown",
        "_whole",
    )

    class Outputs:
        objects: Objects

    def __init__(
        self,
        *,
        camera: Camera,
        mirror: Mirror,
        range: Annotated[float, Unit("m"), Gt(0)] = 150.0,
        fuse: bool = True,
        detection: Annotated[float, Gt(0), Lt(1)] = 0.85,
        false_alarm: Annotated[float, Gt(0), Lt(1)] = 0.03,
        model_sigma: Annotated[float, Unit("rad"), Ge(0)] = 1e-4,
        speed: Annotated[float, Unit("m/s"), Gt(0)] = 2.0,
        acceleration: Annotated[float, Unit("m/s^2"), Gt(0)] = 0.6,
    ) -> None:
        """`fuse`: off keeps the newest position only (to compare); `model_sigma`: what calibration and
        readback add to each position; `speed`, `acceleration`: standard deviations of objects' motion."""
        self._view = SteeredView(camera, mirror, range)
        self._fuse = fuse
        self._again = 0.5  # two detections at one place agree, though their errors are not independent
        self._miss = np.log((1 - detection) / (1 - false_alarm))
        self._model_var = model_sigma**2
        self._speed_var = (speed / range) ** 2
        self._jerk = (acceleration / range) ** 2
        self._next_id = 1
        self._t_ns = 0
        self._ids = np.zeros(0, np.int64)
        self._labels = np.zeros(0, np.int32)
        self._state = np.zeros((0, 2, 2))  # object, axis, (direction, rate)
        self._covariance = np.zeros((0, 2, 2, 2))  # object, axis, 2 x 2
        self._extent = np.zeros((0, 2))
        self._odds = np.zeros(0)
        self._looks = np.zeros(0, np.int32)
        self._grown = False  # a box is new or larger since the last merge
        self._whole = np.zeros(0, bool)  # seen at least once without being cut by the image's edge

    def step(self, boxes: Boxes) -> Objects:
        self._predict(boxes.stamp.t_ns)
        if boxes.mirror is not None:
            self._update(boxes)
            self._forget()
        probability = 1.0 / (1.0 + np.exp(-self._odds))
        return Objects(
            boxes.stamp, self._ids.copy(), self._labels.copy(), self._state[:, :, 0].copy(),
            np.sqrt(self._covariance[:, :, 0, 0]), self._extent.copy(), probability, self._looks.copy(),
            boxes.names,
        )  # fmt: skip

    def _predict(self, t_ns: int) -> None:
        dt = max(t_ns - self._t_ns, 0) / 1e9
        self._t_ns = t_ns
        self._state[:, :, 0] += dt * self._state[:, :, 1]
        p = self._covariance  # F P F' + Q written out: small matrices are slow one by one
        p[:, :, 0, 0] += dt * (2 * p[:, :, 0, 1] + dt * p[:, :, 1, 1]) + self._jerk * dt**3 / 3
        p[:, :, 0, 1] += dt * p[:, :, 1, 1] + self._jerk * dt**2 / 2
        p[:, :, 1, 0] = p[:, :, 0, 1]
        p[:, :, 1, 1] += self._jerk * dt

    def _update(self, boxes: Boxes) -> None:
        mirror = boxes.mirror
        assert mirror is not None
        place, variance, extent, cut = self._measure(boxes)
        taken = np.zeros(len(self._ids), bool)
        order = np.argsort(-boxes.score, kind="stable")
        for row in order:
            found = self._match(place[row], variance[row], extent[row], boxes.label[row], taken)
            gain = self._evidence(float(boxes.score[row]), bool(cut[row]))
            if found is None:
                self._add(place[row], variance[row], extent[row], int(boxes.label[row]), gain)
                self._whole = np.append(self._whole, not cut[row])
                taken = np.append(taken, True)
            else:
                taken[found] = True
                self._fuse_one(found, place[row], variance[row], extent[row], bool(cut[row]))
                self._odds[found] = min(self._odds[found] + max(gain, 0.0) + self._again, _MOST)
        self._missed(mirror.angle_rad, mirror.moved, taken)

    @staticmethod
    def _evidence(score: float, cut: bool) -> float:
        """Log odds that a detection is of an object: the score's own, sharpened; half for a cut box."""
        score = min(max(score, 0.02), 0.98)
        return (0.8 if cut else 1.6) * float(np.log(score / (1 - score)))

    def _measure(self, boxes: Boxes) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        """Directions, variances (rad^2), extents of the detections, and which boxes the image cuts."""
        assert boxes.mirror is not None
        box = boxes.box_px.astype(np.float64)
        focal = self._view.pinhole.focal_px
        place = self._view.directions((box[:, :2] + box[:, 2:]) / 2, boxes.mirror.angle_rad).reshape(-1, 2)
        extent = (box[:, 2:] - box[:, :2]) / focal
        sigma = boxes.sigma_px[:, :2] / focal
        size = np.array([boxes.width, boxes.height])
        edge = (box[:, :2] <= _EDGE_PX) | (box[:, 2:] >= size - _EDGE_PX)
        sigma = np.where(edge, np.maximum(sigma, extent / 3), sigma)
        if boxes.mirror.moved:
            sigma = sigma * 3.0
        return place, np.asarray(sigma**2 + self._model_var, np.float64), extent, np.asarray(edge.any(axis=1))

    def _match(self, place: Array, variance: Array, extent: Array, label: int, taken: NDArray[np.bool_]) -> int | None:
        """The known object a detection is: within the gate, or sharing much of its box."""
        if not len(self._ids):
            return None
        gap = np.abs(self._state[:, :, 0] - place)
        spread = np.sqrt(self._covariance[:, :, 0, 0] + variance)
        distance = np.sqrt(((gap / spread) ** 2).sum(axis=1))
        shared = np.clip((self._extent + extent) / 2 - gap, 0, None)
        shared = np.minimum(shared, np.minimum(self._extent, extent)).prod(axis=1)
        overlap = shared / np.maximum(np.minimum(self._extent.prod(axis=1), extent.prod()), 1e-12)
        near = (gap < 0.75 * np.maximum(self._extent, extent) + 2 * spread).all(axis=1)
        fits = (self._labels == label) & ~taken & ((overlap > _SHARED) | ((distance < _GATE) & near))
        if not fits.any():
            return None
        return int(np.argmin(np.where(fits, distance - 2 * overlap, np.inf)))

    def _add(self, place: Array, variance: Array, extent: Array, label: int, gain: float) -> None:
        self._grown = True
        covariance = np.zeros((1, 2, 2, 2))
        covariance[0, :, 0, 0] = variance
        covariance[0, :, 1, 1] = self._speed_var
        self._ids = np.append(self._ids, self._next_id)
        self._next_id += 1
        self._labels = np.append(self._labels, np.int32(label))
        self._state = np.concatenate([self._state, np.stack([place, np.zeros(2)], axis=1)[None]])
        self._covariance = np.concatenate([self._covariance, covariance])
        self._extent = np.concatenate([self._extent, extent[None]])
        self._odds = np.append(self._odds, gain)
        self._looks = np.append(self._looks, np.int32(1))

    def _fuse_one(self, index: int, place: Array, variance: Array, extent: Array, cut: bool) -> None:
        """Kalman update by a whole view; parts of an object that was never seen whole are joined."""
        self._looks[index] += 1
        if cut:
            if not self._whole[index]:
                self._join(index, place, extent)
        elif not self._fuse or not self._whole[index]:
            self._put(index, place, variance)
            self._extent[index] = extent
            self._grown = True
            self._whole[index] = True
        else:
            covariance = self._covariance[index]
            gain = covariance[:, :, 0] / (covariance[:, 0, 0] + variance)[:, None]
            self._state[index] += gain * (place - self._state[index, :, 0])[:, None]
            self._covariance[index] = covariance - gain[:, :, None] * covariance[:, 0, :][:, None, :]
            self._extent[index] += 0.3 * (extent - self._extent[index])

    def _join(self, index: int, place: Array, extent: Array) -> None:
        """Let an object's box cover another part of it."""
        center, size = self._state[index, :, 0], self._extent[index]
        low = np.minimum(center - size / 2, place - extent / 2)
        high = np.maximum(center + size / 2, place + extent / 2)
        self._grown = True
        self._extent[index] = high - low
        self._put(index, (low + high) / 2, ((high - low) / 6) ** 2 + self._model_var)

    def _put(self, index: int, place: Array, variance: Array) -> None:
        """Start an object's filter again, at rest at `place`."""
        self._state[index, :, 0] = place
        self._state[index, :, 1] = 0.0
        self._covariance[index] = 0.0
        self._covariance[index, :, 0, 0] = variance
        self._covariance[index, :, 1, 1] = self._speed_var

    def _missed(self, angle_rad: Array, moved: bool, taken: NDArray[np.bool_]) -> None:
        """Known objects that should have been seen whole and were not."""
        if moved or not len(self._ids):
            return
        gap = np.abs(self._state[:, :, 0] - self._view.center(angle_rad))
        reach = np.array(self._view.half_field_rad) - self._extent / 2 - 2 * np.sqrt(self._covariance[:, :, 0, 0])
        expected = (gap < reach).all(axis=1) & ~taken
        self._odds[expected] += self._miss

    def _forget(self) -> None:
        """Drop what is improbable; join parts of one object; of two that overlap keep the more certain."""
        keep = self._odds > np.log(_GONE / (1 - _GONE))
        if self._grown and len(self._ids) > 1:
            self._merge(keep)
        self._grown = False
        if not keep.all():
            for name in ("_ids", "_labels", "_state", "_covariance", "_extent", "_odds", "_looks", "_whole"):
                setattr(self, name, getattr(self, name)[keep])

    def _merge(self, keep: NDArray[np.bool_]) -> None:
        """Clear `keep` of objects that are another's part or double. Only new or larger boxes can be."""
        place, rank = self._state[:, :, 0], np.arange(len(self._ids))
        gap = np.abs(place[:, None] - place[None])
        reach = (self._extent[:, None] + self._extent[None]) / 2
        alike = (self._labels[:, None] == self._labels[None]) & (rank[:, None] < rank[None])
        parts = alike & ~self._whole[:, None] & ~self._whole[None] & (gap < reach + _SEAM_RAD).all(axis=2)
        for i, j in np.argwhere(parts):
            if keep[i] and keep[j]:
                self._join(int(i), place[j].copy(), self._extent[j])
                self._odds[i] = max(self._odds[i], self._odds[j])
                keep[j] = False
        shared = np.clip(reach - gap, 0, None)
        shared = np.minimum(shared, np.minimum(self._extent[:, None], self._extent[None])).prod(axis=2)
        area = self._extent.prod(axis=1)
        for i, j in np.argwhere(alike & (shared > 0.5 * np.minimum(area[:, None], area[None]))):
            if keep[i] and keep[j]:
                worse = j if (self._whole[i], self._odds[i]) >= (self._whole[j], self._odds[j]) else i
                keep[worse] = False
