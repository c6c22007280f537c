"""`foveate graph`."""

from __future__ import annotations

import argparse

from foveate import drawing
from foveate.commands.loading import graph_from


def main(options: argparse.Namespace) -> int:
    """Draw a graph."""
    graph = graph_from(options)
    if options.expanded:
        print(graph.text, end="")
    elif options.svg:
        options.svg.write_text(drawing.svg(graph), encoding="utf-8")
        print(options.svg)
    else:
        print(drawing.text(graph))
    return 0
