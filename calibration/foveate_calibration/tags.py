"""Square markers: the cells they are made of, and grids of AprilTags in an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

FAMILIES = {
    "tag16h5": "DICT_APRILTAG_16h5", "tag25h9": "DICT_APRILTAG_25h9", "tag36h10": "DICT_APRILTAG_36h10",
    "tag36h11": "DICT_APRILTAG_36h11",
}  # fmt: skip
_MOST_OFF = 0.15  # of a tag's side: corners farther from the grid's homography are of something else


def dictionary(name: str) -> cv2.aruco.Dictionary | None:
    """A family of tags or an ArUco dictionary by name, None if there is none."""
    number = getattr(cv2.aruco, FAMILIES.get(name, name if name.startswith("DICT_") else ""), None)
    return None if number is None else cv2.aruco.getPredefinedDictionary(number)


def cells(known: cv2.aruco.Dictionary, number: int, border: int) -> Array:
    """The black rectangles (K x 4: x0, y0, x1, y1 in shares of the side) of a marker with `border` cells of black."""
    side = int(known.markerSize) + 2 * border
    drawn = cv2.aruco.generateImageMarker(known, number, side, borderBits=border) == 0
    found = []
    for y, row in enumerate(drawn):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        found += [(a, y, b, y + 1) for a, b in edges.reshape(-1, 2)]
    return np.array(found, np.float64) / side


def refined(gray: Image, grid: Array, share: float = 0.4) -> Array:
    """Corners (rows x columns x 2) moved to the saddle point near each, within `share` of the smallest distance."""
    grid = np.asarray(grid, np.float32)
    steps = [np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1)]
    half = int(np.clip(share * min(steps), 2, 11))
    return _subpixel(gray, grid.reshape(-1, 2), half).reshape(grid.shape)


def refined_at(gray: Image, pixels: Array, reach_px: float) -> Array:
    """Corners (N x 2) moved to the saddle point near each, looking no farther than `reach_px`, but 2 px at least."""
    return _subpixel(gray, pixels, int(np.clip(reach_px, 2, 11)))


def px_per_m(points_m: Array, pixels: Array) -> float:
    """Pixels a metre of board (N points) where it is shortest in the image, by the affine map that fits best."""
    ends = np.column_stack([points_m[:, :2], np.ones(len(points_m))])
    return float(np.linalg.svd(np.linalg.lstsq(ends, pixels, rcond=None)[0][:2], compute_uv=False)[1])


def _subpixel(gray: Image, points: Array, half: int) -> Array:
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)
    start = np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2)
    return np.reshape(cv2.cornerSubPix(gray, start, (half, half), (-1, -1), until), (-1, 2)).astype(np.float64)


def find_grid(gray: Image, family: str, points_m: Array, space: float) -> tuple[NDArray[np.int64], Array] | None:
    """Point numbers (N,) and pixels (N x 2) of a grid of AprilTags: corner c of tag k is point 4 k + c.

    `space`: between tags, in tag sides. Tags may have one or two cells of black border, and stand on their heads.
    """
    best: tuple[NDArray[np.int64], Array] | None = None
    for border in (2, 1):
        if best is not None and 8 * len(best[0]) > len(points_m):  # half of the tags: they are of this kind
            break
        seen = _seen(gray, family, border, len(points_m) // 4)
        if best is None or len(seen[0]) > len(best[0]):
            best = seen
    assert best is not None
    numbers, corners = best
    if len(numbers) < 2:
        return None
    chosen = _turned(numbers, corners, points_m)
    if chosen is None:
        return None
    numbers, corners = chosen
    side = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).min(axis=1)
    exact = np.concatenate([  # the saddle between a tag and the square at its corner: less than half that square
        _subpixel(gray, four, int(np.clip(0.45 * space * length, 2, 11)))
        for four, length in zip(corners, side, strict=True)
    ])  # fmt: skip
    ids = (4 * numbers[:, None] + np.arange(4)).ravel()
    stayed = np.linalg.norm(exact - corners.reshape(-1, 2), axis=1) < np.repeat(0.15 * side + 1.5, 4)
    return ids[stayed], exact[stayed]


def _seen(gray: Image, family: str, border: int, count: int) -> tuple[NDArray[np.int64], Array]:
    """Numbers (N,) and corners (N x 4 x 2) of tags that occur once and belong to the board."""
    options = cv2.aruco.DetectorParameters()
    options.markerBorderBits = border
    options.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_NONE
    known = dictionary(family)
    assert known is not None
    detector = cv2.aruco.ArucoDetector(known, options)
    best: tuple[NDArray[np.int64], Array] = (np.zeros(0, np.int64), np.zeros((0, 4, 2)))
    # The squares touch the tags' corners: where the image joins them, growing the white parts them again.
    for image in (gray, cv2.dilate(gray, np.ones((3, 3), np.uint8)), cv2.dilate(gray, np.ones((5, 5), np.uint8))):
        corners, ids = detector.detectMarkers(image)[:2]
        if len(best[0]) == count:
            break
        if ids is None or len(ids) <= len(best[0]):
            continue
        numbers = np.ravel(ids).astype(np.int64)
        fours = np.stack([np.reshape(four, (4, 2)) for four in corners]).astype(np.float64)
        different, times = np.unique(numbers, return_counts=True)
        single = np.isin(numbers, different[(times == 1) & (different < count)])
        if single.sum() > len(best[0]):
            best = numbers[single], fours[single]
    return best


def _turned(numbers: NDArray[np.int64], corners: Array, points_m: Array) -> tuple[NDArray[np.int64], Array] | None:
    """Tags that lie in the grid, their corners in the grid's order: printers turn tags as they like."""
    best: tuple[int, NDArray[np.int64], Array] | None = None
    board = points_m.reshape(-1, 4, 3)[numbers][:, :, :2]
    for turn in range(4):
        order = np.roll(corners, turn, axis=1)
        homography, _ = cv2.findHomography(board.reshape(-1, 2), order.reshape(-1, 2), cv2.RANSAC, 5.0)
        if homography is None:
            continue
        ends = np.concatenate([board, np.ones((*board.shape[:2], 1))], axis=2) @ homography.T
        off = np.linalg.norm(ends[:, :, :2] / ends[:, :, 2:] - order, axis=2).max(axis=1)
        side = np.linalg.norm(order - np.roll(order, 1, axis=1), axis=2).min(axis=1)
        fits = off < np.maximum(_MOST_OFF * side, 3.0)
        if best is None or fits.sum() > best[0]:
            best = int(fits.sum()), numbers[fits], order[fits]
    return None if best is None or best[0] < 2 else best[1:]
