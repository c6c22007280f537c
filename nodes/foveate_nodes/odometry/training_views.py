"""Views of simulated rooms with their exact edges, to train and to judge edge detectors (extra scan).

An edge is where one side of a solid ends (rims and creases, as the renderer's numbers of faces have them) or where
the paint on it changes by a step; grain is none, and the border of a shadow is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world import room_paint
from foveate_drivers.world.room import Room, Sight
from foveate_drivers.world.room_layout import Kind
from foveate_drivers.world.room_light import Lighting
from foveate_drivers.world.room_path import towards
from foveate_drivers.world.room_trace import TEXTURE

Gray = NDArray[np.uint8]
KINDS: tuple[Kind, ...] = get_args(Kind)
UNCLEAR = (
    255  # a label that is neither: an edge that cannot be seen in the picture, or a change of paint by half a step
)
_FIRST_SEED = 1000  # of rooms: those of the named sequences (room_sequences) are below
_GRAINY = ("wood", "carpet", "paint", "plain")
_DRAWN = (
    14.0,
    24.0,
    0.8,
)  # a step of paint (grey levels): unclear from, an edge from; blurred before by so many pixels
_GRAIN = (28.0, 44.0, 2.2)  # the same on grainy textures, whose boards and stripes are edges
_CROWDED = 0.6  # of the 7 x 7 around: where more are borders, no one can tell them apart
_VISIBLE = 6.0  # grey levels between an edge's two sides, at least; and so many deviations of the noise:
_ABOVE_NOISE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class EdgeViews:
    """Pictures (N x H x W, grey) and labels (N x H x W: 1 edge, 0 none, 255 unclear)."""

    images: Gray
    labels: Gray


@dataclass(frozen=True, slots=True)
class Look:
    """How a camera sees a view: what comes between light and grey levels."""

    gain: float = 0.7  # of light 1
    blur_px: float = 0.7  # standard deviation of the lens
    smear_px: float = 0.0  # length of a motion's smear
    smear_rad: float = 0.0
    full_well_e: float = 8000.0  # electrons at white
    vignetting: float = 0.2
    root: float = 0.5  # exponent from light to grey levels
    jpeg: int = 0  # quality; 0 = not compressed

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Look:
        """By chance: most pictures good, some dark, smeared, noisy or compressed."""
        return cls(
            gain=float(np.exp(rng.uniform(np.log(0.15), np.log(1.8)))),
            blur_px=float(rng.uniform(0.4, 1.4)),
            smear_px=float(rng.uniform(2, 8)) if rng.random() < 0.2 else 0.0,
            smear_rad=float(rng.uniform(0, np.pi)),
            full_well_e=float(np.exp(rng.uniform(np.log(400), np.log(12000)))),
            vignetting=float(rng.uniform(0, 0.4)),
            root=float(rng.uniform(0.4, 0.65)),
            jpeg=int(rng.integers(25, 96)) if rng.random() < 0.5 else 0,
        )

    def picture(self, light: NDArray[np.float32], rng: np.random.Generator) -> Gray:
        """H x W of grey levels; `light`: H x W, linear."""
        seen = cv2.GaussianBlur(light, (0, 0), self.blur_px)
        if self.smear_px:
            seen = cv2.filter2D(seen, -1, _line(self.smear_px, self.smear_rad))
        x, y = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (light.shape[1], light.shape[0])))
        share = seen * np.float32(self.gain) * (1 - np.float32(self.vignetting) * (x * x + y * y) / 2)
        electrons = np.minimum(share, 4.0) * self.full_well_e
        electrons = electrons + np.sqrt(electrons + 144.0) * rng.standard_normal(light.shape)
        made = np.rint(255 * np.clip(electrons / self.full_well_e, 0, 1) ** self.root).astype(np.uint8)
        if not self.jpeg:
            return made
        data = cv2.imencode(".jpg", made, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)

    def labels(self, sight: Sight, texture: NDArray[np.int64]) -> Gray:
        """The exact edges, and unclear where this camera shows no contrast there."""
        clean = 255 * np.clip(_gray(sight.light) * self.gain, 0, 1) ** self.root
        square = np.ones((3, 3), np.uint8)
        contrast = np.asarray(cv2.dilate(clean, square)) - np.asarray(cv2.erode(clean, square))
        share = np.maximum(clean / 255, 0.02)  # grey levels that one electron's root is worth, at each level
        noise = 255 * self.root * share ** (1 - 0.5 / self.root) / np.sqrt(self.full_well_e) / (1 + self.blur_px)
        made = exact_edges(sight, texture)
        made[(made == 1) & (contrast < np.maximum(_VISIBLE, _ABOVE_NOISE * noise))] = UNCLEAR
        return made


def edge_views(
    rooms: int, views: int, seed: int, width: int = 320, height: int = 240, look: Look | None = None
) -> EdgeViews:
    """`views` of each of `rooms` rooms of all kinds, from anywhere; each with a camera of its own, or with `look`."""
    images, labels = [], []
    for i in range(rooms):
        room, texture = _room(_FIRST_SEED + 1000 * seed + i, KINDS[i % len(KINDS)])
        rng = np.random.default_rng((seed, i))
        for sight in _sights(room, views, rng, width, height):
            mine = look or Look.drawn(rng)
            images.append(mine.picture(_gray(sight.light), rng))
            labels.append(mine.labels(sight, texture))
    return EdgeViews(np.array(images), np.array(labels))


def _room(seed: int, kind: Kind) -> tuple[Room, NDArray[np.int64]]:
    """A room and the textures of its faces."""
    room = Room(seed=seed, kind=kind, lighting=Lighting("dimming", 3.0), shiny=seed % 3 == 0)
    return room, room.model.face[:, TEXTURE].astype(np.int64)


def _sights(room: Room, count: int, rng: np.random.Generator, width: int, height: int) -> Iterator[Sight]:
    """From free places, towards any other place in the room."""
    while count:
        half = 0.5 * np.array(room.size_m)[[0, 2]] - 0.3
        x, z, to_x, to_z = rng.uniform(-1, 1, 4) * np.tile(half, 2)
        eye, target = np.array([x, -rng.uniform(0.5, 2.0), z]), np.array([to_x, -rng.uniform(0.0, 1.9), to_z])
        away = float(np.linalg.norm(target - eye))
        if away < 0.6 or room.clearance_m(eye) < 0.3:
            continue
        focal_px = width * float(np.exp(rng.uniform(np.log(0.7), np.log(1.9))))  # as wide as a camera, or a part of it
        pinhole = Pinhole(width, height, focal_px)
        pose = towards(eye, target, float(rng.normal(0, 0.25)))
        depth, _ = room.depth(pinhole, pose)
        if np.median(depth) < 0.6:
            continue
        count -= 1
        yield room.render(pinhole, pose, float(rng.uniform(0, 3)))


def exact_edges(sight: Sight, texture: NDArray[np.int64]) -> Gray:
    """H x W: 1 edge, 0 none, 255 unclear; `texture`: of each face. A border of faces is two pixels wide, a step of
    paint one, with an unclear pixel on either side."""
    border = np.zeros(sight.face.shape, np.uint8)
    across, down = sight.face[:, 1:] != sight.face[:, :-1], sight.face[1:] != sight.face[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    names = room_paint.palette()
    grainy = np.isin(texture[sight.face], [i for name in _GRAINY for i in names[name]])
    level = 255 * np.sqrt(np.clip(_gray(sight.albedo), 0, 1))
    sure, perhaps = np.zeros_like(border), np.zeros_like(border)
    for where, (low, high, blur_px) in ((~grainy, _DRAWN), (grainy, _GRAIN)):
        perhaps |= _steps(level, blur_px, low) & where
        sure |= _steps(level, blur_px, high) & where
    beside = np.asarray(cv2.dilate(border, np.ones((5, 5), np.uint8)))
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    made = np.where(np.asarray(cv2.dilate(perhaps | sure, cross)) > 0, np.uint8(UNCLEAR), np.uint8(0))
    made[sure > 0] = 1
    made[beside > 0] = 0  # blurred paint shifts the steps that are borders, too
    crowd = cv2.blur(border.astype(np.float32), (7, 7))
    made[border > 0] = 1
    made[crowd > _CROWDED] = UNCLEAR
    return made


def _steps(level: NDArray[np.float32], blur_px: float, step: float) -> Gray:
    """H x W, 0 or 1: the crest of the gradient where a step of so many grey levels lies."""
    blurred = cv2.GaussianBlur(level, (0, 0), blur_px)
    # a blurred step's steepest slope is step / (sqrt(2 pi) blur); the kernel itself blurs by about 0.8 px; Sobel's sum
    # is 8 times the slope, and 16 times that fits into integers
    slope = [np.clip(16 * cv2.Sobel(blurred, cv2.CV_32F, *axes), -32000, 32000).astype(np.int16)
             for axes in ((1, 0), (0, 1))]  # fmt: skip
    high = 16 * 8 * step / (np.sqrt(2 * np.pi) * np.hypot(blur_px, 0.8))
    return np.asarray(cv2.Canny(slope[0], slope[1], 0.7 * high, high, L2gradient=True)) // 255


def _gray(light: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(light, cv2.COLOR_BGR2GRAY))


def _line(length_px: float, angle_rad: float) -> NDArray[np.float32]:
    """A kernel that smears along a line."""
    half = int(np.ceil(length_px / 2))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along, aside = x * np.cos(angle_rad) + y * np.sin(angle_rad), -x * np.sin(angle_rad) + y * np.cos(angle_rad)
    kernel: NDArray[Any] = np.clip(length_px / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(aside), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)
