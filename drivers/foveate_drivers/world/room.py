"""A simulated room that a moving RGB-D camera sees, traced by numba (extra scan).

    room = Room(seed=3, kind="office")
    sight = room.render(Pinhole(640, 480, 525.0), world_from_camera, t_s=0.0)

World: x and z level, y down, the floor at y = 0, the room's middle at x = z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world import room_bake, room_paint, room_shade, room_trace
from foveate_drivers.world import room_trace as rt
from foveate_drivers.world.room_layout import Kind, laid_out
from foveate_drivers.world.room_light import Lighting
from foveate_drivers.world.room_plan import Plan
from foveate_drivers.world.room_trace import Model
from foveate_drivers.world.room_walker import PARTS, Walker

Array = NDArray[np.float64]
Light = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What a camera without noise sees of a room."""

    light: Light  # H x W x 3, linear, B, G, R; a white sheet in the room's mean light is about 1
    depth: Light  # H x W, metres along z, of the ray through the pixel's middle
    normal: Light  # H x W x 3, world frame, towards the camera
    albedo: Light  # H x W x 3, linear, B, G, R, of the pixel's middle
    face: NDArray[np.int32]  # H x W: 6 times the solid's number plus that of its side; a sphere's side is 0

    @property
    def solid(self) -> NDArray[np.int32]:
        """H x W: which solid; 0 is the room's walls, floor and ceiling."""
        return self.face // 6

    def image(self, gain: float = 0.7, color: bool = True) -> NDArray[np.uint8]:
        """H x W x 3, B, G, R, or H x W of grey, as a screen wants it: the root of light times gain."""
        made = np.rint(255 * np.sqrt(np.clip(self.light * np.float32(gain), 0, 1))).astype(np.uint8)
        return made if color else np.asarray(cv2.cvtColor(made, cv2.COLOR_BGR2GRAY), np.uint8)


class Room:
    """Drawn by chance from a seed: furniture and lamps at once, textures and light (some seconds) when first looked at.

    What moves throws soft, round shadows and is not shadowed itself; no light goes from wall to wall.
    """

    def __init__(
        self, *, seed: int, kind: Kind = "office", walkers: Sequence[Walker] = (), lighting: Lighting | None = None,
        shiny: bool = False,
    ) -> None:  # fmt: skip
        """`shiny`: with dark glass and lacquer, which depth cameras do not see."""
        plan = Plan(np.random.default_rng((seed, 0)), room_paint.palette())
        self.kind, self.lighting, self.walkers = kind, lighting or Lighting(), tuple(walkers)
        self.size_m, self._lamps = laid_out(plan, kind, shiny)
        self._still = len(plan.solids)
        for walker in self.walkers:
            walker.dress(plan)
        self.movers = len(plan.solids) - self._still
        self._solid, self._face = np.stack(plan.solids), np.stack(plan.faces)
        self._shadowless, self._seed = np.array(plan.shadowless), seed

    @cached_property
    def model(self) -> Model:
        """The room as it is drawn: painted, and its light baked, so that each lamp, and what comes from all around,
        gives the room's shell 1 on average."""
        solid, face = self._solid, self._face.copy()
        cells = room_bake.lay_out(solid, face, self._still)
        lamp = np.column_stack([np.array(self._lamps), np.ones(len(self._lamps))])
        light = np.empty((cells, 3), np.float32)
        room_bake.bake(solid, face, self._still, self._shadowless, lamp, room_bake.directions(), light)
        shell = int(face[5, rt.LIGHTMAP] + face[5, rt.CELLS_U] * face[5, rt.CELLS_V])
        mean = np.maximum(light[:shell].mean(axis=0), 1e-6)
        lamp[:, 3] /= mean[1:]
        texels = room_paint.painted(np.random.default_rng((self._seed, 1)))
        return Model(solid, face, texels, room_paint.starts(), light / mean, lamp, 0.9)

    @property
    def returns(self) -> Array:
        """(faces,): how much of a depth camera's light comes back from each face, 0 to 1."""
        return self._face[:, rt.RETURN]

    def solids(self, t_s: float) -> Array:
        """Everything's shape and place at a moment, a row each, as room_trace has them."""
        if not self.walkers:
            return self._solid
        solid = self._solid.copy()
        for i, walker in enumerate(self.walkers):
            walker.put(solid, self._still + PARTS * i, t_s)
        return solid

    def render(self, pinhole: Pinhole, world_from_camera: Array, t_s: float = 0.0) -> Sight:
        """What a camera at a pose (4 x 4), which must be inside the room, sees at a moment."""
        depth, face = self.depth(pinhole, world_from_camera, t_s)
        light, albedo, normals = (np.empty((*depth.shape, 3), np.float32) for _ in range(3))
        model = self.model._replace(solid=self.solids(t_s))
        pose, lens = np.ascontiguousarray(world_from_camera), _lens(pinhole)
        lit = self.lighting.at(t_s)
        room_shade.shade(model, self.movers, lit, pose, lens, depth, face, light, albedo, normals)
        room_shade.soften(model, self.movers, lit, pose, lens, depth, face, light.copy(), light)
        return Sight(light, depth, normals, albedo, face)

    def depth(self, pinhole: Pinhole, world_from_camera: Array, t_s: float = 0.0) -> tuple[Light, NDArray[np.int32]]:
        """Depth and faces alone, as `render` has them: a tenth of its work, and at once."""
        solid, pose = self.solids(t_s), np.ascontiguousarray(world_from_camera)
        shape = (pinhole.height, pinhole.width)
        depth, face = np.empty(shape, np.float32), np.empty(shape, np.int32)
        room_trace.cover(solid, _order(solid, pose), pose, _lens(pinhole), depth, face)
        return depth, face

    def clearance_m(self, point_m: Array, t_s: float = 0.0) -> float:
        """How far a point (3,) is from the nearest surface; negative inside a solid or outside the room."""
        solid = self.solids(t_s)
        away = np.asarray(point_m) - solid[:, rt.CENTER : rt.CENTER + 3]
        turn = solid[:, rt.TURN : rt.TURN + 9].reshape(-1, 3, 3)
        outside = np.abs(np.einsum("nij,ni->nj", turn, away)) - solid[:, rt.HALF : rt.HALF + 3]
        boxes = np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)
        spheres = np.linalg.norm(away, axis=1) - solid[:, rt.HALF]
        found = np.where(solid[:, rt.KIND] == rt.SPHERE, spheres, boxes)
        return float(min(-outside[0].max(), found[1:].min()))


def _lens(pinhole: Pinhole) -> Array:
    return pinhole.matrix[[0, 1, 0, 1], [0, 1, 2, 2]]


def _order(solid: Array, pose: Array) -> NDArray[np.int64]:
    """Solids that may be before the camera: the shell, which every pixel can fall back on, then from near to far."""
    place = solid[:, rt.CENTER : rt.CENTER + 3] - pose[:3, 3]
    ahead = np.flatnonzero(place @ pose[:3, 2] + solid[:, rt.REACH] > 0)
    near = np.linalg.norm(place[ahead], axis=1) - solid[ahead, rt.REACH]
    near[ahead == 0] = -np.inf
    return ahead[np.argsort(near, kind="stable")]
