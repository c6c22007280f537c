"""`foveate log recover`: what is left of a recording, in a clean indexed file that other tools open."""

from __future__ import annotations

import argparse
import sys

from foveate.errors import NotOurs
from foveate.recording import Recording
from foveate.terminal import Progress
from foveate_logbook.foreign_recovery import is_mcap, recover
from foveate_logbook.reading import LOST, finish
from foveate_logbook.rewriting import rewrite


def main(options: argparse.Namespace) -> int:
    """Mend foveate's recordings and other people's MCAP files; lost messages are named, with exit code 3."""
    progress = Progress(f"recovering {options.log.name}", sys.stderr)
    try:
        log = Recording(options.log)
    except NotOurs:
        if not options.log.is_file() or not is_mcap(options.log):
            raise
        count, problems = recover(options.log, options.out, progress)
        for line in problems:
            print(f"{options.log}: {line}", file=sys.stderr)
        print(f"{options.out}  {count} messages, {options.out.stat().st_size / 1e6:.1f} MB")
        return LOST if problems else 0
    with log:
        note = {"recovered": {"of": log.path.name, "notes": log.notes(), "lost": log.lost()}}
        count = rewrite(log, options.out, note=note, progress=progress)
        lost, code = log.lost(), finish(log)
    print(f"{options.out}  {count} messages, {options.out.stat().st_size / 1e6:.1f} MB")
    if lost:
        print("lost: " + ", ".join(f"{name} {n}" for name, n in sorted(lost.items())))
    return code
