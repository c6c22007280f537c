"""The static ground of the procedural scene: streets, roofs, vegetation, squares, from a seed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.scene import Pixels, Sprite

REGIONS = ("vegetation", "road", "pavement", "roof", "ground")
VEGETATION, ROAD, PAVEMENT, ROOF, GROUND = range(5)
Points = NDArray[np.float64]


def _tint(rng: np.random.Generator, tone: tuple[float, float, float], brightness: float) -> Points:
    """`tone` (B, G, R) made lighter or darker, with a trace of colour."""
    return np.asarray(tone) + rng.normal(0, brightness) + rng.normal(0, 2.5, 3)


@dataclass(frozen=True, slots=True)
class Lane:
    """A straight place for objects: from `start_m` to `end_m` on the plane."""

    start_m: tuple[float, float]
    end_m: tuple[float, float]
    along_first: bool  # it follows the streets that run along the town's first axis


@dataclass(slots=True)
class Town:
    """The ground's picture, its region classes, and where objects may be."""

    image: Pixels
    regions: Pixels  # quarter resolution, index into REGIONS
    heading_rad: float
    lanes: list[Lane] = field(default_factory=list)
    curbs: list[Lane] = field(default_factory=list)
    walks: list[Lane] = field(default_factory=list)
    crossings: list[Lane] = field(default_factory=list)
    bays: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, heading
    lawns: list[Points] = field(default_factory=list)  # corners (4 x 2)
    squares: list[Points] = field(default_factory=list)


class _Painter:
    """Fills polygons given in the town's own axes (metres) into the picture and the class map."""

    def __init__(self, rng: np.random.Generator, width_m: float, height_m: float, px_per_m: float) -> None:
        self.rng = rng
        self.px_per_m = px_per_m
        self.width, self.height = int(width_m * px_per_m), int(height_m * px_per_m)
        self.image = np.zeros((self.height, self.width, 3), np.uint8)
        self.regions = np.zeros((self.height // 4, self.width // 4), np.uint8)
        self.heading = float(rng.uniform(-0.35, 0.35))

    def plane(self, points: Points) -> Points:
        """Town axes to plane axes (metres)."""
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return np.asarray(points, float) @ np.array([[cos, sin], [-sin, cos]])

    def fill(self, points: Points, color: Points | tuple[float, ...], region: int | None = None) -> None:
        pixels = self.plane(points) * self.px_per_m + np.array([self.width, self.height]) / 2
        tone = tuple(float(c) for c in np.clip(color, 0, 255))
        cv2.fillPoly(self.image, [np.round(pixels * 8).astype(np.int32)], tone, cv2.LINE_AA, 3)
        if region is not None:
            cv2.fillPoly(self.regions, [np.round(pixels / 4 * 8).astype(np.int32)], region, cv2.LINE_8, 3)

    def darken(self, points: Points, strength: float) -> None:
        """A shadow: scales the picture inside the polygon."""
        pixels = self.plane(points) * self.px_per_m + np.array([self.width, self.height]) / 2
        x0, y0 = np.clip(np.floor(pixels.min(axis=0)).astype(int) - 4, 0, [self.width, self.height])
        x1, y1 = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 4, 0, [self.width, self.height])
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.full((y1 - y0, x1 - x0), 255, np.uint8)
        shape = np.round((pixels - [x0, y0]) * 8).astype(np.int32)
        cv2.fillPoly(mask, [shape], 255.0 * (1 - strength), cv2.LINE_AA, 3)
        mask = cv2.blur(mask, (5, 5))
        patch = self.image[y0:y1, x0:x1]
        cv2.multiply(patch, cv2.merge([mask, mask, mask]), dst=patch, scale=1 / 255)

    def draw(self, sprite: Sprite, at: Points) -> None:
        x, y = self.plane(at)
        place = np.array([[self.px_per_m, 0, self.width / 2], [0, self.px_per_m, self.height / 2], [0, 0, 1.0]])
        sprite.draw(self.image, place, float(x), float(y))


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _streets(rng: np.random.Generator, reach: float) -> list[tuple[float, float]]:
    """(centre, width) of parallel streets over +-`reach` metres."""
    at = -reach + rng.uniform(0, 20)
    streets = []
    while at < reach:
        streets.append((at, float(rng.uniform(6.5, 10.0))))
        at += rng.uniform(38, 62)
    return streets


def build(rng: np.random.Generator, width_m: float, height_m: float, px_per_m: float) -> Town:
    """A town of `width_m` x `height_m` metres; the same generator state gives the same town."""
    paint = _Painter(rng, width_m, height_m, px_per_m)
    reach = 0.5 * float(np.hypot(width_m, height_m)) + 5
    town = Town(paint.image, paint.regions, paint.heading)
    sun = rng.uniform(-0.8, 0.8, 2)
    paint.fill(rectangle(-reach, -reach, reach, reach), _tint(rng, (60, 105, 88), 8), VEGETATION)
    first, second = _streets(rng, reach), _streets(rng, reach)
    walk = float(rng.uniform(2.0, 3.2))
    _blocks(paint, town, first, second, walk, sun)
    _grain(paint)
    _pave(paint, town, first, second, walk, reach)
    _furnish(paint, first, second, reach)
    _trees(paint, town, sun)
    return town


def _blocks(
    paint: _Painter, town: Town, first: list[tuple[float, float]], second: list[tuple[float, float]],
    walk: float, sun: Points,
) -> None:  # fmt: skip
    """What lies between the streets: houses, lawns, squares, car parks."""
    rng = paint.rng
    for (y0, h0), (y1, h1) in itertools.pairwise(first):
        for (x0, w0), (x1, w1) in itertools.pairwise(second):
            box = (x0 + w0 / 2 + walk, y0 + h0 / 2 + walk, x1 - w1 / 2 - walk, y1 - h1 / 2 - walk)
            area = rectangle(*box)
            kind = rng.choice(["houses", "houses", "houses", "park", "square", "cars"])
            if kind == "park":
                paint.fill(area, _tint(rng, (55, 112, 92), 8), VEGETATION)
                town.lawns.append(paint.plane(area))
            elif kind == "square":
                paint.fill(area, _tint(rng, (150, 158, 164), 10), GROUND)
                town.squares.append(paint.plane(area))
            elif kind == "cars":
                _car_park(paint, town, box)
            else:
                paint.fill(area, _tint(rng, (75, 118, 108), 12), VEGETATION)
                town.lawns.append(paint.plane(area))
                _houses(paint, box, sun)


def _car_park(paint: _Painter, town: Town, box: tuple[float, float, float, float]) -> None:
    rng = paint.rng
    paint.fill(rectangle(*box), _tint(rng, (98, 98, 100), 8), GROUND)
    x0, y0, x1, y1 = box
    for y in np.arange(y0 + 3.2, y1 - 2.7, 11.0):
        for x in np.arange(x0 + 1.5, x1 - 1.5, 2.6):
            paint.fill(rectangle(x - 1.36, y - 2.4, x - 1.24, y + 2.4), (205, 205, 205))
            px, py = paint.plane(np.array([x, y]))
            town.bays.append((float(px), float(py), paint.heading + np.pi / 2))


def _houses(paint: _Painter, box: tuple[float, float, float, float], sun: Points) -> None:
    rng = paint.rng
    x0, y0, x1, y1 = box
    columns = max(1, int((x1 - x0) // rng.uniform(12, 22)))
    rows = max(1, int((y1 - y0) // rng.uniform(12, 20)))
    for i in range(columns):
        for j in range(rows):
            if rng.random() < 0.12:
                continue
            cw, ch = (x1 - x0) / columns, (y1 - y0) / rows
            margin = rng.uniform(1.0, 3.0, 4)
            a, b = x0 + i * cw + margin[0], y0 + j * ch + margin[1]
            c, d = x0 + (i + 1) * cw - margin[2], y0 + (j + 1) * ch - margin[3]
            if c - a > 4 and d - b > 4:
                _roof(paint, a, b, c, d, sun * rng.uniform(3, 9))


def _roof(paint: _Painter, a: float, b: float, c: float, d: float, shadow: Points) -> None:
    rng = paint.rng
    area = rectangle(a, b, c, d)
    local = shadow @ np.array(
        [[np.cos(paint.heading), -np.sin(paint.heading)], [np.sin(paint.heading), np.cos(paint.heading)]]
    )
    hull = cv2.convexHull(np.vstack([area, area + local]).astype(np.float32)).reshape(-1, 2)
    paint.darken(hull.astype(float), 0.5)
    tone = rng.choice([[70, 82, 150], [120, 122, 124], [150, 152, 156], [60, 62, 66], [80, 100, 130], [190, 190, 186]])
    tone = _tint(rng, tone, 12)
    paint.fill(area, tone, ROOF)
    if rng.random() < 0.55:  # a gable: two slopes and a ridge
        middle = (b + d) / 2
        paint.fill(rectangle(a, b, c, middle), tone * rng.uniform(0.72, 0.9))
        for y in np.arange(b, d, 0.35):
            paint.fill(rectangle(a, y, c, y + 0.05), tone * 0.8)
        paint.fill(rectangle(a, middle - 0.12, c, middle + 0.12), tone * 0.65)
    else:  # flat, with a parapet and machines
        inner = rectangle(a + 0.4, b + 0.4, c - 0.4, d - 0.4)
        paint.fill(inner, tone * 0.86)
        for _ in range(rng.integers(1, 7)):
            x, y = rng.uniform(a + 1, c - 3), rng.uniform(b + 1, d - 3)
            w, h = rng.uniform(0.7, 2.4, 2)
            unit = rectangle(x, y, x + w, y + h)
            paint.darken(unit + local * 0.12, 0.45)
            paint.fill(unit, rng.uniform(90, 215) + rng.normal(0, 6, 3))
            if rng.random() < 0.5:
                paint.fill(rectangle(x + 0.2, y + 0.2, x + w - 0.2, y + h - 0.2), rng.uniform(40, 120) * np.ones(3))


def _grain(paint: _Painter) -> None:
    """Texture of grass, roofs and stone: noise at four sizes."""
    rng = paint.rng
    total = np.zeros((paint.height, paint.width), np.float32)
    for size_m, amount in ((8.0, 9.0), (1.6, 8.0), (0.35, 9.0), (0.07, 7.0)):
        cell = max(int(size_m * paint.px_per_m), 1)
        small = rng.standard_normal((paint.height // cell + 2, paint.width // cell + 2), dtype=np.float32)
        total += amount * cv2.resize(small, (paint.width, paint.height), interpolation=cv2.INTER_CUBIC)
    gain = np.array([1.1, 0.5, 0.5, 0.45, 0.4], np.float32)[paint.regions]
    total *= cv2.resize(gain, (paint.width, paint.height), interpolation=cv2.INTER_NEAREST)
    cv2.add(paint.image, cv2.merge([total, total, total * 0.9]), dst=paint.image, dtype=cv2.CV_8U)


def _pave(
    paint: _Painter, town: Town, first: list[tuple[float, float]], second: list[tuple[float, float]],
    walk: float, reach: float,
) -> None:  # fmt: skip
    rng = paint.rng
    stone, tar = _tint(rng, (148, 152, 156), 9), _tint(rng, (92, 92, 93), 9)
    for swap, streets in ((False, first), (True, second)):
        for at, width in streets:
            half = width / 2 + walk
            band = rectangle(-reach, at - half, reach, at + half)
            paint.fill(band[:, ::-1] if swap else band, stone, PAVEMENT)
    for swap, streets, others in ((False, first, second), (True, second, first)):
        for at, width in streets:
            _street(paint, town, at, width, walk, reach, swap, tar)
            for across, other in others:
                _crossing(paint, town, at, width, across - other / 2 - 2.4, swap)
                _crossing(paint, town, at, width, across + other / 2 + 0.4, swap)
    _wear(paint)


def _street(
    paint: _Painter, town: Town, at: float, width: float, walk: float, reach: float, swap: bool, tar: Points
) -> None:
    def turn(points: Points) -> Points:
        return points[:, ::-1] if swap else points

    def lane(offset: float) -> Lane:
        ends = paint.plane(turn(np.array([[-reach, at + offset], [reach, at + offset]])))
        (ax, ay), (bx, by) = ends.tolist()
        return Lane((ax, ay), (bx, by), not swap)

    paint.fill(turn(rectangle(-reach, at - width / 2, reach, at + width / 2)), tar, ROAD)
    for x in np.arange(-reach, reach, 6.0):
        paint.fill(turn(rectangle(x, at - 0.07, x + 3.0, at + 0.07)), (212, 214, 214))
    for side in (-1, 1):
        edge = at + side * (width / 2)
        paint.fill(turn(rectangle(-reach, edge - 0.08, reach, edge + 0.08)), (168, 170, 172))
        town.lanes.append(lane(side * width / 4))
        town.curbs.append(lane(side * (width / 2 - 1.05)))
        town.walks.append(lane(side * (width / 2 + walk / 2)))


def _crossing(paint: _Painter, town: Town, at: float, width: float, x: float, swap: bool) -> None:
    for y in np.arange(at - width / 2 + 0.3, at + width / 2 - 0.3, 1.0):
        stripe = rectangle(x, y, x + 2.0, y + 0.5)
        paint.fill(stripe[:, ::-1] if swap else stripe, (205, 206, 208))
    ends = np.array([[x + 1.0, at - width / 2 - 1.0], [x + 1.0, at + width / 2 + 1.0]])
    (ax, ay), (bx, by) = paint.plane(ends[:, ::-1] if swap else ends).tolist()
    town.crossings.append(Lane((ax, ay), (bx, by), swap))


def _wear(paint: _Painter) -> None:
    """Stains and fine grain on the paved parts."""
    rng = paint.rng
    fine = rng.standard_normal((paint.height // 2, paint.width // 2), dtype=np.float32) * 5.0
    coarse = rng.standard_normal((paint.height // 40 + 2, paint.width // 40 + 2), dtype=np.float32) * 6.0
    size = (paint.width, paint.height)
    noise = cv2.resize(fine, size, interpolation=cv2.INTER_LINEAR) + cv2.resize(
        coarse, size, interpolation=cv2.INTER_CUBIC
    )
    cv2.add(paint.image, cv2.merge([noise, noise, noise]), dst=paint.image, dtype=cv2.CV_8U)


def _furnish(
    paint: _Painter, first: list[tuple[float, float]], second: list[tuple[float, float]], reach: float
) -> None:
    """Things that are not targets but look as if they could be: manholes, bins, benches, kiosks, patches."""
    rng = paint.rng
    for swap, streets in ((False, first), (True, second)):
        for at, width in streets:
            for _ in range(26):
                x, y = rng.uniform(-reach, reach), at + rng.uniform(-0.45, 0.45) * width
                size = rng.uniform(0.3, 0.45)
                shape = rectangle(x - size, y - size, x + size, y + size)
                if rng.random() < 0.4:
                    shape = rectangle(x, y, x + rng.uniform(1, 6), y + rng.uniform(0.5, 2.2))
                paint.fill(shape[:, ::-1] if swap else shape, rng.uniform(66, 110) * np.ones(3))
            for _ in range(16):
                x = rng.uniform(-reach, reach)
                y = at + rng.choice([-1, 1]) * (width / 2 + rng.uniform(0.5, 2.0))
                w, h = rng.choice([[0.5, 0.5], [1.6, 0.5], [0.3, 0.3], [2.4, 1.8]])
                shape = rectangle(x, y, x + w, y + h)
                paint.darken((shape + [0.25, 0.25])[:, ::-1] if swap else shape + [0.25, 0.25], 0.4)
                tone = rng.choice([[50, 70, 60], [60, 90, 140], [170, 170, 172], [60, 60, 64]])
                paint.fill(shape[:, ::-1] if swap else shape, tone)


def _tree(rng: np.random.Generator, sun: Points) -> Sprite:
    """One crown with its shadow, 40 pixels a metre."""
    radius = float(rng.uniform(1.0, 3.2))
    side = int((2 * radius + 2 * 3.0 * float(np.abs(sun).max()) + 1) * 20) * 2
    mask = np.zeros((side, side), np.uint8)
    for _ in range(34):
        offset = rng.normal(0, radius * 0.42, 2)
        center = tuple(int(v) for v in offset * 40 + side / 2)
        cv2.circle(mask, center, int(radius * 40 * rng.uniform(0.18, 0.42)), 255, -1)
    move = np.array([[1, 0, sun[0] * 3.0 * 40], [0, 1, sun[1] * 3.0 * 40]], np.float64)
    shadow = cv2.GaussianBlur(cv2.warpAffine(mask, move, (side, side)), (0, 0), 5).astype(np.float32) / 255 * 0.5
    leaf = sum(
        cv2.resize(
            rng.standard_normal((side // n + 2,) * 2, dtype=np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        for n in (4, 12, 30)
    )
    solid = cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32) / 255
    tone = rng.normal([38, 82, 62], 9)[None, None, :] * (1 + 0.16 * np.asarray(leaf)[:, :, None])
    image = np.dstack([np.clip(tone, 0, 255) * solid[:, :, None], 255 * (solid + shadow * (1 - solid))])
    return Sprite(image.astype(np.uint8), 40.0, (-radius, -radius, radius, radius))


def _trees(paint: _Painter, town: Town, sun: Points) -> None:
    rng = paint.rng
    kinds = [_tree(rng, sun) for _ in range(6)]
    back = np.array([[np.cos(paint.heading), -np.sin(paint.heading)], [np.sin(paint.heading), np.cos(paint.heading)]])
    for lawn in town.lawns:
        corners = lawn @ back
        low, high = corners.min(axis=0) + 1.5, corners.max(axis=0) - 1.5
        if (high <= low).any():
            continue
        for _ in range(int((high - low).prod() / rng.uniform(90, 260))):
            at = rng.uniform(low, high)
            pixel = np.round((paint.plane(at) * paint.px_per_m + np.array([paint.width, paint.height]) / 2) / 4).astype(
                int
            )
            inside = 0 <= pixel[0] < paint.regions.shape[1] and 0 <= pixel[1] < paint.regions.shape[0]
            if inside and paint.regions[pixel[1], pixel[0]] != ROOF:
                paint.draw(kinds[rng.integers(len(kinds))], at)
