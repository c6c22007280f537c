"""The node that draws classes over events, to look at."""

from __future__ import annotations

import cv2
import numpy as np

from foveate.messages import Frame
from foveate.node import Node
from foveate_nodes.segmentation.classes import palette
from foveate_nodes.segmentation.messages import LabelImage

_LEGEND_PX = 16


class LabelPicture(Node):
    """A colour for each class, events as light and dark on it, and the names of the classes below."""

    cost_ns = 1_000_000

    class Outputs:
        frame: Frame

    def __init__(self) -> None:
        self._seq = 0

    def step(self, labels: LabelImage, events: Frame | None) -> Frame:
        self._seq += 1
        return Frame(labels.stamp, drawn(labels, None if events is None else events.image), "BGR8", self._seq - 1)


def drawn(labels: LabelImage, events: np.ndarray | None) -> np.ndarray:
    """H x W x 3 with a legend below; `events`: H x W, grey where nothing happened."""
    colors = palette(labels.names)
    image = colors[labels.label].astype(np.float32)
    if events is not None and events.shape == labels.label.shape:
        image = 0.75 * image + 1.2 * (events.astype(np.float32) - 128)[..., None]
    return np.vstack([np.clip(image, 0, 255).astype(np.uint8), legend(labels.names, image.shape[1])])


def legend(names: tuple[str, ...], width: int) -> np.ndarray:
    """The names of classes in their colours, in rows of this width."""
    colors = palette(names)
    font, scale = cv2.FONT_HERSHEY_PLAIN, 0.8
    rows = [np.full((_LEGEND_PX, width, 3), 255, np.uint8)]
    at = 3
    for label, name in enumerate(names):
        wide = cv2.getTextSize(name, font, scale, 1)[0][0]
        if at + wide + 16 > width and at > 3:
            rows.append(np.full((_LEGEND_PX, width, 3), 255, np.uint8))
            at = 3
        cv2.rectangle(rows[-1], (at, 4), (at + 8, 12), colors[label].tolist(), -1)
        cv2.putText(rows[-1], name, (at + 11, 12), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
        at += wide + 19
    return np.vstack(rows)
