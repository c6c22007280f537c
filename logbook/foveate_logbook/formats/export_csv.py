"""Streams as tables of text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.errors import RecordingError
from foveate.messages import Events, Message
from foveate.recording import Recording
from foveate_logbook.formats.export_streams import Progress, appearing, counted, in_order, kinds_of

_COLUMNS, _CELL = 16, 64  # an array of one size gets columns up to the first, a list in one cell up to the second


def fitting(kinds: Mapping[str, type[Message]]) -> list[str]:
    """Streams that are written where none are named: all."""
    return list(kinds)


def write(log: Recording, streams: list[str], to: Path, progress: Progress) -> list[str]:
    """The folder `to` with one file a stream: run time of the log, the stamp in Unix time, then every field.

    Small arrays get a column an element, or one cell with a list where their size changes; of large ones the shape is
    written. Events in packets of more than 64 get a row each.

    Returns lines saying what was written. Raises RecordingError.
    """
    kinds = kinds_of(log, streams)
    if not kinds:
        raise RecordingError(f"{log.path}: no streams are named")
    lines = []
    with appearing(to) as place:
        place.mkdir()
        for number, (name, kind) in enumerate(kinds.items()):
            plan = _planned(log, name, kind)
            file = place / f"{name.replace('/', '_')}.csv"

            def share(value: float, number: int = number) -> None:
                progress((number + value) / len(kinds))

            if kind is Events and plan.get("t_ns", 0) is None:
                count = _event_rows(log, name, file, share)
                lines.append(f"{to / file.name}: {counted(count, 'row')}, one an event")
                continue
            count = _table(log, name, kind, plan, file, share)
            large = sorted(key for key, size in plan.items() if size is None)
            left = f"; of {', '.join(large)} only the shape" if large else ""
            lines.append(f"{to / file.name}: {counted(count, 'row')}{left}")
    return lines


def _planned(log: Recording, name: str, kind: type[Message]) -> dict[str, int | None]:
    """How each field is written: number of columns of an array, 0 for one cell, None for an array's shape only."""
    plan: dict[str, int | None] = {}
    for _, _, message in in_order(log, {name: kind}):
        for key, value in _leaves(message):
            wanted: int | None = 0
            if isinstance(value, np.ndarray):
                wanted = value.size if value.size <= _COLUMNS else 0 if value.size <= _CELL else None
            known = plan.setdefault(key, wanted)
            if known is not None and known != wanted:
                plan[key] = None if wanted is None else 0
    return plan


def _table(
    log: Recording, name: str, kind: type[Message], plan: dict[str, int | None], file: Path, progress: Progress
) -> int:
    """Writes the rows; a field that a message does not have stays empty. Returns their number."""
    columns = [c for key, size in plan.items() for c in ([f"{key}.{i}" for i in range(size)] if size else [key])]
    count = 0
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, ["log_ns", "unix_ns", *columns], restval="")
        table.writeheader()
        for _, t_ns, message in in_order(log, {name: kind}, progress):
            times = {"log_ns": t_ns, "unix_ns": log.wall_start_ns + message.stamp.t_ns}
            table.writerow({**times, **_cells(message, plan)})
            count += 1
    return count


def _event_rows(log: Recording, name: str, file: Path, progress: Progress) -> int:
    """Packets of events as rows of one event each. Returns their number."""
    count = 0
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write("t_ns,unix_ns,x,y,polarity\n")
        for _, _, message in in_order(log, {name: Events}, progress):
            assert isinstance(message, Events)
            unix = (message.t_ns + log.wall_start_ns).tolist()
            columns = (message.t_ns.tolist(), unix, message.x.tolist(), message.y.tolist(), message.polarity.tolist())
            stream.writelines(f"{t},{u},{x},{y},{p}\n" for t, u, x, y, p in zip(*columns, strict=True))
            count += len(unix)
    return count


def _cells(message: Message, plan: dict[str, int | None]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key, value in _leaves(message):
        if not isinstance(value, np.ndarray):
            cells[key] = json.dumps(value) if isinstance(value, tuple) else value
        elif (size := plan[key]) is None:
            cells[key] = f"{'x'.join(map(str, value.shape))} {value.dtype}"
        elif size == 0:
            cells[key] = json.dumps(value.tolist())
        else:
            cells.update({f"{key}.{i}": item for i, item in enumerate(value.reshape(-1).tolist())})
    return cells


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field that is no dataclass itself."""
    for item in fields(value):
        inner = getattr(value, item.name)
        if is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{item.name}.")
        elif inner is not None:
            yield f"{prefix}{item.name}", inner
