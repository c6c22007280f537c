"""The prior node: the wide image segmented into regions, each with its prior of holding a target.

After Long, Zhao, Chen, Gu, Gu: wide-area detection with high-probability region searching
(arXiv 2405.04589): a panoramic probability map from semantic segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate import catalog
from foveate.errors import ModelError, StateError
from foveate.messages import Frame, ProbabilityMap
from foveate.node import Node, Problem, Unit
from foveate_drivers.backends.base import Backend
from foveate_drivers.backends.loading import Loaded, load_known
from foveate_drivers.backends.manifest import Manifest
from foveate_drivers.cameras.base import Camera
from foveate_nodes.detection.grid import Grid
from foveate_nodes.models.model_check import problems

_MULTIPLE = 16  # the network halves its input four times
_MEMORY = 0.3  # share of the newest frame in the running average of the regions
# Objects per square degree of each region, measured over 8 rendered towns (not those of the tests)
# with the network's own regions.
DENSITY = {
    "vegetation": 0.0033, "road": 0.0092, "pavement": 0.0245, "roof": 0.0037, "ground": 0.0025,
    "vehicle": 0.48, "person": 0.38,
}  # fmt: skip


class RegionPrior(Node):
    """The expected number of objects in each direction, from what the ground looks like there."""

    cost_ns = 15_000_000

    class Outputs:
        prior: ProbabilityMap

    def __init__(
        self,
        *,
        model: Path,
        camera: Camera,
        range: Annotated[float, Unit("m"), Gt(0)] = 150.0,
        width: Annotated[float, Unit("rad"), Gt(0), Le(3)] = 0.838,
        height: Annotated[float, Unit("rad"), Gt(0), Le(3)] = 0.471,
        cell: Annotated[float, Unit("rad"), Gt(0.0005)] = 0.007,
        density: dict[str, Annotated[float, Ge(0)]] | None = None,
        backend: str = "onnx",
        provider: str = "",
        threads: Annotated[int, Ge(1), Le(64)] = 1,
    ) -> None:
        """`camera`: the fixed wide camera; `density`: objects per square degree by region class."""
        self._model = model
        self._camera = camera
        self._range_m = range
        self.grid = Grid.over(width, height, cell)
        self._density = dict(DENSITY if density is None else density)
        self._options = {"backend": backend, "provider": provider, "threads": threads}
        self._backend: Backend | None = None
        self._mean: NDArray[np.float32] | None = None
        self._cell_of: NDArray[np.int64] | None = None

    @classmethod
    def check(cls, **p: Any) -> Iterator[Problem]:
        found: list[Manifest] = []
        options = {name: p[name] for name in ("backend", "provider", "threads")}
        yield from problems(lambda: found.append(_load(p["model"], options)[0]), p["backend"], p["provider"])
        for name in (p["density"] or {}) if found else ():
            if name not in found[0].classes:
                yield Problem(
                    "density", f"the model has no class '{name}'{catalog.did_you_mean(name, found[0].classes)}"
                )

    def open(self) -> None:
        if self._camera.pinhole is None or self._camera.rig_from_camera is None:
            raise StateError(self._camera.uri, "make a panorama", "the rig must give its angle of view and place")
        manifest, loaded = _load(self._model, self._options)
        loaded.prove()
        self._backend = loaded.backend
        self._weights = np.array([self._density.get(name, 0.0) for name in manifest.classes], np.float32)

    def close(self) -> None:
        self._backend = None

    def _lookup(self, rows: int, columns: int) -> NDArray[np.int64]:
        """Grid cell of every region pixel; one past the last for those outside."""
        pinhole, pose = self._camera.pinhole, self._camera.rig_from_camera
        assert pinhole is not None and pose is not None
        x, y = np.meshgrid((np.arange(columns) + 0.5) * 4 - 0.5, (np.arange(rows) + 0.5) * 4 - 0.5)
        rays = pinhole.rays(np.column_stack([x.ravel(), y.ravel()])) @ pose[:3, :3].T
        points = pose[:2, 3] + rays[:, :2] * ((self._range_m - pose[2, 3]) / rays[:, 2])[:, None]
        direction = np.arctan(points / self._range_m)
        grid = self.grid
        row, column = grid.cells(direction)
        low = np.array([grid.left_rad, grid.top_rad])
        high = low + grid.cell_rad * np.array([grid.columns, grid.rows])
        inside = ((direction >= low) & (direction < high)).all(axis=1)
        return np.where(inside, row * grid.columns + column, grid.rows * grid.columns)

    def regions(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (classes x H/4 x W/4) of a BGR image."""
        assert self._backend is not None
        height, width = image.shape[:2]
        padded = cv2.copyMakeBorder(image, 0, -height % _MULTIPLE, 0, -width % _MULTIPLE, cv2.BORDER_REFLECT_101)
        planes = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)
        out = np.asarray(self._backend.run({self._backend.inputs[0].name: planes})[0][0], np.float32)
        return out[:, : -(-height // 4), : -(-width // 4)]

    def step(self, frame: Frame) -> ProbabilityMap:
        image = frame.image if frame.image.ndim == 3 else cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR)
        density = np.tensordot(self._weights, self.regions(image), 1)
        cells = self.grid.rows * self.grid.columns
        if self._cell_of is None or self._cell_of.size != density.size:
            self._cell_of = self._lookup(*density.shape)
            self._count = np.bincount(self._cell_of, minlength=cells + 1)[:cells]
        total = np.bincount(self._cell_of, density.ravel(), minlength=cells + 1)[:cells]
        area_deg2 = np.degrees(self.grid.cell_rad) ** 2
        expected = (total / np.maximum(self._count, 1) * area_deg2).reshape(self.grid.rows, -1).astype(np.float32)
        # a copy that later frames do not change, and that does not follow one frame's noise
        self._mean = expected if self._mean is None else self._mean + _MEMORY * (expected - self._mean)
        grid = self.grid
        return ProbabilityMap(frame.stamp, self._mean.copy(), grid.left_rad, grid.top_rad, grid.cell_rad)


def _load(model: Path, options: Mapping[str, Any]) -> tuple[Manifest, Loaded]:
    """The model and its manifest. Raises ModelError for one that is no region network."""
    unknown = "no manifest with its classes beside it"
    manifest, loaded = load_known(model, "segment with it", options, unknown=unknown)
    shapes = [item.shape for item in (*loaded.backend.inputs, *loaded.backend.outputs)]
    classes = len(manifest.classes)
    fits = len(shapes) == 2 and all(len(s) == 4 for s in shapes) and shapes[0][1] == 3 and shapes[1][1] == classes
    if not fits:
        text = f"inputs and outputs are {shapes}; it must take 1 x 3 x H x W and give 1 x {classes} x H/4 x W/4"
        raise ModelError(str(model), "segment with it", text)
    return manifest, loaded
