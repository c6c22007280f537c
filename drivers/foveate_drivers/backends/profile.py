"""The board's profile: what `foveate bench` measured here, to which `backend: auto` refers."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from foveate.errors import FoveateError, ModelError

FORMAT = 1
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "ai-edge-litert", "opencv-python-headless",
             "opencv-python", "torch")  # fmt: skip


def default_path() -> Path:
    """`~/.config/foveate/board.yaml`, or where XDG_CONFIG_HOME says."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "foveate" / "board.yaml"


def board() -> dict[str, Any]:
    """What this computer is, and which libraries it has."""
    return {"cpu": cpu_name(), "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)),
            "libraries": {name: found for name in _PACKAGES if (found := version(name))}}  # fmt: skip


def cpu_name() -> str:
    """As the kernel calls it; on ARM, where it has no name for it, the board's or the instruction set."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
        return Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return platform.processor() or platform.machine()


def version(package: str) -> str:
    """Of an installed distribution; empty if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def read(path: Path) -> dict[str, Any]:
    """A profile's content; empty where there is no file. Raises FoveateError for a file that is none."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        why = " ".join(str(error).split())[:120]
        raise FoveateError(f"{path}: not a board profile ({why}); delete it and run 'foveate bench' again") from None
    if not isinstance(data, dict) or data.get("foveate_board") != FORMAT:
        raise FoveateError(f"{path}: not a board profile; delete it and run 'foveate bench' again")
    return data


def write(path: Path, part: dict[str, Any]) -> None:
    """Merge `part` into the file: `models` by their hash, other entries whole. What another computer measured goes."""
    old = read(path)
    here = board()
    if any(old.get("board", {}).get(name) != here[name] for name in ("cpu", "machine", "cores")):
        old = {}
    models = {**old.get("models", {}), **part.get("models", {})}
    data = {**old, "foveate_board": FORMAT, "board": here, **part, "models": models}
    text = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=118)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".board-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def digest(model: Path) -> str:
    """SHA-256 of a model file. Raises ModelError where it cannot be read."""
    try:
        return hashlib.sha256(model.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(str(model), "load", f"{error.strerror or error}") from None


def chosen(model: Path, provider: str, threads: int, path: Path | None = None) -> tuple[str, str, int]:
    """(backend, provider, threads) for a model: what was fastest on this board, onnxruntime where nothing is known.

    A provider that the graph asks for is kept, and then onnxruntime is: names of providers are a backend's own.
    Raises FoveateError for a profile that cannot be read.
    """
    usual = ("onnx", provider, threads)
    data = {} if provider else read(path or default_path())
    if data.get("board", {}).get("cpu") != cpu_name():
        return usual
    try:
        choice = data["models"][digest(model)]["choice"]
        return str(choice["backend"]), str(choice["provider"]), int(choice["threads"])
    except (KeyError, TypeError, ValueError):
        return usual
