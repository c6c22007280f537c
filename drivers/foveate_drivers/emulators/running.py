"""Which emulators run on this computer: each leaves a note that `foveate devices` finds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from foveate.health import status_folder


@dataclass(frozen=True, slots=True)
class Note:
    """One emulated device."""

    pid: int
    kind: str  # the emulator's name
    family: str
    uri: str


@contextmanager
def announced(notes: list[Note]) -> Iterator[None]:
    """The notes lie there while the block runs."""
    folder = status_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"emulators-{os.getpid()}"
    path.write_text(json.dumps([asdict(note) for note in notes]), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running() -> list[Note]:
    """The emulators of this user whose process is alive; notes of dead ones are removed."""
    found: list[Note] = []
    for path in sorted(status_folder().glob("emulators-*")):
        try:
            notes = [Note(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            continue
        if notes and Path(f"/proc/{notes[0].pid}").exists():
            found += notes
        else:
            path.unlink(missing_ok=True)
    return found
