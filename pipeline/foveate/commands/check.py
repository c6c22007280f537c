"""`foveate check`."""

from __future__ import annotations

import argparse
import json
import sys

from foveate.commands.loading import graph_from
from foveate.errors import GraphError


def main(options: argparse.Namespace) -> int:
    """Print every fault, one a line; 0 without, 2 with."""
    try:
        graph = graph_from(options)
    except GraphError as error:
        if options.json:
            rows = [{"file": f.file, "line": f.line, "column": f.column, "text": f.text} for f in error.faults]
            print(json.dumps({"faults": rows}))
        else:
            print(error)
            print(f"{len(error.faults)} fault{'s' * (len(error.faults) != 1)}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"faults": []}))
    else:
        streams = f", {len(graph.record.streams)} recorded" if graph.record else ""
        print(f"{graph.path}: good: {len(graph.nodes)} nodes, {len(graph.wires)} wires{streams}")
    return 0
