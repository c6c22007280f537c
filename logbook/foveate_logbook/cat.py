"""`foveate log cat`: the messages of a stream as JSON, a line each."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from foveate import codec
from foveate.catalog import did_you_mean
from foveate.errors import FoveateError, NotOurs, RecordingError
from foveate.messages import Message
from foveate.recording import Recording
from foveate_logbook.kinds import message_kind
from foveate_logbook.reading import LOST, finish, span_of, stream_of

_SHORT = 16  # values of an array that are written out without --full


def main(options: argparse.Namespace) -> int:
    """Print messages; large arrays by shape and range, or whole with --full."""
    try:
        log = Recording(options.log)
    except NotOurs:
        return _foreign(options)
    with log:
        stream = stream_of(log, options.stream)
        coder = codec.codec_of(kind_of(log, stream.name, stream.type))  # type: ignore[arg-type]
        left = options.count
        for raw in log.raw(stream.topic, *span_of(log, options)):
            if left == 0:
                break
            if options.number is not None and raw.sequence != options.number:
                continue
            message = coder.decode(raw.data)
            head = {"number": raw.sequence, "t_s": (raw.log_ns - log.wall_start_ns) / 1e9}
            print(json.dumps(head | plain(message, options.full), allow_nan=False))
            left = left - 1 if left is not None else None
        return finish(log)


def _foreign(options: argparse.Namespace) -> int:
    """The same of somebody else's log; topics go by their own names, or by those they get in a recording."""
    from foveate_logbook.formats.opening import open_log
    from foveate_logbook.importing import stream_names

    with open_log(options.log) as log:
        known = {name: name for name in (topic.name for topic in log.topics if topic.kind is not None)}
        known |= {name.removeprefix("/"): name for name in known}
        known |= {stream: name for name, stream in stream_names(log.topics).items()}
        wanted = options.stream if options.stream in known else options.stream.removeprefix("/")
        if wanted not in known:
            raise FoveateError(f"{log.path}: no topic '{options.stream}'{did_you_mean(wanted, known)}")
        begin, end = span_of(log, options)
        left = options.count
        for number, (_, t_ns, message) in enumerate(log.messages([known[wanted]]), 1):
            if left == 0 or t_ns >= end:
                break
            if t_ns < begin or options.number not in (None, number):
                continue
            print(json.dumps({"number": number, "t_s": t_ns / 1e9} | plain(message, options.full), allow_nan=False))
            left = left - 1 if left is not None else None
        for name, text in log.problems.items():
            print(f"{name or log.path}: {text}", file=sys.stderr)
        return LOST if log.problems else 0


def kind_of(log: Recording, name: str, type_name: str) -> type[Message]:
    """The message class of a stream. Raises RecordingError for one that is not installed here."""
    kind = message_kind(type_name)
    if kind is None:
        what = f"'{name}' holds {type_name or 'an unnamed type'}"
        raise RecordingError(f"{log.path}: {what}, which is not known here; install the package whose node gives it")
    return kind


def plain(value: Any, full: bool) -> Any:
    """A message as JSON can hold it."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name), full) for item in fields(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    if not isinstance(value, np.ndarray):
        return value
    if full or value.size <= _SHORT:
        whole = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        return value.tolist() if whole else _nones(value.tolist())
    numbers = value.astype(np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    about: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    if numbers.size:
        about |= {"min": float(numbers.min()), "max": float(numbers.max()), "mean": round(float(numbers.mean()), 6)}
    return about


def _nones(values: Any) -> Any:
    """Nested lists of numbers with None for what JSON has no word for."""
    if isinstance(values, list):
        return [_nones(item) for item in values]
    return values if math.isfinite(values) else None
