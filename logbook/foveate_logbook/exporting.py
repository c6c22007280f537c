"""`foveate log export`: streams of a recording in another format."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from foveate.terminal import Progress
from foveate_logbook.reading import finish, recording_of, stream_of


def main(options: argparse.Namespace) -> int:
    """Write the streams; what a format cannot hold is named."""
    write = import_module(f"foveate_logbook.formats.export_{options.format}").write
    with recording_of(options.log) as log:
        named = options.streams.split(",") if options.streams else [stream.name for stream in log.streams()]
        streams = [stream_of(log, name).name for name in named]
        progress = Progress(f"exporting {options.log.name}", sys.stderr)
        for line in write(log, streams, options.out, progress):
            print(line)
        return finish(log)
