"""Clips to learn from: some slices in a row that end at a label, as the arrays that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotSupported, RecordingError
from foveate_nodes.segmentation.canvas import Canvas
from foveate_nodes.segmentation.labelled import UNLABELLED, LabelledRecording
from foveate_nodes.segmentation.representations import voxel_grid


@dataclass(frozen=True, slots=True)
class Slicing:
    """How the events before a label are cut: `steps` slices of `duration_ns`, or of `count` events if it is not 0."""

    steps: int = 4
    bins: int = 5
    duration_ns: int = 50_000_000
    count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Slices in the order of time and what is known at the end of each."""

    grids: NDArray[np.float32]  # steps x bins x H x W
    labels: NDArray[np.uint8]  # steps x H x W; UNLABELLED all over where the recording has no image at that time


class Clips:
    """All labels of some recordings, each with the slices before it; made when they are asked for."""

    def __init__(self, recordings: Sequence[LabelledRecording], slicing: Slicing, size: tuple[int, int]) -> None:
        """`size`: width and height of the network's input. Raises NotSupported where recordings differ in classes,
        RecordingError where no label has enough before it."""
        self.classes = recordings[0].classes
        for recording in recordings:
            if recording.classes != self.classes:
                text = f"its classes are {', '.join(recording.classes)}; those before have {', '.join(self.classes)}"
                raise NotSupported(recording.name, "train on it", text)
        self._recordings, self._slicing, self._size = recordings, slicing, size
        self._places = [(r, i) for r, recording in enumerate(recordings) for i in self._ends(recording)]
        if not self._places:
            labels = sum(len(recording.label_t_ns) for recording in recordings)
            what = (
                f"{slicing.count} events"
                if slicing.count
                else f"{slicing.steps} slices of {slicing.duration_ns / 1e6:g} ms"
            )
            raise RecordingError(f"{recordings[0].name}: none of {labels} labels has {what} before it; ask for fewer")

    def _ends(self, recording: LabelledRecording) -> list[int]:
        """The labels that have as many events before them as a clip needs; every `steps`-th where slices are in time,
        for a clip takes those between with it."""
        step = self._slicing
        times = recording.label_t_ns
        if step.count:
            return [i for i, t in enumerate(times) if recording.events_before(int(t)) >= step.count]
        least_ns = (step.steps - 1) * step.duration_ns - step.duration_ns // 2
        return [i for i, t in enumerate(times) if t - times[0] >= least_ns][:: step.steps]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Clip:
        """Raises RecordingError."""
        which, label = self._places[index]
        recording, cut = self._recordings[which], self._slicing
        canvas = Canvas((recording.width, recording.used_height), self._size)
        width, height = self._size
        end_ns = int(recording.label_t_ns[label])
        grids = np.zeros((cut.steps, cut.bins, height, width), np.float32)
        labels = np.full((cut.steps, height, width), UNLABELLED, np.uint8)
        last = recording.events_before(end_ns)
        for step in reversed(range(cut.steps)):
            begin_ns = end_ns - cut.duration_ns
            first = max(last - cut.count, 0) if cut.count else recording.events_before(begin_ns)
            held = recording.events(first, last)
            x, y = canvas.place(held.x, held.y)
            voxel_grid(held.t_ns, x, y, held.polarity, (cut.bins, height, width), out=grids[step])
            if cut.count and first < last:
                begin_ns = int(held.t_ns[0])
            found = self._label_at(recording, label, end_ns, cut.duration_ns)
            if found is not None:
                labels[step] = canvas.shrink(recording.labels(found))
            last, end_ns = first, begin_ns
        return Clip(grids, labels)

    def _label_at(self, recording: LabelledRecording, last: int, t_ns: int, within_ns: int) -> int | None:
        """The label image of a moment: nearer than a tenth of a slice."""
        times = recording.label_t_ns[: last + 1]
        nearest = int(np.abs(times - t_ns).argmin())
        return nearest if abs(int(times[nearest]) - t_ns) <= within_ns // 10 else None
