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
    settings = options.settings
    if options.rig is not None:
        known = {file.stem: file for file in sorted((paths.launch_folder() / "rigs").glob("*.yaml"))}
        rig = options.rig if Path(options.rig).is_file() else known.get(options.rig)
        if rig is None:
            hint = did_you_mean(options.rig, known)
            raise GraphError([Fault("--rig", 1, 1, f"no such file, and none of that name in launch/rigs{hint}")])
        settings = [f"rig={rig}", *settings]
    return load_graph(path, settings, options.data)


def find(name: str, folders: list[Path]) -> Path:
    """The file of a graph. Raises GraphError with a suggestion."""
    path = paths.find_graph(name, folders)
    if path is None:
        hint = did_you_mean(name, paths.known_graphs(folders))
        raise GraphError([Fault(name, 1, 1, f"no such graph file, and none of that name in launch/graphs{hint}")])
    return path
