"""A bench before a light-section scanner: calibration boards for a while, then solids of known shape; and lasers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.boards import Board
from foveate_drivers.world import solids, speckle, stripe_light
from foveate_drivers.world.base import Part
from foveate_drivers.world.beam import Beam
from foveate_drivers.world.bench_layout import Layout, backdrop, board_pose, stations
from foveate_drivers.world.eye import Eye
from foveate_drivers.world.printed import printed_light

Array = NDArray[np.float64]
Light = NDArray[np.float32]
BLACK, WHITE = 0.08, 0.85  # albedo of a board's ink and paper
_TEXTURE_PX_PER_M = 8000.0
_TEXTURE_PX = 32e6
_PIXEL_SIGMA = 12**-0.5  # standard deviation of a pixel's own width
_COARSE_PX = 8  # the solids' own picture away from the stripe is traced at every eighth pixel
_SAME_RAD = 2e-5  # mirror angles that may share such a picture: 0.4 px at 10,000 px of focal length
_KEPT = 6


@dataclass(frozen=True, slots=True, eq=False)
class BenchSurface:
    """Distances to what stands on the bench."""

    layout: Layout
    parts: tuple[Part, ...]

    def distance(self, points_m: Array) -> Array:
        """(N,) signed metres from points (N x 3) to the nearest surface, outside positive."""
        return self.distance_of(-1, points_m)

    def distance_of(self, index: int, points_m: Array) -> Array:
        """(N,) signed metres to the part of that `Part.index` alone."""
        points = np.ascontiguousarray(np.asarray(points_m, np.float64).reshape(-1, 3))
        out = np.empty(len(points))
        solids.distances(self.layout.table, self.layout.capsules, points, out, index)
        return out


class Bench:
    """Solids in a volume; for the first `boards` times `dwell_s` seconds a calibration board instead."""

    def __init__(
        self, *, seed: int, size_m: Array, center_m: Array, columns: int, rows: int, boards: int, dwell_s: float,
        board: str, ambient: float, contrast: float, grain_px: float,
    ) -> None:  # fmt: skip
        """`ambient`: grey levels of white without a laser; `contrast`, `grain_px`: of the speckle in the image."""
        self.size_m, self.center_m = size_m, center_m
        self.boards, self.dwell_s = boards, dwell_s
        self.seed, self.ambient, self.grain_px = seed, ambient, grain_px
        self.layout = stations(seed, size_m, center_m, columns, rows)
        self.board = Board.parse(board) if boards else None
        self._contrast = contrast
        self._grain: Light | None = None
        self._sheet: NDArray[np.uint8] | None = None

    def placement(self, t_s: float) -> int | None:
        """Which placement of the board is up at a moment; None once there are only solids."""
        index = int(t_s / self.dwell_s)
        return index if index < self.boards else None

    def rig_from_board(self, placement: int) -> Array:
        """4 x 4: where the board of a placement is, in its own frame."""
        assert self.board is not None
        x0, y0, x1, y1 = self.board.sheet_m
        middle = np.eye(4)
        middle[:2, 3] = -(x0 + x1) / 2, -(y0 + y1) / 2
        return board_pose(self.seed, placement, self.size_m, self.center_m) @ middle

    def held(self, placement: int | None) -> Layout:
        """The solids of a placement: the board and the wall, or everything else."""
        if placement is None:
            return self.layout
        assert self.board is not None
        pose = board_pose(self.seed, placement, self.size_m, self.center_m)
        x0, y0, x1, y1 = self.board.sheet_m
        size = np.array([x1 - x0, y1 - y0, 0.004])
        place = pose[:3, 3] + pose[:3, 2] * size[2] / 2
        wall = backdrop(self.center_m[2] + self.size_m[2] / 2 + 0.5)
        table = np.stack([solids.row(solids.BOX, WHITE, place, pose[:3, :3], size / 2), wall])
        part = Part("board", "plane", 0, pose[:3, 3], pose[:3, :3], size)
        return Layout(table, self.layout.capsules, (part,))

    def surface(self, placement: int | None) -> BenchSurface:
        """What there is to be measured."""
        layout = self.held(placement)
        return BenchSurface(layout, layout.parts)

    def picture(
        self, eye: Eye, angles: Array, beams: Sequence[Sequence[Beam]] = (), placement: int | None = None
    ) -> Light:
        """Grey levels (H x W) in the nominal exposure, before vignetting, noise and saturation.

        `angles`: the camera's mirrors at K moments of the exposure (K x axes); `beams`: lights, each at K moments too.
        """
        layout = self.held(placement)
        moved = len(np.unique(angles, axis=0)) > 1
        looks = angles if moved else angles[:1]
        total = np.zeros(eye.light.shape, np.float32)
        for angle in looks:
            cv2.scaleAdd(self._dim(eye, layout, angle, placement), 1.0 / len(looks), total, dst=total)
        for number, light in enumerate(beams):
            for k, beam in enumerate(light):
                angle = angles[k] if moved else angles[0]
                exact = number == 0 and len(light) == 1 and placement is None
                self._shine(eye, layout, angle, beam, placement, total, 1.0 / len(light), exact)
        return total

    def _dim(self, eye: Eye, layout: Layout, angle: Array, placement: int | None) -> Light:
        """The picture without lasers; the last few are kept."""
        if placement is not None:
            return self._board_picture(eye, layout, angle, placement)
        key = tuple(round(float(a) / _SAME_RAD) for a in angle)
        if key not in eye.dim:
            while len(eye.dim) >= _KEPT:
                del eye.dim[next(iter(eye.dim))]
            eye.dim[key] = self._coarse(eye, layout, np.array(key) * _SAME_RAD)
        return eye.dim[key]

    def _coarse(self, eye: Eye, layout: Layout, angle: Array) -> Light:
        """The solids at every eighth pixel, and what is between."""
        height, width = eye.light.shape
        rows, columns = (np.arange(_COARSE_PX // 2 - 1, size, _COARSE_PX, dtype=np.int32) for size in (height, width))
        pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=2).reshape(-1, 2)
        seen = self._seen(eye, layout, angle, pixels, None)
        small = seen.dim.reshape(len(rows), len(columns)).astype(np.float32)
        size = (len(columns) * _COARSE_PX, len(rows) * _COARSE_PX)
        large = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
        if large.shape != (height, width):
            large = cv2.copyMakeBorder(
                large, 0, max(height - size[1], 0), 0, max(width - size[0], 0), cv2.BORDER_REPLICATE
            )
        return np.ascontiguousarray(large[:height, :width])

    def _board_picture(self, eye: Eye, layout: Layout, angle: Array, placement: int) -> Light:
        assert self.board is not None
        pose = eye.camera.rig_from_virtual(angle)
        board_from_camera = np.linalg.inv(self.rig_from_board(placement)) @ pose
        # a ray (u, v, 1) from o meets z = 0 of the board where o + t r has no z: o z(r) - r z(o), by its z(r)
        o, r = board_from_camera[:3, 3], board_from_camera[:3, :3]
        to_board = np.stack([o[0] * r[2] - r[0] * o[2], o[1] * r[2] - r[1] * o[2], r[2]])
        texture, to_texture = self._printed(eye, placement)
        shade = self.ambient * _shade(r[2, 2])
        levels = np.array([BLACK, (WHITE - BLACK) / 255, layout.table[1, solids.ALBEDO]]) * shade
        out = np.empty(eye.light.shape, np.float32)
        printed_light(eye.normalised, to_texture @ to_board, texture, levels, out)
        return out

    def _printed(self, eye: Eye, placement: int) -> tuple[NDArray[np.uint8], Array]:
        """The board's sheet as blurred as this camera sees it there, and texture pixel of a board point (x, y, 1).

        The blur of lens and pixel comes before the sampling: after it, edges would stand up to 0.3 px off.
        """
        assert self.board is not None
        x0, y0, x1, y1 = self.board.sheet_m
        per_m = min(_TEXTURE_PX_PER_M, float(np.sqrt(_TEXTURE_PX / ((x1 - x0) * (y1 - y0)))))
        if self._sheet is None:
            self._sheet = self.board.picture(per_m)
        if eye.printed is None or eye.printed[0] != placement:
            away_m = float(board_pose(self.seed, placement, self.size_m, self.center_m)[2, 3])
            sigma = float(np.hypot(eye.blur_px, _PIXEL_SIGMA)) * away_m * per_m / eye.camera.lens.values[0]
            eye.printed = placement, np.asarray(cv2.GaussianBlur(self._sheet, (0, 0), sigma), np.uint8)
        return eye.printed[1], self.board.picture_from_board(per_m)

    def _seen(self, eye: Eye, layout: Layout, angle: Array, pixels: NDArray[np.int32], placement: int | None) -> _Seen:
        pose = eye.camera.rig_from_virtual(angle)
        some = _in_view(layout.table, pose, eye.normalised, pixels)
        count = len(pixels)
        points, normals = np.zeros((count, 3)), np.zeros((count, 3))
        albedo, on = np.zeros(count), np.empty(count, np.int64)
        texture, printed = np.zeros((1, 1), np.uint8), np.zeros((2, 4))
        if placement is not None:
            texture, to_texture = self._printed(eye, placement)
            board_from_rig = np.linalg.inv(self.rig_from_board(placement))
            printed = to_texture[:2, :2] @ board_from_rig[:2]
            printed[:, 3] += to_texture[:2, 2]
        stripe_light.see(
            layout.table, layout.capsules, some, pixels, eye.normalised, pose[:3], printed, texture,
            np.array([BLACK, (WHITE - BLACK) / 255]), points, normals, albedo, on,
        )  # fmt: skip
        towards = pose[:3, 3] - points
        facing = np.einsum("ij,ij->i", towards, normals) / np.linalg.norm(towards, axis=1)
        return _Seen(pixels, points, normals, albedo, on, self.ambient * albedo * _shade(facing))

    def _shine(
        self, eye: Eye, layout: Layout, angle: Array, beam: Beam, placement: int | None, total: Light, share: float,
        exact: bool,
    ) -> None:  # fmt: skip
        """Add a share of what one beam lights up to a picture."""
        pose = eye.camera.virtual_from_rig(angle)
        row = beam.row()
        some = stripe_light.near_sheet(layout.table, row)
        fan = self._fan(eye, pose, beam)
        eye.mask[:] = 0
        lens = eye.camera.lens.values
        stripe_light.mark(layout.table, layout.capsules, some, row, pose[:3], lens, eye.tilt, fan, eye.mask)
        pixels = stripe_light.marked(eye.mask)
        if not len(pixels):
            return
        seen = self._seen(eye, layout, angle, pixels, placement)
        stripe_light.lit(
            layout.table, layout.capsules, some, row, pixels, seen.points, seen.normals, seen.albedo, seen.on, eye.light
        )
        if self._grain is None:
            self._grain = speckle.field(self._contrast, self.seed)
        per_m = float(lens[0]) * speckle.PER_GRAIN / self.grain_px
        key = np.array([self.seed, -1 if placement is None else placement, beam.place], np.int64)
        shift = np.uint64(np.random.SeedSequence(np.abs(key * 2 + (key < 0)).tolist()).generate_state(1, np.uint64)[0])
        if exact:  # what is traced anyway is not from every eighth pixel: edges are sharp where the stripe is
            total[pixels[:, 0], pixels[:, 1]] = seen.dim
        stripe_light.gather(eye.light, eye.taps, pixels, seen.points, seen.on, self._grain, per_m, shift, share, total)
        stripe_light.clear(eye.light, pixels)

    def _fan(self, eye: Eye, camera_from_rig: Array, beam: Beam) -> Array:
        """Angles within the sheet that may be in view, at most 1.5 pixels apart on what faces the camera."""
        rig_from_camera = np.linalg.inv(camera_from_rig)
        corner = eye.normalised[[0, 0, -1, -1], [0, -1, 0, -1]]
        rays = np.column_stack([corner * 1.02, np.ones(4)]) @ rig_from_camera[:3, :3].T
        near = self.center_m[2] - self.size_m[2] / 2 - 0.25
        far = self.center_m[2] + self.size_m[2] / 2 + 0.6
        points = np.concatenate([rig_from_camera[:3, 3] + rays * z for z in (near, far)]) - beam.source_m
        turns = np.arctan2(points @ beam.along, points @ beam.ahead)
        low, high = max(turns.min(), -beam.fan_rad), min(turns.max(), beam.fan_rad)
        if low >= high:
            return np.zeros(0)
        step = 1.5 / eye.camera.lens.values[0] * near / max(near + 0.3, float(np.linalg.norm(points, axis=1).max()))
        return np.arange(low, high, max(step, 2e-5))


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What some pixels look at."""

    pixels: NDArray[np.int32]  # N x 2, row and column
    points: Array  # N x 3
    normals: Array  # N x 3
    albedo: Array
    on: NDArray[np.int64]  # which solid, -1 = none
    dim: Array  # grey level without a laser


def _in_view(table: Array, pose: Array, normalised: Array, pixels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Which solids may be seen by the pixels: those whose spheres reach into the upright box around them."""
    place = (table[:, solids.CENTER : solids.CENTER + 3] - pose[:3, 3]) @ pose[:3, :3]
    (top, left), (bottom, right) = pixels.min(axis=0), pixels.max(axis=0)
    corners = np.arctan(normalised[[top, top, bottom, bottom], [left, right, left, right]])
    low, high = corners.min(axis=0) - 1e-3, corners.max(axis=0) + 1e-3
    away = np.hypot(place[:, :2], place[:, 2:])
    reach = table[:, solids.REACH, None]
    turn, half = np.arctan2(place[:, :2], place[:, 2:]), np.arcsin(np.clip(reach / away, 0, 1))
    return np.flatnonzero(((turn + half >= low) & (turn - half <= high) | (reach >= away)).all(axis=1))


def _shade(cosine: Array | float) -> Array | float:
    """How much light from all around a surface returns that is seen at a slant."""
    return 0.6 + 0.4 * np.abs(cosine)
