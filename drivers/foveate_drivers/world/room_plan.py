"""A room under construction: solids put on the floor, on each other and on the walls, and how their faces are covered.

World: x and z level, y down, the floor at y = 0. Heights are given upwards from the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world import room_trace as rt

Array = NDArray[np.float64]
Color = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Cover:
    """What a face is covered with."""

    texture: int
    tile_m: float | None = None  # size of one repetition; None = the texture is stretched over the face once
    tint: Color = (1.0, 1.0, 1.0)  # B, G, R: times the texture's albedo
    gloss: float = 0.0  # strength of a lamp's highlight
    glow: float = 0.0  # light of its own, in units of the room's mean light
    returns: float = 1.0  # how much of a depth camera's infrared light comes back: 0 of black glass, 1 of paper


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the floor, turned by `yaw_rad` about the vertical; what stands there has its front at -z."""

    x_m: float
    z_m: float
    yaw_rad: float = 0.0

    def turn(self) -> Array:
        """3 x 3: world from spot."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def at(self, x_m: float, z_m: float, yaw_rad: float = 0.0) -> Self:
        """Another spot, by its place and turn in this one."""
        place = self.turn() @ [x_m, 0.0, z_m]
        return replace(
            self, x_m=self.x_m + float(place[0]), z_m=self.z_m + float(place[2]), yaw_rad=self.yaw_rad + yaw_rad
        )


@dataclass(slots=True)
class Plan:
    """The solids of a room so far."""

    rng: np.random.Generator
    palette: dict[str, list[int]]  # textures by kind
    solids: list[Array] = field(default_factory=list)
    faces: list[Array] = field(default_factory=list)
    shadowless: list[bool] = field(default_factory=list)

    def cover(self, kind: str, tile_m: float | None = None, tint: Color | float = 1.0, **rest: float) -> Cover:
        """One of the room's textures of a kind, drawn by chance."""
        color = (tint, tint, tint) if isinstance(tint, float) else tint
        return Cover(int(self.rng.choice(self.palette[kind])), tile_m, color, **rest)

    def color(self, dark: float = 0.05, light: float = 0.8) -> Color:
        """A tint by chance."""
        level, hue = self.rng.uniform(dark, light), self.rng.uniform(0.55, 1.0, 3)
        return (float(level * hue[0]), float(level * hue[1]), float(level * hue[2]))

    def _add(self, kind: int, center: Array, turn: Array, half: Array, covers: list[Cover], lit: bool) -> None:
        solid = np.zeros(rt.COLUMNS)
        solid[rt.KIND], solid[rt.CENTER : rt.CENTER + 3] = kind, center
        solid[rt.TURN : rt.TURN + 9], solid[rt.HALF : rt.HALF + 3] = turn.ravel(), half
        solid[rt.REACH] = half[0] if kind == rt.SPHERE else np.linalg.norm(half)
        self.solids.append(solid)
        self.shadowless.append(not lit)
        for f, cover in enumerate(covers):
            size = 2 * np.array([half[2 if f // 2 == 0 else 0], half[2 if f // 2 == 1 else 1]])
            row = np.zeros(rt.FACE_COLUMNS)
            tiles = 1 / size if cover.tile_m is None else np.full(2, 1 / cover.tile_m)
            shift = np.full(2, 0.5) if cover.tile_m is None else self.rng.random(2)
            row[[rt.TEXTURE, rt.U0, rt.V0, rt.SU, rt.SV]] = cover.texture, *shift, *tiles
            row[rt.TINT : rt.TINT + 3] = cover.tint
            row[[rt.GLOSS, rt.GLOW, rt.RETURN]] = cover.gloss, cover.glow, cover.returns
            self.faces.append(row)

    def shell(self, size_m: tuple[float, float, float], wall: Cover, floor: Cover, ceiling: Cover) -> None:
        """The room itself: width (x), height and depth (z), its middle at x = z = 0."""
        half = np.array(size_m) / 2
        self._add(
            rt.SHELL, np.array([0.0, -half[1], 0.0]), np.eye(3), half, [wall, wall, ceiling, floor, wall, wall], True
        )

    def box(
        self, spot: Spot, place: tuple[float, float, float], size: tuple[float, float, float], cover: Cover,
        *, front: Cover | None = None, top: Cover | None = None, yaw_rad: float = 0.0, lit: bool = True,
        tilt: Array | None = None,
    ) -> None:  # fmt: skip
        """A box of width, height and depth; `place`: x, height of its foot, z, in the spot. `front`: of its -z side;
        `tilt`: a rotation (3 x 3) about its middle, after the yaw; `lit` = False: it throws no shadow."""
        there = spot.at(place[0], place[2], yaw_rad)
        half = np.array(size) / 2
        center = np.array([there.x_m, -(place[1] + half[1]), there.z_m])
        turn = there.turn() if tilt is None else there.turn() @ tilt
        sides = [cover] * 6
        sides[2] = top or cover
        sides[4] = front or cover
        self._add(rt.BOX, center, turn, half, sides, lit)

    def sphere(self, spot: Spot, place: tuple[float, float, float], radius_m: float, cover: Cover) -> None:
        """`place`: x, height of its lowest point, z, in the spot."""
        there = spot.at(place[0], place[2])
        center = np.array([there.x_m, -(place[1] + radius_m), there.z_m])
        self._add(rt.SPHERE, center, np.eye(3), np.full(3, radius_m), [cover] * 6, True)
