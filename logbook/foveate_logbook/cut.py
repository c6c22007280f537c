"""`foveate log cut`: a part of a recording by time or streams, as a recording of its own."""

from __future__ import annotations

import argparse
import sys

from foveate.recording import Recording
from foveate.terminal import Progress
from foveate_logbook.reading import finish, span_of, stream_of
from foveate_logbook.rewriting import rewrite


def main(options: argparse.Namespace) -> int:
    """Write the part; it carries the seal of the whole."""
    with Recording(options.log) as log:
        begin, end = span_of(log, options)
        names = [stream_of(log, name).name for name in options.streams.split(",")] if options.streams else None
        note = {"cut": {"of": log.path.name, "from": options.begin, "to": options.end, "streams": names}}
        count = rewrite(
            log, options.out, streams=set(names) if names is not None else None, begin_ns=begin, end_ns=end,
            note=note, progress=Progress(f"cutting {log.path.name}", sys.stderr),
        )  # fmt: skip
        print(f"{options.out}  {count} messages, {options.out.stat().st_size / 1e6:.1f} MB")
        return finish(log)
