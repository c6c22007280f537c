"""Calibration boards: chessboards, ChArUco boards and grids of AprilTags, printed, seen and found again.

A board's frame: origin at its first corner, x right, y down, z away from who looks at it; metres.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration import tags
from foveate_calibration.errors import CalibrationError

Array = NDArray[np.float64]
Ids = NDArray[np.int64]
Image = NDArray[np.uint8]
Found = tuple[Ids, Array]  # (N,) indices into `points_m`, N x 2 pixels

FORMS = (
    "chessboard:9x6:25mm (inner corners, square)",
    "charuco:17x13:30mm:22mm:DICT_5X5_250 (squares, square, marker, dictionary)",
    "apriltag:6x6:24mm:7.2mm:tag36h11 (tags, tag, space between, family)",
)
_UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
_LENGTH = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*(mm|cm|m)")
_COUNTS = re.compile(r"([0-9]{1,3})x([0-9]{1,3})")
_FEWEST = 4  # points below which an image says nothing about its board


@dataclass(frozen=True, slots=True, eq=False)
class Board(ABC):
    """A flat pattern of black rectangles on white; `parse` makes one from a text."""

    text: str  # as it was written
    columns: int
    rows: int
    points_m: Array = field(init=False)  # N x 3, z = 0
    black_m: Array = field(init=False)  # K x 4: x0, y0, x1, y1 of black rectangles that do not overlap
    sheet_m: Array = field(init=False)  # (4,): x0, y0, x1, y1 of the printed sheet

    @staticmethod
    def parse(text: str) -> Board:
        """Of a text such as one of FORMS. Raises CalibrationError saying what is allowed."""
        kind, _, rest = text.strip().partition(":")
        kinds: dict[str, type[Board]] = {"chessboard": Chessboard, "charuco": Charuco, "apriltag": AprilGrid}
        if kind not in kinds:
            raise CalibrationError(f"unknown board '{text[:60]}'; write one such as {'; '.join(FORMS)}")
        parts = rest.split(":")
        match = _COUNTS.fullmatch(parts[0])
        if match is None or min(int(match[1]), int(match[2])) < 2 or max(int(match[1]), int(match[2])) > 200:
            raise _refused(text, f"'{parts[0]}' is no count such as 9x6, 2 to 200 each")
        return kinds[kind]._of(text, int(match[1]), int(match[2]), parts[1:])

    @classmethod
    @abstractmethod
    def _of(cls, text: str, columns: int, rows: int, parts: list[str]) -> Self: ...

    @abstractmethod
    def _find(self, gray: Image) -> Found | None: ...

    @property
    def ambiguous(self) -> bool:
        """Whether it looks the same turned by 180 degrees: then two images of it cannot be matched."""
        return False

    def detect(self, image: Image, mirrored: bool = False) -> Found | None:
        """Indices (N,) into `points_m` and sub-pixel pixels (N x 2) of what is seen, None if nothing is.

        `mirrored`: the camera looks at the board by way of one mirror. Points within 4 px of the border are left out.
        """
        gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        if mirrored:
            gray = np.ascontiguousarray(gray[:, ::-1])
        found = self._find(gray)
        if found is None:
            return None
        ids, pixels = found
        height, width = gray.shape
        inside = ((pixels >= 4) & (pixels <= (width - 5, height - 5))).all(axis=1)
        ids, pixels = ids[inside], pixels[inside]
        if mirrored:
            pixels = np.column_stack([width - 1 - pixels[:, 0], pixels[:, 1]])
        return (ids, pixels) if len(ids) >= _FEWEST else None

    def picture_from_board(self, px_per_m: float) -> Array:
        """3 x 3: pixel (integer = a pixel's centre) of `picture` at a board point (x, y, 1)."""
        x0, y0 = self.sheet_m[:2]
        return np.array([[px_per_m, 0, -x0 * px_per_m - 0.5], [0, px_per_m, -y0 * px_per_m - 0.5], [0, 0, 1.0]])

    def picture(self, px_per_m: float) -> Image:
        """The sheet (H x W, uint8): each pixel the mean of what it covers, so edges are true to a fraction of it."""
        x0, y0, x1, y1 = self.sheet_m
        width, height = (int(np.ceil((b - a) * px_per_m - 1e-6)) for a, b in ((x0, x1), (y0, y1)))
        across = _cover(self.black_m[:, [0, 2]] - x0, px_per_m, width)
        down = _cover(self.black_m[:, [1, 3]] - y0, px_per_m, height)
        ink = np.zeros((height, width))
        for (left, column), (top, row) in zip(across, down, strict=True):
            ink[top : top + len(row), left : left + len(column)] += np.outer(row, column)
        return np.rint(255 * (1 - np.clip(ink, 0, 1))).astype(np.uint8)

    def svg(self) -> str:
        """The sheet to print at 100 %: an SVG in millimetres with the board's name below."""
        x0, y0, x1, y1 = 1e3 * self.sheet_m
        marks = "".join(
            f'<path d="M{a:.6g} {b:.6g}H{c:.6g}V{d:.6g}H{a:.6g}z"/>' for a, b, c, d in (1e3 * self.black_m).tolist()
        )
        below, size = y1 + 5, f'width="{x1 - x0:.6g}mm" height="{y1 - y0 + 8:.6g}mm"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="{x0:.6g} {y0:.6g} {x1 - x0:.6g} '
            f'{y1 - y0 + 8:.6g}" shape-rendering="crispEdges"><rect x="{x0:.6g}" y="{y0:.6g}" width="100%" '
            f'height="100%" fill="white"/>{marks}<text x="{x0 + 4:.6g}" y="{below:.6g}" font-size="4" '
            f'font-family="sans-serif">foveate {self.text}: print at 100 %, then measure it</text></svg>\n'
        )

    def uniform(self, points_m: Array, margin_m: float = 0.0) -> NDArray[np.bool_]:
        """Which points (N x 2 or N x 3, board frame) lie on plain white for `margin_m` around."""
        points = np.asarray(points_m, np.float64)[:, :2]
        x0, y0, x1, y1 = self.sheet_m
        low, high = np.array([x0, y0]) + margin_m, np.array([x1, y1]) - margin_m
        white = np.asarray(((points >= low) & (points <= high)).all(axis=1), np.bool_)
        for first in range(0, len(points), 64):  # neighbours on a stripe are near few of the 2,000 rectangles
            some = points[first : first + 64]
            low, high = some.min(axis=0) - margin_m, some.max(axis=0) + margin_m
            near = ((self.black_m[:, 2:] >= low) & (self.black_m[:, :2] <= high)).all(axis=1)
            left, top, right, bottom = self.black_m[near].T
            x, y = some.T[:, :, None]
            off_x = np.maximum(np.maximum(left - x, x - right), 0.0)
            off_y = np.maximum(np.maximum(top - y, y - bottom), 0.0)
            white[first : first + 64] &= (off_x**2 + off_y**2 > margin_m**2).all(axis=1)
        return white


@dataclass(frozen=True, slots=True, eq=False)
class Chessboard(Board):
    """`columns` x `rows` inner corners; the square at the upper left is black."""

    square_m: float

    @classmethod
    def _of(cls, text: str, columns: int, rows: int, parts: list[str]) -> Self:
        (square,) = _lengths(text, parts, 1)
        made = cls(text, columns, rows, square)
        x, y = np.meshgrid(np.arange(columns, dtype=np.float64), np.arange(rows, dtype=np.float64))
        _set(made, points_m=np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)]) * square,
             black_m=_squares(columns + 1, rows + 1, 0) * square - square,
             sheet_m=np.array([-2, -2, columns + 1, rows + 1]) * square)  # fmt: skip
        return made

    @classmethod
    def small(cls) -> Self:
        """What is in every chessboard: `larger` tells of which one."""
        return cls._of("chessboard:4x3:10mm", 4, 3, ["10mm"])

    @property
    def ambiguous(self) -> bool:
        return (self.columns + self.rows) % 2 == 0

    def _find(self, gray: Image) -> Found | None:
        size = (self.columns, self.rows)
        flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY
        seen, corners = cv2.findChessboardCornersSB(gray, size, flags=flags)
        if not seen:
            flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
            seen, corners = cv2.findChessboardCorners(gray, size, flags=flags)
            if not seen:
                return None
        # what either finds may be 0.3 px off where a row of squares ends: the gradients around each corner decide
        grid = tags.refined(gray, np.reshape(corners, (self.rows, self.columns, 2)))
        return np.arange(self.columns * self.rows), self._oriented(gray, grid).reshape(-1, 2)

    def larger(self, image: Image) -> str | None:
        """The counts of the chessboard in a grey image where it has more corners than this one, such as `9x6`."""
        flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_LARGER
        seen, _, kinds = cv2.findChessboardCornersSBWithMeta(image, (self.columns, self.rows), flags)
        if not seen or kinds is None:
            return None
        counts = sorted((int(n) for n in np.shape(kinds)[:2]), reverse=True)
        return None if counts[0] * counts[1] <= self.columns * self.rows else f"{counts[0]}x{counts[1]}"

    def _oriented(self, gray: Image, grid: Array) -> Array:
        """Corners (rows x columns x 2) so that y is clockwise of x and the square at the upper left is black."""
        first, second = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
        if first[0] * second[1] - first[1] * second[0] < 0:
            grid = grid[::-1]
        middles = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
        at = np.rint(middles).astype(int).clip(0, (gray.shape[1] - 1, gray.shape[0] - 1))
        levels = cv2.GaussianBlur(gray, (3, 3), 0)[at[:, :, 1], at[:, :, 0]].astype(float)
        rows, columns = np.indices(levels.shape)
        sign = np.where((rows + columns) % 2, 1.0, -1.0)  # the first of these is black where the upper left one is
        if float((sign * (levels - levels.mean())).sum()) < 0:  # white: a half turn changes that, or a quarter turn
            if not self.ambiguous:
                grid = grid[::-1, ::-1]
            elif self.columns == self.rows:
                grid = np.rot90(grid)
        if self.ambiguous and grid[0, 0].sum() > grid[-1, -1].sum():  # nothing tells: begin at the upper left
            grid = grid[::-1, ::-1]
        return grid


@dataclass(frozen=True, slots=True, eq=False)
class Charuco(Board):
    """`columns` x `rows` squares, ArUco markers in the white ones, as OpenCV draws and numbers them."""

    square_m: float
    marker_m: float
    dictionary: str
    _detector: cv2.aruco.CharucoDetector

    @classmethod
    def _of(cls, text: str, columns: int, rows: int, parts: list[str]) -> Self:
        legacy = parts[-1:] == ["legacy"]
        parts = parts[:-1] if legacy else parts
        if len(parts) != 3:
            raise _refused(text, "it needs square, marker and dictionary")
        square, marker = _lengths(text, parts[:2], 2)
        if not 0 < marker < square:
            raise _refused(text, "the marker must be smaller than the square")
        known = tags.dictionary(parts[2])
        if known is None:
            raise _refused(text, f"unknown dictionary '{parts[2]}'; such as DICT_5X5_250")
        needed, there = columns * rows // 2, len(known.bytesList)
        if needed > there:
            raise _refused(text, f"it needs {needed} markers and {parts[2]} has {there}")
        layout = cv2.aruco.CharucoBoard((columns, rows), square, marker, known)
        layout.setLegacyPattern(legacy)
        made = cls(text, columns, rows, square, marker, parts[2], cv2.aruco.CharucoDetector(layout))
        corners = np.stack([np.reshape(c, (4, 3)) for c in layout.getObjPoints()]).astype(np.float64)
        white_first = round(float(corners[0, 0, 0] / square)) == 0
        black = [_squares(columns, rows, int(white_first)) * square]
        for number, corner in zip(np.ravel(layout.getIds()), corners, strict=True):
            black.append(tags.cells(known, int(number), 1) * marker + np.tile(corner[0, :2], 2))
        points = np.reshape(layout.getChessboardCorners(), (-1, 3)).astype(np.float64)
        _set(made, points_m=points, black_m=np.concatenate(black),
             sheet_m=np.array([-0.5, -0.5, columns + 0.5, rows + 0.5]) * square)  # fmt: skip
        return made

    def _find(self, gray: Image) -> Found | None:
        corners, ids = self._detector.detectBoard(gray)[:2]
        if ids is None or corners is None or not len(ids):
            return None
        numbers, pixels = np.ravel(ids).astype(np.int64), np.reshape(corners, (-1, 2)).astype(np.float64)
        if len(numbers) < _FEWEST:
            return None
        # OpenCV 4.10 has all of these half a pixel too far right and down, 5.0 has not: refined again they agree.
        # The window ends before the markers: their edges would draw the corner.
        free = 0.9 * (self.square_m - self.marker_m) / 2
        return numbers, tags.refined_at(gray, pixels, free * tags.px_per_m(self.points_m[numbers], pixels))


@dataclass(frozen=True, slots=True, eq=False)
class AprilGrid(Board):
    """`columns` x `rows` tags as Kalibr prints them: tag 0 at the lower left, black squares between the tags' corners.

    Point 4 k + c is corner c of tag k: upper left, upper right, lower right, lower left.
    """

    tag_m: float
    space_m: float
    family: str

    @classmethod
    def _of(cls, text: str, columns: int, rows: int, parts: list[str]) -> Self:
        if len(parts) != 3:
            raise _refused(text, "it needs tag, space and family")
        tag, space = _lengths(text, parts[:2], 2)
        known = tags.dictionary(parts[2])
        if known is None or not parts[2].startswith("tag"):
            raise _refused(text, f"unknown family '{parts[2]}'; known: {', '.join(tags.FAMILIES)}")
        if columns * rows > len(known.bytesList):
            raise _refused(text, f"it needs {columns * rows} tags and {parts[2]} has {len(known.bytesList)}")
        made, pitch = cls(text, columns, rows, tag, space, parts[2]), tag + space
        row, column = np.divmod(np.arange(columns * rows), columns)
        corner = np.column_stack([column, rows - 1 - row]) * pitch
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * tag
        points = (corner[:, None] + square).reshape(-1, 2)
        black = [tags.cells(known, k, 2) * tag + np.tile(corner[k], 2) for k in range(len(corner))]
        for x in range(columns + 1):
            joints = np.column_stack([np.full(rows + 1, x), np.arange(rows + 1)]) * pitch - space
            black.append(np.column_stack([joints, joints + space]))
        edge = 2 * space
        _set(made, points_m=np.column_stack([points, np.zeros(len(points))]), black_m=np.concatenate(black),
             sheet_m=np.array([-edge, -edge, columns * pitch - space + edge, rows * pitch - space + edge]))  # fmt: skip
        return made

    def _find(self, gray: Image) -> Found | None:
        return tags.find_grid(gray, self.family, self.points_m, self.space_m / self.tag_m)


def _set(board: Board, **arrays: Array) -> None:
    for name, value in arrays.items():
        value.flags.writeable = False
        object.__setattr__(board, name, value)


def _refused(text: str, why: str) -> CalibrationError:
    return CalibrationError(f"board '{text[:60]}': {why}; write one such as {'; '.join(FORMS)}")


def _lengths(text: str, parts: list[str], count: int) -> list[float]:
    if len(parts) != count:
        raise _refused(text, f"it needs {count} length{'s' if count > 1 else ''}")
    found = []
    for part in parts:
        match = _LENGTH.fullmatch(part)
        length = float(match[1]) * _UNITS[match[2]] if match else 0.0
        if not 1e-5 <= length <= 100:
            raise _refused(text, f"'{part}' is no length such as 25mm, 10 um to 100 m")
        found.append(length)
    return found


def _squares(columns: int, rows: int, odd: int) -> Array:
    """The black squares (K x 4, in squares) of a chessboard; `odd` = 0: the upper left one is black."""
    y, x = np.nonzero(np.indices((rows, columns)).sum(axis=0) % 2 == odd)
    return np.column_stack([x, y, x + 1, y + 1]).astype(np.float64)


def _cover(spans_m: Array, px_per_m: float, count: int) -> list[tuple[int, Array]]:
    """For each span (K x 2): its first pixel and how much of each pixel from there it covers."""
    found = []
    for begin, end in spans_m * px_per_m:
        first, last = max(int(np.floor(begin + 1e-9)), 0), min(int(np.ceil(end - 1e-9)), count)
        edges = np.clip(np.arange(first, last + 1, dtype=np.float64), begin, end)
        found.append((first, edges[1:] - edges[:-1]))
    return found
