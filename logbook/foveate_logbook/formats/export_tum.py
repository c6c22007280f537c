"""Poses as TUM trajectories, frames as a TUM RGB-D folder.

The formats: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foveate.errors import RecordingError
from foveate.messages import CameraInfo, DepthFrame, Frame, Imu, Message, Pose
from foveate.recording import Recording
from foveate_logbook.formats.export_images import write_png
from foveate_logbook.formats.export_streams import Progress, appearing, counted, in_order, kinds_of, place_of
from foveate_logbook.formats.folders import TUM_DEPTH_M
from foveate_logbook.formats.intrinsics import CAMERA

_LISTS: dict[type[Message], tuple[str, str]] = {
    Frame: ("rgb", "timestamp filename"),
    DepthFrame: ("depth", "timestamp filename"),
    Pose: ("groundtruth", "timestamp tx ty tz qx qy qz qw"),
    Imu: ("accelerometer", "timestamp ax ay az"),
}
_ONE_CLOCK_NS = 1_000_000_000  # two clocks of devices are hardly ever as near to one another


def fitting(kinds: Mapping[str, type[Message]]) -> list[str]:
    """Streams that are written where none are named: a Pose is the truth, and comes before what is derived from it."""
    named = set(kinds.values())
    found = [name for name, kind in kinds.items() if place_of(kind, (*_LISTS, CameraInfo))]
    return [name for name in found if kinds[name] in _LISTS or place_of(kinds[name], _LISTS) not in named]


def write(log: Recording, streams: list[str], to: Path, progress: Progress) -> list[str]:
    """One stream of Pose alone: the trajectory file `to`; otherwise the folder `to`, one stream of a kind.

    Times are seconds with nine digits: the camera's or log's own (`device_ns`), as a dataset has them, where all
    streams carry them and on one clock; else Unix time. Depth is in 1/5000 m: beyond 13.1 m it becomes 0. Intrinsics
    become camera.txt where one stream has them, and its lens has no more than five coefficients. Returns lines saying
    what was written. Raises RecordingError, BackendMissing.
    """
    kinds = kinds_of(log, streams)
    chosen: dict[str, type[Message]] = {}
    for name, kind in kinds.items():
        base = place_of(kind, _LISTS)
        if base is None:
            continue
        if base in chosen.values():
            raise RecordingError(f"{to}: a TUM folder has one stream of {base.__name__}: leave out '{name}' or others")
        chosen[name] = base
    if not chosen:
        raise RecordingError(f"{log.path}: none of {', '.join(streams) or 'no streams'} has a place in a TUM folder")
    alone = list(chosen.values()) == [Pose]
    camera, lens = (None, "") if alone else _camera(log, kinds)
    own_ns = _own_clock_ns(log, {name: kinds[name] for name in chosen})
    writer = _Writer(log.wall_start_ns, own_ns)
    with appearing(to) as place:
        if not alone:
            place.mkdir()
        if camera is not None:
            (place / CAMERA).write_text(lens, "utf-8")
        for name, _, message in in_order(log, {name: kinds[name] for name in chosen}, progress):
            writer.add(name, message, place)
        for name, kind in chosen.items():
            listed, columns = _LISTS[kind]
            rows = [text for _, text in sorted(writer.rows.get(name, []))]
            text = "\n".join([f"# {name}", f"# {columns}", *rows, ""])
            (place if alone else place / f"{listed}.txt").write_text(text, "utf-8")
    lines = []
    for name, kind in chosen.items():
        file = to if alone else to / f"{_LISTS[kind][0]}.txt"
        lines.append(f"{file}: {name}, {counted(len(writer.rows.get(name, [])), 'line')}")
    lines += [f"{name}: {text}" for name, text in sorted(writer.notes.items())]
    if own_ns is not None:
        lines.append(f"{to}: times are the camera's or log's own (device_ns)")
    if camera is not None:
        lines.append(f"{to / CAMERA}: {camera}")
    return lines + [f"{n}: left out, TUM has no {k.__name__}" for n, k in kinds.items() if n not in (*chosen, camera)]


def _camera(log: Recording, kinds: dict[str, type[Message]]) -> tuple[str | None, str]:
    """(The stream of intrinsics, camera.txt of its first message), (None, "") where that cannot be written."""
    streams = [name for name, kind in kinds.items() if kind is CameraInfo]
    info = next((message for _, message in log.messages(streams[0], CameraInfo)), None) if len(streams) == 1 else None
    if not isinstance(info, CameraInfo):
        return None, ""
    pinhole = not info.distortion.any()
    if not pinhole and (info.model != "plumb_bob" or len(info.distortion) > 5):
        return None, ""
    numbers = info.camera_matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    if not pinhole:
        numbers = np.concatenate([numbers, info.distortion, np.zeros(5 - len(info.distortion))])
    return streams[0], f"# fx fy cx cy{'' if pinhole else ' k1 k2 p1 p2 k3'}, px\n{_numbers(numbers)}\n"


def _own_clock_ns(log: Recording, kinds: Mapping[str, type[Message]]) -> int | None:
    """What stamps lack of the camera's or log's own time, by each stream's first message; None: not on one clock."""
    shifts = []
    for name, kind in kinds.items():
        for _, message in log.messages(name, kind):
            device_ns = getattr(message, "device_ns", 0)
            if not device_ns:
                return None
            shifts.append(device_ns - message.stamp.t_ns)
            break
    return shifts[0] if shifts and max(shifts) - min(shifts) < _ONE_CLOCK_NS else None


class _Writer:
    """Writes images as they come and keeps the lines of the lists."""

    def __init__(self, start_ns: int, own_ns: int | None) -> None:
        self._start_ns = start_ns if own_ns is None else own_ns
        self._own = own_ns is not None
        self.rows: dict[str, list[tuple[int, str]]] = {}
        self.notes: dict[str, str] = {}

    def add(self, name: str, message: Message, folder: Path) -> None:
        device_ns = getattr(message, "device_ns", 0) if self._own else 0
        t_ns = device_ns or self._start_ns + message.stamp.t_ns
        if t_ns < 0:
            raise RecordingError(f"{name}: a stamp before 1970 ({t_ns} ns) cannot be written")
        time = f"{t_ns // 1_000_000_000}.{t_ns % 1_000_000_000:09d}"
        rows = self.rows.setdefault(name, [])
        if isinstance(message, Frame | DepthFrame):
            listed = "rgb" if isinstance(message, Frame) else "depth"
            (folder / listed).mkdir(exist_ok=True)
            file = f"{listed}/{time}.png"
            image = message.image if isinstance(message, Frame) else self._depth(name, message)
            write_png(folder / file, image)
            rows.append((t_ns, f"{time} {file}"))
        elif isinstance(message, Pose):
            rows.append((t_ns, f"{time} {_numbers(message.position_m)} {_numbers(message.orientation)}"))
        elif isinstance(message, Imu):
            rows.append((t_ns, f"{time} {_numbers(message.acceleration_m_s2)}"))
            self.notes[name] = "angular velocity left out, TUM has none"

    def _depth(self, name: str, message: DepthFrame) -> Any:
        exact = message.depth * (message.scale_m / TUM_DEPTH_M)
        units = np.rint(exact)
        if units.max(initial=0) > 65535:
            self.notes[name] = "depth beyond 13.107 m became 0, the format ends there"
        elif np.abs(exact - units).max(initial=0) > 1e-6:
            self.notes.setdefault(name, "depth rounded to 0.2 mm")
        return np.where(units <= 65535, units, 0).astype(np.uint16)


def _numbers(values: Any) -> str:
    return " ".join(repr(float(value)) for value in values)
