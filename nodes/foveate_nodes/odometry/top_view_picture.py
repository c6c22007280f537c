"""Draws the top view."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry.top_view_places import Array, Places

Image = NDArray[np.uint8]
_EDGE_PX, _HEAD_PX = 16, 54
_PAPER, _INK, _PALE = (29, 24, 20), (234, 227, 221), (150, 140, 128)  # blue, green, red
_RED, _GREEN, _LOOP = (64, 64, 240), (120, 210, 90), (220, 90, 230)
_LEAST_M = 1.0  # across the picture: a camera that stands still is not enlarged without end
_STEPS = 48  # colours along the way
_REACH_M, _HALF_ANGLE = 0.35, 0.5  # of the camera's mark: metres (at most a tenth of the picture), radians
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOST_LOOPS = 200
_GLOW = 6.0  # points in a cell that are drawn in full
_SHADES = (255 * np.minimum(np.log1p(np.arange(256)) / np.log1p(_GLOW), 1.0)).astype(np.uint8)
_TONES = np.linspace(_PAPER, (226, 214, 196), 256).astype(np.uint8).reshape(256, 1, 3)


class Drawn:
    """Pictures of one size."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        level = np.linspace(20, 235, _STEPS).astype(np.uint8)
        self._colors = cv2.applyColorMap(level, cv2.COLORMAP_TURBO).reshape(-1, 3).tolist()

    def picture(self, places: Places) -> Image:
        """H x W x 3, BGR."""
        way, joined = places.way()
        keys = places.key_places()
        px_per_m, origin = self._fitted(places, way)
        image = self._points(places, px_per_m, origin)

        def seen(at_m: Array) -> Array:
            return np.clip(origin + px_per_m * at_m * [1.0, -1.0], -1e4, 1e4)

        self._way(image, seen(way), joined)
        self._dots(image, seen(keys))
        for ends in seen(places.loop_places()[-_MOST_LOOPS:]):
            cv2.polylines(image, [np.rint(ends * 8).astype(np.int32)], False, _LOOP, 1, cv2.LINE_AA, 3)
        self._camera(image, places, px_per_m, origin)
        self._scale(image, px_per_m)
        self._words(image, places, len(keys))
        return image

    def _fitted(self, places: Places, way: Array) -> tuple[float, Array]:
        """(Pixels a metre, pixel of the world's origin) so that the way and nearly all points are in the picture."""
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        if len(way):
            low, high = way.min(axis=0), way.max(axis=0)
        grid = places.grid
        if grid.count.size:
            size = np.array(grid.count.shape[::-1]) * grid.cell_m
            low, high = np.minimum(low, grid.low_m), np.maximum(high, grid.low_m + size)
        if not np.isfinite(low).all():
            low, high = np.zeros(2), np.zeros(2)
        middle = (low + high) / 2
        width, height = self._size
        room = np.array([width - 2 * _EDGE_PX, height - _HEAD_PX - 2 * _EDGE_PX])
        px_per_m = float((room / np.maximum(high - low, _LEAST_M)).min())
        center = np.array([width / 2, (height + _HEAD_PX) / 2])
        return px_per_m, center - px_per_m * middle * [1.0, -1.0]

    def _points(self, places: Places, px_per_m: float, origin: Array) -> Image:
        """The paper with the map of points; z points up in the picture."""
        width, height = self._size
        grid = places.grid
        if not grid.count.size:
            return np.full((height, width, 3), _PAPER, np.uint8)
        scale = grid.cell_m * px_per_m
        first = origin + px_per_m * (grid.low_m + grid.cell_m / 2) * [1.0, -1.0]  # of the first cell's middle
        turn = np.array([[scale, 0.0, first[0]], [0.0, -scale, first[1]]])
        shade = cv2.LUT(np.minimum(grid.count, 255).astype(np.uint8), _SHADES)
        if scale < 0.7:  # cells smaller than pixels: what is between would be left out
            side = int(np.ceil(1 / scale)) | 1
            shade = cv2.convertScaleAbs(cv2.blur(shade, (side, side)), alpha=side**0.5)
        shown = cv2.warpAffine(shade, turn, (width, height), flags=cv2.INTER_LINEAR)
        image: Image = cv2.applyColorMap(shown, _TONES)
        return image

    def _way(self, image: Image, pixels: Array, joined: NDArray[np.bool_]) -> None:
        """The way in short lines, blue where it began and red where it is now."""
        count = len(pixels)
        if count < 2:
            return
        fixed = np.rint(pixels * 8).astype(np.int32)  # eighths of a pixel
        step = np.minimum(np.arange(count) * _STEPS // count, _STEPS - 1)
        cuts = np.flatnonzero(~joined[1:] | (np.diff(step) > 0)) + 1
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), count], strict=True):
            last = end + 1 if end < count and joined[end] else end  # on to where the next colour begins
            if last - begin > 1:
                color = self._colors[step[begin]]
                cv2.polylines(image, [fixed[begin:last]], False, color, 2, cv2.LINE_AA, 3)

    def _dots(self, image: Image, pixels: Array) -> None:
        """A square of three pixels at each keyframe."""
        width, height = self._size
        middle = np.rint(pixels).astype(int)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                x, y = (middle + [dx, dy]).T
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                image[y[inside], x[inside]] = _PALE

    def _camera(self, image: Image, places: Places, px_per_m: float, origin: Array) -> None:
        """A triangle that opens to where the camera looks; hollow and red where it was seen last, when it is lost."""
        if places.pose is None or places.tracking is None:
            return
        pose = places.corrected.camera(places.pose)
        reach = min(_REACH_M, 0.1 * min(self._size) / px_per_m)
        side = reach * np.tan(_HALF_ANGLE)
        corner = np.array([[0, 0, 0, 1], [-side, 0, reach, 1], [side, 0, reach, 1]]) @ pose[[0, 2]].T
        pixels = np.rint((origin + px_per_m * corner * [1.0, -1.0]) * 8).astype(np.int32)
        lost = places.tracking.state == "lost"
        if not lost:
            cv2.fillPoly(image, [pixels], _GREEN, cv2.LINE_AA, 3)
        cv2.polylines(image, [pixels], True, _RED if lost else _INK, 1, cv2.LINE_AA, 3)

    def _scale(self, image: Image, px_per_m: float) -> None:
        """A bar of a round length, about a fifth of the width."""
        width, height = self._size
        most = 0.2 * width / px_per_m
        power = 10.0 ** np.floor(np.log10(most))
        length = power * max(m for m in (1, 2, 5) if m * power <= most)
        y, right = height - _EDGE_PX, width - _EDGE_PX
        left = round(right - length * px_per_m)
        cv2.line(image, (left, y), (right, y), _INK, 2)
        for x in (left, right):
            cv2.line(image, (x, y - 4), (x, y + 4), _INK, 1)
        cv2.putText(image, f"{length:g} m", (left, y - 8), _FONT, 0.42, _INK, 1, cv2.LINE_AA)

    def _words(self, image: Image, places: Places, keys: int) -> None:
        said = places.tracking
        if said is None:
            return
        lost = said.state == "lost"
        text = f"LOST: {said.reason}" if lost else said.state
        cv2.putText(image, text[:80], (_EDGE_PX, 24), _FONT, 0.55, _RED if lost else _GREEN, 1, cv2.LINE_AA)
        sigma = f"sigma {1e3 * said.sigma_m:.1f} mm, {np.degrees(said.sigma_rad):.2f} deg since the keyframe"
        figures = [
            f"frame {said.seq}", f"{said.stamp.t_ns / 1e9:.1f} s", f"{keys} keyframes",
            f"{len(places.corrected.loops)} loops", f"{places.path_m:.2f} m",
            sigma if np.isfinite(said.sigma_m) else "sigma unknown",
        ]  # fmt: skip
        cv2.putText(image, "   ".join(figures), (_EDGE_PX, 46), _FONT, 0.42, _INK, 1, cv2.LINE_AA)
        if lost:
            cv2.rectangle(image, (1, 1), (self._size[0] - 2, self._size[1] - 2), _RED, 3)
