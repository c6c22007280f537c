"""DDD17 with images of classes: one car, a DAVIS of 346 x 260 pixels.

The recordings: Binas et al. 2017 (DDD17); the classes: Alonso and Murillo 2019 (Ev-SegNet); the layout of a folder
`dir*`, with times and places of events in plain files: Sun et al. 2022 (ESS).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotFound, RecordingError
from foveate_nodes.segmentation.class_images import class_image
from foveate_nodes.segmentation.labelled import LabelledRecording, Slice

CLASSES = ("flat", "background", "object", "vegetation", "human", "vehicle")  # background: construction and sky
WIDTH, HEIGHT, USED_HEIGHT = 346, 260, 200
_WIDER = 352  # px: masks made for networks that halve the width five times
_SIZES = ((WIDTH, USED_HEIGHT), (WIDTH, HEIGHT), (_WIDER, USED_HEIGHT))
_SPLITS = {"train": (0, 2, 3, 5, 6), "valid": (1,), "test": (4,)}  # of the folders in the order of their names
_FOLDERS = 7
_AGAIN = "copy it again"


def splits(root: Path) -> dict[str, list[Path]]:
    """The folders `dir*` to train, validate and test with, as ESS divides them. Raises NotFound, RecordingError."""
    if not root.is_dir():
        raise NotFound(str(root), "open", "there is no such folder")
    folders = sorted(path for path in root.glob("dir*") if path.is_dir())
    if len(folders) < _FOLDERS:
        raise RecordingError(f"{root}: {len(folders)} folders dir*, and the splits of DDD17 are made of {_FOLDERS}: "
                             f"add the missing ones, or name folders one by one")  # fmt: skip
    return {name: [folders[number] for number in numbers] for name, numbers in _SPLITS.items()}


class Ddd17(LabelledRecording):
    """One folder `dir*`; its events stay in their files until they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFound, RecordingError."""
        if not folder.is_dir():
            raise NotFound(str(folder), "open", "there is no such folder")
        self.folder = folder
        self.name, self.classes = folder.name, CLASSES
        self.width, self.height, self.used_height = WIDTH, HEIGHT, USED_HEIGHT
        self._t = _column(folder / "events.dat.t", "<i8", 1)
        self._xyp = _column(folder / "events.dat.xyp", "<i2", 3)
        if len(self._t) != len(self._xyp):
            raise RecordingError(f"{folder / 'events.dat.xyp'}: {len(self._xyp)} events, and events.dat.t has "
                                 f"{len(self._t)}: copy both again")  # fmt: skip
        self._masks = _masks(folder)
        index_path = folder / "index" / "index_50ms.npy"
        index = _index(index_path)
        self.label_t_ns = np.array([self._label_time(index_path, index, *mask) for mask in self._masks], np.int64)
        for i in np.flatnonzero(np.diff(self.label_t_ns) <= 0)[:1]:
            before, after = (self._masks[k][1].name for k in (i, i + 1))
            raise RecordingError(f"{index_path}: {after} is at {self.label_t_ns[i + 1]} ns and {before}, the one "
                                 f"before, at {self.label_t_ns[i]} ns: times must grow; {_AGAIN}")  # fmt: skip

    def __reduce__(self) -> tuple[type[Ddd17], tuple[Path]]:
        return Ddd17, (self.folder,)  # another process opens the files anew: gigabytes are not sent to it

    def _label_time(self, path: Path, index: NDArray[np.int64], number: int, mask: Path) -> int:
        """When an image was taken, in ns."""
        if not 1 <= number <= len(index):
            raise RecordingError(f"{mask}: of image {number}, and {path.name} has images 1 to {len(index)}: "
                                 f"the two are not of one recording")  # fmt: skip
        t_ns, events = (int(value) for value in index[number - 1, :2])
        if events > len(self._t):
            raise RecordingError(f"{path}: image {number} is after event {events}, and events.dat.t has "
                                 f"{len(self._t)}: copy both again")  # fmt: skip
        return t_ns

    def labels(self, index: int) -> NDArray[np.uint8]:
        image = class_image(self._masks[index][1], CLASSES, _SIZES)[:USED_HEIGHT]
        if image.shape[1] == _WIDER:  # undoes the enlargement to the nearest pixel below, without loss
            image = image[:, -(-np.arange(WIDTH) * _WIDER // WIDTH)]
        return np.ascontiguousarray(image)

    def events_before(self, t_ns: int) -> int:
        return int(np.searchsorted(self._t, np.int64(t_ns)))

    def events(self, first: int, last: int) -> Slice:
        if not 0 <= first <= last <= len(self._t):
            raise RecordingError(f"{self.folder}: has {len(self._t)} events, not {first} to {last}")
        t_ns, rows = np.array(self._t[first:last], np.int64), self._xyp[first:last]
        for i in np.flatnonzero(np.diff(t_ns) < 0)[:1]:
            raise RecordingError(f"{self.folder / 'events.dat.t'}: event {first + i + 1} is at {t_ns[i + 1]} ns, the "
                                 f"one before at {t_ns[i]} ns: times go back; {_AGAIN}")  # fmt: skip
        x, y = rows[:, 0].astype(np.uint16), rows[:, 1].astype(np.uint16)  # below 0: far beyond the sensor
        if len(x) and (x.max() >= WIDTH or y.max() >= HEIGHT):
            i = int(np.flatnonzero((x >= WIDTH) | (y >= HEIGHT))[0])
            raise RecordingError(f"{self.folder / 'events.dat.xyp'}: event {first + i} is at column {rows[i, 0]}, row "
                                 f"{rows[i, 1]}: the sensor has {WIDTH} x {HEIGHT}; {_AGAIN}")  # fmt: skip
        return Slice(t_ns, x, y, (rows[:, 2] > 0).astype(np.uint8))


def _column(path: Path, kind: str, values: int) -> NDArray[np.int64]:
    """N, or N x values: a file of nothing but numbers, mapped and not read. Raises RecordingError."""
    try:
        size = path.stat().st_size
        item = np.dtype(kind).itemsize * values
        if size % item:
            raise RecordingError(f"{path}: {size} bytes, and an event has {item}: cut off within one; {_AGAIN}")
        if not size:
            raise RecordingError(f"{path}: holds no events: {_AGAIN}")
        rows = np.asarray(np.memmap(path, kind, "r"))
    except FileNotFoundError:
        raise RecordingError(f"{path}: there is no such file: name a folder that has events.dat.t, events.dat.xyp, "
                             f"index/ and segmentation_masks/") from None  # fmt: skip
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None
    return rows.reshape(-1, values) if values > 1 else rows


def _index(path: Path) -> NDArray[np.int64]:
    """N x 2 or more: of each image its time in ns and the number of events before it. Raises RecordingError."""
    try:
        with path.open("rb") as stream:
            index = np.lib.format.read_array(stream)
    except FileNotFoundError:
        raise RecordingError(f"{path}: there is no such file: it says when images were taken; unpack all of "
                             f"{path.parent.parent.name}") from None  # fmt: skip
    except (OSError, ValueError, EOFError, MemoryError) as error:
        said = " ".join(str(error).split())[:120]
        raise RecordingError(f"{path}: no array of NumPy that can be read ({said}): {_AGAIN}") from None
    if index.ndim != 2 or index.shape[1] < 2 or index.dtype.kind not in "iu":
        raise RecordingError(f"{path}: an array of {index.dtype} in {index.shape}; rows of whole numbers (time in ns, "
                             f"event, event 50 ms before) are read")  # fmt: skip
    return np.asarray(index, np.int64)


def _masks(folder: Path) -> list[tuple[int, Path]]:
    """Number of the image and file of each mask, in the order of the numbers. Raises RecordingError."""
    place = folder / "segmentation_masks"
    found = []
    for path in place.glob("*.png"):
        number = re.search(r"(?:^|_)(\d+)$", path.stem)
        if number is None:
            raise RecordingError(f"{path}: its name does not end in the number of an image, as in "
                                 f"segmentation_00000001.png")  # fmt: skip
        found.append((int(number[1]), path))
    if not found:
        packed = place.with_suffix(".zip")
        hint = f"unpack {packed.name}" if packed.is_file() else "copy the masks of Ev-SegNet into it"
        raise RecordingError(f"{place}: no masks (*.png): {hint}")
    return sorted(found)
