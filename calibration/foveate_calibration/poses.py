"""Poses over time from files: TUM trajectories, tables, JSON, and streams of recordings."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.rigid import transform

Array = NDArray[np.float64]
_OFF, _MENDED_OFF = 0.01, 0.1  # most that a quaternion's length may be off 1: as it is, and where it is mended
_ZERO = 1e-6  # length of a quaternion that says: lost
_FORMS = 't x y z qx qy qz qw (TUM), the same with commas, or JSON [{"t_s": 0.1, "matrix": 4 x 4}, ...]'


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """Rigid transforms with their times, in order."""

    time_s: Array  # (N,)
    matrices: Array  # N x 4 x 4
    name: str  # where they are from
    note: str = ""  # what of the source was left out, "" = nothing

    def __len__(self) -> int:
        return len(self.time_s)


def read_poses(text: str, *, mended: bool = False) -> Poses:
    """Of a file (.json, .csv, else TUM's text), or `FILE.mcap:node.output` of a recording. Raises CalibrationError.

    `mended`: as trajectories are published: poses that are not finite or whose quaternion is 0 (lost) are left out, and
    a last line that was cut; quaternions to 10 % off unit length are made so, of poses of one moment the last is taken,
    and the others are put in order; `note` counts what was done. Otherwise these are errors.
    """
    name, _, stream = text.partition(".mcap:")
    if stream:
        return _of_recording(Path(f"{name}.mcap"), stream)
    path = Path(text)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from None
    rows, note = (_of_json(content, text), "") if path.suffix == ".json" else _of_lines(content, text, mended)
    if not rows:
        raise CalibrationError(f"{path}: holds no poses{f' ({note})' if note else ''}; write {_FORMS}")
    times = np.array([time for time, _ in rows])
    matrices = np.stack([matrix for _, matrix in rows])
    if mended:
        found = in_order(times, matrices, path.name)
        return replace(found, note=", ".join(filter(None, (note, found.note))))
    if not (np.diff(times) > 0).all():
        at = int(np.argmax(np.diff(times) <= 0)) + 1
        raise CalibrationError(
            f"{path}: time goes back at pose {at + 1} ({times[at - 1]:.6f} s, then {times[at]:.6f} s)"
        )
    return Poses(times, matrices, path.name)


def in_order(times_s: Array, matrices: Array, name: str) -> Poses:
    """Finite poses by time, of one moment the last; `note` counts what that left out. Raises CalibrationError."""
    finite = np.isfinite(times_s) & np.isfinite(matrices).all(axis=(1, 2))
    times_s, matrices = times_s[finite], matrices[finite]
    order = np.argsort(times_s, kind="stable")
    last = np.append(np.diff(times_s[order]) > 0, True)[: len(order)]
    if not len(order):
        raise CalibrationError(f"{name}: none of its {len(finite)} poses is finite")
    said = [(len(finite) - len(times_s), "not finite"), (len(last) - int(last.sum()), "of a time that comes again")]
    note = ", ".join(f"{count} of {len(finite)} poses left out, {why}" for count, why in said if count)
    return Poses(times_s[order][last], matrices[order][last], name, note)


def paired(one: Poses, other: Poses, tolerance_s: float) -> tuple[Array, Array]:
    """Poses (N x 4 x 4 each) of the same moments: the nearest within `tolerance_s`. Raises CalibrationError."""
    off = np.abs(one.time_s[:, None] - other.time_s)
    near = off.argmin(axis=1)
    fits = off[np.arange(len(one)), near] <= tolerance_s
    if not fits.any():
        raise CalibrationError(
            f"no pose of {one.name} ({one.time_s[0]:.3f} to {one.time_s[-1]:.3f} s) is within {tolerance_s:g} s of one "
            f"of {other.name} ({other.time_s[0]:.3f} to {other.time_s[-1]:.3f} s); --by-number pairs first with first"
        )
    return one.matrices[fits], other.matrices[near[fits]]


def _of_recording(path: Path, stream: str) -> Poses:
    from foveate.messages import Pose
    from foveate.recording.recording import Recording

    rows = []
    with Recording(path) as recording:
        for _, message in recording.messages(stream, Pose):
            assert isinstance(message, Pose)
            at = message.stamp.t_ns * 1e-9
            try:
                rows.append((at, transform(quaternion(message.orientation), message.position_m)))
            except ValueError as error:
                raise CalibrationError(f"{path}: stream '{stream}' has no pose at {at:.3f} s, but {error}") from None
    if not rows:
        raise CalibrationError(f"{path}: stream '{stream}' has no poses; 'foveate log ls {path}' lists the streams")
    return Poses(np.array([t for t, _ in rows]), np.stack([m for _, m in rows]), f"{path.name}:{stream}")


def quaternion(xyzw: Sequence[float] | Array, off: float = _OFF) -> Array:
    """3 x 3 rotation of a quaternion x, y, z, w. Raises ValueError where its length is not 1 to within `off`."""
    values = np.asarray(xyzw, np.float64)
    length = float(np.linalg.norm(values))
    if not abs(length - 1) < off:
        raise ValueError(f"a quaternion of length {length:.3g}")
    x, y, z, w = values / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _of_lines(content: str, name: str, mended: bool) -> tuple[list[tuple[float, Array]], str]:
    """(Time and pose of each line, what was mended). Raises CalibrationError naming the line."""
    found, lost, scaled, cut = [], 0, 0, ""
    missing = np.full((4, 4), np.nan)
    split: Iterable[list[str]] = (line.split() for line in content.splitlines())
    commas = any("," in line for line in content.splitlines() if not line.lstrip().startswith("#"))
    lines = csv.reader(content.splitlines()) if commas else split
    rows = [(number, words) for number, words in enumerate(lines, 1) if words and not words[0].startswith("#")]
    for number, words in rows:
        if number == 1 and not _is_number(words[0]):
            continue
        try:
            values = [float(word) for word in words]
            if mended and len(values) == 8 and not np.isfinite(values).all():
                found.append((values[0], missing))
                continue
            if len(values) != 8 or not np.isfinite(values).all():
                raise ValueError(f"{len(values)} numbers")
            length = float(np.linalg.norm(values[4:]))
            if mended and length < _ZERO:
                lost += 1
                continue
            turn = quaternion(values[4:], _MENDED_OFF if mended else _OFF)
            scaled += abs(length - 1) >= _OFF
            found.append((values[0], transform(turn, np.array(values[1:4]))))
        except ValueError as error:
            if mended and number == rows[-1][0] and (len(words) < 8 or not content.endswith("\n")):
                cut = "the last line left out, it is cut"
                continue
            raise CalibrationError(f"{name}:{number}: no pose ({error}); write {_FORMS}") from None
    told = [f"{lost} of {len(found) + lost} poses left out, lost (quaternion 0)"] if lost else []
    told += [f"{scaled} of {len(found)} quaternions made unit length"] if scaled else []
    return found, ", ".join(filter(None, [*told, cut]))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _of_json(content: str, name: str) -> list[tuple[float, Array]]:
    try:
        rows: Any = json.loads(content)
        if not isinstance(rows, list):
            raise ValueError("not a list")
        found = []
        for number, row in enumerate(rows):
            matrix = np.eye(4)
            matrix[:3] = np.array(row["matrix"], np.float64).reshape(-1, 4)[:3]
            turn = matrix[:3, :3]
            if not np.isfinite(matrix).all():
                raise ValueError(f"the matrix of pose {number + 1} has numbers that are not finite")
            if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
                raise ValueError(f"the matrix of pose {number + 1} is no rotation")
            found.append((float(row.get("t_s", number)), matrix))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(f"{name}: {type(error).__name__}: {error}; write {_FORMS}") from None
    return found
