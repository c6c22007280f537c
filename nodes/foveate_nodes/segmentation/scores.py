"""How well images of classes agree with the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.segmentation.labelled import UNLABELLED


class Confusion:
    """Counts of pixels by true class (row) and given class (column)."""

    def __init__(self, classes: int) -> None:
        self.pixels = np.zeros((classes, classes), np.int64)

    def add(self, truth: NDArray[np.uint8], given: NDArray[np.uint8]) -> None:
        """Two images of the same shape; where the truth says nothing, nothing counts."""
        said = truth != UNLABELLED
        classes = len(self.pixels)
        pair = truth[said].astype(np.int64) * classes + given[said]
        self.pixels += np.bincount(pair, minlength=classes * classes).reshape(classes, classes)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union by class; NaN for a class that is nowhere, in truth or given."""
        hit = np.diag(self.pixels)
        either = self.pixels.sum(0) + self.pixels.sum(1) - hit
        return np.divide(hit, either, out=np.full(len(hit), np.nan), where=either > 0)

    @property
    def miou(self) -> float:
        """The mean over the classes that are somewhere; of all images together, not image by image."""
        iou = self.iou
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    @property
    def accuracy(self) -> float:
        """The share of pixels that are right."""
        return float(np.diag(self.pixels).sum() / max(self.pixels.sum(), 1))
