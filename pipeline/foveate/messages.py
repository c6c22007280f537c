"""What travels on the wires: frozen values with a stamp first and read-only arrays.

Directions are gnomonic angles of the rig frame (x right, y down, z forward): azimuth = atan(x / z),
elevation = atan(y / z), radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a message's content was true: for an image the middle of its exposure."""

    t_ns: int  # on the pipeline's clock: nanoseconds since the run began
    exposure_ns: int = 0  # how long the content took to gather; 0 = an instant
    sigma_ns: int = 0  # standard deviation of t_ns
    clock: str = "pipeline"


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """The base of everything on a wire; makes its arrays read-only."""

    stamp: Stamp

    def __post_init__(self) -> None:
        for name in _array_fields(type(self)):  # type: ignore[arg-type]
            flags = getattr(self, name).flags
            if flags.writeable:
                flags.writeable = False

    @classmethod
    def between(cls, before: Self, after: Self, t_ns: int) -> Self:
        """The value at `t_ns` between two messages; only types that override this can be interpolated."""
        raise NotImplementedError(f"{cls.__name__} cannot be interpolated")

    def within(self, begin_ns: int, end_ns: int) -> Self | None:
        """The part whose content was true in [begin, end), None if nothing was; types with parts override this."""
        begin, end = self.stamp.t_ns - self.stamp.exposure_ns // 2, self.stamp.t_ns + self.stamp.exposure_ns // 2
        return self if begin < end_ns and end >= begin_ns else None


@cache
def _array_fields(cls: type) -> tuple[str, ...]:
    """Fields annotated as arrays. Kept, for a message is made at every hop: asking each time doubled its cost."""
    return tuple(item.name for item in fields(cls) if "ndarray" in str(item.type).lower())


def size_of(message: Message) -> int:
    """Bytes of memory that a message keeps: its arrays, and a little for the rest."""
    return 500 + sum(getattr(message, name).nbytes for name in _array_fields(type(message)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class MirrorState(Message):
    """Where a steering mirror is, or was at the stamp."""

    angle_rad: NDArray[np.float64]  # (axes,), mechanical
    moved: bool  # it moved by more than its tolerance during stamp.exposure_ns
    source: str  # "readback" | "model" | "command"

    @classmethod
    def between(cls, before: MirrorState, after: MirrorState, t_ns: int) -> MirrorState:
        share = _share(before, after, t_ns)
        angle = before.angle_rad + share * (after.angle_rad - before.angle_rad)
        return MirrorState(_stamp_between(before, after, t_ns), angle, before.moved or after.moved, after.source)


@dataclass(frozen=True, slots=True, eq=False)
class Frame(Message):
    """One image; `stamp.t_ns` is mid-exposure."""

    image: NDArray[np.uint8]  # H x W or H x W x 3, uint8, read-only
    encoding: str  # PFNC name: "Mono8" | "BGR8"
    seq: int  # unwrapped; a gap = a frame the device lost
    lost_before: int = 0  # frames known lost between this one and the one before
    mirror: MirrorState | None = None  # the steering mirror at mid-exposure, if one is in the path
    missing_bytes: int = 0  # of the image, lost on the way; 0 = complete
    device_ns: int = 0  # on the device's own clock, as it gave it; 0 = it gives none
    epoch: int = 0  # counts up when the device's clock wraps or jumps
    received_ns: int = 0  # when the computer had it, on the pipeline's clock; 0 = not taken note of
    gain_db: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Boxes(Message):
    """Detections in one image."""

    box_px: NDArray[np.float32]  # N x 4: x0, y0, x1, y1
    sigma_px: NDArray[np.float32]  # N x 4: standard deviation of centre x, centre y, width, height
    score: NDArray[np.float32]  # N, 0 to 1
    label: NDArray[np.int32]  # N, index into names
    names: tuple[str, ...]
    width: int  # of the image, pixels
    height: int
    seq: int  # of the frame
    mirror: MirrorState | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Gaze(Message):
    """Where to look next; `stamp.t_ns` is when the decision was made."""

    angle_rad: NDArray[np.float64]  # (axes,), mechanical mirror angles
    not_before_ns: int  # start the move then, so that it does not smear an exposure
    expected: float  # detections expected from the look
    reason: str  # "search" | "revisit" | "raster" | "random"


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityMap(Message):
    """Expected number of objects in each cell of a regular grid over the field of regard."""

    expected: NDArray[np.float32]  # rows x columns
    left_rad: float  # azimuth of the grid's left edge
    top_rad: float  # elevation of its upper edge
    cell_rad: float


@dataclass(frozen=True, slots=True, eq=False)
class Objects(Message):
    """Objects by direction: what a search has found, or what a simulated world knows to be there."""

    id: NDArray[np.int64]  # N
    label: NDArray[np.int32]  # N, index into names
    direction_rad: NDArray[np.float64]  # N x 2: azimuth, elevation
    sigma_rad: NDArray[np.float64]  # N x 2
    extent_rad: NDArray[np.float64]  # N x 2: full width and height
    probability: NDArray[np.float64]  # N, that the object exists
    looks: NDArray[np.int32]  # N, detections fused
    names: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, eq=False)
class DepthFrame(Message):
    """Distances along the optical axis, one a pixel; `stamp.t_ns` is mid-exposure."""

    depth: NDArray[np.uint16]  # H x W, read-only; 0 = not measured
    scale_m: float  # metres a unit
    seq: int  # unwrapped; a gap = a frame the device lost
    lost_before: int = 0
    device_ns: int = 0  # as in Frame
    epoch: int = 0
    received_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CameraInfo(Message):
    """Intrinsics of a camera as a log carries them."""

    width: int
    height: int
    model: str  # "plumb_bob" | "rational_polynomial" | "equidistant" | another name the log gives
    camera_matrix: NDArray[np.float64]  # 3 x 3, pixels
    distortion: NDArray[np.float64]  # (n,), as the model orders them


@dataclass(frozen=True, slots=True, eq=False)
class Imu(Message):
    """One sample of an inertial sensor in its own frame."""

    angular_velocity_rad_s: NDArray[np.float64]  # (3,)
    acceleration_m_s2: NDArray[np.float64]  # (3,), with gravity

    @classmethod
    def between(cls, before: Imu, after: Imu, t_ns: int) -> Imu:
        share = _share(before, after, t_ns)
        turn = before.angular_velocity_rad_s * (1 - share) + after.angular_velocity_rad_s * share
        push = before.acceleration_m_s2 * (1 - share) + after.acceleration_m_s2 * share
        return Imu(_stamp_between(before, after, t_ns), turn, push)


@dataclass(frozen=True, slots=True, eq=False)
class Pose(Message):
    """Where a frame is in another: x_parent = R(orientation) x_child + position."""

    position_m: NDArray[np.float64]  # (3,)
    orientation: NDArray[np.float64]  # (4,), unit quaternion x, y, z, w
    parent: str = "world"
    child: str = "camera"

    @classmethod
    def between(cls, before: Pose, after: Pose, t_ns: int) -> Pose:
        """Linear in position, spherical-linear in orientation."""
        share = _share(before, after, t_ns)
        a, b = before.orientation, after.orientation
        cosine = float(a @ b)
        b, cosine = (b, cosine) if cosine >= 0 else (-b, -cosine)  # the shorter way round
        angle = float(np.arccos(min(cosine, 1.0)))
        if angle < 1e-6:
            mixed = a + share * (b - a)
        else:
            mixed = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
        position = before.position_m + share * (after.position_m - before.position_m)
        orientation = mixed / np.linalg.norm(mixed)
        return Pose(_stamp_between(before, after, t_ns), position, orientation, after.parent, after.child)


@dataclass(frozen=True, slots=True, eq=False)
class LaserState(Message):
    """What a line laser does, as it was read back."""

    power: float  # share of the most it can give, 0 to 1
    emitting: bool
    interlock: str  # "" = none; else why it may not emit


@dataclass(frozen=True, slots=True, eq=False)
class Events(Message):
    """Brightness changes of an event camera in the order of time; the stamp covers the packet."""

    t_ns: NDArray[np.int64]  # N, on the pipeline's clock, never decreasing
    x: NDArray[np.uint16]  # N, column
    y: NDArray[np.uint16]  # N, row
    polarity: NDArray[np.uint8]  # N, 1 = brighter, 0 = darker
    width: int
    height: int
    lost_before: int = 0  # events known lost since the packet before
    epoch: int = 0  # counts up when the device's clock wraps or jumps

    def within(self, begin_ns: int, end_ns: int) -> Events | None:
        first, last = np.searchsorted(self.t_ns, [begin_ns, end_ns])
        if first == last:
            return None
        part = slice(first, last)
        t = self.t_ns[part]
        stamp = replace(self.stamp, t_ns=int(t[0] + t[-1]) // 2, exposure_ns=int(t[-1] - t[0]))
        return replace(self, stamp=stamp, t_ns=t, x=self.x[part], y=self.y[part], polarity=self.polarity[part])


def _share(before: Message, after: Message, t_ns: int) -> float:
    """How far `t_ns` is on the way from one stamp to the other, 0 to 1."""
    span = after.stamp.t_ns - before.stamp.t_ns
    return min(max((t_ns - before.stamp.t_ns) / span, 0.0), 1.0) if span > 0 else 0.0


def _stamp_between(before: Message, after: Message, t_ns: int) -> Stamp:
    return replace(before.stamp, t_ns=t_ns, sigma_ns=max(before.stamp.sigma_ns, after.stamp.sigma_ns))
