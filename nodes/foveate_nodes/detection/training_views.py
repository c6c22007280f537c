"""Labelled views for training: the search camera's and the wide camera's, rendered or cut from photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_calibration.pinhole import Pinhole
from foveate_drivers.world.procedural import ProceduralScene
from foveate_drivers.world.scene import Scene, visible_area
from foveate_drivers.world.sensor import Sensor

SIDE_PX = 256
MAX_BOXES = 16


@dataclass(slots=True)
class Views:
    """Images with their boxes."""

    images: NDArray[np.uint8]  # N x 256 x 256
    boxes: NDArray[np.float32]  # N x MAX_BOXES x 4, x0 y0 x1 y1 in pixels
    labels: NDArray[np.int64]  # N x MAX_BOXES
    count: NDArray[np.int64]  # N


def _looking_at(x: float, y: float, width_m: float, turn_rad: float) -> NDArray[np.float64]:
    """Homography of a square view `width_m` wide centred on the plane's (x, y)."""
    cos, sin, scale = np.cos(turn_rad), np.sin(turn_rad), SIDE_PX / width_m
    middle = (SIDE_PX - 1) / 2
    linear = scale * np.array([[cos, -sin], [sin, cos]])
    shift = middle - linear @ [x, y]
    return np.array([[*linear[0], shift[0]], [*linear[1], shift[1]], [0.0, 0.0, 1.0]])


def _boxes_in_view(
    scene: Scene, t_s: float, view: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes clipped to the image; an object less than a third of which is in view is left out."""
    truth = scene.truth(t_s)
    half = truth.size_m[:, None, :] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = np.dstack([truth.center_m[:, None] + half, np.ones((len(half), 4))]) @ view.T
    low, high = corners[..., :2].min(axis=1), corners[..., :2].max(axis=1)
    clipped = np.clip(np.hstack([low, high]), 0, SIDE_PX - 1)
    area = (high - low).prod(axis=1)
    seen = (clipped[:, 2:] - clipped[:, :2]).clip(0).prod(axis=1)
    keep = (seen > area / 3) | (seen > 0.35 * SIDE_PX**2)
    return clipped[keep].astype(np.float32), truth.labels[keep].astype(np.int64)


def _spoil(rng: np.random.Generator, image: NDArray[np.uint8], sensor: Sensor, index: int) -> NDArray[np.uint8]:
    """Light, contrast, blur and sensor noise, at random."""
    gain, offset, gamma = rng.uniform(0.5, 1.5), rng.uniform(-25, 25), rng.uniform(0.75, 1.35)
    table = np.clip(((np.arange(256) / 255.0) ** gamma * 255.0 - 110) * gain + 110 + offset, 0, 255)
    image = cv2.LUT(image, table.astype(np.uint8))
    if rng.random() < 0.35:
        less = int(SIDE_PX / rng.uniform(1.3, 3.2))
        small = cv2.resize(image, (less, less), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        length = int(rng.integers(3, 9))
        kernel = np.zeros((length, length), np.float32)
        if rng.random() < 0.5:
            kernel[length // 2] = 1 / length
        else:
            kernel[:, length // 2] = 1 / length
        image = cv2.filter2D(image, -1, kernel)
    return sensor.expose(image, index)


def rendered_scenes(count: int, seed: int) -> Iterator[ProceduralScene]:
    """Towns as the simulated rig shows them, with more objects."""
    for i in range(count):
        yield ProceduralScene(
            seed=seed + i, width_m=153.0, height_m=83.0, active_m=(133.0, 72.0), vehicles=26, people=42
        )


def views_of(
    scenes: Iterator[ProceduralScene] | list[Scene], per_scene: int, seed: int, width_m: tuple[float, float],
    near: float = 0.72,
) -> Views:  # fmt: skip
    """`per_scene` grey views of each scene, `width_m` (least, most) wide; a share `near` of them near an object."""
    rng = np.random.default_rng(seed)
    sensor = Sensor(SIDE_PX, SIDE_PX, seed=seed)
    images: list[NDArray[np.uint8]] = []
    boxes, labels, counts = [], [], []
    for scene in scenes:
        for _ in range(per_scene):
            t_s = float(rng.uniform(0, 40))
            wide = float(np.exp(rng.uniform(*np.log(width_m))))
            truth = scene.truth(t_s)
            place = rng.uniform(-0.43, 0.43, 2) * [scene.width_m, scene.height_m]
            if rng.random() < near and len(truth.ids):
                place = truth.center_m[rng.integers(len(truth.ids))] + rng.uniform(-0.55, 0.55, 2) * wide
            view = _looking_at(float(place[0]), float(place[1]), wide, float(rng.normal(0, 0.1)))
            found, kinds = _boxes_in_view(scene, t_s, view)
            if len(found) > MAX_BOXES:
                continue
            image = _spoil(rng, scene.render(view, SIDE_PX, SIDE_PX, False, t_s), sensor, len(images))
            images.append(image)
            boxes.append(np.vstack([found, np.zeros((MAX_BOXES - len(found), 4), np.float32)]))
            labels.append(np.concatenate([kinds, np.zeros(MAX_BOXES - len(kinds), np.int64)]))
            counts.append(len(found))
    return Views(np.array(images), np.array(boxes), np.array(labels), np.array(counts))


@dataclass(slots=True)
class RegionViews:
    """Wide images with their classes: regions of the town, then the objects."""

    images: NDArray[np.uint8]  # N x H x W x 3
    classes: NDArray[np.uint8]  # N x H/4 x W/4; 255 = not known


def region_views(scenes: Iterator[ProceduralScene], per_scene: int, seed: int, width: int, height: int) -> RegionViews:
    """Wide images at the rig's scale and others, with the exact classes of every fourth pixel."""
    rng = np.random.default_rng(seed)
    images: list[NDArray[np.uint8]] = []
    classes = []
    sensor = Sensor(width, height, seed=seed)
    for scene in scenes:
        for _ in range(per_scene):
            t_s = float(rng.uniform(0, 40))
            camera = Pinhole.from_field(width, height, np.radians(rng.uniform(22, 42)))
            turn = rng.normal(0, 0.15)
            pose = np.eye(4)
            pose[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
            pose[:2, 3] = rng.uniform(-24, 24, 2) * [1.0, 0.6]
            view = camera.image_from_plane(pose, 150.0)
            image = scene.render(view, width, height, True, t_s)
            tone = rng.uniform(0.6, 1.35) * rng.uniform(0.85, 1.15, 3) * image + rng.uniform(-18, 18)
            images.append(sensor.expose(np.clip(tone, 0, 255).astype(np.uint8), len(images)))
            classes.append(_class_map(scene, view, width, height, t_s))
    return RegionViews(np.array(images), np.array(classes))


def _class_map(
    scene: ProceduralScene, view: NDArray[np.float64], width: int, height: int, t_s: float
) -> NDArray[np.uint8]:
    """Region classes at quarter resolution, with the vehicles (5) and people (6) over them."""
    regions = scene.town.regions
    px_per_m = regions.shape[1] / scene.width_m
    plane_from_map = np.array(
        [[1 / px_per_m, 0, -scene.width_m / 2], [0, 1 / px_per_m, -scene.height_m / 2], [0, 0, 1.0]]
    )
    quarter = np.diag([0.25, 0.25, 1.0])
    out = cv2.warpPerspective(
        regions, quarter @ view @ plane_from_map, (width // 4, height // 4),
        flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255,
    )  # fmt: skip
    x0, y0, x1, y1 = visible_area(view, width, height)
    for mover in scene.movers:
        (x, y), sprite = mover.place(t_s)
        if mover.label == 0 and x0 < x < x1 and y0 < y < y1:
            side = sprite.image.shape[0]
            solid = np.where(sprite.image[:, :, :3].max(axis=2) > 24, np.uint8(1), np.uint8(0))
            scale = 1 / sprite.px_per_m
            place = np.array([[scale, 0, x - side / 2 * scale], [0, scale, y - side / 2 * scale], [0, 0, 1.0]])
            body = cv2.warpPerspective(
                solid, quarter @ view @ place, (width // 4, height // 4), flags=cv2.INTER_NEAREST
            )
            out[body > 0] = 5
        elif mover.label == 1 and x0 < x < x1 and y0 < y < y1:
            at = quarter @ view @ [x, y, 1.0]
            cv2.circle(out, (int(at[0] / at[2]), int(at[1] / at[2])), 1, 6, -1)
    return out


class LabelledPhotograph:
    """An aerial photograph with boxes in YOLO text form, as a scene; its plane is `metres_wide` wide."""

    names = ("vehicle",)

    def __init__(self, path: Path, metres_wide: float) -> None:
        from foveate_drivers.world.photo import PhotoScene

        self._scene = PhotoScene(path, None, width_m=metres_wide)
        self.width_m, self.height_m = self._scene.width_m, self._scene.height_m
        self.truth = self._scene.truth
        self.render = self._scene.render
