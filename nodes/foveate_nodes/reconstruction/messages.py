"""What travels between the nodes of a light-section scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.messages import Message, MirrorState


@dataclass(frozen=True, slots=True, eq=False)
class Stripe(Message):
    """The centre line of a laser stripe in an image, at most one point a row (or column); the stamp is the frame's."""

    point_px: NDArray[np.float64]  # N x 2: column, row; pixel centres at integers
    sigma_px: NDArray[np.float32]  # N, standard deviation across the stripe, of noise and speckle together
    normal_px: NDArray[np.float32]  # N x 2, unit, across the stripe
    peak: NDArray[np.float32]  # N, grey levels above the background
    saturated: NDArray[np.uint8]  # N, 1 = the profile is clipped and its sigma is enlarged for that
    width: int  # of the image, pixels
    height: int
    seq: int  # of the frame
    mirror: MirrorState | None = None  # the camera's steering mirror at mid-exposure


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud(Message):
    """Points of surfaces in the frame of the rig; the stamp is that of what they were measured from."""

    point_m: NDArray[np.float32]  # N x 3
    covariance_m2: NDArray[np.float32]  # N x 6: xx, xy, xz, yy, yz, zz
    intensity: NDArray[np.float32]  # N, grey levels
    view_m: NDArray[np.float32]  # (3,) where the (virtual) camera's centre was
    seq: int = 0  # of the frame, for the cloud of one profile


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceMesh(Message):
    """Triangles of the surfaces that keyframes see, counter-clockwise seen from outside; in `map`, or `odom` as long as
    no loop was closed."""

    point_m: NDArray[np.float32]  # N x 3
    normal: NDArray[np.float32]  # N x 3, unit, outward
    color: NDArray[np.uint8]  # N x 3: red, green, blue
    triangle: NDArray[np.int32]  # M x 3
    keyframes: int  # that it was made of
    left_out: int = 0  # keyframes beyond the most that are kept
    rebuilt: int = 0  # how often it was put together anew after a loop
