"""N-MNIST: handwritten digits before a sensor that shakes, one digit a recording (Orchard et al. 2015).

An event is five bytes: column, row, and 24 bits of polarity (the highest) and time in microseconds. A row of 240 marks
that the clock has overflowed: all times from there on are 8192 us later.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.errors import NotFound, RecordingError
from foveate_nodes.segmentation.labelled import Slice

WIDTH = HEIGHT = 34
CLASSES = tuple(str(digit) for digit in range(10))
_EVENT = 5
_OVERFLOW_ROW, _OVERFLOW_US = 240, 1 << 13


def recordings(folder: Path) -> list[tuple[Slice, int]]:
    """The recordings of a folder, in the order of their numbers, each with its digit.

    Digits are in lists (`train1K.txt`) beside the files `1.bs2`, `2.bs2`, ...; what only a list names is left out.
    Raises NotFound, RecordingError.
    """
    if not folder.is_dir():
        raise NotFound(str(folder), "open", "there is no such folder")
    paths = list(folder.glob("*.bs2"))
    if not paths:
        raise RecordingError(f"{folder}: no recordings of N-MNIST (*.bs2): name the folder that has them")
    odd = sorted(path for path in paths if not path.stem.isdecimal())
    if odd:
        raise RecordingError(f"{odd[0]}: its name is not the number of a recording, as in 1.bs2")
    digits = _digits(folder)
    paths.sort(key=lambda path: int(path.stem))
    unknown = [path for path in paths if int(path.stem) not in digits]
    if unknown:
        raise RecordingError(f"{unknown[0]}: no list in {folder.name} (*.txt, lines of number and digit) says which "
                             f"digit it is: add it to one")  # fmt: skip
    return [(recording(path), digits[int(path.stem)]) for path in paths]


def recording(path: Path) -> Slice:
    """The events of one file. Raises RecordingError."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None
    if data.size % _EVENT:
        raise RecordingError(f"{path}: {data.size} bytes, and an event has {_EVENT}: cut off within one; copy it again")
    rows = data.reshape(-1, _EVENT)
    t_us = np.asarray(rows[:, 2:] @ np.array([1 << 16, 1 << 8, 1], np.int64), np.int64) & 0x7FFFFF
    overflow = rows[:, 1] == _OVERFLOW_ROW
    t_us += np.cumsum(overflow) * _OVERFLOW_US
    rows, t_us = rows[~overflow], t_us[~overflow]
    if not t_us.size:
        raise RecordingError(f"{path}: holds no events: copy it again")
    return Slice(_ordered(path, t_us) * 1000, *_within(path, rows), rows[:, 2] >> 7)


def _ordered(path: Path, t_us: NDArray[np.int64]) -> NDArray[np.int64]:
    for i in np.flatnonzero(np.diff(t_us) < 0)[:1]:
        raise RecordingError(f"{path}: event {i + 1} is at {t_us[i + 1]} us, the one before at {t_us[i]} us: times go "
                             f"back; copy it again")  # fmt: skip
    return t_us


def _within(path: Path, rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Columns and rows of events."""
    x, y = rows[:, 0].astype(np.uint16), rows[:, 1].astype(np.uint16)
    for i in np.flatnonzero((x >= WIDTH) | (y >= HEIGHT))[:1]:
        raise RecordingError(f"{path}: event {i} is at column {x[i]}, row {y[i]}: the sensor has {WIDTH} x {HEIGHT}; "
                             f"is this N-MNIST?")  # fmt: skip
    return x, y


def _digits(folder: Path) -> dict[int, int]:
    """Which digit each recording is of. Raises RecordingError."""
    digits: dict[int, int] = {}
    for path in sorted(folder.glob("*.txt")):
        try:
            text = path.read_text("utf-8", "replace")
        except OSError as error:
            raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None
        for line, content in enumerate(text.splitlines(), 1):
            words = content.split("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) >= len(CLASSES):
                raise RecordingError(f"{path}:{line}: {content[:40]!r} is not the number of a recording and a digit")
            number, digit = (int(word) for word in words)
            if digits.setdefault(number, digit) != digit:
                raise RecordingError(f"{path}:{line}: recording {number} is a {digit} here and a {digits[number]} "
                                     f"above: keep one of the two lines")  # fmt: skip
    return digits
