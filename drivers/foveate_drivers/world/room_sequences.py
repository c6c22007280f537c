"""Ten named sequences: each a room, a way through it and a camera, with something that makes odometry hard."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from foveate_drivers.world.room import Room
from foveate_drivers.world.room_layout import Kind
from foveate_drivers.world.room_light import Lighting
from foveate_drivers.world.room_path import Hand, Hover, Orbit, Path, Turns, Walk
from foveate_drivers.world.room_sensor import ColorModel, DepthModel
from foveate_drivers.world.room_walker import Walker

RATE_HZ = 30.0
_HAND = Hand()


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a camera does in a room, `frames` of it at 30 Hz; it can go on for as long as one likes."""

    about: str
    seed: int
    kind: Kind
    path: Path
    frames: int = 130
    exposure_s: float = 0.004
    lighting: Lighting = field(default_factory=Lighting)
    walkers: tuple[Walker, ...] = ()
    shiny: bool = False
    color: ColorModel = field(default_factory=ColorModel)
    depth: DepthModel = field(default_factory=DepthModel)

    def room(self) -> Room:
        """Made anew."""
        return Room(seed=self.seed, kind=self.kind, walkers=self.walkers, lighting=self.lighting, shiny=self.shiny)


SEQUENCES: dict[str, Sequence] = {
    "desk": Sequence(
        "a hand shows what lies on a desk",
        11, "office",
        Hover((-0.2, 1.35, 0.75), (0.1, 0.85, 2.3), (0.32, 0.08, 0.1), (0.4, 0.12, 0.0), 0.08, 4.4, _HAND),
    ),
    "orbit": Sequence(
        "once round a table, back to where it began",
        12, "living", Orbit((0.0, 0.72, 0.0), 1.15, 1.55, 200 / RATE_HZ, 0.6, _HAND), frames=200,
    ),
    "fast_rotation": Sequence(
        "to and fro about all axes, up to 4 rad/s",
        13, "office",
        Turns((0.1, 1.4, 0.1), 0.3, (1.05, 0.25, 0.15), (2.0, 3.0, 5.0), -0.1, 3.8, _HAND),
        frames=120, exposure_s=0.003,
    ),
    "low_texture": Sequence(
        "painted walls, plain blocks, one poster",
        14, "bare", Hover((-0.3, 1.3, -0.9), (0.3, 0.8, 2.0), (0.35, 0.06, 0.15), (0.4, 0.1, 0.0), 0.05, 4.4, _HAND),
    ),
    "lighting": Sequence(
        "lamps are switched off and on",
        15, "living", Walk((-1.0, 1.4, -1.4), (0.9, 1.45, -1.2), -1.35, 0.25, -0.15, 8.8, _HAND),
        lighting=Lighting("switching", 2.4),
    ),
    "blur": Sequence(
        "a quick, unsteady hand, and 24 ms of exposure",
        16, "office",
        Hover((0.0, 1.4, -0.2), (0.2, 0.95, 2.4), (0.35, 0.08, 0.1), (0.7, 0.25, 0.0), 0.15, 3.4, Hand(0.008, 0.02)),
        frames=100, exposure_s=0.024,
    ),
    "depth_holes": Sequence(
        "dark glass and lacquer, nothing farther than 4.4 m, blotches without depth",
        17, "living",
        Hover((0.2, 1.4, -1.6), (0.1, 0.75, 0.3), (0.35, 0.08, 0.12), (0.35, 0.15, 0.0), 0.08, 4.4, _HAND),
        shiny=True, depth=DepthModel(farthest_m=4.4, dropout=0.25),
    ),
    "dynamic": Sequence(
        "two people walk through the picture",
        18, "living", Hover((0.1, 1.45, -1.9), (0.2, 1.0, 1.0), (0.3, 0.06, 0.1), (0.35, 0.1, 0.0), 0.05, 4.4, _HAND),
        walkers=(Walker((-1.7, 1.4), (1.7, 1.2), 5.2), Walker((1.5, -0.6), (-1.5, -0.7), 6.0, 0.3)),
    ),
    "corridor": Sequence(
        "four and a half metres along shelves, at walking pace",
        19, "corridor", Walk((-0.25, 1.5, -4.0), (0.1, 1.5, 0.5), 0.45, 0.3, -0.1, 12.0, _HAND, 0.015), frames=180,
    ),
    "hard": Sequence(
        "quick turns, a hunting exposure, blur, somebody who walks by, holes: all at once",
        20, "store",
        Walk((-1.6, 1.45, -1.7), (1.5, 1.5, -1.9), -math.pi / 2 + 0.2, 0.5, -0.12, 8.6, Hand(0.007, 0.015), 0.02),
        exposure_s=0.014, lighting=Lighting("drift", 3.1), shiny=True,
        walkers=(Walker((-1.6, -0.3), (1.6, -0.2), 5.0, 0.15),), depth=DepthModel(farthest_m=4.0, dropout=0.15),
    ),
}  # fmt: skip
