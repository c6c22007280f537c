"""Names of classes, and how those of one set are seen as those of another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.segmentation.labelled import UNLABELLED

SIX = ("flat", "background", "object", "vegetation", "human", "vehicle")  # those of DDD17
_AS_SIX = {
    "sky": "background", "building": "background", "fence": "background", "person": "human", "pole": "object",
    "road": "flat", "sidewalk": "flat", "vehicle": "vehicle", "wall": "background", "sign": "object",
    "traffic sign": "object",
}  # fmt: skip
_ALIKE = {"sign": "traffic sign", "traffic sign": "sign"}  # as DSEC-Semantic and the simulated street have it
_COLORS = {  # BGR, those of Cityscapes where it has the class
    "flat": (128, 64, 128), "road": (128, 64, 128), "sidewalk": (232, 35, 244), "background": (90, 90, 90),
    "building": (70, 70, 70), "sky": (180, 130, 70), "object": (0, 220, 220), "pole": (153, 153, 153),
    "sign": (0, 220, 220), "traffic sign": (0, 220, 220), "fence": (153, 153, 190), "wall": (156, 102, 102),
    "vegetation": (35, 142, 107), "human": (60, 20, 220), "person": (60, 20, 220), "vehicle": (200, 60, 0),
}  # fmt: skip


def seen_as(names: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.uint8] | None:
    """For each of 256 labels of `names` its label of `wanted`; None where one has no counterpart."""
    table = np.full(256, UNLABELLED, np.uint8)
    for label, name in enumerate(names):
        other = next((each for each in (name, _ALIKE.get(name), _AS_SIX.get(name)) if each in wanted), None)
        if other is None:
            return None
        table[label] = wanted.index(other)
    return table


def palette(names: tuple[str, ...]) -> NDArray[np.uint8]:
    """256 x 3, BGR: a colour for each label; what nobody says is black."""
    rng = np.random.default_rng(7)
    colors = np.zeros((256, 3), np.uint8)
    for label, name in enumerate(names):
        colors[label] = _COLORS.get(name, tuple(rng.integers(60, 255, 3)))
    return colors
