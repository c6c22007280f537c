"""What actions on recordings have in common: naming streams and times, saying what is lost."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foveate.catalog import did_you_mean
from foveate.errors import FoveateError, NotOurs
from foveate.quantity import parse_duration_ns
from foveate.recording import Recording
from foveate.recording.recording import Stream
from foveate.terminal import Progress
from foveate_logbook.formats.base import Log

LOST = 3  # exit code: a recording lacks messages


def finish(*logs: Recording) -> int:
    """Say on the error stream what is unusual about recordings that have been read; the exit code.

    Damage shows when a chunk is read, so this comes last.
    """
    for log in logs:
        for line in log.notes():
            print(line, file=sys.stderr)
    return LOST if any(log.lost() for log in logs) else 0


@contextmanager
def recording_of(path: Path) -> Iterator[Recording]:
    """A recording, or somebody else's log imported into one that lasts as long as the block. Raises RecordingError."""
    try:
        ours = Recording(path)
    except NotOurs:
        from foveate_logbook.formats.opening import open_log
        from foveate_logbook.importing import import_log

        foreign = open_log(path)
    else:
        with ours:
            yield ours
        return
    with foreign, tempfile.TemporaryDirectory(prefix="foveate-") as folder:
        place = Path(folder) / "log.mcap"
        _, lines = import_log(foreign, place, foreign.topics, Progress(f"reading {path.name}", sys.stderr))
        with Recording(place) as log:
            log.path = path
            yield log
        for line in lines:
            print(line, file=sys.stderr)


def stream_of(log: Recording, name: str) -> Stream:
    """The stream of that name; with or without a leading slash; a node's only output may be left out.

    Raises FoveateError with a suggestion.
    """
    known = {stream.name: stream for stream in log.streams()}
    wanted = name.removeprefix("/")
    node = re.sub(r"[^A-Za-z0-9]+", "_", wanted)
    of_node = [stream for stream in known.values() if stream.name.rpartition(".")[0] == node]
    if wanted not in known and len(of_node) == 1:
        return of_node[0]
    if wanted not in known:
        raise FoveateError(f"{log.path}: no stream '{name}'{did_you_mean(wanted, known)}")
    return known[wanted]


def span_of(log: Recording | Log, options: argparse.Namespace) -> tuple[int, int]:
    """`--from` and `--to`, written as times since the run's start: Unix log times, of other logs times since theirs."""
    begin, end = 0, 2**63
    for name in ("begin", "end"):
        text = getattr(options, name, None)
        if text is None:
            continue
        try:
            t_ns = (log.wall_start_ns if isinstance(log, Recording) else 0) + parse_duration_ns(text)
        except ValueError as error:
            raise FoveateError(f"--{'from' if name == 'begin' else 'to'}: {error}") from None
        begin, end = (t_ns, end) if name == "begin" else (begin, t_ns)
    return begin, end
