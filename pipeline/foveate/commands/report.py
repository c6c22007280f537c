"""`foveate report`."""

from __future__ import annotations

import argparse

from foveate import catalog


def main(options: argparse.Namespace) -> int:
    """Write a report from recordings."""
    write = catalog.load("reports", options.kind)
    first, *others = options.logs
    for line in write({"run": first, **{path.stem: path for path in others}}, options.output):
        print(line)
    print(options.output)
    return 0
