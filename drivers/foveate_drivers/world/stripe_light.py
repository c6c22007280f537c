"""A laser's stripe on solids, as a camera sees it: only the pixels near the stripe are traced, by numba.

The light of a sheet at a point is I exp(-2 s^2 / w^2) with s the point's distance from the sheet's plane and w the
sheet's half thickness there, by the cosine of its incidence, by 1 / r for the fan and by w0 / w for what it thickens.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from foveate_drivers.world.solids import ALBEDO, CENTER, REACH, hit, nearest, normal

_REACH = 2.0  # half thicknesses: beyond, the light is below exp(-2 * 2^2) = 3e-4 of its peak
_LIFT_M = 1e-5  # a ray towards the laser begins so far above its surface
# columns of a beam: plane (n, d), source, along the fan, ahead, half fan (rad), waist w0 (m), its distance (m), and
# the Rayleigh length (m), grey levels on white at the waist, one metre from the source
PLANE, SOURCE, ALONG, AHEAD, FAN, WAIST, WAIST_AT, RAYLEIGH, LEVEL = 0, 4, 7, 10, 13, 14, 15, 16, 17
BEAM = 18


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _thickness(beam: Any, r: float) -> float:
    off = (r - beam[WAIST_AT]) / beam[RAYLEIGH]
    return float(beam[WAIST] * np.sqrt(1.0 + off * off))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project(lens: Any, tilt: Any, x: float, y: float) -> Any:
    """The pixel of a normalised image point, by the model of `Lens`."""
    r2 = x * x + y * y
    radial = (1 + r2 * (lens[4] + r2 * (lens[5] + r2 * lens[8]))) / (
        1 + r2 * (lens[9] + r2 * (lens[10] + r2 * lens[11]))
    )
    a = x * radial + 2 * lens[6] * x * y + lens[7] * (r2 + 2 * x * x) + r2 * (lens[12] + r2 * lens[13])
    b = y * radial + lens[6] * (r2 + 2 * y * y) + 2 * lens[7] * x * y + r2 * (lens[14] + r2 * lens[15])
    w = tilt[2, 0] * a + tilt[2, 1] * b + tilt[2, 2]
    u = (tilt[0, 0] * a + tilt[0, 1] * b + tilt[0, 2]) / w
    v = (tilt[1, 0] * a + tilt[1, 1] * b + tilt[1, 2]) / w
    return u * lens[0] + lens[2], v * lens[1] + lens[3]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def near_sheet(table: Any, beam: Any) -> Any:
    """Indices of the solids that the sheet may touch."""
    keep = np.zeros(len(table), np.bool_)
    for k in range(len(table)):
        off = -beam[3]
        for i in range(3):
            off += beam[i] * table[k, CENTER + i]
        keep[k] = abs(off) <= table[k, REACH] + 0.02
    return np.flatnonzero(keep)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def mark(
    table: Any, capsules: Any, some: Any, beam: Any, camera: Any, lens: Any, tilt: Any, fan: Any, mask: Any
) -> None:
    """Set `mask` (H x W, uint8) where the light of a beam may be seen: its rays are followed to what they hit.

    `camera`: 3 x 4, camera from rig; `fan`: angles (radians) within the sheet.
    """
    spot = np.empty((2, 3, 2))
    on = np.full((2, 3), -1)
    for i in range(len(fan)):
        now = i & 1
        c, s = np.cos(fan[i]), np.sin(fan[i])
        d = (c * beam[AHEAD] + s * beam[ALONG], c * beam[AHEAD + 1] + s * beam[ALONG + 1],
             c * beam[AHEAD + 2] + s * beam[ALONG + 2])  # fmt: skip
        for k in range(3):
            shift = (k - 1) * _REACH * _thickness(beam, beam[WAIST_AT] + beam[RAYLEIGH])
            o = (beam[SOURCE] + shift * beam[0], beam[SOURCE + 1] + shift * beam[1], beam[SOURCE + 2] + shift * beam[2])
            on[now, k], t = nearest(table, capsules, some, o, d)
            if on[now, k] < 0:
                continue
            p = (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
            z = camera[2, 0] * p[0] + camera[2, 1] * p[1] + camera[2, 2] * p[2] + camera[2, 3]
            if z <= 0.05:
                on[now, k] = -1
                continue
            x = (camera[0, 0] * p[0] + camera[0, 1] * p[1] + camera[0, 2] * p[2] + camera[0, 3]) / z
            y = (camera[1, 0] * p[0] + camera[1, 1] * p[1] + camera[1, 2] * p[2] + camera[1, 3]) / z
            spot[now, k] = _project(lens, tilt, x, y)
            around = lens[0] * _REACH * _thickness(beam, t) / z * 0.3 + 2.0
            _fill(mask, spot[now, k, 0], spot[now, k, 1], spot[now, k, 0], spot[now, k, 1], around)
        for k in range(3):
            if on[now, k] < 0:
                continue
            if k > 0 and on[now, k] == on[now, k - 1]:
                _fill(mask, spot[now, k, 0], spot[now, k, 1], spot[now, k - 1, 0], spot[now, k - 1, 1], 2.0)
            if i > 0 and on[1 - now, k] == on[now, k]:
                _fill(mask, spot[now, k, 0], spot[now, k, 1], spot[1 - now, k, 0], spot[1 - now, k, 1], 1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill(mask: Any, u0: float, v0: float, u1: float, v1: float, around: float) -> None:
    """Set the rectangle around two pixels, unless they are far apart: there the surface is seen edge on."""
    height, width = mask.shape
    if abs(u1 - u0) > 200 or abs(v1 - v0) > 200:
        return
    left, right = max(int(min(u0, u1) - around), 0), min(int(max(u0, u1) + around) + 1, width - 1)
    for y in range(max(int(min(v0, v1) - 1.5), 0), min(int(max(v0, v1) + 1.5), height - 1) + 1):
        for x in range(left, right + 1):
            mask[y, x] = 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def marked(mask: Any) -> Any:
    """Rows and columns (N x 2) of the marked pixels."""
    height, width = mask.shape
    count = 0
    for y in range(height):
        for x in range(width):
            count += mask[y, x]
    out = np.empty((count, 2), np.int32)
    count = 0
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                out[count, 0], out[count, 1] = y, x
                count += 1
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def see(
    table: Any, capsules: Any, some: Any, pixels: Any, normalised: Any, pose: Any, printed: Any, texture: Any,
    ink: Any, points: Any, normals: Any, albedo: Any, on: Any,
) -> None:  # fmt: skip
    """What each pixel sees: the point, its normal, its albedo and the solid's index (-1 = nothing).

    `pose`: 3 x 4, rig from camera; `printed`: 2 x 4, the pixel of a rig point in the `texture` on solid 0 (uint8;
    1 x 1 = none); `ink`: the albedo of its black, and by grey level.
    """
    o = (pose[0, 3], pose[1, 3], pose[2, 3])
    for i in range(len(pixels)):
        y, x = pixels[i, 0], pixels[i, 1]
        u, v = normalised[y, x, 0], normalised[y, x, 1]
        scale = 1.0 / np.sqrt(u * u + v * v + 1.0)
        d = (
            (pose[0, 0] * u + pose[0, 1] * v + pose[0, 2]) * scale,
            (pose[1, 0] * u + pose[1, 1] * v + pose[1, 2]) * scale,
            (pose[2, 0] * u + pose[2, 1] * v + pose[2, 2]) * scale,
        )
        k, t = nearest(table, capsules, some, o, d)
        on[i] = k
        if k < 0:
            continue
        p = (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
        points[i, 0], points[i, 1], points[i, 2] = p
        normals[i, 0], normals[i, 1], normals[i, 2] = normal(table, k, capsules, p[0], p[1], p[2])
        albedo[i] = table[k, ALBEDO]
        if k == 0 and texture.shape[0] > 1:
            a = printed[0, 0] * p[0] + printed[0, 1] * p[1] + printed[0, 2] * p[2] + printed[0, 3]
            b = printed[1, 0] * p[0] + printed[1, 1] * p[1] + printed[1, 2] * p[2] + printed[1, 3]
            albedo[i] = ink[0] + ink[1] * _lookup(texture, a, b)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _lookup(texture: Any, a: float, b: float) -> float:
    """A texture between its pixels; beyond its edge as at the edge."""
    height, width = texture.shape
    a, b = min(max(a, 0.0), width - 1.001), min(max(b, 0.0), height - 1.001)
    x, y = int(a), int(b)
    s, t = a - x, b - y
    top = (1.0 - s) * texture[y, x] + s * texture[y, x + 1]
    bottom = (1.0 - s) * texture[y + 1, x] + s * texture[y + 1, x + 1]
    return float(top + t * (bottom - top))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def lit(
    table: Any, capsules: Any, some: Any, beam: Any, pixels: Any, points: Any, normals: Any, albedo: Any, on: Any,
    light: Any,
) -> None:  # fmt: skip
    """Write each pixel's grey level by one beam into `light` (H x W), which was 0 there."""
    for i in range(len(pixels)):
        if on[i] < 0:
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        s = beam[0] * x + beam[1] * y + beam[2] * z - beam[3]
        lx, ly, lz = beam[SOURCE] - x, beam[SOURCE + 1] - y, beam[SOURCE + 2] - z
        r = np.sqrt(lx * lx + ly * ly + lz * lz)
        w = _thickness(beam, r)
        if abs(s) > 1.3 * _REACH * w:
            continue
        lx, ly, lz = lx / r, ly / r, lz / r
        cosine = lx * normals[i, 0] + ly * normals[i, 1] + lz * normals[i, 2]
        ahead = -(lx * beam[AHEAD] + ly * beam[AHEAD + 1] + lz * beam[AHEAD + 2])
        if cosine <= 0 or ahead < np.cos(beam[FAN]):
            continue
        level = beam[LEVEL] / r * beam[WAIST] / w * np.exp(-2.0 * s * s / (w * w)) * cosine * albedo[i]
        if level < 1e-3:
            continue
        o = (x + _LIFT_M * normals[i, 0], y + _LIFT_M * normals[i, 1], z + _LIFT_M * normals[i, 2])
        blocked = False
        for k in some:
            if hit(table, k, capsules, o, (lx, ly, lz)) < r:
                blocked = True
                break
        if not blocked:
            light[pixels[i, 0], pixels[i, 1]] = level


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gather(light: Any, taps: Any, pixels: Any, points: Any, on: Any, grain: Any, per_m: float, shift: Any,
           share: float, out: Any) -> None:  # fmt: skip
    """Add `share` of the stripe, blurred by the lens (`taps`, 1-D) and speckled, to `out` (H x W).

    The field `grain` lies on the directions X / Z, Y / Z from the rig's origin, `per_m` samples to a unit, and is
    another one for each solid (`shift`: a number for where the light stands).
    """
    height, width = light.shape
    half = len(taps) // 2
    for i in range(len(pixels)):
        y, x = pixels[i, 0], pixels[i, 1]
        if on[i] < 0:
            continue
        total = 0.0
        for a in range(max(-half, -y), min(half, height - 1 - y) + 1):
            line = 0.0
            for b in range(max(-half, -x), min(half, width - 1 - x) + 1):
                line += taps[half + b] * light[y + a, x + b]
            total += taps[half + a] * line
        if total <= 0:
            continue
        mixed = np.uint64(on[i] + 1) * np.uint64(0x9E3779B97F4A7C15) ^ shift
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        u = int(np.floor(points[i, 0] / points[i, 2] * per_m)) + int(mixed & np.uint64(0xFFFF))
        v = int(np.floor(points[i, 1] / points[i, 2] * per_m)) + int((mixed >> np.uint64(16)) & np.uint64(0xFFFF))
        out[y, x] += share * total * grain[v & (grain.shape[0] - 1), u & (grain.shape[1] - 1)]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def clear(light: Any, pixels: Any) -> None:
    """Set the pixels to 0."""
    for i in range(len(pixels)):
        light[pixels[i, 0], pixels[i, 1]] = 0.0
