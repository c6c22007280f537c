"""The detection node: any YOLOX-style ONNX model, with or without a Gaussian box head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate import catalog
from foveate.errors import ModelError
from foveate.messages import Boxes, Frame
from foveate.node import Problem, Unit
from foveate_drivers.backends.base import Backend, TensorInfo
from foveate_drivers.backends.loading import Loaded, load
from foveate_drivers.backends.manifest import Manifest
from foveate_nodes.models.model_check import problems
from foveate_nodes.models.paced import Paced

_STRIDES = (8, 16, 32)
_PAD = 114  # grey that YOLOX pads with
_UNCERTAIN = 0.08  # of the box's size: standard deviation for a model without a Gaussian head


class Detect(Paced):
    """Boxes of objects in every frame.

    The model takes 1 x C x H x W (C = 1 grey or 3 BGR, 0 to 255) and gives 1 x cells x (5 + classes), or
    (9 + classes) with the log standard deviations of the box terms, in strides 8, 16, 32 (YOLOX export).
    """

    cost_ns = 3_000_000

    class Outputs:
        boxes: Boxes

    def __init__(
        self,
        *,
        model: Path,
        score: Annotated[float, Gt(0), Le(1)] = 0.35,
        overlap: Annotated[float, Gt(0), Le(1)] = 0.5,
        names: Path | None = None,
        keep: tuple[str, ...] = (),
        backend: str = "onnx",
        provider: str = "",
        threads: Annotated[int, Ge(1), Le(64)] = 1,
        variants: tuple[Path, ...] = (),
        budget: Annotated[float, Unit("s"), Ge(0), Le(10)] = 0.0,
    ) -> None:
        """`overlap`: boxes of one class that share more (IoU) are one; `names`: a class name a line, for a
        model without manifest; `keep`: only these classes; `variants`: smaller forms of the model, the fastest last,
        to change to where steps take longer than `budget` (0: never)."""
        self._model = model
        self._score = score
        self._overlap = overlap
        self._names_file = names
        self._keep = keep
        self._options: dict[str, Any] = {"backend": backend, "provider": provider, "threads": threads}
        self._backend: Backend | None = None
        self._others, self._budget_s = variants, budget

    @classmethod
    def check(cls, **p: Any) -> Iterator[Problem]:
        yield from problems(lambda: cls(**p)._load(), p["backend"], p["provider"])

    def open(self) -> None:
        self._backend = self.with_variants(self._load(), self._others, self._budget_s, self._options)

    def close(self) -> None:
        self._backend = None

    def _load(self) -> Loaded:
        """Load and check the model. Raises ModelError, BackendMissing, NotSupported."""
        loaded = load(self._model, **self._options)
        self._shape(loaded.backend.inputs, loaded.backend.outputs, loaded.manifest)
        return loaded

    def _shape(self, inputs: list[TensorInfo], outputs: list[TensorInfo], manifest: Manifest | None) -> None:
        """Read layout and class names off the model; ModelError when it is no such detector."""

        def refuse(text: str) -> ModelError:
            return ModelError(str(self._model), "detect with it", text)

        if len(inputs) != 1 or len(inputs[0].shape) != 4 or None in inputs[0].shape[1:]:
            raise refuse(f"it must have one input 1 x C x H x W, not {[i.shape for i in inputs]}")
        _, channels, height, width = (int(size or 1) for size in inputs[0].shape)
        if channels not in (1, 3) or width % 32 or height % 32:
            raise refuse(f"its input is {inputs[0].shape}; channels must be 1 or 3, sides multiples of 32")
        if inputs[0].dtype != "tensor(float)":
            raise refuse(f"its input is {inputs[0].dtype}, not tensor(float)")
        self._cells = _grid(height, width)
        shape = outputs[0].shape
        if len(outputs) != 1 or len(shape) != 3 or shape[1] != len(self._cells) or shape[2] is None:
            raise refuse(
                f"its output is {[o.shape for o in outputs]}, not 1 x {len(self._cells)} x (5 + classes) "
                "as YOLOX gives for this input"
            )
        self._size = (width, height)
        self._gray = channels == 1
        names = self._class_names(manifest)
        self._gaussian = names is not None and shape[2] == 9 + len(names)
        count = shape[2] - (9 if self._gaussian else 5)
        if count < 1 or (names is not None and len(names) != count):
            raise refuse(f"its output has {shape[2]} columns, which does not fit {len(names or ())} classes")
        self.names = names or tuple(f"class {i}" for i in range(count))
        unknown = [name for name in self._keep if name not in self.names]
        if unknown:
            raise refuse(f"it has no class '{unknown[0]}'{catalog.did_you_mean(unknown[0], self.names)}")
        self._input = inputs[0].name

    def _class_names(self, manifest: Manifest | None) -> tuple[str, ...] | None:
        if self._names_file is not None:
            lines = self._names_file.read_text(encoding="utf-8", errors="replace").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
        return manifest.classes if manifest is not None else None

    def step(self, frame: Frame) -> Boxes:
        assert self._backend is not None
        image, scale = self._letterbox(frame.image)
        raw = np.asarray(self._backend.run({self._input: image})[0][0], np.float32)
        box, sigma, score, label = self._decode(raw)
        height, width = frame.image.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        box_px = np.clip(box / scale, 0, limits).astype(np.float32)
        sigma_px = (sigma / scale).astype(np.float32)
        return Boxes(
            frame.stamp, box_px, sigma_px, score, label, self.names, width, height, frame.seq, frame.mirror,
        )  # fmt: skip

    def _letterbox(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """The image as the model takes it, and its scale; padded below and right."""
        width, height = self._size
        if self._gray and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        elif not self._gray and image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        scale = min(width / image.shape[1], height / image.shape[0])
        if scale != 1.0:
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if image.shape[:2] != (height, width):
            below, right = height - image.shape[0], width - image.shape[1]
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(_PAD, _PAD, _PAD))
        planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        return np.ascontiguousarray(planes[None], np.float32), scale

    def _decode(self, raw: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """(box x0 y0 x1 y1, sigma, score, label) of what passes the threshold and the suppression."""
        classes = len(self.names)
        chance = raw[:, 5 : 5 + classes]
        best = chance.argmax(axis=1)
        score = raw[:, 4] * chance[np.arange(len(raw)), best]
        rows = np.flatnonzero(score > self._score)
        if self._keep:
            wanted = [self.names.index(name) for name in self._keep]
            rows = rows[np.isin(best[rows], wanted)]
        if not len(rows):
            empty = np.zeros((0, 4), np.float32)
            return empty, empty.copy(), np.zeros(0, np.float32), np.zeros(0, np.int32)
        cells, part = self._cells[rows], raw[rows]
        stride = cells[:, 2:]
        center = (part[:, :2] + cells[:, :2]) * stride
        size = np.exp(np.clip(part[:, 2:4], -6, 8)) * stride
        if self._gaussian:
            spread = np.exp(np.clip(part[:, 5 + classes :], -5, 3))
            sigma = np.hstack([spread[:, :2] * stride, spread[:, 2:] * size])
        else:
            sigma = _UNCERTAIN * np.hstack([size, size])
        corners = np.hstack([center - size / 2, center + size / 2])
        kept = suppress(corners, score[rows], best[rows], self._overlap)
        return (
            corners[kept], sigma[kept].astype(np.float32), score[rows][kept].astype(np.float32),
            best[rows][kept].astype(np.int32),
        )  # fmt: skip


def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Cells x 3: column, row, stride, in the order of the YOLOX export."""
    parts = []
    for stride in _STRIDES:
        x, y = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        parts.append(np.column_stack([x.ravel(), y.ravel(), np.full(x.size, stride)]))
    return np.vstack(parts).astype(np.float32)


def suppress(
    box: NDArray[np.floating], score: NDArray[np.floating], label: NDArray[np.integer], overlap: float
) -> NDArray[np.int64]:
    """Rows to keep, best first: greedy non-maximum suppression within each class."""
    shifted = (box + label[:, None] * (float(box.max()) + 1.0)) if len(box) else box
    rows = np.argsort(-score, kind="stable")
    area = (shifted[:, 2] - shifted[:, 0]) * (shifted[:, 3] - shifted[:, 1])
    kept = []
    while len(rows):
        first, rest = rows[0], rows[1:]
        kept.append(first)
        low = np.maximum(shifted[first, :2], shifted[rest, :2])
        high = np.minimum(shifted[first, 2:], shifted[rest, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        small = np.minimum(area[first], area[rest])
        iou = shared / (area[first] + area[rest] - shared + 1e-9)
        rows = rest[(iou <= overlap) & (shared <= 0.8 * small)]  # a part of an object is not another
    return np.array(kept, np.int64)
