"""Train the edge network on simulated rooms. Deterministic from the seed on one machine with one number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from foveate_nodes.models.fitting import Progress, fit
from foveate_nodes.odometry.edge_network import EdgeNetwork, loss
from foveate_nodes.odometry.training_views import EdgeViews, edge_views

_VIEWS = 40  # of a room
_SIDE_PX = 192  # of the squares cut from a view
_BATCH = 16
_CALIBRATION = 64  # images
MANIFEST = {"classes": ["edge"], "input": "1 x 1 x H x W Mono8, sides multiples of 8", "layout": "edges"}


def train_edges(
    *, steps: int, seed: int, scenes: int, start: Path | None, progress: Progress
) -> tuple[EdgeNetwork, NDArray[np.uint8]]:
    """The trained network and images (N x 1 x H x W) to calibrate its integer form with."""
    torch.manual_seed(seed)
    views = edge_views(scenes, _VIEWS, seed)
    net = EdgeNetwork()
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True))
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    peak = 1e-3 if start is not None else 4e-3
    rng = np.random.default_rng(seed)

    def batch_loss() -> torch.Tensor:
        images, labels = _batch(rng, views)
        return loss(net(images), labels)

    fit(net, batch_loss, steps=steps, peak=peak, weight_decay=0.01, clip=5.0, progress=progress)
    chosen = np.random.default_rng((seed, 1)).permutation(len(views.images))[:_CALIBRATION]
    return net, views.images[chosen][:, None, :_SIDE_PX, :_SIDE_PX]


def _batch(rng: np.random.Generator, views: EdgeViews) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares of views, turned by a random element of the square's symmetries, some with other contrast."""
    count, height, width = views.images.shape
    images, labels = (np.empty((_BATCH, _SIDE_PX, _SIDE_PX), np.uint8) for _ in range(2))
    for i in range(_BATCH):
        top, left = (int(rng.integers(n - _SIDE_PX + 1)) for n in (height, width))
        k, turns, flip = int(rng.integers(count)), int(rng.integers(4)), rng.random() < 0.5
        for from_, to in ((views.images, images), (views.labels, labels)):
            cut = np.rot90(from_[k, top : top + _SIDE_PX, left : left + _SIDE_PX], turns)
            to[i] = cut[:, ::-1] if flip else cut
    pixels = images.astype(np.float32)
    tone, shift = rng.uniform(0.7, 1.3, (_BATCH, 1, 1)), rng.uniform(-20, 20, (_BATCH, 1, 1))
    pixels = np.clip(pixels * tone + shift, 0, 255).astype(np.float32)
    return (
        torch.from_numpy(pixels[:, None]).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(labels),
    )
