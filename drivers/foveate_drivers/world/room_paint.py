"""What the surfaces of a simulated room are covered with: textures painted from a seed, all to be tiled.

Each is 512 x 512 x 3 (B, G, R), uint8, the square root of the albedo. None is a photograph; what they have of real
surfaces is their statistics: strokes of text, grain along one direction, sharp shapes, noise at all scales.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_drivers.world.room_shade import LEVELS, SIDE

Pixels = NDArray[np.uint8]
Random = np.random.Generator


def noise(rng: Random, coarsest: int, finest: int, falling: float, stretch: int = 1) -> NDArray[np.float32]:
    """SIDE x SIDE of mean 0 and deviation 1 that can be tiled: octaves from `coarsest` to `finest` periods, each
    `falling` times as strong as the one before; `stretch`: so much longer along the columns."""
    total = np.zeros((SIDE, SIDE), np.float32)
    periods, strength = coarsest, 1.0
    while periods <= finest:
        grid = rng.standard_normal((max(periods // stretch, 1), periods)).astype(np.float32)
        wrapped = np.pad(grid, 2, mode="wrap")
        step_y, step_x = SIDE // grid.shape[0], SIDE // grid.shape[1]
        large = cv2.resize(wrapped, None, fx=step_x, fy=step_y, interpolation=cv2.INTER_CUBIC)
        total += strength * large[2 * step_y : 2 * step_y + SIDE, 2 * step_x : 2 * step_x + SIDE]
        periods, strength = periods * 2, strength * falling
    return (total - total.mean()) / max(float(total.std()), 1e-6)


def _colors(rng: Random, light: tuple[float, float], vivid: float) -> NDArray[np.float64]:
    """B, G, R (0 to 255) of a random hue; `light`: between which levels; `vivid`: most saturation."""
    hsv = np.array([[[rng.uniform(0, 180), 255 * rng.uniform(0, vivid), rng.uniform(*light)]]], np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0], np.float64)


def _mixed(share: NDArray[np.float32], one: NDArray[np.float64], other: NDArray[np.float64]) -> Pixels:
    share = np.clip(share, 0, 1)[..., None]
    return np.clip(one + share * (other - one), 0, 255).astype(np.uint8)


def wood(rng: Random) -> Pixels:
    """Boards with grain along their length."""
    red = rng.uniform(95, 215)
    warm = red * np.array([rng.uniform(0.4, 0.62), rng.uniform(0.66, 0.8), 1.0])
    rings = np.sin(noise(rng, 4, 16, 0.6, 8) * 2.5 + np.linspace(0, 12 * np.pi, SIDE, dtype=np.float32)[None, :])
    share = 0.5 + 0.16 * rings + 0.14 * noise(rng, 64, 256, 0.8, 16)
    made = _mixed(share, warm * 0.62, warm)
    boards = int(rng.integers(2, 6))
    for i in range(boards):
        x0, x1 = i * SIDE // boards, (i + 1) * SIDE // boards
        made[:, x0:x1] = np.clip(made[:, x0:x1] * rng.uniform(0.85, 1.1), 0, 255)
        made[:, x0 : x0 + 2] = made[:, x0 : x0 + 2] // 2
    return made


def page(rng: Random) -> Pixels:
    """A printed sheet: a heading, lines of words made of letter-like strokes, perhaps a figure."""
    paper = float(rng.uniform(215, 248))
    made = np.full((SIDE, SIDE, 3), paper, np.uint8)
    ink = tuple(float(v) for v in rng.uniform(10, 70, 3))
    columns = int(rng.integers(1, 3))
    line_px = int(rng.integers(13, 24))
    figure = (int(rng.integers(0, columns)), int(rng.integers(100, 300))) if rng.random() < 0.6 else (-1, 0)
    for c in range(columns):
        x0, x1 = 30 + c * (SIDE - 40) // columns, 10 + (c + 1) * (SIDE - 40) // columns
        y = 36
        while y < SIDE - 40:
            if c == figure[0] and figure[1] <= y < figure[1] + 130:
                block = np.zeros((110, x1 - x0, 3), np.uint8)
                block[:] = _colors(rng, (90, 220), 0.8)
                for _ in range(6):
                    place = (int(rng.integers(0, x1 - x0)), int(rng.integers(0, 110)))
                    cv2.circle(block, place, int(rng.integers(5, 40)), _colors(rng, (30, 255), 0.9).tolist(), -1)
                made[y : y + 110, x0:x1] = block
                y += 130
                continue
            big = y == 36 and c == 0
            _line(rng, made, x0, x1, y, line_px * (2 if big else 1), ink)
            y += line_px * (3 if big else 1) + (line_px if rng.random() < 0.12 else 0)
    return made


def _line(rng: Random, onto: Pixels, x: int, end: int, y: int, size: int, ink: tuple[float, ...]) -> None:
    """One line of words."""
    while x < end - size:
        for _ in range(int(rng.integers(2, 9))):
            high, wide = int(size * 0.55), max(int(size * 0.32), 3)
            if x + wide > end:
                return
            shape = int(rng.integers(0, 4))
            corner = (x, y + (0 if rng.random() < 0.3 else high // 3))
            thick = 1 + size // 16
            if shape == 0:
                cv2.ellipse(onto, (x + wide // 2, y + high * 2 // 3), (wide // 2, high // 3), 0, 0, 330, ink, thick)
            elif shape == 1:
                cv2.line(onto, corner, (x, y + high), ink, thick)
                cv2.line(onto, (x, y + high // 2), (x + wide - 1, y + high), ink, thick)
            elif shape == 2:
                cv2.rectangle(onto, corner, (x + wide - 2, y + high), ink, thick)
            else:
                cv2.line(onto, corner, (x + wide - 2, y + high), ink, thick)
                cv2.line(onto, (x + wide - 2, corner[1]), (x, y + high), ink, thick)
            x += wide + 2
        x += size // 2


def poster(rng: Random) -> Pixels:
    """Shapes in strong colours, over a calm ground, with a few large words."""
    made = _mixed(0.5 + 0.3 * noise(rng, 1, 2, 0.5), _colors(rng, (60, 240), 0.7), _colors(rng, (60, 240), 0.7))
    for _ in range(int(rng.integers(6, 20))):
        color = _colors(rng, (20, 255), 0.95).tolist()
        place = rng.integers(20, SIDE - 20, 2)
        size = int(rng.integers(10, 110))
        if rng.random() < 0.35:
            cv2.circle(made, tuple(int(v) for v in place), size, color, -1 if rng.random() < 0.7 else 6, cv2.LINE_AA)
        else:
            corners = place + rng.uniform(-size, size, (int(rng.integers(3, 6)), 2))
            cv2.fillPoly(made, [cv2.convexHull(corners.astype(np.int32))], color, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 4))):
        ink = tuple(_colors(rng, (0, 255), 0.5).tolist())
        _line(rng, made, 30, SIDE - 30, int(rng.integers(30, SIDE - 80)), int(rng.integers(26, 64)), ink)
    return made


def picture(rng: Random) -> Pixels:
    """Like a photograph or a painting: smooth areas, contours, noise at all scales."""
    ground = noise(rng, 1, 128, 0.62)
    hue = noise(rng, 1, 16, 0.55)
    bands = np.floor(ground * 1.2) * 0.35 + ground * 0.25
    first = _mixed(0.5 + 0.4 * bands, _colors(rng, (10, 90), 0.8), _colors(rng, (180, 255), 0.5))
    second = _mixed(0.5 + 0.4 * bands, _colors(rng, (10, 120), 0.9), _colors(rng, (150, 255), 0.7))
    return np.where(hue[..., None] > 0.3, first, second).astype(np.uint8)


def checks(rng: Random) -> Pixels:
    """Tiles with joints, or squares of two colours."""
    count = int(rng.choice([4, 8]))
    step = SIDE // count
    one, other = _colors(rng, (120, 245), 0.35), _colors(rng, (60, 220), 0.5)
    made = np.empty((SIDE, SIDE, 3), np.uint8)
    plain = rng.random() < 0.5
    for i in range(count):
        for j in range(count):
            color = one if plain or (i + j) % 2 == 0 else other
            made[i * step : (i + 1) * step, j * step : (j + 1) * step] = np.clip(color * rng.uniform(0.9, 1.06), 0, 255)
    made = np.clip(made + 4 * noise(rng, 8, 128, 0.7)[..., None], 0, 255).astype(np.uint8)
    joint = rng.uniform(60, 200)
    for i in range(count):
        made[i * step : i * step + 4, :] = joint
        made[:, i * step : i * step + 4] = joint
    return made


def carpet(rng: Random) -> Pixels:
    """Short threads; some with stripes or a pattern."""
    one, other = _colors(rng, (50, 190), 0.6), _colors(rng, (50, 210), 0.6)
    share = 0.5 + 0.35 * noise(rng, 64, 256, 1.0) + 0.15 * noise(rng, 4, 32, 0.8)
    if rng.random() < 0.6:
        phase = np.linspace(0, 2 * np.pi * rng.integers(3, 9), SIDE, endpoint=False, dtype=np.float32)
        pattern = np.sign(np.sin(phase)[:, None] * (np.sin(phase)[None, :] if rng.random() < 0.6 else 1.0))
        share = 0.5 + 0.25 * pattern + 0.5 * (share - 0.5)
    return _mixed(share, one, other)


def paint(rng: Random) -> Pixels:
    """A painted wall: nearly even, with the roller's grain, faint clouds, here and there a mark."""
    color = _colors(rng, (175, 245), 0.22)
    made = color + 1.3 * noise(rng, 128, 256, 1.0)[..., None] + 2.2 * noise(rng, 2, 16, 0.6)[..., None]
    made = np.clip(made, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 5))):
        place = tuple(int(v) for v in rng.integers(0, SIDE, 2))
        cv2.circle(made, place, int(rng.integers(1, 3)), (color * rng.uniform(0.6, 0.9)).tolist(), -1)
    return made


def spine(rng: Random) -> Pixels:
    """Of a book or a box: one colour, bands, a title along it."""
    ground = _colors(rng, (30, 235), 0.85)
    made = np.empty((SIDE, SIDE, 3), np.uint8)
    made[:] = ground
    for _ in range(int(rng.integers(1, 4))):
        y, high = int(rng.integers(0, SIDE - 60)), int(rng.integers(8, 60))
        made[y : y + high] = _colors(rng, (30, 250), 0.7)
    turned = np.full((SIDE, SIDE, 3), 0, np.uint8)
    turned[:] = made.transpose(1, 0, 2)
    ink = (235.0, 235.0, 235.0) if ground.mean() < 120 else (25.0, 25.0, 25.0)
    for y in (150, 300):
        _line(rng, turned, 40, SIDE - int(rng.integers(40, 200)), y, 110, ink)
    return np.ascontiguousarray(turned.transpose(1, 0, 2))


def cardboard(rng: Random) -> Pixels:
    """A parcel's side: brown, a strip of tape, a label."""
    ground = np.array([105.0, 150.0, 185.0]) * rng.uniform(0.75, 1.05)
    made = np.clip(ground + 5 * noise(rng, 4, 256, 0.8)[..., None], 0, 255).astype(np.uint8)
    y = int(rng.integers(200, 300))
    made[y : y + 40] = np.clip(made[y : y + 40] * 1.15 + 10, 0, 255)
    x, y = (int(v) for v in rng.integers(30, 300, 2))
    made[y : y + 120, x : x + 180] = 235
    for row in range(4):
        _line(rng, made, x + 8, x + 170, y + 8 + 27 * row, 24, (30.0, 30.0, 30.0))
    for i in range(int(rng.integers(10, 24))):
        made[y + 80 : y + 112, x + 90 + 3 * i : x + 91 + 3 * i + int(rng.integers(0, 2))] = 25
    return made


def screen(rng: Random) -> Pixels:
    """What a monitor shows: windows with bars and text."""
    made = _mixed(0.5 + 0.3 * noise(rng, 1, 4, 0.6), _colors(rng, (20, 120), 0.8), _colors(rng, (60, 200), 0.8))
    for _ in range(3):
        x, y = (int(v) for v in rng.integers(10, 220, 2))
        wide, high = (int(v) for v in rng.integers(180, 280, 2))
        cv2.rectangle(made, (x, y), (x + wide, y + high), (238, 238, 238) if rng.random() < 0.6 else (40, 34, 30), -1)
        cv2.rectangle(made, (x, y), (x + wide, y + 18), _colors(rng, (60, 200), 0.8).tolist(), -1)
        for row in range(y + 26, y + high - 14, 14):
            _line(rng, made, x + 8, x + int(rng.uniform(0.4, 0.95) * wide), row, 13, tuple(rng.uniform(60, 160, 3)))
    return made


def plain(rng: Random) -> Pixels:
    """Even grey to be tinted, with the least of a grain: metal, lacquer, plastic."""
    made = 222 + 1.5 * noise(rng, 64, 256, 1.0)[..., None] + 1.5 * noise(rng, 2, 8, 0.6)[..., None]
    return np.repeat(np.clip(made, 0, 255).astype(np.uint8), 3, axis=2)


KINDS: dict[str, tuple[Callable[[Random], Pixels], int]] = {  # how each is painted, and how many a room has of it
    "wood": (wood, 3), "page": (page, 3), "poster": (poster, 4), "picture": (picture, 3), "checks": (checks, 2),
    "carpet": (carpet, 2), "paint": (paint, 2), "spine": (spine, 8), "cardboard": (cardboard, 2), "screen": (screen, 1),
    "plain": (plain, 1),
}  # fmt: skip


def levels(texture: Pixels) -> Pixels:
    """All half-size levels of a texture, one after the other (texels x 3), each the mean of four texels' light."""
    found, light = [texture.reshape(-1, 3)], np.square(texture, dtype=np.float32)
    for level in range(1, LEVELS):
        light = cv2.resize(light, (SIDE >> level, SIDE >> level), interpolation=cv2.INTER_AREA)
        found.append(np.rint(np.sqrt(light)).astype(np.uint8).reshape(-1, 3))
    return np.concatenate(found)


def starts() -> NDArray[np.int64]:
    """Where each level begins in what `levels` gives."""
    return np.concatenate([[0], np.cumsum([(SIDE >> level) ** 2 for level in range(LEVELS)])]).astype(np.int64)


def palette() -> dict[str, list[int]]:
    """Which of a room's textures are of which kind."""
    index: dict[str, list[int]] = {}
    count = 0
    for name, (_, number) in KINDS.items():
        index[name] = list(range(count, count + number))
        count += number
    return index


def painted(rng: Random) -> Pixels:
    """All textures of a room (K x texels x 3), in the order of `palette`."""
    return np.stack([levels(painter(rng)) for painter, count in KINDS.values() for _ in range(count)])
