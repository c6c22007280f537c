"""Recordings of events with images of classes: what is learnt from and what is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNLABELLED = 255  # of an image of classes: nobody says; neither learnt nor scored


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Consecutive events of one recording."""

    t_ns: NDArray[np.int64]  # N, never decreasing
    x: NDArray[np.uint16] | NDArray[np.float32]  # N, column; floating where the recording is rectified
    y: NDArray[np.uint16] | NDArray[np.float32]
    polarity: NDArray[np.uint8]  # N, 1 = brighter

    def __len__(self) -> int:
        return len(self.t_ns)


class LabelledRecording:
    """One recording. Label images are in the order of their times; events are addressed by number."""

    name: str
    classes: tuple[str, ...]
    width: int  # px of the sensor
    height: int
    used_height: int  # rows from the top that have labels (a car's bonnet is cut off); images of classes have as many
    label_t_ns: NDArray[np.int64]  # M, increasing: when each label image was true

    def labels(self, index: int) -> NDArray[np.uint8]:
        """used_height x width: a class a pixel, or UNLABELLED. Raises RecordingError."""
        raise NotImplementedError

    def events_before(self, t_ns: int) -> int:
        """How many events are earlier than `t_ns`."""
        raise NotImplementedError

    def events(self, first: int, last: int) -> Slice:
        """The events first .. last - 1. Raises RecordingError where the file is cut off."""
        raise NotImplementedError


class MadeRecording(LabelledRecording):
    """A recording in memory: what simulators and tests make."""

    def __init__(
        self, name: str, classes: tuple[str, ...], shape: tuple[int, int], events: Slice,
        label_t_ns: NDArray[np.int64], labels: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        """`shape`: height, width; `labels`: M x height x width."""
        self.name, self.classes = name, classes
        self.height, self.width = shape
        self.used_height = self.height
        self.label_t_ns = label_t_ns
        self._events, self._labels = events, labels

    def labels(self, index: int) -> NDArray[np.uint8]:
        return self._labels[index]  # type: ignore[no-any-return]

    def events_before(self, t_ns: int) -> int:
        return int(np.searchsorted(self._events.t_ns, t_ns))

    def events(self, first: int, last: int) -> Slice:
        part = slice(first, last)
        held = self._events
        return Slice(held.t_ns[part], held.x[part], held.y[part], held.polarity[part])
