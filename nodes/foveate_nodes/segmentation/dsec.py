"""DSEC-Semantic: driving in Zurich before an event camera of 640 x 480 pixels, with images of eleven classes.

The recordings: Gehrig et al. 2021 (DSEC); the classes, which sequences train and validate, and which of their labels
are used: Sun et al. 2022 (ESS).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotFound, RecordingError
from foveate_logbook.formats.events.dsec_hdf5 import EventTable, array_in, opened, values_of
from foveate_nodes.segmentation.class_images import class_image
from foveate_nodes.segmentation.labelled import LabelledRecording, Slice

CLASSES = (
    "sky", "building", "fence", "person", "pole", "road", "sidewalk", "vegetation", "vehicle", "wall", "sign",
)  # fmt: skip
WIDTH, HEIGHT, USED_HEIGHT = 640, 480, 440
_SIZES = ((WIDTH, USED_HEIGHT), (WIDTH, HEIGHT))
_FIRST_LABEL, _LABEL_STEP = 6, 2  # those before 250 ms have too few events before them; of 20 a second ten are used
_SPLITS = {
    "train": tuple(f"zurich_city_{number:02}_a" for number in (0, 1, 2, 4, 5, 6, 7, 8)),
    "valid": ("zurich_city_13_a", "zurich_city_14_c", "zurich_city_15_a"),
}
_INSIDE = ("", "train", "test", "val")  # folders of a root that may hold sequences
_EVENTS = ("events/left", "events", "")
_LABELS = ("11classes", "semantic/11classes", "semantic/left/11classes", "labels/11classes")
_SPAN = 1 << 14  # events of one read when a time is looked for


def splits(root: Path) -> dict[str, list[Path]]:
    """The folders of the sequences to train and validate with. Raises NotFound, RecordingError naming those not there.

    They may be in `root` itself or in its folders train and test.
    """
    if not root.is_dir():
        raise NotFound(str(root), "open", "there is no such folder")
    found = {name: [_sequence(root, sequence) for sequence in names] for name, names in _SPLITS.items()}
    there = {path.name for paths in found.values() for path in paths if path is not None}
    missing = [sequence for names in _SPLITS.values() for sequence in names if sequence not in there]
    if missing:
        raise RecordingError(f"{root}: without {', '.join(missing)} of DSEC-Semantic: add them, or name sequences one "
                             f"by one")  # fmt: skip
    return {name: [path for path in paths if path is not None] for name, paths in found.items()}


def _sequence(root: Path, name: str) -> Path | None:
    return next((path for inside in _INSIDE if (path := root / inside / name).is_dir()), None)


class Dsec(LabelledRecording):
    """One sequence; columns and rows of events are rectified, and may lie beyond the sensor by some pixels."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFound, RecordingError, BackendMissing."""
        if not folder.is_dir():
            raise NotFound(str(folder), "open", "there is no such folder")
        self.folder = folder
        self.name, self.classes = folder.name, CLASSES
        self.width, self.height, self.used_height = WIDTH, HEIGHT, USED_HEIGHT
        place = next((folder / name for name in _EVENTS if (folder / name / "events.h5").is_file()), None)
        if place is None:
            raise RecordingError(f"{folder}: no events.h5 in events/left/ or beside the labels: unpack the events of "
                                 f"the left camera there")  # fmt: skip
        images, times = _labels(folder)
        self._images = images[_FIRST_LABEL::_LABEL_STEP]
        self.label_t_ns = times[_FIRST_LABEL::_LABEL_STEP]
        self._rectified = _rectify_map(place / "rectify_map.h5")
        self._table = EventTable(place / "events.h5")
        try:
            self._check()
        except BaseException:
            self._table.close()
            raise

    def __reduce__(self) -> tuple[type[Dsec], tuple[Path]]:
        return Dsec, (self.folder,)  # another process opens the files anew

    def close(self) -> None:
        """No events can be read afterwards; closing twice does nothing."""
        self._table.close()

    def _check(self) -> None:
        table = self._table
        if table.count != table.longest:
            raise RecordingError(f"{table.path}: its columns have {table.count} to {table.longest} events: copy it "
                                 f"again")  # fmt: skip
        if not table.count:
            raise RecordingError(f"{table.path}: holds no events: copy it again")
        starts = table.ms_to_idx
        if starts is not None and len(starts):
            if (np.diff(starts) < 0).any() or starts[0] < 0:
                raise RecordingError(f"{table.path}: its ms_to_idx goes back: copy it again")
            if starts[-1] > table.count:
                raise RecordingError(f"{table.path}: its ms_to_idx names event {starts[-1]} of {table.count}: copy it "
                                     f"again")  # fmt: skip

    def labels(self, index: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(class_image(self._images[index], CLASSES, _SIZES)[:USED_HEIGHT])

    def events_before(self, t_ns: int) -> int:
        wanted_us = -(-t_ns // 1000) - self._table.offset_us
        low, high = self._between(wanted_us)
        while high - low > _SPAN:
            middle = (low + high) // 2
            if int(self._table.times_us(middle, middle + 1)[0]) < wanted_us:
                low = middle + 1
            else:
                high = middle
        begin = max(low - 1, 0)
        t_us = self._table.times_us(begin, min(high + 1, self._table.count))
        found = begin + int(np.searchsorted(t_us, wanted_us))
        if (np.diff(t_us) < 0).any() or not low <= found <= high:
            raise RecordingError(f"{self._table.path}: its ms_to_idx or its times are wrong around event {found}: copy "
                                 f"it again")  # fmt: skip
        return found

    def _between(self, wanted_us: int) -> tuple[int, int]:
        """Numbers of events around the first at a time or later, by the file's table of milliseconds."""
        starts = self._table.ms_to_idx
        if starts is None or not len(starts) or wanted_us < 0:
            return 0, self._table.count
        millisecond = min(wanted_us // 1000, len(starts) - 1)
        after = int(starts[millisecond + 1]) if millisecond + 1 < len(starts) else self._table.count
        return int(starts[millisecond]), after

    def events(self, first: int, last: int) -> Slice:
        table = self._table
        if not 0 <= first <= last <= table.count:
            raise RecordingError(f"{table.path}: has {table.count} events, not {first} to {last}")
        t_ns, x, y, polarity = table.part(first, last)
        for i in np.flatnonzero(np.diff(t_ns) < 0)[:1]:
            raise RecordingError(f"{table.path}: event {first + i + 1} is at {t_ns[i + 1]} ns, the one before at "
                                 f"{t_ns[i]} ns: times go back; copy it again")  # fmt: skip
        if len(x) and (x.max() >= WIDTH or y.max() >= HEIGHT):
            i = int(np.flatnonzero((x >= WIDTH) | (y >= HEIGHT))[0])
            raise RecordingError(f"{table.path}: event {first + i} is at column {x[i]}, row {y[i]}: the sensor has "
                                 f"{WIDTH} x {HEIGHT}; copy it again")  # fmt: skip
        place = self._rectified.take(y.astype(np.intp) * WIDTH + x, axis=0)
        return Slice(t_ns, place[:, 0].copy(), place[:, 1].copy(), polarity)


def _rectify_map(path: Path) -> NDArray[np.float32]:
    """(H W) x 2: where each pixel would be (column, row) had the lens no distortion. Raises RecordingError."""
    if not path.is_file():
        raise RecordingError(f"{path}: there is no such file: it comes with events.h5; unpack both")
    with opened(path) as file:
        found = array_in(file, path, "rectify_map")
        if found is None:
            raise RecordingError(f"{path}: HDF5 without rectify_map: copy the one that comes with events.h5")
        if found.shape != (HEIGHT, WIDTH, 2) or found.dtype.kind != "f":
            raise RecordingError(f"{path}: its rectify_map is {found.dtype} in {found.shape}, not numbers in "
                                 f"{(HEIGHT, WIDTH, 2)}: copy the one of this camera")  # fmt: skip
        return values_of(found, path, ...).astype(np.float32).reshape(-1, 2)


def _labels(folder: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """All images of classes of a sequence and their times in ns. Raises RecordingError."""
    places = [folder / name / inside for name in _LABELS for inside in ("data", "")]
    images: list[Path] = []
    for place in places:
        images = sorted(place.glob("*.png"))
        if images:
            break
    if not images:
        raise RecordingError(f"{folder}: no images of classes (*.png) in {', '.join(_LABELS)} or their data/: unpack "
                             f"DSEC-Semantic there")  # fmt: skip
    path = _times_file(folder, images[0].parent)
    times = _times(path)
    if len(times) != len(images):
        raise RecordingError(f"{path}: {len(times)} times, and {images[0].parent} has {len(images)} images: unpack "
                             f"both again")  # fmt: skip
    if len(images) <= _FIRST_LABEL:
        raise RecordingError(f"{images[0].parent}: {len(images)} images, and the first {_FIRST_LABEL} are not used: "
                             f"unpack all of them")  # fmt: skip
    return images, times


def _times_file(folder: Path, images: Path) -> Path:
    """The file of the labels' times: the nearest to them, on the way from their folder to the sequence's."""
    place = images
    while True:
        found = sorted(place.glob("*timestamps.txt"), key=lambda path: ("semantic" not in path.name, path.name))
        if found:
            return found[0]
        if place == folder:
            break
        place = place.parent
    if (images_too := folder / "images" / "timestamps.txt").is_file():
        return images_too  # a label an image: their times are the same
    raise RecordingError(f"{folder}: no times of the labels (*timestamps.txt) beside {images.relative_to(folder)} or "
                         f"above it: unpack them there")  # fmt: skip


def _times(path: Path) -> NDArray[np.int64]:
    """In ns. Raises RecordingError."""
    try:
        lines = path.read_text("utf-8", "replace").split()
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None
    for number, line in enumerate(lines, 1):
        if not line.isdecimal() or len(line) > 15:
            raise RecordingError(f"{path}: time {number} is {line[:20]!r}, not whole microseconds: copy it again")
    times = np.array(lines, np.int64)
    for i in np.flatnonzero(np.diff(times) <= 0)[:1]:
        raise RecordingError(f"{path}: time {i + 2} is {times[i + 1]} us after {times[i]} us: times go back; copy it "
                             f"again")  # fmt: skip
    return times * 1000
