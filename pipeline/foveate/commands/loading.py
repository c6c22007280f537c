"""What commands that take a graph have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from foveate import paths
from foveate.catalog import did_you_mean
from foveate.checking import load_graph
from foveate.errors import Fault, GraphError
from foveate.graph import Graph


def graph_from(options: argparse.Namespace) -> Graph:
    """The checked graph the command line asks for. Raises GraphError."""
    path = find(options.graph, options.graphs)
    return load_graph(path, options.settings, options.data)


def find(name: str, folders: list[Path]) -> Path:
    """The file of a graph. Raises GraphError with a suggestion."""
    path = paths.find_graph(name, folders)
    if path is None:
        hint = did_you_mean(name, paths.known_graphs(folders))
        raise GraphError([Fault(name, 1, 1, f"no such graph file, and none of that name in launch/graphs{hint}")])
    return path
