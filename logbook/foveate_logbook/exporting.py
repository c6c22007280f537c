"""`foveate log export`: streams of a recording in another format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from foveate.errors import RecordingError
from foveate.messages import Message
from foveate.recording import Recording
from foveate.terminal import Progress
from foveate_logbook.kinds import message_kind
from foveate_logbook.reading import finish, recording_of, stream_of


def main(options: argparse.Namespace) -> int:
    """Write the streams; what a format cannot hold is named."""
    writer = import_module(f"foveate_logbook.formats.export_{options.format}")
    with recording_of(options.log) as log:
        if options.streams:
            streams, left_out = [stream_of(log, name).name for name in options.streams.split(",")], ""
        else:
            streams, left_out = _fitting(log, writer.fitting, options.format)
        progress = Progress(f"exporting {options.log.name}", sys.stderr)
        for line in writer.write(log, streams, options.out, progress):
            print(line)
        if left_out:
            print(left_out)
        return finish(log)


def _fitting(
    log: Recording, fitting: Callable[[Mapping[str, type[Message]]], list[str]], form: str
) -> tuple[list[str], str]:
    """The streams with messages for which the format has a place, and a line that names the others.

    Raises RecordingError where there are none.
    """
    all_streams = log.streams()
    kinds = {stream.name: message_kind(stream.type) for stream in all_streams if stream.messages}
    streams = fitting({name: kind for name, kind in kinds.items() if kind is not None})
    others = [
        f"{s.name} ({(s.type or 'no type') if s.messages else 'empty'})" for s in all_streams if s.name not in streams
    ]
    left_out = f"left out of {form}: {', '.join(others)}" if others else ""
    if others and not streams:
        raise RecordingError(f"{log.path}: nothing to write: {left_out}")
    return streams, left_out
