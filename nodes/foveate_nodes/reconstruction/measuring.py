"""What a cloud says of gauge parts whose true size is known: step heights, planes, spheres.

Which points are a part's follows from where the part stands, with a margin, never from how near they lie to it: the
slab around a face is many times thicker than any error that is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.base import Part, Surface
from foveate_nodes.reconstruction import fitting
from foveate_nodes.reconstruction.errors import SurfaceError

Array = NDArray[np.float64]
_SLAB_M = 0.02  # half the thickness of the region around a face, along its normal
_LEAST_POINTS = 30
_SPHERE_SHARE = 0.85  # of its radius, seen from above: farther out the surface is too steep for light or camera
_MOST_ALIGNED = 20_000  # points that lay the cloud on the surface


@dataclass(frozen=True, slots=True)
class Measured:
    """One quantity of one part, metres."""

    part: str
    quantity: str  # "step height" | "flatness" | "radius" | "shape"
    center_m: tuple[float, float, float]
    true_m: float | None
    measured_m: float | None
    sigma_m: float  # of `measured_m` by the noise of the fit alone
    points: int
    spread_m: float  # standard deviation of the points about the fitted (free form: the true) shape
    most_m: float  # the largest of those, strays left out
    strays: int

    @property
    def error_m(self) -> float | None:
        """Measured less true."""
        return None if self.true_m is None or self.measured_m is None else self.measured_m - self.true_m


def laid_on(points: NDArray[np.floating], surface: Surface, seed: int = 1) -> tuple[Array, Array]:
    """`surface_from_points` (4 x 4) and the signed distances (N,) after it.

    A calibration leaves the place of the whole frame open by a millimetre or more; shape is judged after this.
    Raises SurfaceError.
    """
    points = np.asarray(points, np.float64)
    some = points
    if len(points) > _MOST_ALIGNED:
        some = points[np.random.default_rng(seed).choice(len(points), _MOST_ALIGNED, replace=False)]
    pose, _ = fitting.align(some, surface.distance)
    return pose, surface.distance(points @ pose[:3, :3].T + pose[:3, 3])


def measure(points: Array, surface: Surface, margin_m: float = 0.005) -> tuple[list[Measured], list[str]]:
    """All parts of a surface in a cloud (N x 3, laid on it), and those with too few points to say anything."""
    parts, found, missed = list(surface.parts), list[Measured](), list[str]()
    for part in parts:
        standing = [other for other in parts if other.plate is not None and parts[other.plate] is part]
        try:
            if part.kind == "plane":
                face = _face(points, part, standing, margin_m)
                spread = float(face.residual_m[face.used].std())
                found.append(_result(part, "flatness", None, None, face.sigma_center_m, face, spread))
            elif part.kind == "block":
                found.append(_step(points, part, parts, margin_m))
            elif part.kind == "sphere":
                ball = fitting.sphere(_cap(points, part, margin_m))
                spread = float(ball.residual_m[ball.used].std())
                found.append(_result(part, "radius", part.radius_m, ball.radius_m, ball.sigma_radius_m, ball, spread))
            else:
                found.append(_shape(points, part, surface))
        except SurfaceError as error:
            missed.append(f"{part.name}: {error}")
    return found, missed


def _local(points: Array, part: Part) -> Array:
    """Points in the part's frame, with z outward from its face."""
    return (points - part.center_m) @ part.rotation * [1.0, 1.0, -1.0]


def _enough(points: Array, what: str) -> Array:
    if len(points) < _LEAST_POINTS:
        raise SurfaceError(f"{len(points)} points on its {what}; {_LEAST_POINTS} are needed")
    return points


def _face(points: Array, part: Part, standing: Sequence[Part], margin_m: float) -> fitting.Plane:
    """The plane of a plate, without what stands on it and the shadow-prone rim around that."""
    at = _local(points, part)
    there = (np.abs(at[:, :2]) < part.size_m[:2] / 2 - margin_m).all(axis=1) & (np.abs(at[:, 2]) < _SLAB_M)
    for other in standing:
        beside = at[:, :2] - ((other.center_m - part.center_m) @ part.rotation)[:2]
        there &= (np.abs(beside) > other.size_m[:2] / 2 + margin_m).any(axis=1)
    return fitting.plane(_enough(points[there], "face"), part.center_m - part.rotation[:, 2])


def _step(points: Array, part: Part, parts: Sequence[Part], margin_m: float) -> Measured:
    """The height of a block's top over its plate, at the middle of the top."""
    if part.plate is None:
        raise SurfaceError("it stands on no plate")
    plate = _face(points, parts[part.plate], [part], margin_m)
    at = _local(points, part)
    there = (np.abs(at[:, :2]) < part.size_m[:2] / 2 - margin_m).all(axis=1)
    there &= np.abs(at[:, 2] - part.height_m) < _SLAB_M
    top = fitting.plane(_enough(points[there], "top"), part.center_m - part.rotation[:, 2])
    height = float(plate.distance(top.center_m[None])[0])
    beside = float(np.linalg.norm(top.center_m - plate.center_m - plate.normal * height))
    sigma = float(np.sqrt(top.sigma_center_m**2 + plate.sigma_center_m**2 + (beside * plate.sigma_tilt_rad) ** 2))
    return _result(part, "step height", part.height_m, height, sigma, top, float(top.residual_m[top.used].std()))


def _cap(points: Array, part: Part, margin_m: float) -> Array:
    """Points of the outward half of a sphere."""
    at = _local(points, part)
    there = (np.hypot(at[:, 0], at[:, 1]) < _SPHERE_SHARE * part.radius_m) & (at[:, 2] > 0)
    return _enough(points[there & (at[:, 2] < part.radius_m + _SLAB_M)], "outward half")


def _shape(points: Array, part: Part, surface: Surface) -> Measured:
    """Distances to a free form of all points over its box's middle part."""
    at = _local(points, part)
    near = points[(np.abs(at) < part.size_m / 2).all(axis=1)]
    distance = surface.distance_of(part.index, _enough(near, "surface"))
    used = np.abs(distance) < 4 * 1.4826 * np.median(np.abs(distance))
    x, y, z = (float(value) for value in part.center_m)
    spread, most = float(distance[used].std()), float(np.abs(distance[used]).max())
    offset = float(distance[used].mean())
    sigma = spread / float(np.sqrt(used.sum()))
    strays = int((~used).sum())
    return Measured(part.name, "shape", (x, y, z), 0.0, offset, sigma, int(used.sum()), spread, most, strays)


def _result(
    part: Part, quantity: str, true_m: float | None, measured_m: float | None, sigma_m: float,
    fit: fitting.Plane | fitting.Sphere, spread_m: float,
) -> Measured:  # fmt: skip
    x, y, z = (float(value) for value in part.center_m)
    most = float(np.abs(fit.residual_m[fit.used]).max())
    return Measured(part.name, quantity, (x, y, z), true_m, measured_m, sigma_m, int(fit.used.sum()), spread_m, most,
                    int((~fit.used).sum()))  # fmt: skip
