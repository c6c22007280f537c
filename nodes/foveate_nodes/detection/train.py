"""Train the detector and the region network on rendered scenes, optionally tuned on labelled photographs.

Deterministic from the seed on one machine (torch sums in a fixed order for a fixed thread count).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from foveate_nodes.detection import network, region_network
from foveate_nodes.detection import training_views as views
from foveate_nodes.models.fitting import Progress, fit

METRES_WIDE = 133.6  # a photograph is shown this wide: the field of the simulated rig
VIEW_M = (4.6, 13.0)
WIDE_PX = (480, 288)


def train_detector(
    *, steps: int, seed: int, scenes: int, photographs: list[Path], start: Path | None, progress: Progress
) -> tuple[network.Detector, NDArray[np.uint8]]:
    """The trained network and images to calibrate its integer form with."""
    torch.manual_seed(seed)
    data = [views.views_of(views.rendered_scenes(scenes, 1000 + seed), 100, seed, VIEW_M)]
    names = 2
    if photographs:
        cut = [views.LabelledPhotograph(path, METRES_WIDE) for path in photographs]
        data.append(views.views_of(cut, 360, seed + 1, VIEW_M, near=0.45))  # type: ignore[arg-type]
    net = network.Detector(names)
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True))
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cells = network.grid(views.SIDE_PX, views.SIDE_PX)
    peak = 1e-3 if start is not None else 2.5e-3
    rng = np.random.default_rng(seed)

    def batch_loss() -> torch.Tensor:
        images, boxes, labels, count = _detector_batch(rng, data)
        return network.loss(net(images), boxes, labels, count, cells)

    fit(net, batch_loss, steps=steps, peak=peak, weight_decay=0.02, clip=10.0, progress=progress)
    return net, np.concatenate([part.images[:160] for part in data])[:, None]


def _detector_batch(rng: np.random.Generator, data: list[views.Views], size: int = 32) -> tuple[torch.Tensor, ...]:
    """A batch shared evenly by the data sets, turned by a random element of the square's symmetries."""
    parts = []
    for part in data:
        index = rng.integers(len(part.images), size=size // len(data))
        parts.append((part.images[index], part.boxes[index], part.labels[index], part.count[index]))
    images, boxes, labels, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    side = views.SIDE_PX - 1
    if rng.random() < 0.5:
        images = images[:, :, ::-1]
        boxes = np.stack([side - boxes[..., 2], boxes[..., 1], side - boxes[..., 0], boxes[..., 3]], -1)
    if rng.random() < 0.5:
        images = images[:, ::-1]
        boxes = np.stack([boxes[..., 0], side - boxes[..., 3], boxes[..., 2], side - boxes[..., 1]], -1)
    if rng.random() < 0.5:
        images = images.transpose(0, 2, 1)
        boxes = boxes[..., [1, 0, 3, 2]]
    pixels = torch.from_numpy(np.ascontiguousarray(images)[:, None]).float()
    return (
        pixels.contiguous(memory_format=torch.channels_last),
        torch.from_numpy(np.ascontiguousarray(boxes)), torch.from_numpy(labels), torch.from_numpy(count),
    )  # fmt: skip


def train_regions(
    *, steps: int, seed: int, scenes: int, photographs: list[Path], start: Path | None, progress: Progress
) -> tuple[region_network.Regions, NDArray[np.uint8]]:
    """The trained region network and images to calibrate its integer form with."""
    torch.manual_seed(seed)
    width, height = WIDE_PX
    data = [views.region_views(views.rendered_scenes(scenes, 5000 + seed), 12, seed, width, height)]
    if photographs:
        data.append(_photograph_regions(photographs, seed, width, height))
    net = region_network.Regions()
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True))
    peak = 8e-4 if start is not None else 3e-3
    rng = np.random.default_rng(seed)

    def batch_loss() -> torch.Tensor:
        images, classes = _region_batch(rng, data)
        return region_network.loss(net(images), classes)

    fit(net, batch_loss, steps=steps, peak=peak, weight_decay=0.02, progress=progress)
    return net, np.concatenate([part.images[:60] for part in data]).transpose(0, 3, 1, 2)


def _region_batch(rng: np.random.Generator, data: list[views.RegionViews], size: int = 12) -> tuple[torch.Tensor, ...]:
    """A batch shared evenly by the data sets, half of it mirrored."""
    parts = []
    for part in data:
        index = rng.integers(len(part.images), size=size // len(data))
        parts.append((part.images[index], part.classes[index]))
    images, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    for axis in (1, 2):
        if rng.random() < 0.5:
            images, classes = np.flip(images, axis), np.flip(classes, axis)
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
    return (
        pixels.contiguous(memory_format=torch.channels_last),
        torch.from_numpy(np.ascontiguousarray(classes)).long(),
    )


def _photograph_regions(paths: list[Path], seed: int, width: int, height: int) -> views.RegionViews:
    """Wide views of photographs: boxes are vehicles (5), the rest is only known not to be one (254)."""
    rng = np.random.default_rng(seed)
    images, classes = [], []
    for path, _ in itertools.product(paths, range(16)):
        scene = views.LabelledPhotograph(path, METRES_WIDE)
        wide = rng.uniform(0.45, 1.0) * METRES_WIDE
        scale = width / wide
        x, y = rng.uniform(-0.5, 0.5, 2) * (METRES_WIDE - wide) * [1.0, 0.5]
        view = np.array([[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y], [0, 0, 1.0]])
        image = scene.render(view, width, height, True, 0.0)
        tone = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3) * image + rng.uniform(-15, 15)
        images.append(np.clip(tone, 0, 255).astype(np.uint8))
        out = np.full((height // 4, width // 4), 254, np.uint8)
        truth = scene.truth(0.0)
        for (cx, cy), (sx, sy) in zip(truth.center_m, truth.size_m, strict=True):
            x0, y0, _ = view @ [cx - sx / 2, cy - sy / 2, 1.0] / 4
            x1, y1, _ = view @ [cx + sx / 2, cy + sy / 2, 1.0] / 4
            cv2.rectangle(out, (int(x0), int(y0)), (int(x1), int(y1)), 255, 2)
            cv2.rectangle(out, (round(x0 + 0.5), round(y0 + 0.5)), (round(x1 - 0.5), round(y1 - 0.5)), 5, -1)
        classes.append(out)
    return views.RegionViews(np.array(images), np.array(classes))


def manifest(network: str) -> dict[str, Any]:
    """What is fixed of a network's manifest."""
    if network == "detector":
        side = views.SIDE_PX
        return {"classes": ["vehicle", "person"], "input": f"1 x 1 x {side} x {side} Mono8", "layout": "yolox+sigma"}
    return {"classes": list(region_network.CLASSES), "input": "1 x 3 x H x W BGR8", "layout": "regions/4"}
