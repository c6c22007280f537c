"""What actions on recordings have in common: naming streams and times, saying what is lost."""

from __future__ import annotations

import argparse
import sys

from foveate.catalog import did_you_mean
from foveate.errors import FoveateError
from foveate.quantity import parse_duration_ns
from foveate.recording import Recording
from foveate.recording.recording import Stream

LOST = 3  # exit code: a recording lacks messages


def finish(*logs: Recording) -> int:
    """Say on the error stream what is unusual about recordings that have been read; the exit code.

    Damage shows when a chunk is read, so this comes last.
    """
    for log in logs:
        for line in log.notes():
            print(line, file=sys.stderr)
    return LOST if any(log.lost() for log in logs) else 0


def stream_of(log: Recording, name: str) -> Stream:
    """The stream of that name, with or without a leading slash. Raises FoveateError with a suggestion."""
    known = {stream.name: stream for stream in log.streams()}
    wanted = name.removeprefix("/")
    if wanted not in known:
        raise FoveateError(f"{log.path}: no stream '{name}'{did_you_mean(wanted, known)}")
    return known[wanted]


def span_of(log: Recording, options: argparse.Namespace) -> tuple[int, int]:
    """`--from` and `--to` as Unix log times; they are written as times since the run's start."""
    begin, end = 0, 2**63
    for name in ("begin", "end"):
        text = getattr(options, name, None)
        if text is None:
            continue
        try:
            t_ns = log.wall_start_ns + parse_duration_ns(text)
        except ValueError as error:
            raise FoveateError(f"--{'from' if name == 'begin' else 'to'}: {error}") from None
        begin, end = (t_ns, end) if name == "begin" else (begin, t_ns)
    return begin, end
