"""The laser's plane against the table it shines on: the scale of the table, and whether the plane can be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_nodes.reconstruction.turntable_fit import Table

Array = NDArray[np.float64]
_TILT_RAD = 0.01  # more than that between stripe and table is told as a doubt
_LEAST_POINTS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """The laser's plane in the camera's frame, and how long the table's unit of length is."""

    plane: Array  # (4,): unit normal and distance, n x = d
    scale_m: float
    rms_m: float  # of the stripe's points about a line on the table
    count: int  # points
    given_tilt_rad: float  # between the table and the line along which the given plane puts the stripe
    given_rms_m: float  # of the heights above the table at which the given plane puts it
    doubts: tuple[str, ...]


def light_on(
    lens: Lens, table: Table, plane: Array, stripes: Sequence[Array], choice: Literal["given", "table", "upright"],
    side_m: float = 0.0,
) -> Light:  # fmt: skip
    """The plane that is to be used, from stripes (N x 2 pixels each) on the empty table, whose unit is unknown.

    `side_m` of a marker, where it is known, gives the scale; else the given plane does, by the median over the stripe.
    Raises CalibrationError where there is no stripe on the table.
    """
    pixels = np.concatenate([np.asarray(points, np.float64).reshape(-1, 2) for points in stripes])
    flat = table.met(lens, pixels)
    there = np.linalg.norm(flat, axis=1) < table.radius_m
    pixels, flat = pixels[there], flat[there]
    if len(pixels) < _LEAST_POINTS:
        raise CalibrationError(f"{len(pixels)} points of a stripe on the empty table; the scale needs {_LEAST_POINTS}: "
                               "is the laser on, and the threshold of 'stripe' low enough?")  # fmt: skip
    middle, along, used, off = _line(flat)
    pixels, flat = pixels[used], flat[used]
    rays = lens.rays(pixels)
    pose = table.camera_from_table
    up, unit = pose[:3, 2], flat @ pose[:3, :2].T + pose[:3, 3]  # on the table, in its unit
    reach = rays @ plane[:3]
    met = rays * (plane[3] / reach)[:, None]
    scale = float(np.median((met @ up) / (unit @ up)))
    if not np.isfinite(scale) or scale <= 0:
        raise CalibrationError("the laser's plane meets the stripe on the table behind the camera; its sign is wrong")
    height = met @ up - scale * (unit @ up)
    place = (flat - middle) @ along * scale
    tilt = float(np.arctan(np.polyfit(place, height, 1)[0]))
    scale = (
        scale
        if side_m == 0.0
        else side_m / float(np.linalg.norm(np.diff(next(iter(table.marker.values()))[:2], axis=0)))
    )
    line, through = pose[:3, :2] @ along, (pose[:3, :2] @ middle + pose[:3, 3]) * scale
    normal = plane[:3] if choice == "given" else plane[:3] - (plane[:3] @ line) * line
    if choice == "upright":
        normal = np.cross(up, line) * np.sign(np.cross(up, line) @ plane[:3] or 1.0)
    normal = normal / np.linalg.norm(normal)
    chosen = plane if choice == "given" else np.append(normal, normal @ through)
    turned = float(np.arccos(np.clip(normal @ plane[:3], -1, 1)))
    return Light(
        chosen,
        scale,
        off * scale,
        len(flat),
        tilt,
        float(np.sqrt((height**2).mean())),
        _doubts(tilt, turned, side_m > 0),
    )


def _line(flat: Array) -> tuple[Array, Array, NDArray[np.bool_], float]:
    """A line through most points (N x 2): its middle, direction, which points lie on it, and their rms off it."""
    draw = np.random.default_rng(1).integers(0, len(flat), (300, 2))
    ways = flat[draw[:, 1]] - flat[draw[:, 0]]
    length = np.linalg.norm(ways, axis=1)
    ways, starts = ways[length > 0] / length[length > 0, None], flat[draw[length > 0, 0]]
    judged = flat[:: max(len(flat) // 1000, 1)]
    offs = [np.median(np.abs((judged - s) @ [-w[1], w[0]])) for s, w in zip(starts, ways, strict=True)]
    best = int(np.argmin(offs))
    middle, along = starts[best], ways[best]
    used = np.ones(len(flat), bool)
    for _ in range(10):
        off = (flat - middle) @ [-along[1], along[0]]
        used = np.abs(off) <= 4 * 1.4826 * max(float(np.median(np.abs(off))), 1e-9)
        middle = flat[used].mean(axis=0)
        along = np.linalg.svd(flat[used] - middle, full_matrices=False)[2][0]
    off = (flat[used] - middle) @ [-along[1], along[0]]
    return middle, along, used, float(np.sqrt((off**2).mean()))


def _doubts(tilt: float, turned: float, scaled: bool) -> tuple[str, ...]:
    said = []
    if abs(tilt) > _TILT_RAD:
        said.append(f"the laser's plane as given puts the stripe {np.degrees(abs(tilt)):.1f} degrees off the table")
    if turned > 1e-9:
        said.append(f"the laser's plane was turned by {np.degrees(turned):.1f} degrees to fit the table")
    if said and not scaled:
        said.append("the scale rests on the distance of that plane; give a marker's side to have it from there")
    return tuple(said)
