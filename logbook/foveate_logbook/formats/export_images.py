"""Frames as PNG files, without loss."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate.messages import DepthFrame, Frame, Message
from foveate.recording import Recording
from foveate_logbook.formats.export_streams import Progress, appearing, counted, in_order, kinds_of
from foveate_logbook.formats.folders import INDEX


def fitting(kinds: Mapping[str, type[Message]]) -> list[str]:
    """Streams that are written where none are named: images."""
    return [name for name, kind in kinds.items() if kind in (Frame, DepthFrame)]


def write(log: Recording, streams: list[str], to: Path, progress: Progress) -> list[str]:
    """The folder `to`: PNG files named by `seq`, and index.csv with seq, Unix time, file and depth's unit.

    Several streams get a folder each in `to`. Returns lines saying what was written.
    Raises RecordingError, BackendMissing.
    """
    kinds = kinds_of(log, streams)
    chosen = {name: kind for name, kind in kinds.items() if kind in (Frame, DepthFrame)}
    if not chosen:
        raise RecordingError(f"{log.path}: none of {', '.join(streams) or 'no streams'} holds images")
    rows: dict[str, list[tuple[int, int, str, float | str]]] = {name: [] for name in chosen}
    with appearing(to) as place:
        folders = {name: place / name.replace("/", "_") if len(chosen) > 1 else place for name in chosen}
        for folder in folders.values():
            folder.mkdir(parents=True)
        used: set[Path] = set()
        for name, _, message in in_order(log, chosen, progress):
            assert isinstance(message, Frame | DepthFrame)
            file = folders[name] / f"{message.seq:08d}.png"
            while file in used:  # a device whose numbers began again
                file = file.with_name(f"{file.stem}a.png")
            used.add(file)
            write_png(file, message.image if isinstance(message, Frame) else message.depth)
            unit = message.scale_m if isinstance(message, DepthFrame) else ""
            rows[name].append((message.seq, log.wall_start_ns + message.stamp.t_ns, file.name, unit))
        for name, folder in folders.items():
            with (folder / INDEX).open("w", encoding="utf-8", newline="") as stream:
                table = csv.writer(stream)
                table.writerow(("seq", "t_ns", "file", "scale_m"))
                table.writerows(rows[name])
    lines = [f"{to}: {name}, {counted(len(rows[name]), 'image')}" for name in chosen]
    return lines + [f"{n}: left out, {k.__name__} is no image" for n, k in kinds.items() if n not in chosen]


def write_png(place: Path, image: Any) -> None:
    """Raises RecordingError, OSError."""
    cv2 = optional("cv2", str(place), "vision")
    # level 1 of 9: 3 times as fast as the default and 5 % larger
    good, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not good:
        raise RecordingError(f"{place.name}: an image of shape {image.shape} cannot be written as PNG")
    place.write_bytes(data)
