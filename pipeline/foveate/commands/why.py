"""`foveate why`: what a node waits for and who keeps it waiting, in a live run or at the end of a recording."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from foveate.catalog import did_you_mean
from foveate.errors import FoveateError
from foveate.health import explain, status_folder
from foveate.quantity import format_duration
from foveate.recording import Recording


def main(options: argparse.Namespace) -> int:
    """Explain one node, or all nodes."""
    where, picture = _recorded(options.log) if options.log else _live(options.pid)
    names = [options.node] if options.node else list(picture["nodes"])
    if names[0] not in picture["nodes"]:
        raise FoveateError(f"{where} has no node '{names[0]}'{did_you_mean(names[0], picture['nodes'])}")
    told = {name: explain(picture, name) for name in names}
    if options.json:
        print(json.dumps({"where": where, "t_s": picture["t_ns"] / 1e9, "why": told}))
        return 0
    print(f"{where}, at {format_duration(picture['t_ns'])}")
    for lines in told.values():
        for depth, line in enumerate(lines):
            print(f"  {'  ' * depth}{line}")
    return 0


def _live(pid: int | None) -> tuple[str, dict[str, Any]]:
    """The status of a live run of this user: the one with the pid, or the newest."""
    found = []
    for path in status_folder().glob("*.json"):
        if not Path(f"/proc/{path.stem}").exists():  # it was killed
            with suppress(OSError):
                path.unlink()
        elif pid is None or path.stem == str(pid):
            found.append(path)
    if not found:
        what = f"no live run with the pid {pid}" if pid is not None else "no live run of this user"
        raise FoveateError(f"{what}; of a run that has ended: foveate why NODE --log logs/RUN/run.mcap")
    if len(found) > 1:
        print(f"{len(found)} live runs; this is the newest (others: --pid)", file=sys.stderr)
    newest = max(found, key=lambda path: path.stat().st_mtime)
    try:
        picture = json.loads(newest.read_text(encoding="utf-8"))
        where = f"{picture['graph']} (pid {picture['pid']})"
        for name in picture["nodes"]:  # whatever it lacks is found here, in one place
            explain(picture, name)
        return where, picture
    except (ValueError, KeyError, TypeError):
        raise FoveateError(f"{newest}: is not the status of a run; delete it") from None


def _recorded(path: Path) -> tuple[str, dict[str, Any]]:
    """The last state that a recording holds."""
    with Recording(path) as log:
        picture = None
        for picture in log.health():  # noqa: B007 - the last one counts
            pass
    if picture is None:
        raise FoveateError(f"{path}: holds no states; only live runs write them")
    return str(path), picture
