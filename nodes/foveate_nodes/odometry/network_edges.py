"""Edges by a network: its chances, thinned to lines one pixel wide (non-maximum suppression, then hysteresis)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError
from foveate_drivers.backends.base import Backend
from foveate_drivers.backends.loading import load_known

_MULTIPLE = 8  # the network halves its input three times
HIGH, LOW = 0.4, 0.2  # chances: a line has a pixel of at least the first, and none below the second; best of six pairs
_BEND = 0.03  # of the chance: a flatter crest is none


class NetworkEdges:
    """Finds edges as `selection.canny_edges` does, with an ONNX model that gives the chance of an edge per pixel."""

    def __init__(
        self, model: Path, *, backend: str = "onnx", provider: str = "", threads: int = 1, high: float = HIGH,
        low: float = LOW,
    ) -> None:  # fmt: skip
        """Raises ModelError (no file, no manifest, another layout, a golden output that is off), BackendMissing."""
        self._backend = _load(model, backend, provider, threads)
        self._input = self._backend.inputs[0].name
        self._high, self._low = high, low

    def chance(self, gray: NDArray[np.uint8]) -> NDArray[np.float32]:
        """H x W, 0 to 1; `gray`: H x W, of any size."""
        height, width = gray.shape
        padded = cv2.copyMakeBorder(gray, 0, -height % _MULTIPLE, 0, -width % _MULTIPLE, cv2.BORDER_REPLICATE)
        out = self._backend.run({self._input: np.asarray(padded, np.float32)[None, None]})[0]
        return np.ascontiguousarray(out[0, 0, :height, :width], np.float32)

    def __call__(self, gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask (H x W, 0 or 255)."""
        return thinned(self.chance(gray), self._high, self._low)


def _load(model: Path, name: str, provider: str, threads: int) -> Backend:
    options = {"backend": name, "provider": provider, "threads": threads}
    manifest, loaded = load_known(model, "find edges with it", options, missing="'foveate train edges' makes one")
    shapes = [item.shape for item in (*loaded.backend.inputs, *loaded.backend.outputs)]
    if manifest.classes != ("edge",) or len(shapes) != 2 or any(len(s) != 4 or s[1] != 1 for s in shapes):
        text = (
            f"its classes are {', '.join(manifest.classes)}, its input and output {shapes}; "
            "an edge network has the class 'edge', takes 1 x 1 x H x W and gives the same"
        )
        raise ModelError(str(model), "find edges with it", text)
    loaded.prove()
    return loaded.backend


def thinned(chance: NDArray[np.float32], high: float, low: float) -> NDArray[np.uint8]:
    """Crests of a map of chances (H x W) as a mask (0 or 255): those of at least `low` that hang together with one of
    at least `high`."""
    smooth = np.asarray(cv2.GaussianBlur(chance, (3, 3), 0.7))  # a label is two pixels wide: its crest would be double
    mask = np.zeros(chance.shape, np.uint8)
    crest = np.empty(chance.size, np.int32)
    _crests(smooth, high, low, mask, crest)
    return mask


@numba.njit(cache=True, nogil=True)
def _crests(p: Any, high: float, low: float, mask: Any, stack: Any) -> None:
    """Mark weak crests 1 and strong ones 255, then follow the strong ones along the weak ones; the rest becomes 0."""
    height, width = p.shape
    count = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            c = p[y, x]
            if c < low:
                continue
            # the direction of four in which the map bends most: across the line, on its crest and on its flanks
            one, two = p[y, x - 1], p[y, x + 1]
            bend = abs(2 * c - one - two)
            a, b = p[y - 1, x], p[y + 1, x]
            if abs(2 * c - a - b) > bend:
                one, two, bend = a, b, abs(2 * c - a - b)
            a, b = p[y - 1, x - 1], p[y + 1, x + 1]
            if abs(2 * c - a - b) > bend:
                one, two, bend = a, b, abs(2 * c - a - b)
            a, b = p[y - 1, x + 1], p[y + 1, x - 1]
            if abs(2 * c - a - b) > bend:
                one, two, bend = a, b, abs(2 * c - a - b)
            if c > one and c >= two and bend > _BEND * c:
                if c >= high:
                    mask[y, x] = 255
                    stack[count] = y * width + x
                    count += 1
                else:
                    mask[y, x] = 1
    while count > 0:
        count -= 1
        y, x = stack[count] // width, stack[count] % width
        for v in range(y - 1, y + 2):
            for u in range(x - 1, x + 2):
                if mask[v, u] == 1:
                    mask[v, u] = 255
                    stack[count] = v * width + u
                    count += 1
    for y in range(height):
        for x in range(width):
            if mask[y, x] == 1:
                mask[y, x] = 0
