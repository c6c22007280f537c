"""Which pixels of a keyframe are followed: those of edges and corners, spread over the image, that have depth."""

from __future__ import annotations

from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

_CELL = (20, 14, 10, 8)  # pixels, by level: patches over which points are spread (Schenk and Fraundorfer 2017, 3.1)
_MOST = (6, 7, 8, 8)  # points a patch
_FEW = 0.5  # of the most: a patch with fewer edge pixels is filled up with those of high gradient
_GRADIENT = 7.0  # grey levels a pixel above the patch's mean, for pixels that fill up (Engel et al. 2018, 3.1)
_CORNER_CELL = 24  # pixels
_CORNER_QUALITY = 0.01  # of the best corner
_FAR, _LEAST_FAR_M = 1.5, 4.0  # times the farthest depth that was measured, and metres
_FEW_KNOWN = 0.25  # of the edges' pixels
_FAR_CELLS, _SPARSE = 16, 0.1  # a hole is large where in a square of a 16th of the width so few pixels have depth
_AROUND = 7  # pixels of the image of half the size
_JUMP = 0.03  # of the depth: more within a pixel is a rim


def canny_edges(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Edges (H x W, 0 or 255) by Canny's method; Otsu's threshold of the image is the upper one, half of it the lower.

    On a blank image Otsu's threshold says nothing, and no pixel is above it.
    """
    high, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(cv2.Canny(gray, high / 2, max(high, 1.0), apertureSize=3, L2gradient=True))


def crossing(halved_gray: NDArray[np.uint8], pixel: NDArray[Any]) -> NDArray[np.float64]:
    """Unit vectors (N x 2) across the edges at pixels (N x 2: column, row) of the image of twice the size: the main
    direction of the gradients around (Foerstner and Guelch 1987), for noise alone has a gradient at every pixel."""
    light = halved_gray.astype(np.float32)
    dx, dy = (np.asarray(cv2.Sobel(light, cv2.CV_32F, *order)) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (np.asarray(cv2.blur(product, (_AROUND, _AROUND))) for product in (dx * dx, dy * dy, dx * dy))
    column, row = np.minimum(np.asarray(pixel).T // 2, np.array([[light.shape[1] - 1], [light.shape[0] - 1]]))
    angle = 0.5 * np.arctan2(2 * xy[row, column], xx[row, column] - yy[row, column]).astype(np.float64)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def corners(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The strongest corner of each patch (H x W, 0 or 255) by the smaller eigenvalue (Shi and Tomasi 1994)."""
    strength = np.asarray(cv2.cornerMinEigenVal(gray, 3, ksize=3))
    return _best_of_cells(strength, max(float(strength.max()) * _CORNER_QUALITY, 1e-6))


@numba.njit(cache=True, nogil=True)
def _best_of_cells(strength: Any, least: float) -> Any:
    height, width = strength.shape
    out = np.zeros((height, width), np.uint8)
    for top in range(0, height, _CORNER_CELL):
        for left in range(0, width, _CORNER_CELL):
            best, row, column = least, -1, -1
            for y in range(top, min(top + _CORNER_CELL, height)):
                for x in range(left, min(left + _CORNER_CELL, width)):
                    if strength[y, x] > best:
                        best, row, column = strength[y, x], y, x
            if row > 0 and column > 0 and row < height - 1 and column < width - 1:
                for k in range(-1, 2):
                    out[row, column + k] = out[row + k, column] = 255
    return out


def halved(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask at the coarser level: a pixel is set where one of the 3 x 3 around it was."""
    return np.ascontiguousarray(np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)))[::2, ::2])


def chosen(
    gray: NDArray[np.uint8], edge: NDArray[np.uint8], corner: NDArray[np.uint8], depth: NDArray[np.float32], level: int
) -> NDArray[np.int32]:
    """Pixels (N x 2: column, row) of edges with depth, spread over patches; corners come in addition."""
    out = np.empty((gray.size // 2 + 8, 2), np.int32)
    count = _choose(gray, edge, corner, depth, _CELL[level], _MOST[level], out)
    return out[:count].copy()


@numba.njit(cache=True, nogil=True)
def _choose(gray: Any, edge: Any, corner: Any, depth: Any, cell: int, most: int, out: Any) -> int:
    height, width = gray.shape
    count = 0
    for top in range(2, height - 3, cell):
        for left in range(2, width - 3, cell):
            bottom, right = min(top + cell, height - 3), min(left + cell, width - 3)
            marked, total, pixels = 0, 0.0, 0
            for y in range(top, bottom):
                for x in range(left, right):
                    if depth[y, x] > 0:
                        pixels += 1
                        total += _slope(gray, x, y)
                        marked += edge[y, x] > 0
            if pixels == 0:
                continue
            level = total / pixels + _GRADIENT
            strong = 0
            fill = marked < _FEW * most
            if fill:
                for y in range(top, bottom):
                    for x in range(left, right):
                        strong += depth[y, x] > 0 and edge[y, x] == 0 and _slope(gray, x, y) > level
            taken_edge, taken_strong = 0, 0
            room = int(_FEW * most) - marked if fill else 0
            for y in range(top, bottom):
                for x in range(left, right):
                    if depth[y, x] <= 0:
                        continue
                    take = corner[y, x] > 0
                    if edge[y, x] > 0:
                        k = min(most, marked)
                        take = take or (taken_edge + 1) * k // marked > taken_edge * k // marked
                        taken_edge += 1
                    elif fill and strong > 0 and _slope(gray, x, y) > level:
                        k = min(room, strong)
                        take = take or (taken_strong + 1) * k // strong > taken_strong * k // strong
                        taken_strong += 1
                    if take and count < len(out):
                        out[count, 0], out[count, 1] = x, y
                        count += 1
    return count


@numba.njit(cache=True, nogil=True, inline="always")
def _slope(gray: Any, x: int, y: int) -> float:
    """Grey levels a pixel, by central differences."""
    dx = np.float32(gray[y, x + 1]) - np.float32(gray[y, x - 1])
    dy = np.float32(gray[y + 1, x]) - np.float32(gray[y - 1, x])
    return 0.5 * np.sqrt(dx * dx + dy * dy)


def lacks_depth(depth: NDArray[np.float32], edge: NDArray[np.uint8]) -> bool:
    """Whether so few edges have depth that the others are needed too (`with_far`)."""
    known = depth[edge > 0] > 0
    return bool(len(known) and known.mean() < _FEW_KNOWN)


def with_far(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth (H x W) in which large holes are taken to be far.

    A camera has no depth beyond its range, and what is within it may be what moves: the edges of the rest tell how the
    camera turns. Where enough edges have depth, holes say nothing: a dark or shiny surface is near.
    """
    known = depth > 0
    if not known.any():
        return depth
    far = np.float32(max(_FAR * float(np.percentile(depth[known], 95)), _LEAST_FAR_M))
    side = max(depth.shape[1] // _FAR_CELLS, 3)
    around = np.asarray(cv2.blur(known.astype(np.float32), (side, side)))
    return np.where(known | (around > _SPARSE), depth, far).astype(np.float32)


def surfaces(depth: NDArray[np.float32], camera: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """Points and unit normals (N x 6) of smooth surface, one every `stride` pixels of a depth image (metres)."""
    out = np.empty((depth.size // stride**2 + depth.shape[0] + depth.shape[1], 6))
    return out[: _surfaces(depth, camera, stride, out)].copy()


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _surfaces(depth: Any, camera: Any, stride: int, out: Any) -> int:
    """By the plane through the inverse depths around: the inverse depth of a plane is linear in the image."""
    height, width = depth.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    count, reach = 0, 4
    for y in range(reach + stride // 2, height - reach, stride):
        for x in range(reach + stride // 2, width - reach, stride):
            z = depth[y, x]
            if z <= 0:
                continue
            n, su, sv, suu, suv, svv, sw, suw, svw, sww = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for v in range(-reach, reach + 1):
                for u in range(-reach, reach + 1):
                    d = depth[y + v, x + u]
                    if d > 0 and abs(d - z) < _JUMP * z:
                        w = 1.0 / d
                        n += 1
                        su, sv, sw = su + u, sv + v, sw + w
                        suu, suv, svv = suu + u * u, suv + u * v, svv + v * v
                        suw, svw, sww = suw + u * w, svw + v * w, sww + w * w
            if n < 0.7 * (2 * reach + 1) ** 2:
                continue
            suu, suv, svv = suu - su * su / n, suv - su * sv / n, svv - sv * sv / n
            suw, svw, sww = suw - su * sw / n, svw - sv * sw / n, sww - sw * sw / n
            det = suu * svv - suv * suv
            a, b = (suw * svv - svw * suv) / det, (svw * suu - suw * suv) / det
            c = (sw - a * su - b * sv) / n  # the plane's inverse depth at the middle
            if c <= 0:
                continue
            nx, ny, nz = a * fx, b * fy, c - a * (x - cx) - b * (y - cy)
            length = np.sqrt(nx * nx + ny * ny + nz * nz)
            px, py, pz = (x - cx) / fx / c, (y - cy) / fy / c, 1.0 / c
            if (nx * px + ny * py + nz * pz) / (length * np.sqrt(px * px + py * py + pz * pz)) < 0.25:
                continue  # seen at a grazing angle
            out[count, 0], out[count, 1], out[count, 2] = px, py, pz
            out[count, 3], out[count, 4], out[count, 5] = -nx / length, -ny / length, -nz / length
            count += 1
    return count
