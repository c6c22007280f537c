"""Where graphs, rigs and models are found, and which files a graph may name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from foveate.yaml_source import clip

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")  # a fault that names the file is one line
MAX_LENGTH = 4096  # PATH_MAX of Linux
MAX_FOLDERS = 64  # each takes a look at the disk, and the time grows with their square


def launch_folder() -> Path:
    """`launch/` of the checkout this package lies in, or the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "launch").is_dir():
        return checkout / "launch"
    return package / "launch"


def find_graph(name: str, folders: list[Path]) -> Path | None:
    """The graph file meant by a path or a bare name; `folders` (--graphs) come before `launch/graphs`."""
    if (direct := Path(name)).is_file():
        return direct
    if os.sep in name:
        return None
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    for folder in [Path(), *folders, launch_folder() / "graphs"]:
        if (folder / file).is_file():
            return folder / file
    return None


def known_graphs(folders: list[Path]) -> dict[str, Path]:
    """Graph names and files in `folders` and `launch/graphs`."""
    found: dict[str, Path] = {}
    for folder in [*folders, launch_folder() / "graphs"]:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


class Escape(ValueError):
    """A path that leaves the folders a graph may use, or that no file can have."""


def resolve(text: str, folder: Path, allowed: list[Path]) -> Path:
    """The file a YAML text means: under `folder` (the YAML's own), `launch/`, or an allowed folder.

    Links are followed before the comparison. Raises Escape for a path outside all of them; a path that
    does not exist is returned as it would lie in `folder`.
    """
    possible(text)
    roots = [Path(os.path.realpath(root)) for root in (folder, launch_folder(), *allowed)]
    candidates = [Path(os.path.realpath(root / text)) for root in roots]
    inside = [path for path in candidates if any(path.is_relative_to(root) for root in roots)]
    there = [path for path in candidates if os.path.exists(path)]  # noqa: PTH110 - no OSError
    found = next((path for path in there if path in inside), None)
    if found is None and (there or not inside):
        raise Escape(f"'{clip(text)}' lies outside the graph's folder; allow its folder with --data FOLDER")
    return found or inside[0]


def possible(text: str) -> None:
    """Raises Escape for a text that cannot be the path of a file."""
    if found := _CONTROL.search(text):
        raise Escape(f"a path holds the character #x{ord(found[0]):04x}")
    if len(text) > MAX_LENGTH:
        raise Escape(f"a path of {len(text)} characters; {MAX_LENGTH} are possible")
    if (count := text.count(os.sep)) > MAX_FOLDERS:
        raise Escape(f"a path of {count} folders; {MAX_FOLDERS} are allowed")


def shortest(path: Path) -> str:
    """A path relative to `launch/` where it lies there, else absolute: how recordings name files."""
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(launch_folder()))
    return str(real.relative_to(root)) if real.is_relative_to(root) else str(real)
