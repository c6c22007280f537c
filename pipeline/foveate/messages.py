"""What travels on the wires: frozen values with a stamp first and read-only arrays.

Directions are gnomonic angles of the rig frame (x right, y down, z forward): azimuth = atan(x / z),
elevation = atan(y / z), radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache

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


@cache
def _array_fields(cls: type) -> tuple[str, ...]:
    """Fields annotated as arrays. Kept, for a message is made at every hop: asking each time doubled its cost."""
    return tuple(item.name for item in fields(cls) if "ndarray" in str(item.type).lower())


@dataclass(frozen=True, slots=True, eq=False)
class MirrorState(Message):
    """Where a steering mirror is, or was at the stamp."""

    angle_rad: NDArray[np.float64]  # (axes,), mechanical
    moved: bool  # it moved by more than its tolerance during stamp.exposure_ns
    source: str  # "readback" | "model" | "command"


@dataclass(frozen=True, slots=True, eq=False)
class Frame(Message):
    """One image; `stamp.t_ns` is mid-exposure."""

    image: NDArray[np.uint8]  # H x W or H x W x 3, uint8, read-only
    encoding: str  # PFNC name: "Mono8" | "BGR8"
    seq: int  # unwrapped; a gap = a frame the device lost
    lost_before: int = 0  # frames known lost between this one and the one before
    mirror: MirrorState | None = None  # the steering mirror at mid-exposure, if one is in the path


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

    angle_rad: NDArray[np.float64]  # (2,), mechanical mirror angles
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
