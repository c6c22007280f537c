"""The one door to recordings that others made."""

from __future__ import annotations

from pathlib import Path

from foveate.errors import NotFound, RecordingError
from foveate_drivers.logs.base import Log
from foveate_drivers.logs.mcap_index import MAGIC


def open_log(path: Path) -> Log:
    """The log in a file or folder, by what it holds first and its name second.

    Raises RecordingError, NotFound, BackendMissing: each one line with the way out.
    """
    if not path.exists():
        raise NotFound(str(path), "open", "there is no such file or folder")
    head = path.open("rb").read(64)
    if head.startswith(MAGIC):
        from foveate_drivers.logs.mcap_log import McapLog

        return McapLog(path)
    raise RecordingError(f"{path}: not a recording")
