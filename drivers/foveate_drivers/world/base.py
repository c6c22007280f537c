"""The simulated world that all twins of a rig share: one scene, one clock, one truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from foveate.clock import Clock
from foveate.device import Device, DeviceInfo
from foveate.errors import EndOfStream, NotFound
from foveate.messages import Objects, Stamp
from foveate.node import Unit
from foveate_drivers.world.scene import Scene


class TruthSource(Device):
    """Who knows where the objects really are; on a real rig nobody does."""

    family = "truth"

    def objects(self, t_ns: int) -> Objects | None:
        """Every object at `t_ns`, or None where nothing is known."""
        raise NotImplementedError


class NoTruth(TruthSource):
    """`none:` on a rig without a simulated world."""

    def __init__(self) -> None:
        pass

    def objects(self, t_ns: int) -> Objects | None:
        raise EndOfStream


class World(TruthSource):
    """A plane `range_m` before the rig that shows a scene: a procedural town, a photograph, or a video."""

    def __init__(
        self,
        *,
        address: str = "world",
        scene: Literal["procedural", "photo", "video"] = "procedural",
        seed: Annotated[int, Ge(0)] = 1,
        range: Annotated[float, Unit("m"), Gt(0.2), Le(10_000)] = 150.0,
        field: Annotated[float, Unit("rad"), Gt(0.01), Le(2.0)] = 0.8378,
        vehicles: Annotated[int, Ge(0), Le(200)] = 16,
        people: Annotated[int, Ge(0), Le(400)] = 22,
        image: Path | None = None,
        boxes: Path | None = None,
        video: Path | None = None,
        tracks: Path | None = None,
    ) -> None:
        """`field`: the full horizontal angle in which objects are; a photograph or video fills it."""
        self._scene_kind = scene
        self._seed = seed
        self.range_m = range
        self.field_rad = field
        self._counts = (vehicles, people)
        self._files = (image, boxes, video, tracks)
        self._scene: Scene | None = None
        self._start_ns = 0

    def open(self, clock: Clock) -> None:
        self.load()
        self._start_ns = clock.now_ns()

    def load(self) -> Scene:
        """The scene, made on first use (a second or two of work)."""
        if self._scene is None:
            self._scene = self._make()
        return self._scene

    @property
    def scene(self) -> Scene:
        """The scene of an open world."""
        assert self._scene is not None, "the world is not open"
        return self._scene

    def _make(self) -> Scene:
        width_m = 2 * self.range_m * math.tan(self.field_rad / 2)
        image, boxes, video, tracks = self._files
        if self._scene_kind == "procedural":
            from foveate_drivers.world.procedural import ProceduralScene

            active = (width_m, width_m * 9 / 16)
            vehicles, people = self._counts
            return ProceduralScene(
                seed=self._seed, width_m=width_m * 1.15, height_m=active[1] * 1.15, active_m=active,
                vehicles=vehicles, people=people,
            )  # fmt: skip
        if self._scene_kind == "photo":
            from foveate_drivers.world.photo import PhotoScene

            if image is None:
                raise NotFound(self.uri, "show a photograph", "give its path: --set rig.world.image=FILE")
            return PhotoScene(image, boxes, width_m=width_m)
        from foveate_drivers.world.video import VideoScene

        if video is None:
            raise NotFound(self.uri, "show a video", "give its path: --set rig.world.video=FILE")
        return VideoScene(video, tracks, width_m=width_m)

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", self._scene_kind, simulated=True)

    def time_s(self, t_ns: int) -> float:
        """Scene time of a moment on the pipeline's clock."""
        return max(t_ns - self._start_ns, 0) / 1e9

    def objects(self, t_ns: int) -> Objects:
        truth = self.scene.truth(self.time_s(t_ns))
        count = len(truth.ids)
        return Objects(
            Stamp(t_ns), truth.ids.copy(), truth.labels.copy(), np.arctan(truth.center_m / self.range_m),
            np.zeros((count, 2)), truth.size_m / self.range_m, np.ones(count),
            np.zeros(count, np.int32), self.scene.names,
        )  # fmt: skip
