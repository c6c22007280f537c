"""What backends make of model files is kept: `~/.cache/foveate/engines`, by model, backend, version and device."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from foveate.clock import process_ns

Tell = Callable[[str], None]
_LIST = "entry.json"  # of an entry: the SHA-256 of each of its files
_SLOW_S = 2.0  # until a build says that it goes on


def root() -> Path:
    """The folder of all engines."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "foveate" / "engines"


def key(model: Path, backend: str, version: str, device: str) -> str:
    """The name of an engine's folder. Raises OSError where the model cannot be read."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    parts = (re.sub(r"[^A-Za-z0-9.]+", "_", part)[:60] for part in (backend, version, device))
    return "-".join((digest, *parts))


def folder_of(model: Path, backend: str, version: str, device: str) -> Path:
    """A folder for a library that keeps its engines itself; a temporary one where there can be no other."""
    path = root() / key(model, backend, version, device)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="foveate-engine-"))
    return path


def entry(
    model: Path, backend: str, version: str, device: str, build: Callable[[Path], None], tell: Tell | None = None
) -> Path:
    """The folder with an engine's files, as they were when they were made; built where it is absent or damaged.

    `build` writes into a folder that it is given; what it raises is passed on, and nothing is kept then. A build of
    more than 2 s is told of, line by line, to `tell` (stderr). Where nothing can be kept, it is built for this time.
    """
    place = root() / key(model, backend, version, device)
    if whole(place):
        return place
    tell = _to_stderr if tell is None else tell
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".building-", dir=place.parent))
    except OSError as error:
        made = Path(tempfile.mkdtemp(prefix="foveate-engine-"))
        tell(f"{model.name}: its {backend} engine cannot be kept in {place.parent} ({error.strerror})")
        _build(made, build, model, backend, tell)
        return made
    try:
        _build(made, build, model, backend, tell)
        _seal(made)
        if whole(place):  # made by another process meanwhile
            return place
        shutil.rmtree(place, ignore_errors=True)
        try:
            made.rename(place)
        except OSError:
            if not whole(place):
                raise
        return place
    finally:
        shutil.rmtree(made, ignore_errors=True)


def whole(place: Path) -> bool:
    """Whether an entry has all its files, each as it was written."""
    try:
        listed = json.loads((place / _LIST).read_text(encoding="utf-8"))
        return bool(listed) and all(_digest(place / name) == value for name, value in listed.items())
    except (OSError, ValueError, AttributeError):
        return False


def _seal(made: Path) -> None:
    listed = {path.name: _digest(path) for path in sorted(made.iterdir()) if path.is_file()}
    (made / _LIST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _build(made: Path, build: Callable[[Path], None], model: Path, backend: str, tell: Tell) -> None:
    done = threading.Event()
    begun = process_ns()

    def watch() -> None:
        while not done.wait(_SLOW_S):
            tell(f"{model.name}: building its {backend} engine, {(process_ns() - begun) / 1e9:.0f} s so far")

    watcher = threading.Thread(target=watch, name="engine build", daemon=True)
    watcher.start()
    try:
        build(made)
    finally:
        done.set()
        watcher.join()
    took = (process_ns() - begun) / 1e9
    if took > _SLOW_S:
        tell(f"{model.name}: its {backend} engine is built, in {took:.1f} s, and kept")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
