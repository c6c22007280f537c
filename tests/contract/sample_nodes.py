"""Cheap nodes for graphs under test, and a catalogue that does not change when a node type is added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from typing import Annotated, Literal
from unittest.mock import patch

from annotated_types import Ge, Gt, Le

from foveate import catalog
from foveate.messages import Events, Frame, Pose, ProbabilityMap
from foveate.node import Node, Unit

SAMPLES = {
    "numbers": "Numbers", "relay": "Relay", "merge": "Merge", "frames": "Frames", "options": "Options",
    "sensors": "Sensors", "fuse": "Fuse",
}  # fmt: skip
_NODES = (
    "camera", "detect", "gaze_scheduler", "ground_truth", "mirror", "object_map", "probability_map", "random_gaze",
    "raster_gaze", "region_prior",
)  # fmt: skip
_DRIVERS = ("backend.onnx", "camera.file", "camera.opencv", "camera.sim", "mirror.sim", "truth.none", "truth.sim")


class Numbers(Node):
    """A source of maps."""

    class Outputs:
        out: ProbabilityMap

    def step(self) -> None:
        """Never called."""


class Frames(Node):
    """A source of frames."""

    class Outputs:
        out: Frame

    def step(self) -> None:
        """Never called."""


class Relay(Node):
    """One map in, one map out."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap) -> None:
        """Never called."""


class Merge(Node):
    """A map that triggers, and the newest of another."""

    class Outputs:
        out: ProbabilityMap

    def step(self, value: ProbabilityMap, back: ProbabilityMap | None) -> None:
        """Never called."""


class Sensors(Node):
    """A source of what a Fuse takes."""

    class Outputs:
        frame: Frame
        pose: Pose
        events: Events
        map: ProbabilityMap

    def step(self) -> None:
        """Never called."""


class Fuse(Node):
    """Sets of messages that belong together: a port for each method, an optional one, one that takes many."""

    class Outputs:
        out: ProbabilityMap

    def step(self, frame: Frame, pose: Pose, events: tuple[Events, ...], map: ProbabilityMap | None) -> None:
        """Never called."""


class Options(Node):
    """A source with a parameter of every kind."""

    class Outputs:
        out: ProbabilityMap

    def __init__(
        self,
        *,
        rate: Annotated[float, Unit("Hz"), Gt(0), Le(1000)] = 10.0,
        count: Annotated[int, Ge(1)] = 1,
        loud: bool = False,
        label: str = "none",
        mode: Literal["fast", "exact"] = "fast",
        words: tuple[str, ...] = (),
        pair: tuple[float, float] | None = None,
        weights: dict[str, float] | None = None,
    ) -> None:
        """Keeps nothing."""

    def step(self) -> None:
        """Never called."""


@contextmanager
def fixed_catalog() -> Iterator[None]:
    """While it holds, the sample nodes and a fixed set of the installed ones are all there is."""
    installed = catalog.listing
    samples = {name: EntryPoint(name, f"{__name__}:{cls}", "foveate.nodes") for name, cls in sorted(SAMPLES.items())}
    groups = {
        "nodes": {**{name: installed("nodes")[name] for name in _NODES}, **samples},
        "drivers": {name: installed("drivers")[name] for name in _DRIVERS},
        "reports": {"search_report": installed("reports")["search_report"]},
    }
    with patch.object(catalog, "listing", groups.__getitem__), patch.object(catalog, "load", catalog.load.__wrapped__):
        yield
